//! An engine in this process: takes line protocol, answers queries as tables.

use kymo::budget::{Budgets, Machine, Overrides};
use kymo::engine::{Engine, EngineOptions};
use kymo::ingest::Ingestor;
use kymo::lang::{Params, parse};
use kymo::query::encode::{Event, TimeFormat, json_time, json_value};
use kymo::query::statements::{QueryOptions, Target, run};
use kymo::query::time::parse_time;
use kymo::query::{Cancel, QueryLimits, Series, Value};
use kymo_plugin_api::{Framing, Options};
use std::ops::ControlFlow;
use std::sync::Arc;

/// What `now()` is until a script says otherwise: noon of 2 January 1970.
const NOW: i64 = 129_600_000_000_000;

pub struct Server {
    engine: Arc<Engine>,
    pub now: i64,
    pub text_times: bool,
    _folder: tempfile::TempDir,
}

/// Why there is no answer, and what would be right.
#[derive(Debug, PartialEq)]
pub struct Failure {
    pub text: String,
    pub hint: Option<String>,
}

impl Server {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let machine = Machine {
            cores: 2,
            memory: 1 << 30,
        };
        let budgets = Budgets::new(&machine, &Overrides::default());
        let engine = Engine::open(folder.path(), EngineOptions::new(budgets, || 0)).expect("an engine");
        let server = Self {
            engine,
            now: NOW,
            text_times: false,
            _folder: folder,
        };
        server.ask("CREATE DATABASE d").expect("a database");
        server
    }

    /// Writes lines; times in them are seconds or texts.
    pub fn load(&self, into: &str, lines: &[(usize, String)]) -> Result<(), Failure> {
        let (database, policy) = match into.split_once('.') {
            _ if into.is_empty() => ("d", None),
            Some((database, policy)) => (database, Some(policy)),
            None => (into, None),
        };
        let found = self.engine.catalog().database(database);
        let found = found.unwrap_or_else(|| panic!("there is no database {database}"));
        let policy = found.policy(policy).expect("the policy exists").id;
        let text: String = lines
            .iter()
            .map(|(_, line)| with_nanoseconds(line) + "\n")
            .collect();
        let limits = Target::limits(self.engine.as_ref());
        let options = Options::new();
        let mut ingestor = Ingestor::new(
            self.engine.catalog(),
            limits,
            policy,
            "line-protocol",
            &options,
            self.now,
            self.engine.shards(),
        );
        let format = self
            .engine
            .formats()
            .by_name("line-protocol")
            .expect("is built in");
        let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
        decoder.decode(text.as_bytes(), &mut ingestor);
        let outcome = ingestor.finish();
        let error = outcome.error(limits);
        if let Some(batch) = outcome.batch {
            self.engine.commit(batch).expect("a commit");
        }
        match error {
            Some(text) => Err(Failure { text, hint: None }),
            None => Ok(()),
        }
    }

    /// The answer to all statements of a text, as lines of tables.
    pub fn ask(&self, text: &str) -> Result<Vec<String>, Failure> {
        let statements = parse(text, &Params::new()).map_err(|error| Failure {
            text: error.text,
            hint: error.hint,
        })?;
        let options = QueryOptions {
            database: Some("d".into()),
            policy: None,
            params: Params::new(),
            now: self.now,
            limits: QueryLimits::default(),
            deadline: None,
            rollups: kymo::query::RollupUse::default(),
            read_only_hint: false,
        };
        let mut found: Vec<(Series, jiff::tz::TimeZone)> = Vec::new();
        let (mut open, mut failed, mut hinted) = (false, None, None);
        let mut shown_in = jiff::tz::TimeZone::UTC;
        run(
            &statements,
            &options,
            self.engine.as_ref(),
            &Cancel::default(),
            &mut |event| {
                match event {
                    Event::Begin { zone, .. } => shown_in = zone.unwrap_or(jiff::tz::TimeZone::UTC),
                    Event::Piece(piece) => {
                        match found.last_mut() {
                            Some((last, _)) if open => last.append(piece.series),
                            _ => found.push((piece.series, shown_in.clone())),
                        }
                        open = piece.goes_on;
                    }
                    Event::Hint(hint) => hinted = Some(hint),
                    Event::Busy => {}
                    Event::End { error } => {
                        if let (Some(text), None) = (error, &failed) {
                            failed = Some(Failure {
                                text,
                                hint: hinted.take(),
                            });
                        }
                    }
                }
                ControlFlow::Continue(())
            },
        );
        match failed {
            Some(failure) => Err(failure),
            None => Ok(found
                .iter()
                .flat_map(|(series, zone)| self.table(series, zone))
                .collect()),
        }
    }

    fn table(&self, series: &Series, zone: &jiff::tz::TimeZone) -> Vec<String> {
        let name = if series.name.is_empty() { "-" } else { &series.name };
        let tags: String = series.tags.iter().map(|(k, v)| format!(" {k}={v}")).collect();
        let mut rows: Vec<Vec<String>> = vec![series.columns.to_vec()];
        for row in 0..series.rows() {
            let mut cells = Vec::new();
            if series.has_time() {
                cells.push(self.time(series.times[row], zone));
            }
            cells.extend(series.row(row).map(|value| match value {
                Value::String(text) => text.to_string(),
                value => {
                    let mut text = String::new();
                    json_value(&value, &mut text);
                    text
                }
            }));
            rows.push(cells);
        }
        let widths: Vec<usize> = (0..series.columns.len())
            .map(|at| {
                rows.iter()
                    .map(|row| row.get(at).map_or(0, |c| c.chars().count()))
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let cells: Vec<String> = row.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
            format!("| {} |", cells.join(" | "))
        };
        let mut out = vec![format!("{name}{tags}")];
        out.extend(rows.iter().map(line));
        out
    }

    fn time(&self, time: i64, zone: &jiff::tz::TimeZone) -> String {
        if self.text_times {
            let mut text = String::new();
            json_time(time, &TimeFormat::default(), zone, &mut text);
            return text.trim_matches('"').to_string();
        }
        let (seconds, rest) = (time.div_euclid(1_000_000_000), time.rem_euclid(1_000_000_000));
        match rest {
            0 => seconds.to_string(),
            rest => format!("{seconds}.{rest:09}").trim_end_matches('0').to_string(),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.engine.stop();
    }
}

/// A time as nanoseconds: seconds, or a text like 2024-03-31T00:00:00Z.
pub fn nanoseconds(text: &str) -> Option<i64> {
    if text.contains('T') || text.matches('-').count() == 2 {
        return parse_time(text, &jiff::tz::TimeZone::UTC);
    }
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    let whole: i64 = whole.parse().ok()?;
    let rest: i64 = format!("{rest:0<9}").parse().ok()?;
    Some(whole * 1_000_000_000 + rest)
}

fn with_nanoseconds(line: &str) -> String {
    match line.rsplit_once(' ') {
        Some((point, time)) if point.contains(' ') => match nanoseconds(time) {
            Some(time) => format!("{point} {time}"),
            None => line.to_string(),
        },
        _ => line.to_string(),
    }
}
