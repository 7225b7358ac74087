//! An input opened for a statement: what of it is read, and in which tasks.

use super::Prepared;
use super::filter::Filter;
use super::groups::Groups;
use super::labels::Labels;
use super::work;
use crate::block::stats::Numbers;
use crate::catalog::{Measurement, SeriesView, TagPredicate};
use crate::lang::{DataType, Expr, VarRef};
use crate::model::{Column, FieldId, FieldType, MeasurementId, SeriesId, TimeRange};
use crate::query::condition::split_tags;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::{Derived, Input, Wanted};
use crate::query::node::{Refs, compile};
use crate::query::rollup::states::States;
use crate::query::scan::{
    Batch, Cells, Reader, ScanError, ScanRequest, ScanStats, SeriesRun, SeriesSet, Source, Task, Visitor,
    Zone, tasks, zones,
};
use crate::query::trace::{Facts, Opened};
use crate::shard::part::HeadPart;
use roaring::RoaringBitmap;
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Series of a zone that are looked at one by one.
const SERIES_TESTED_MAX: usize = 8192;

/// See the module.
pub struct Reading<'a> {
    /// The input.
    pub input: &'a Input,
    /// What the references of the statement are in it.
    pub wanted: Wanted,
    /// What of WHERE tags alone do not decide.
    pub filter: Filter,
    /// Its rows are states of a rollup.
    pub states: Option<States>,
    dimensions: &'a [String],
    time: TimeRange,
    from: From<'a>,
}

enum From<'a> {
    Stored {
        view: SeriesView,
        sources: Vec<Source>,
        request: ScanRequest,
        tasks: Vec<Task>,
        pruned: u64,
    },
    Derived {
        derived: &'a Derived,
        series: Vec<usize>,
    },
}

impl<'a> Reading<'a> {
    /// Opens the inputs that may have wanted rows.
    ///
    /// # Errors
    /// The condition makes no sense; damage, or a read that failed.
    pub fn open(
        ctx: &Context<'_>,
        inputs: &'a [Input],
        prepared: &'a Prepared,
        time: TimeRange,
    ) -> Result<Vec<Self>, QueryError> {
        let mut open = Vec::new();
        for input in inputs {
            let (predicate, rest) = condition(input, prepared)?;
            let mut refs = prepared.refs.clone();
            let mut no_calls =
                |_: &Expr, _: &mut Refs| Err(QueryError::statement("functions cannot stand in WHERE"));
            let rest = rest
                .map(|expr| compile(&expr, &mut refs, &mut no_calls))
                .transpose()?;
            let wanted = input.resolve(refs.list());
            let from = match input {
                Input::Derived(derived) => Some(From::Derived {
                    series: derived.matching(&predicate),
                    derived,
                }),
                Input::Stored(measurement) => stored(ctx, measurement, &predicate, &wanted, time)?,
            };
            let time = match &from {
                Some(From::Stored { request, .. }) => request.time,
                _ => time,
            };
            open.extend(from.map(|from| Self {
                input,
                filter: Filter::new(rest.as_ref(), &wanted),
                wanted,
                states: None,
                dimensions: &prepared.dimensions,
                time,
                from,
            }));
        }
        let columns = |reading: &Self| reading.wanted.fields.len();
        for reading in &open {
            work::check_values(ctx, reading.rows_to_read(), columns(reading))?;
        }
        Ok(open)
    }

    /// The measurement, if its rows are stored and tags alone decide which are wanted.
    pub fn unfiltered(&self) -> Option<&'a Measurement> {
        match self.input {
            Input::Stored(measurement) if self.filter.is_empty() => Some(measurement),
            _ => None,
        }
    }

    /// The same in another range of time, of an [unfiltered](Self::unfiltered) one: its rows, or with `states` those of the measurement
    /// that has states of them, which have the same series.
    ///
    /// # Errors
    /// Damage, or a read that failed.
    pub fn part(
        &self,
        ctx: &Context<'_>,
        time: TimeRange,
        states: Option<(MeasurementId, States)>,
    ) -> Result<Self, QueryError> {
        let From::Stored { view, request, .. } = &self.from else {
            return Err(QueryError::statement("only stored rows have parts"));
        };
        let request = match &states {
            None => ScanRequest {
                time: request.time.intersect(&time),
                ..request.clone()
            },
            Some((measurement, states)) => ScanRequest {
                measurement: *measurement,
                // States of series that were dropped may still be there.
                series: match &request.series {
                    SeriesSet::All => SeriesSet::Chosen(Arc::new(view.live()?)),
                    chosen => chosen.clone(),
                },
                time,
                fields: states.fields.clone(),
            },
        };
        Ok(Self {
            input: self.input,
            wanted: self.wanted.clone(),
            filter: Filter::new(None, &self.wanted),
            states: states.map(|(_, states)| states),
            dimensions: self.dimensions,
            time: request.time,
            from: opened(ctx, view.clone(), request)?,
        })
    }

    /// How many tasks.
    pub fn tasks(&self) -> usize {
        match &self.from {
            From::Stored { tasks, .. } => tasks.len(),
            From::Derived { series, .. } => series.len(),
        }
    }

    /// Rows that may be read, roughly.
    pub fn rows(&self) -> u64 {
        match &self.from {
            From::Stored { tasks, .. } => tasks.iter().map(Task::rows).sum(),
            From::Derived { derived, series } => series
                .iter()
                .map(|&s| derived.series[s].times().len() as u64)
                .sum(),
        }
    }

    /// Rows that reading takes, roughly: blocks as a whole, of stretches of the head what lies in the time.
    pub fn rows_to_read(&self) -> u64 {
        let From::Stored { tasks, sources, .. } = &self.from else {
            return self.rows();
        };
        let span = |time: TimeRange| (i128::from(time.max) - i128::from(time.min) + 1).max(0) as f64;
        let of_zone = |zone: &Zone| match &sources[zone.source as usize] {
            Source::Run(_) => u64::from(zone.rows),
            Source::Part(_) => {
                let share = span(zone.time.intersect(&self.time)) / span(zone.time).max(1.0);
                (f64::from(zone.rows) * share) as u64
            }
        };
        tasks.iter().flat_map(|task| &task.zones).map(of_zone).sum()
    }

    /// Series that may be read, roughly.
    pub fn series(&self) -> u64 {
        match &self.from {
            From::Stored { view, request, .. } => match &request.series {
                SeriesSet::All => view.live_count(),
                SeriesSet::Chosen(set) => set.len(),
            },
            From::Derived { series, .. } => series.len() as u64,
        }
    }

    /// No row outside this is wanted.
    pub fn wanted_time(&self) -> TimeRange {
        self.time
    }

    /// No row lies outside this.
    pub fn time(&self) -> TimeRange {
        let mut found = TimeRange {
            min: i64::MAX,
            max: i64::MIN,
        };
        let mut add = |min: i64, max: i64| {
            found.min = found.min.min(min);
            found.max = found.max.max(max);
        };
        match &self.from {
            From::Stored { tasks, .. } => {
                let zones = tasks.iter().flat_map(|task| &task.zones);
                zones.for_each(|zone| add(zone.time.min, zone.time.max));
            }
            From::Derived { derived, series } => {
                for &s in series {
                    if let [first, .., last] | [first @ last] = derived.series[s].times() {
                        add(*first, *last);
                    }
                }
                return found;
            }
        }
        found.intersect(&self.time)
    }

    /// Does a test hold for every wanted series that a zone may have? Not, where they are too many to look at.
    ///
    /// # Errors
    /// What the test gives.
    pub fn every_series(
        &self,
        zone: &Zone,
        mut test: impl FnMut(SeriesId) -> Result<bool, QueryError>,
    ) -> Result<bool, QueryError> {
        let From::Stored { request, .. } = &self.from else {
            return Ok(false);
        };
        let mut next = request.series.next(zone.first_series);
        for _ in 0..SERIES_TESTED_MAX {
            let Some(series) = next.filter(|&series| series <= zone.last_series) else {
                return Ok(true);
            };
            if !test(series)? {
                return Ok(false);
            }
            next = series.checked_add(1).and_then(|after| request.series.next(after));
        }
        Ok(false)
    }

    /// No row of a task is of a series before this one.
    pub fn first_series(&self, task: usize) -> SeriesId {
        match &self.from {
            From::Stored { tasks, .. } => *tasks[task].series.start(),
            From::Derived { series, .. } => series[task] as SeriesId,
        }
    }

    /// What EXPLAIN tells of it.
    pub fn facts(&self) -> Opened {
        match (&self.from, self.input) {
            (
                From::Stored {
                    view,
                    sources,
                    request,
                    tasks,
                    pruned,
                },
                Input::Stored(measurement),
            ) => {
                let mut facts = Facts {
                    measurement: measurement.name.clone(),
                    series: self.series(),
                    of_series: view.live_count(),
                    pruned: *pruned,
                    tasks: tasks.len() as u64,
                    meeting: tasks.iter().filter(|task| task.alone().is_none()).count() as u64,
                    ..Facts::default()
                };
                let fields = measurement.fields();
                let name = |(id, _): &(FieldId, FieldType)| {
                    let field = fields.iter().find(|(known, _)| known == id);
                    field.map(|(_, field)| field.name.clone())
                };
                facts.columns = self.wanted.fields.iter().filter_map(name).collect();
                for source in sources {
                    match source {
                        Source::Part(_) => facts.parts += 1,
                        Source::Run(run) => {
                            facts.runs += 1;
                            let partition = run.partition();
                            facts.partitions.insert((partition.min, partition.max));
                        }
                    }
                }
                let zones: BTreeSet<(u32, u32)> = tasks
                    .iter()
                    .flat_map(|task| task.zones.iter().map(|zone| (zone.source, zone.at)))
                    .collect();
                for (source, at) in zones {
                    facts.blocks += 1;
                    match &sources[source as usize] {
                        Source::Part(part) => facts.rows += part.outline()[at as usize].rows.len() as u64,
                        Source::Run(run) => {
                            facts.rows += u64::from(run.block(at as usize).rows);
                            facts.bytes += run.encoded_bytes(at as usize, &request.fields);
                        }
                    }
                }
                Opened::Stored(facts)
            }
            _ => Opened::Derived {
                series: self.series(),
                rows: self.rows(),
            },
        }
    }

    /// How many groups the wanted series of stored inputs make; `None` where they are too many to look at.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn groups(readings: &[Self]) -> Result<Option<usize>, QueryError> {
        let mut groups = Groups::default();
        let mut left = SERIES_TESTED_MAX as u64;
        for reading in readings {
            if !matches!(reading.from, From::Stored { .. }) {
                return Ok(None);
            }
            match left.checked_sub(reading.series()) {
                Some(rest) => left = rest,
                None => return Ok(None),
            }
            reading.each_series(&mut groups, &mut |_, _| ())?;
        }
        Ok(Some(groups.len()))
    }

    /// Reads no other series than these from now on; `false`: there is nothing left to read.
    pub fn narrow(&mut self, only: &Arc<RoaringBitmap>) -> bool {
        if let From::Stored {
            sources,
            request,
            tasks: list,
            pruned,
            ..
        } = &mut self.from
        {
            request.series = SeriesSet::Chosen(only.clone());
            let (zones, passed_over) = zones(sources, request);
            *list = tasks(&zones);
            *pruned = passed_over;
        }
        self.tasks() > 0
    }

    /// Visits the wanted series of a stored input with the group each belongs to.
    ///
    /// # Errors
    /// The index cannot be read.
    pub fn each_series(
        &self,
        groups: &mut Groups,
        visit: &mut dyn FnMut(u32, SeriesId),
    ) -> Result<(), QueryError> {
        let From::Stored { view, request, .. } = &self.from else {
            return Ok(());
        };
        let mut labels = self.labels();
        let all;
        let series = match &request.series {
            SeriesSet::Chosen(set) => &**set,
            SeriesSet::All => {
                all = view.live()?;
                &all
            }
        };
        for id in series {
            visit(labels.group(id, groups)?, id);
        }
        Ok(())
    }

    /// What the numbers of a field of the request amount to in a zone: (values, numbers). `None` where that is not known.
    pub fn numbers(&self, zone: &Zone, i: usize) -> Option<(u64, Numbers)> {
        let From::Stored { sources, request, .. } = &self.from else {
            return None;
        };
        match &sources[zone.source as usize] {
            Source::Part(_) => None,
            Source::Run(run) => Some(match run.stats(zone.at as usize, request.fields[i]) {
                Some(stats) => (u64::from(stats.count), stats.numbers),
                None => (0, Numbers::None),
            }),
        }
    }

    /// Puts the tasks of a stored input into an order.
    pub fn sort_tasks_by_key<K: Ord>(&mut self, key: impl FnMut(&Task) -> K) {
        if let From::Stored { tasks, .. } = &mut self.from {
            tasks.sort_by_key(key);
        }
    }

    /// Names of series, for one worker.
    pub fn labels(&self) -> Labels<'_> {
        match &self.from {
            From::Stored { view, .. } => Labels::stored(view, self.dimensions, &self.wanted.tags),
            From::Derived { derived, .. } => Labels::derived(derived, self.dimensions, &self.wanted.tags),
        }
    }

    /// Hands what a task holds to a visitor.
    ///
    /// # Errors
    /// Damage, a failed read, the visitor's own errors.
    pub fn read(&self, ctx: &Context<'_>, task: usize, visitor: &mut dyn Visitor) -> Result<(), QueryError> {
        ctx.check()?;
        match &self.from {
            From::Stored {
                sources,
                request,
                tasks,
                ..
            } => Reader::new(sources, request, &ctx.resources.counters).read(&tasks[task], visitor),
            From::Derived { derived, series } => {
                let series = series[task];
                let rows = &derived.series[series];
                if rows.times().is_empty() {
                    return Ok(());
                }
                // The subquery read no other times. A window that it gave may begin before them, and is a row all the same.
                let run = SeriesRun {
                    series: series as u32,
                    start: 0,
                    end: rows.times().len() as u32,
                };
                let cells = DerivedCells {
                    columns: rows.columns(),
                    wanted: &self.wanted,
                };
                visitor.batch(&Batch {
                    runs: &[run],
                    times: rows.times(),
                    cells: &cells,
                })
            }
        }
    }
}

/// Columns of a subquery's series.
struct DerivedCells<'a> {
    columns: &'a [Column],
    wanted: &'a Wanted,
}

impl Cells for DerivedCells<'_> {
    fn column(&self, i: usize) -> Result<Option<&Column>, ScanError> {
        let (at, _) = self.wanted.fields[i];
        Ok(Some(&self.columns[usize::from(at)]))
    }

    fn is_full(&self, columns: &[usize]) -> bool {
        let column = |i: &usize| &self.columns[usize::from(self.wanted.fields[*i].0)];
        columns.iter().any(|i| column(i).present.is_none())
    }
}

/// WHERE without time: what tags decide, and the rest.
fn condition(input: &Input, prepared: &Prepared) -> Result<(TagPredicate, Option<Expr>), QueryError> {
    let is_tag = |var: &VarRef| match var.kind {
        Some(DataType::Tag) => true,
        Some(_) => false,
        None => input.field_type(&var.name).is_none(),
    };
    split_tags(prepared.condition.as_ref(), &is_tag)
}

fn stored<'a>(
    ctx: &Context<'_>,
    measurement: &Measurement,
    predicate: &TagPredicate,
    wanted: &Wanted,
    time: TimeRange,
) -> Result<Option<From<'a>>, QueryError> {
    let view = measurement.view();
    let all = matches!(predicate, TagPredicate::All) && view.dropped().is_empty();
    let series = if all {
        SeriesSet::All
    } else {
        let found = view.matching(predicate)?;
        if found.is_empty() {
            return Ok(None);
        }
        SeriesSet::Chosen(Arc::new(found))
    };
    let request = ScanRequest {
        measurement: measurement.id,
        series,
        time: ctx.scan.unexpired(measurement.id, time),
        fields: wanted.fields.iter().map(|(id, _)| *id).collect(),
    };
    opened(ctx, view, request).map(Some)
}

fn opened<'a>(ctx: &Context<'_>, view: SeriesView, request: ScanRequest) -> Result<From<'a>, QueryError> {
    let sources = ctx.scan.sources(&request)?;
    // Before anything of it is looked at more closely.
    work::check_values(ctx, rows_at_least(&sources), 1)?;
    unpack(ctx, &sources)?;
    let (zones, pruned) = zones(&sources, &request);
    ctx.resources.counters.add(&ScanStats {
        blocks_pruned: pruned,
        ..ScanStats::default()
    });
    let tasks = tasks(&zones);
    Ok(From::Stored {
        view,
        sources,
        request,
        tasks,
        pruned,
    })
}

/// Rows that have to be touched at least: of blocks, and of parts of the head that are unpacked as a whole.
fn rows_at_least(sources: &[Source]) -> u64 {
    let rows = |source: &Source| match source {
        Source::Run(run) => (0..run.len()).map(|block| u64::from(run.block(block).rows)).sum(),
        Source::Part(part) if part.is_at_hand() => 0,
        Source::Part(part) => part.rows_max() as u64,
    };
    sources.iter().map(rows).sum()
}

/// Unpacks parts of the head that nobody has asked for yet: by several threads, where they are large.
fn unpack(ctx: &Context<'_>, sources: &[Source]) -> Result<(), QueryError> {
    let packed = sources.iter().filter_map(|source| match source {
        Source::Part(part) if !part.is_unpacked() => Some(part),
        Source::Part(_) | Source::Run(_) => None,
    });
    let mut parts: Vec<&Arc<HeadPart>> = packed.collect();
    if parts.len() < 2 {
        return Ok(());
    }
    parts.sort_unstable_by_key(|part| Reverse(part.rows_max()));
    let rows: usize = parts.iter().map(|part| part.rows_max()).sum();
    let helpers = work::helpers(rows as u64, 1);
    let each = |(): &mut (), part: usize| {
        ctx.check()?;
        let _ = parts[part].outline();
        Ok::<(), QueryError>(())
    };
    ctx.resources
        .workers
        .run(parts.len(), helpers, || (), each)
        .map(drop)
}
