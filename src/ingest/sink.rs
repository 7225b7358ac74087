//! Takes rows from a decoder, finds their series and fields in the catalog, and builds a batch.
//!
//! **Invariant:** a row is in the batch whole, or counted as rejected or dropped, exactly once.

use super::limits::Limits;
use super::outcome::Outcome;
use super::reject::Reject;
use super::table::{FieldError, MeasurementTable};
use super::tables::{Suits, TablePool, Tables};
use crate::batch::{Batch, Packed};
use crate::catalog::near::Near;
use crate::catalog::spelling::{Place, Spelled, SpellingHash, Spellings};
use crate::catalog::{Catalog, WriteSettings};
use crate::model::time::{TIME_MAX, TIME_MIN};
use crate::model::{MeasurementId, PolicyId, SeriesKey};
use kymo_plugin_api::series::column_of;
use kymo_plugin_api::{Options, Rejection, Row, RowSink, SeriesParts, Value};
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The sink of one request (or of what a socket gathered). [`finish`](Self::finish) gives the batch.
pub struct Ingestor<'a> {
    catalog: &'a Catalog,
    limits: &'a Limits,
    policy: PolicyId,
    /// Tells spellings of other formats, options and policies apart.
    context: u64,
    now: i64,
    shards: u16,
    spellings: Arc<Spellings>,
    /// Where the spelling of the row before was found.
    place: Option<Place>,
    /// Where the series is expected whose spelling is not known.
    near: Near,
    /// Rows whose spelling was not known.
    unknown: u64,
    tables: Tables,
    /// Where the tables come from and go to.
    pool: Option<&'a TablePool>,
    /// The table of the row before: most rows have the same measurement.
    last: usize,
    parts: SeriesParts,
    outcome: Outcome,
    settings: WriteSettings,
    suits: Suits,
}

impl<'a> Ingestor<'a> {
    /// Rows go to `policy`; those without a time get `now`. Spellings are known by `format` and its options.
    pub fn new(
        catalog: &'a Catalog,
        limits: &'a Limits,
        policy: PolicyId,
        format: &str,
        options: &Options,
        now: i64,
        shards: u16,
    ) -> Self {
        let mut text = format!("{policy} {format}");
        for (name, value) in options.iter() {
            text.push_str(&format!("\n{name}={value}"));
        }
        // The seed is this process's: nobody outside can make two spellings meet.
        let context = xxh3_64_with_seed(text.as_bytes(), catalog.spellings().seed());
        catalog.spellings().make_room();
        let spellings = catalog.spellings().current();
        let settings = catalog.write_settings(policy);
        Self {
            catalog,
            limits,
            policy,
            context,
            now,
            shards,
            tables: Tables::default(),
            pool: None,
            suits: Suits::new(policy, shards, settings.clone(), &spellings),
            settings,
            spellings,
            place: None,
            near: Near::default(),
            unknown: 0,
            last: usize::MAX,
            parts: SeriesParts::default(),
            outcome: Outcome::default(),
        }
    }

    /// Uses tables of earlier requests again. To be called before the first row.
    pub fn reusing(mut self, pool: &'a TablePool) -> Self {
        self.tables = pool.take(&self.suits);
        self.pool = Some(pool);
        self
    }

    /// The format's lines are these ([`kymo_plugin_api::Format::counts`]). Without this: lines of text.
    pub fn counting(mut self, counts: &'static str) -> Self {
        self.outcome.counts = counts;
        self
    }

    /// Rows taken so far.
    pub fn rows(&self) -> u64 {
        self.outcome.rows
    }

    /// What was rejected so far: how many, and the last of them that was kept.
    pub fn rejected(&self) -> (u64, Option<&Reject>) {
        let count = self.outcome.unparsed + self.outcome.dropped;
        (count, self.outcome.rejects.last())
    }

    /// Values that are not stored by no fault of their sender, so far.
    pub fn skipped(&self) -> u64 {
        self.outcome.skipped
    }

    /// Rows without a time get this one from now on.
    pub fn set_now(&mut self, now: i64) {
        self.now = now;
    }

    /// What came of it. The batch lacks definitions of databases and policies; whoever created those adds them.
    pub fn finish(mut self) -> Outcome {
        let known = self.outcome.rows.saturating_sub(self.unknown);
        self.spellings.note(known, self.unknown);
        if self.outcome.rows > 0 {
            let mut batch = Batch {
                shards: self.shards,
                packed: Packed::with_capacity(self.outcome.rows as usize),
                ..Batch::default()
            };
            for at in self.tables.take_used() {
                let table = &mut self.tables.list[at];
                table
                    .measurement
                    .define_new(&table.uncommitted, &mut batch.definitions);
                table.pack(&mut batch.packed);
            }
            self.outcome.batch = Some(batch);
            if let Some(pool) = self.pool {
                pool.give_back(self.suits, self.tables);
            }
        }
        self.outcome
    }

    #[inline]
    fn resolve(&mut self, row: &Row<'_>) -> Option<(usize, u32)> {
        if self.spellings.is_stale() {
            self.spellings = self.catalog.spellings().current();
            self.place = None;
        }
        let hash = SpellingHash::new(self.context, row.series.spelling);
        let Some((place, Spelled { measurement, series })) = self.spellings.find(hash, self.place) else {
            return self.resolve_afresh(row, hash);
        };
        let Some(table) = self.next_table(measurement) else {
            // Dropped since: resolve it afresh.
            return self.resolve_afresh(row, hash);
        };
        self.last = table;
        self.place = Some(place);
        if !self.spellings.is_committed(place) {
            self.note_uncommitted(table, series, place);
        }
        Some((table, series))
    }

    fn note_uncommitted(&mut self, table: usize, series: u32, place: Place) {
        let table = &mut self.tables.list[table];
        if table.measurement.is_series_committed(series) {
            self.spellings.set_committed(place);
        } else {
            table.uncommitted.insert(series);
        }
    }

    /// The table of a measurement, which is mostly that of the row before, or the one that came after it the last time.
    #[inline]
    fn next_table(&mut self, id: MeasurementId) -> Option<usize> {
        let next = match self.tables.list.get(self.last) {
            Some(last) if last.id == id => return Some(self.last),
            Some(last) => last.next,
            None => usize::MAX,
        };
        if self.tables.list.get(next).is_some_and(|table| table.id == id) {
            self.tables.note_used(next);
            return Some(next);
        }
        let table = self.table(id)?;
        if let Some(last) = self.tables.list.get_mut(self.last) {
            last.next = table;
        }
        Some(table)
    }

    fn table(&mut self, id: MeasurementId) -> Option<usize> {
        let at = match self.tables.find(id) {
            Some(at) => at,
            None => {
                let measurement = self.catalog.measurement_by_id(id)?;
                let promotes = self.settings.promotes;
                let table = MeasurementTable::new(measurement, self.shards, promotes);
                self.tables.insert(table)
            }
        };
        self.tables.note_used(at);
        Some(at)
    }

    fn resolve_afresh(&mut self, row: &Row<'_>, hash: SpellingHash) -> Option<(usize, u32)> {
        self.unknown += 1;
        let mut parts = std::mem::take(&mut self.parts);
        parts.clear();
        let found = self.find_series(row, &mut parts);
        self.parts = parts;
        let (table, series) = found?;
        self.last = table;
        let measurement = self.tables.list[table].measurement.id;
        let spelled = Spelled { measurement, series };
        self.place = self.spellings.put(hash, spelled, self.place);
        match self.place {
            Some(place) => self.note_uncommitted(table, series, place),
            None if self.tables.list[table].measurement.is_series_committed(series) => {}
            None => {
                self.tables.list[table].uncommitted.insert(series);
            }
        }
        Some((table, series))
    }

    fn find_series(&mut self, row: &Row<'_>, parts: &mut SeriesParts) -> Option<(usize, u32)> {
        let begin = place(row.origin.text, row.series.spelling);
        if let Err((column, reason)) = row.series.reader.read(row.series.spelling, parts) {
            self.refuse(row, begin + column - 1, &reason);
            return None;
        }
        if let Err((tag, reason)) = self.check_series(parts) {
            let column = tag.and_then(|tag| row.series.reader.tag_column(row.series.spelling, tag));
            self.refuse(row, begin + column.unwrap_or(1) - 1, &reason);
            return None;
        }
        let key = SeriesKey::new(
            std::mem::take(&mut parts.measurement),
            std::mem::take(&mut parts.tags),
        );
        let measurement = match self.catalog.measurement_or_create(self.policy, &key.measurement) {
            Ok(measurement) => measurement,
            Err(error) => {
                self.drop_row(row, begin, error.to_string());
                return None;
            }
        };
        let series = match measurement.series_or_create_near(&key.tags, &mut self.near) {
            Ok(Some(series)) => series,
            Ok(None) => {
                let reason = format!(
                    "measurement \"{}\" has too many series (limit 4294967294)",
                    key.measurement
                );
                self.drop_row(row, begin, reason);
                return None;
            }
            Err(error) => {
                let reason = format!("cannot read the series index: {error}");
                self.outcome.failed.get_or_insert_with(|| reason.clone());
                self.drop_row(row, begin, reason);
                return None;
            }
        };
        let Some(table) = self.table(measurement.id) else {
            let reason = format!(
                "measurement \"{}\" was dropped while it was written to",
                key.measurement
            );
            self.drop_row(row, begin, reason);
            return None;
        };
        Some((table, series))
    }

    /// What is wrong with a series: the tag whose fault it is, and the reason.
    fn check_series(&self, parts: &SeriesParts) -> Result<(), (Option<usize>, String)> {
        let limits = self.limits;
        if parts.measurement.is_empty() {
            return Err((None, "missing measurement".into()));
        }
        if parts.tags.len() > limits.tags_max {
            let (tags, max) = (parts.tags.len(), limits.tags_max);
            return Err((Some(max), format!("too many tags: {tags} (tags_max {max})")));
        }
        check_text("measurement", &parts.measurement).map_err(|reason| (None, reason))?;
        let mut bytes = parts.measurement.len();
        // The tag that is beyond the limit, or none where the measurement is.
        let mut beyond = (bytes > limits.key_bytes_max).then_some(None);
        for (tag, (key, value)) in parts.tags.iter().enumerate() {
            let fails = |reason: String| Err((Some(tag), reason));
            if key.is_empty() {
                return fails("missing tag key".into());
            }
            if key == "time" {
                return fails(format!(
                    "input tag \"time\" on measurement \"{}\" is invalid",
                    parts.measurement
                ));
            }
            check_text("tag key", key).or_else(fails)?;
            check_text("tag value", value).or_else(fails)?;
            bytes += key.len() + value.len() + 2;
            if bytes > limits.key_bytes_max && beyond.is_none() {
                beyond = Some(Some(tag));
            }
        }
        if let Some(tag) = beyond {
            let max = limits.key_bytes_max;
            let reason = format!("max key length exceeded: {bytes} > {max} (key_bytes_max)");
            return Err((tag, reason));
        }
        match parts.repeated_tag() {
            Some(tag) => Err((Some(tag), "duplicate tags".into())),
            None => Ok(()),
        }
    }

    /// What a decoder read and should not have: as if it could not be read.
    #[cold]
    fn refuse(&mut self, row: &Row<'_>, column: u64, reason: &str) {
        let rejection = Rejection {
            origin: row.origin,
            column,
            reason,
            context: row.series.reader.context(),
        };
        if self.outcome.is_text() {
            return self.reject(&rejection);
        }
        self.outcome.unparsed += 1;
        if self.outcome.rejects.len() < self.limits.rejections_kept_max {
            let time = row.time.unwrap_or(self.now);
            let reject = Reject::refused(row, &rejection, time, self.limits);
            self.outcome.rejects.push(reject);
        }
    }

    /// A point that was read and cannot be stored.
    #[cold]
    fn drop_row(&mut self, row: &Row<'_>, column: u64, reason: String) {
        self.outcome.dropped += 1;
        if self.outcome.rejects.len() < self.limits.rejections_kept_max {
            let time = row.time.unwrap_or(self.now);
            let reject = Reject::dropped(row, column, time, &reason, self.limits);
            self.outcome.rejects.push(reject);
        }
    }

    /// What is wrong with a row before anything is looked up: column and reason.
    #[inline]
    fn check_fields(&self, row: &Row<'_>) -> Result<(), (u64, String)> {
        let limits = self.limits;
        if row.origin.text.len() > limits.line_bytes_max {
            let (bytes, max) = (row.origin.text.len(), limits.line_bytes_max);
            let reason = format!("line too long: {bytes} bytes (line_bytes_max {max})");
            return Err((max as u64 + 1, reason));
        }
        if row.fields.len() > limits.fields_max {
            let (fields, max) = (row.fields.len(), limits.fields_max);
            let reason = format!("too many fields: {fields} (fields_max {max})");
            return Err((field_place(row, row.fields[max].key), reason));
        }
        for field in row.fields {
            let too_long = match field.value {
                Value::String(text) if text.len() > limits.string_bytes_max => format!(
                    "string too long: {} bytes (string_bytes_max {})",
                    text.len(),
                    limits.string_bytes_max
                ),
                Value::Float(value) if !value.is_finite() => "NaN and infinity cannot be stored".to_string(),
                _ if field.key.len() > limits.key_bytes_max => format!(
                    "max key length exceeded: {} > {} (key_bytes_max)",
                    field.key.len(),
                    limits.key_bytes_max
                ),
                _ if field.key.is_empty() => "missing field key".to_string(),
                _ => continue,
            };
            return Err((field_place(row, field.key), too_long));
        }
        Ok(())
    }
}

/// Where `part` stands in `text`, as a column; 1 when it is no part of it.
fn place(text: &[u8], part: &[u8]) -> u64 {
    column_of(text, part).unwrap_or(1)
}

/// Where a row's time stands in its text.
fn time_place(row: &Row<'_>, time: i64) -> u64 {
    let text = row.origin.text;
    if let Some(column) = row.time.and_then(|_| row.series.reader.time_column(text)) {
        return column;
    }
    // Where its digits stand, if it was written in nanoseconds.
    let at = memchr::memmem::rfind(text, time.to_string().as_bytes());
    at.map_or(1, |at| at as u64 + 1)
}

/// Where a field's key stands in its row's text. A decoder may know the key from the row before: then it is looked for behind the series.
fn field_place(row: &Row<'_>, key: &str) -> u64 {
    let (text, spelling) = (row.origin.text, row.series.spelling);
    let field = row.fields.iter().position(|field| field.key == key);
    if let Some(column) = field.and_then(|field| row.series.reader.field_column(text, field, key)) {
        return column;
    }
    let found = place(text, key.as_bytes());
    if found > 1 || text.starts_with(key.as_bytes()) {
        return found;
    }
    let from = place(text, spelling) as usize - 1;
    let from = match text.get(from..).is_some_and(|rest| rest.starts_with(spelling)) {
        true => from + spelling.len(),
        false => 0,
    };
    let whole = |at: &usize| {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
        let before = at.checked_sub(1).and_then(|at| text.get(at));
        let after = text.get(at + key.len());
        !before.copied().is_some_and(is_word) && !after.copied().is_some_and(is_word)
    };
    let mut all = memchr::memmem::find_iter(&text[from..], key).map(|at| from + at);
    all.find(whole).map_or(1, |at| at as u64 + 1)
}

/// The canonical key escapes with a backslash, so no part of it may end in one.
fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.ends_with('\\') {
        Err(format!("{what} ends with a backslash"))
    } else {
        Ok(())
    }
}

impl RowSink for Ingestor<'_> {
    fn row(&mut self, row: &Row<'_>) {
        if let Err((column, reason)) = self.check_fields(row) {
            return self.refuse(row, column, &reason);
        }
        if self.outcome.rows >= self.limits.rows_max as u64 {
            let reason = format!(
                "too many points in one request (rows_max {})",
                self.limits.rows_max
            );
            return self.drop_row(row, 1, reason);
        }
        let time = row.time.unwrap_or(self.now);
        if !(TIME_MIN..=TIME_MAX).contains(&time) {
            let reason = format!("time outside range {TIME_MIN} - {TIME_MAX}");
            return self.refuse(row, time_place(row, time), &reason);
        }
        if let Some(reason) = self.settings.refuses(time, self.now) {
            return self.drop_row(row, time_place(row, time), reason);
        }
        let Some((table, series)) = self.resolve(row) else {
            return;
        };
        let fault = match self.tables.list[table].push(series, time, row.fields) {
            Ok(()) => {
                self.outcome.rows += 1;
                return;
            }
            Err(fault) => fault,
        };
        let name = &self.tables.list[table].measurement.name;
        let (key, reason) = match fault {
            FieldError::Clash { field, is, exists } => {
                let reason = format!(
                    "field type conflict: input field \"{field}\" on measurement \"{name}\" is type {is}, \
                     already exists as type {exists}"
                );
                (field, reason)
            }
            FieldError::Inexact { field, exists } => {
                let reason = format!(
                    "field type conflict: input field \"{field}\" on measurement \"{name}\" is of type {exists}, \
                     which cannot hold this number (NUMERIC PROMOTION never changes a number)"
                );
                (field, reason)
            }
            FieldError::TooMany(field) => {
                let max = crate::catalog::measurement::FIELDS_PER_MEASUREMENT_MAX;
                let reason = format!("measurement \"{name}\" has too many fields (limit {max})");
                (field, reason)
            }
            FieldError::Time => {
                let reason =
                    format!("invalid field name: input field \"time\" on measurement \"{name}\" is invalid");
                ("time", reason)
            }
        };
        self.drop_row(row, field_place(row, key), reason);
    }

    #[cold]
    fn reject(&mut self, rejection: &Rejection<'_>) {
        self.outcome.unparsed += 1;
        if self.outcome.rejects.len() < self.limits.rejections_kept_max {
            self.outcome
                .rejects
                .push(Reject::unparsed(rejection, self.limits));
        }
    }

    fn skip(&mut self, values: u64) {
        self.outcome.skipped += values;
    }
}
