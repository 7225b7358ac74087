//! No text makes the planner or the executor panic: random statements, asked of an engine that has data at the ends of time
//! and numbers at the ends of their types. What they answer is the business of other tests.

use super::{Engine, EngineOptions};
use crate::batch::Batch;
use crate::budget::{Budgets, Machine, Overrides};
use crate::ingest::{Ingestor, TablePool};
use crate::lang::grammar::Choices;
use crate::lang::{Params, parse};
use crate::query::encode::{Encoder, Event, Json, TimeFormat};
use crate::query::statements::{QueryOptions, run};
use crate::query::{Cancel, QueryLimits, RollupUse, functions};
use kymo_plugin_api::{Framing, Options};
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

const SEED: u64 = 20_260_101;
/// Statements that are made to mean something, and any that can be spelt.
const SENSIBLE: usize = 2500;
const SPELT: usize = 1500;
const NOW: i64 = 1_600_000_000_000_000_000;

/// Times and values where arithmetic overflows, and some in between.
const LINES: &str = "\
cpu,host=a,region=eu v=1,n=1i,u=1u,s=\"x\",b=true,over=1,join=2 -9223372036854775806
cpu,host=a,region=eu v=1.7976931348623157e308,n=9223372036854775807i,u=18446744073709551615u -9223372036854775000
cpu,host=a v=-1.7976931348623157e308,n=-9223372036854775808i,u=0u,s=\"\" 0
cpu,host=b,region=us v=5e-324,n=0i,b=false 1
cpu,host=b,region=us v=-0.0,n=-1i,case=3 1600000000000000000
cpu,host=b,region=us v=2.5,n=7i,u=9u,s=\"x\" 1600000060000000000
cpu,host=c v=3.5,n=9223372036854775807i 1600000060000000000
cpu,host=c v=1e300,n=9223372036854775807i,b=true 9223372036854775806
mem,host=a used=1,v=2 -9223372036854775806
mem,host=a used=9007199254740993,v=-2 1600000000000000000
mem,host=b used=3i 1600000030000000000
mem,host=d used=3 9223372036854775806
\"with \\\"quotes\\\",host=a v=1 0
";

struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<'a>(&mut self, from: &[&'a str]) -> &'a str {
        from[self.below(from.len())]
    }

    fn maybe(&mut self, text: impl FnOnce(&mut Self) -> String) -> String {
        if self.one_in(2) { text(self) } else { String::new() }
    }

    fn field(&mut self) -> String {
        let fields = [
            "v", "v", "n", "n", "u", "s", "b", "over", "join", "used", "nothing", "host",
        ];
        let name = self.pick(&fields);
        match self.below(8) {
            0 => format!(
                "{name}::{}",
                self.pick(&["float", "integer", "field", "tag", "string"])
            ),
            1 => format!("cpu.{name}"),
            2 => format!("b.{name}"),
            _ => name.to_string(),
        }
    }

    fn number(&mut self) -> &'static str {
        self.pick(&[
            "0",
            "1",
            "2",
            "3",
            "-1",
            "50",
            "99.9",
            "100",
            "0.5",
            "-0.0",
            "1e300",
            "9223372036854775807",
            "-9223372036854775808",
            "18446744073709551615",
            "10",
        ])
    }

    fn duration(&mut self) -> &'static str {
        self.pick(&[
            "1ns", "1s", "1m", "7m", "1h", "1d", "1w", "100d", "106751d", "1mo", "1y", "0s",
        ])
    }

    fn row(&mut self, depth: usize) -> String {
        match self.below(if depth == 0 { 3 } else { 8 }) {
            0..=2 => self.field(),
            3 => format!(
                "if({} > {}, {}, {})",
                self.field(),
                self.number(),
                self.row(depth - 1),
                self.number()
            ),
            4 => format!(
                "CASE WHEN {} <= {} THEN {} END",
                self.field(),
                self.number(),
                self.row(depth - 1)
            ),
            5 => format!(
                "{}({})",
                self.pick(&["abs", "sqrt", "ln", "round", "exp", "tan"]),
                self.row(depth - 1)
            ),
            6 => format!("pow({}, {})", self.row(depth - 1), self.number()),
            _ => {
                let op = self.pick(&["+", "-", "*", "/", "%", "&", "|", "^"]);
                format!(
                    "({} {op} {})",
                    self.row(depth - 1),
                    if self.one_in(2) {
                        self.number().into()
                    } else {
                        self.row(depth - 1)
                    }
                )
            }
        }
    }

    fn call(&mut self, depth: usize) -> String {
        let names: Vec<&str> = functions::names().collect();
        let name = self.pick(&names);
        let inside = match self.below(6) {
            0 if depth > 0 => self.call(depth - 1),
            1 => self.row(2),
            2 => self
                .pick(&["*", "/v|n/", "distinct(v)", "distinct v"])
                .to_string(),
            _ => self.field(),
        };
        let more = match name {
            "percentile" | "approx_percentile" | "histogram_buckets" => {
                let count = 1 + self.below(3);
                (0..count).map(|_| format!(", {}", self.number())).collect()
            }
            "corr" | "covar" | "regr_slope" | "regr_intercept" | "regr_r2" | "atan2" | "pow" | "log" => {
                format!(", {}", self.field())
            }
            "corr_lag" => format!(", {}, {}", self.field(), self.duration()),
            "top" | "bottom" => format!("{}, {}", self.pick(&["", ", host", ", v"]), self.number()),
            "sample" | "moving_average" => format!(", {}", self.number()),
            "holt_winters" | "holt_winters_with_fit" => format!(", {}, {}", self.number(), self.number()),
            "derivative" | "non_negative_derivative" | "elapsed" | "integral" | "rate" => {
                self.maybe(|d| format!(", {}", d.duration()))
            }
            name if name.contains("average")
                || name.contains("kaufman")
                || name.contains("chande")
                || name.contains("index")
                || name.contains("exponential") =>
            {
                let hold = self.maybe(|d| format!(", {}", d.number()));
                format!(", {}{hold}", self.number())
            }
            _ => String::new(),
        };
        format!("{name}({inside}{more})")
    }

    fn column(&mut self) -> String {
        let text = match self.below(8) {
            0 => self.row(3),
            1 => format!(
                "{} {} {}",
                self.call(1),
                self.pick(&["+", "-", "/", "%"]),
                self.call(1)
            ),
            2 => format!("{} * {}", self.call(1), self.number()),
            3 => self
                .pick(&["*", "/v|used/", "*::field", "*::tag", "time"])
                .to_string(),
            _ => self.call(1),
        };
        text + &self.maybe(|d| format!(" AS {}", d.pick(&["a", "b", "over", "mean"])))
    }

    fn time(&mut self) -> String {
        let times = [
            "0",
            "-9223372036854775806",
            "9223372036854775806",
            "1600000000s",
            "1600000100s",
            "now()",
            "now() - 1h",
            "now() + 10000w",
            "'1677-09-21T00:12:44Z'",
            "'2262-04-11T23:47:16Z'",
            "'2020-09-13'",
            "1",
        ];
        self.pick(&times).to_string()
    }

    fn wheres(&mut self) -> String {
        let mut tests = Vec::new();
        if self.one_in(2) {
            tests.push(format!("time {} {}", self.pick(&[">=", ">", "="]), self.time()));
        }
        if self.one_in(2) {
            tests.push(format!("time {} {}", self.pick(&["<=", "<"]), self.time()));
        }
        if self.one_in(3) {
            tests.push(format!("host {} 'a'", self.pick(&["=", "!="])));
        }
        if self.one_in(3) {
            tests.push(format!(
                "{} {} {}",
                self.row(1),
                self.pick(&["<", ">", "=", "!=", ">="]),
                self.number()
            ));
        }
        if self.one_in(6) {
            tests.push("host =~ /a|b/".into());
        }
        if self.one_in(8) {
            tests.push(format!("(time > {} OR {} = 1)", self.time(), self.field()));
        }
        match tests.is_empty() {
            true => String::new(),
            false => format!(" WHERE {}", tests.join(" AND ")),
        }
    }

    fn group(&mut self) -> String {
        let mut parts = Vec::new();
        if self.one_in(2) {
            let offset =
                self.maybe(|d| format!(", {}", d.pick(&["1m", "-7s", "now()", "100000d", "'2020-01-01'"])));
            let over = self.maybe(|d| format!(", over {}", d.duration()));
            parts.push(format!("time({}{offset}{over})", self.duration()));
        }
        if self.one_in(3) {
            parts.push(
                self.pick(&["host", "region", "*", "/h.*/", "nothing", "cpu.host"])
                    .to_string(),
            );
        }
        match parts.is_empty() {
            true => String::new(),
            false => format!(" GROUP BY {}", parts.join(", ")),
        }
    }

    fn source(&mut self, depth: usize) -> String {
        let names = ["cpu", "cpu", "mem", "/.*/", "nothing", "\"with \\\"quotes\\\"\""];
        let one = |d: &mut Self, alias: &str| match d.below(4) {
            0 if depth > 0 => format!("({}){alias}", d.select(depth - 1)),
            _ => format!("{}{alias}", d.pick(&names)),
        };
        match self.below(8) {
            0 | 1 => {
                let join = self.pick(&["JOIN", "LEFT JOIN", "FULL JOIN", "ASOF JOIN"]);
                let left = one(self, " AS cpu");
                format!("{left} {join} {}", one(self, " AS b"))
            }
            2 => format!("{}, mem", one(self, "")),
            _ => one(self, ""),
        }
    }

    fn select(&mut self, depth: usize) -> String {
        let columns: Vec<String> = (0..1 + self.below(2)).map(|_| self.column()).collect();
        let mut text = format!("SELECT {} FROM {}", columns.join(", "), self.source(depth));
        text += &self.wheres();
        text += &self.group();
        text += &self.maybe(|d| {
            format!(
                " fill({})",
                d.pick(&["none", "null", "previous", "linear", "0", "-1.5"])
            )
        });
        if self.one_in(4) {
            text += self.pick(&[" ORDER BY time DESC", " ORDER BY a DESC", " ORDER BY mean"]);
        }
        for word in ["LIMIT", "OFFSET", "SLIMIT", "SOFFSET"] {
            if self.one_in(6) {
                text += &format!(" {word} {}", self.pick(&["0", "1", "2", "9223372036854775807"]));
            }
        }
        if self.one_in(5) {
            text += self.pick(&[
                " tz('Europe/Berlin')",
                " tz('America/New_York')",
                " tz('Nowhere')",
            ]);
        }
        text
    }

    fn statement(&mut self) -> String {
        match self.below(20) {
            0 => format!("SHOW CORRELATED WITH ({}) FROM /.*/ LIMIT 3", self.select(0)),
            1 => format!("EXPLAIN {}{}", self.pick(&["", "ANALYZE "]), self.select(1)),
            2 => format!("SHOW TAG VALUES FROM cpu WITH KEY = host{}", self.wheres()),
            3 => self.select(0).replacen(" FROM ", " INTO made FROM ", 1),
            _ => self.select(2),
        }
    }
}

pub(super) fn engine(folder: &std::path::Path) -> Arc<Engine> {
    let machine = Machine {
        cores: 2,
        memory: 1 << 30,
    };
    let options = EngineOptions::new(Budgets::new(&machine, &Overrides::default()), || 0);
    Engine::open(folder, options).expect("an engine")
}

pub(super) fn ask(engine: &Arc<Engine>, text: &str) {
    let Ok(query) = parse(text, &Params::new()) else {
        return;
    };
    let options = QueryOptions {
        database: Some("d".into()),
        policy: None,
        params: Params::new(),
        now: NOW,
        limits: QueryLimits {
            memory_bytes_max: 64 << 20,
            buckets_max: 5_000,
            groups_max: 1_000,
            ..QueryLimits::default()
        },
        deadline: Some(Instant::now() + Duration::from_secs(5)),
        rollups: RollupUse::default(),
        read_only_hint: false,
    };
    let mut json = Json::new(TimeFormat::default());
    let mut out = Vec::new();
    run(
        &query,
        &options,
        engine.as_ref(),
        &Cancel::default(),
        &mut |event: Event| {
            out.clear();
            json.event(event, &mut out);
            ControlFlow::Continue(())
        },
    );
}

/// Loads what is not there; statements may have dropped it.
fn load(engine: &Arc<Engine>) {
    let known = engine
        .catalog()
        .database("d")
        .and_then(|d| d.policy(None).cloned());
    if let Some(policy) = &known
        && engine
            .catalog()
            .measurement(policy.id, "cpu")
            .is_some_and(|m| m.live_count() >= 5)
    {
        return;
    }
    ask(engine, "DROP DATABASE d; CREATE DATABASE d");
    let batch = decoded(engine, LINES, None).expect("good lines");
    engine.commit(batch).expect("a commit");
}

/// What lines for the database `d` become, with tables of a pool or with new ones.
pub(super) fn decoded(engine: &Engine, lines: &str, pool: Option<&TablePool>) -> Option<Batch> {
    let database = engine.catalog().database("d").expect("it is there");
    let policy = database.policy(None).expect("the default one").id;
    let (limits, options) = (engine.limits(), Options::new());
    let shards = engine.shards();
    let mut ingestor = Ingestor::new(
        engine.catalog(),
        limits,
        policy,
        "line-protocol",
        &options,
        0,
        shards,
    );
    if let Some(pool) = pool {
        ingestor = ingestor.reusing(pool);
    }
    let format = engine.formats().by_name("line-protocol").expect("it is built in");
    let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
    decoder.decode(lines.as_bytes(), &mut ingestor);
    ingestor.finish().batch
}

/// Asks one statement: does it panic?
fn panics(engine: &Arc<Engine>, text: &str) -> bool {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ask(engine, text))).is_err()
}

#[test]
fn no_statement_makes_the_planner_panic() {
    let folder = tempfile::tempdir().expect("a folder");
    let engine = engine(folder.path());
    load(&engine);
    let mut dice = Dice(SEED);
    let mut found = Vec::new();
    for _ in 0..SENSIBLE {
        let text = dice.statement();
        if panics(&engine, &text) {
            found.push(text);
        }
    }
    for _ in 0..SPELT {
        let bytes: Vec<u8> = (0..200).map(|_| dice.next() as u8).collect();
        let text = Choices::new(&bytes).statement();
        if panics(&engine, &text) {
            found.push(text);
        }
        load(&engine);
    }
    assert!(
        found.is_empty(),
        "{} statements panic:\n{}",
        found.len(),
        found.join("\n")
    );
    engine.stop();
}
