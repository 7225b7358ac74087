//! Whatever is written, overwritten, deleted and built in whatever order, and however often the engine is opened again: a query answered with states
//! gives what it gives without.

use super::*;
use crate::budget::{Budgets, Machine, Overrides};
use crate::engine::EngineOptions;
use crate::ingest::Ingestor;
use crate::lang::{Params, parse};
use crate::query::encode::{Encoder, Event, Json, TimeFormat};
use crate::query::statements::{QueryOptions, run};
use crate::query::{QueryLimits, RollupUse};
use crossbeam_channel::bounded;
use kymo_plugin_api::{Framing, Options};
use serde_json::Value;
use std::ops::ControlFlow;
use std::path::Path;

const SECOND: i64 = 1_000_000_000;
/// A midnight.
const BEGIN: i64 = 1_700_006_400 * SECOND;
/// Points lie within so many seconds.
const SPAN: i64 = 5 * 3600;
const NOW: i64 = BEGIN + 2 * SPAN * SECOND;
const ROLLUP: &str = "CREATE ROLLUP r ON d FROM m EVERY 1m, 10m, 1h";

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> i64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) % n) as i64
    }

    fn pick<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[self.below(all.len() as u64) as usize]
    }

    fn second(&mut self) -> i64 {
        self.below(SPAN as u64)
    }
}

struct World {
    engine: Arc<Engine>,
    keeper: Keeper,
}

impl World {
    fn open(folder: &Path) -> Self {
        let machine = Machine {
            cores: 2,
            memory: 1 << 30,
        };
        let options = EngineOptions::new(Budgets::new(&machine, &Overrides::default()), || NOW);
        let engine = Engine::open(folder, options).expect("an engine");
        Self {
            keeper: Keeper {
                engine: engine.clone(),
                cancel: Arc::default(),
                settle: Duration::ZERO,
                failed: BTreeMap::new(),
            },
            engine,
        }
    }

    fn build(&mut self, now: i64) -> bool {
        let (_stop, stopped) = bounded(1);
        self.keeper.turn(now, &stopped)
    }

    fn build_all(&mut self) {
        while self.build(NOW) {}
        assert_eq!(self.keeper.failed.len(), 0);
    }

    fn ask(&self, text: &str, rollups: RollupUse) -> Value {
        let query = parse(text, &Params::new()).unwrap_or_else(|error| panic!("{text}: {error}"));
        let options = QueryOptions {
            database: Some("d".into()),
            policy: None,
            params: Params::new(),
            now: NOW,
            limits: QueryLimits::default(),
            deadline: None,
            rollups,
            read_only_hint: false,
        };
        let mut json = Json::new(TimeFormat::default());
        let mut out = Vec::new();
        run(
            &query,
            &options,
            self.engine.as_ref(),
            &Cancel::default(),
            &mut |event: Event| {
                json.event(event, &mut out);
                ControlFlow::Continue(())
            },
        );
        json.finish(&mut out);
        let answer: Value =
            serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{text}: {error}: {out:?}"));
        let result = answer["results"][0].clone();
        assert_eq!(result["error"], Value::Null, "{text}");
        result
    }

    fn write(&self, lines: &str) {
        let database = self.engine.catalog().database("d").expect("it was created");
        let policy = database.policy(None).expect("the default one").id;
        let options = Options::new();
        let mut ingestor = Ingestor::new(
            self.engine.catalog(),
            self.engine.limits(),
            policy,
            "line-protocol",
            &options,
            0,
            self.engine.shards(),
        );
        let format = self
            .engine
            .formats()
            .by_name("line-protocol")
            .expect("it is built in");
        let mut decoder = format.decoder(&options, Framing::Whole).expect("no options");
        decoder.decode(lines.as_bytes(), &mut ingestor);
        let batch = ingestor.finish().batch.expect("good lines");
        self.engine.commit(batch).expect("a commit");
    }

    fn write_random(&self, dice: &mut Dice) {
        let count = 1 + dice.below(400);
        // Near each other, as most batches are, or all over the time.
        let around = (dice.below(4) > 0).then(|| dice.second());
        let mut lines = String::new();
        for _ in 0..count {
            let at = match around {
                Some(at) => (at + dice.below(900)).min(SPAN - 1),
                None => dice.second(),
            };
            let mut fields = Vec::new();
            for (name, value) in [
                ("v", format!("{}.{:03}", dice.below(1000) - 500, dice.below(1000))),
                ("i", format!("{}i", dice.below(2_000_000) - 1_000_000)),
                ("u", format!("{}u", dice.below(1_000_000))),
                // Counters that begin anew at times.
                ("c", format!("{}i", (at * 7) % 9_000)),
                ("f", format!("{}.5", (at * 3) % 5_000)),
                ("s", format!("\"t{}\"", dice.below(5))),
                ("b", ["true", "false"][dice.below(2) as usize].to_string()),
            ] {
                if fields.is_empty() || dice.below(3) > 0 {
                    fields.push(format!("{name}={value}"));
                }
            }
            if dice.below(5) == 0 {
                fields.remove(0);
            }
            if fields.is_empty() {
                continue;
            }
            let (host, dc) = (dice.below(4), dice.below(2));
            let time = BEGIN + at * SECOND + dice.below(3);
            lines += &format!("m,host=h{host},dc=d{dc} {} {time}\n", fields.join(","));
        }
        if dice.below(40) == 0 {
            // Sums that fit nowhere.
            let at = BEGIN + dice.second() * SECOND;
            lines += &format!(
                "m,host=h1,dc=d1 i={}i {at}\nm,host=h1,dc=d1 i={}i {}\n",
                i64::MAX,
                i64::MAX,
                at + 1
            );
        }
        self.write(&lines);
    }

    fn query(dice: &mut Dice) -> String {
        let of = dice.pick(&[
            "count(v), sum(v), mean(v), min(v), max(v), spread(v)",
            "first(v), last(v), count(s), count(b)",
            "sum(i), mean(i), first(i), last(i), min(i)",
            "max(u), sum(u), spread(u), last(u)",
            "increase(c), rate(c, 1m)",
            "increase(f), count(f)",
            "increase(c), max(c), mean(v) * 2",
            "derivative(mean(v), 1m)",
            "mean(v), median(v)",
            "count(*)",
            "last(v)",
        ]);
        let mut wheres = Vec::new();
        let times = dice.below(6);
        let aligned = |dice: &mut Dice| match dice.below(3) {
            0 => dice.second() / 3600 * 3600,
            1 => dice.second() / 60 * 60,
            _ => dice.second(),
        };
        if times > 0 {
            wheres.push(format!("time >= {}", BEGIN + aligned(dice) * SECOND));
        }
        if times > 1 {
            wheres.push(format!("time < {}", BEGIN + (aligned(dice) + 3600) * SECOND));
        }
        match dice.below(6) {
            0 => wheres.push("host = 'h1'".into()),
            1 => wheres.push("host =~ /h[0-2]/ AND dc != 'd0'".into()),
            2 => wheres.push("v > 0".into()),
            _ => {}
        }
        let wheres = if wheres.is_empty() {
            String::new()
        } else {
            format!(" WHERE {}", wheres.join(" AND "))
        };
        let windows = dice.pick(&[
            "time(1h)",
            "time(10m)",
            "time(1m)",
            "time(2h, 30m)",
            "time(90s)",
            "time(1d)",
            "time(1mo)",
            "time(1h, over 2h)",
            "",
        ]);
        let tags = dice.pick(&["", "", "host", "*", "dc"]);
        let by: Vec<&str> = [windows, tags]
            .into_iter()
            .filter(|part| !part.is_empty())
            .collect();
        let of = match windows {
            "" if of.starts_with("derivative") => "mean(v)",
            _ => of,
        };
        let by = if by.is_empty() {
            String::new()
        } else {
            format!(" GROUP BY {}", by.join(", "))
        };
        let fill = match windows {
            "" => "",
            _ => dice.pick(&["", " fill(none)", " fill(0)", " fill(previous)"]),
        };
        let order = dice.pick(&["", " ORDER BY time DESC", " LIMIT 3"]);
        format!("SELECT {of} FROM m{wheres}{by}{fill}{order}")
    }

    /// True: states were read.
    fn check(&self, query: &str) -> bool {
        let with = self.ask(query, RollupUse::Always);
        let without = self.ask(query, RollupUse::Off);
        assert!(
            same(&with, &without),
            "{query}\nwith    {with}\nwithout {without}"
        );
        let explained = self
            .ask(&format!("EXPLAIN ANALYZE {query}"), RollupUse::Always)
            .to_string();
        explained.contains("rollup r, ") && !explained.contains("not enough, points are read")
    }

    /// Percentiles are within their bound of all values.
    fn check_percentiles(&self, dice: &mut Dice) -> bool {
        let hour = BEGIN + dice.below(4) * 3600 * SECOND;
        let wheres = format!("WHERE time >= {hour} AND time < {}", hour + 2 * 3600 * SECOND);
        let all = self.ask(&format!("SELECT v FROM m {wheres}"), RollupUse::Off);
        let rows = all["series"][0]["values"].as_array().cloned().unwrap_or_default();
        let mut values: Vec<f64> = rows.iter().filter_map(|row| row[1].as_f64()).collect();
        values.sort_by(f64::total_cmp);
        let query = format!("SELECT approx_percentile(v, 5, 50, 95) FROM m {wheres}");
        let found = self.ask(&query, RollupUse::Always);
        let row = found["series"][0]["values"][0].clone();
        if values.is_empty() {
            assert_eq!(row, Value::Null);
            return false;
        }
        for (column, share) in [(1, 0.05), (2, 0.5), (3, 0.95)] {
            let got = row[column].as_f64().expect("there are values");
            let count = values.len() as f64;
            let below = values.partition_point(|v| *v < got - 1e-9) as f64 / count;
            let upto = values.partition_point(|v| *v <= got + 1e-9) as f64 / count;
            let far = (below - share).max(share - upto).max(0.0);
            assert!(far <= 0.01 + 1.0 / count, "{query}: {got} is {far} off");
        }
        let explained = self.ask(&format!("EXPLAIN ANALYZE {query}"), RollupUse::Always);
        explained.to_string().contains("rollup r, ")
    }
}

/// Are answers the same? Sums of floats are rounded at other places.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(x), Value::Number(y)) => match (x.as_i64(), y.as_i64()) {
            (Some(x), Some(y)) => x == y,
            _ => {
                let (x, y) = (x.as_f64().expect("a number"), y.as_f64().expect("a number"));
                x == y || (x - y).abs() <= 1e-9 * x.abs().max(y.abs()).max(1.0)
            }
        },
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        (Value::Object(x), Value::Object(y)) => {
            x.len() == y.len() && x.iter().all(|(key, x)| y.get(key).is_some_and(|y| same(x, y)))
        }
        (a, b) => a == b,
    }
}

#[test]
fn answers_with_states_are_those_without() {
    let mut read = 0;
    let mut asked = 0;
    for seed in 1..=6 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut world = World::open(folder.path());
        let mut dice = Dice(seed * 7_919);
        world.ask("CREATE DATABASE d", RollupUse::Auto);
        // There is something before the rollup, or nothing.
        if seed % 2 == 0 {
            (0..3).for_each(|_| world.write_random(&mut dice));
        }
        world.ask(ROLLUP, RollupUse::Auto);
        for _ in 0..40 {
            match dice.below(16) {
                0..6 => world.write_random(&mut dice),
                6..9 => drop(world.build(BEGIN + dice.second() * SECOND)),
                9..12 => world.build_all(),
                12 => {
                    let (from, host) = (BEGIN + dice.second() * SECOND, dice.below(4));
                    let to = from + dice.below(3_000) * SECOND;
                    let of = dice.pick(&["", " AND dc = 'd1'"]);
                    let delete = format!(
                        "DELETE FROM m WHERE time >= {from} AND time < {to} AND host = 'h{host}'{of}"
                    );
                    world.ask(&delete, RollupUse::Auto);
                }
                13 => {
                    let drop = format!(
                        "DROP SERIES FROM m WHERE host = 'h{}' AND dc = 'd0'",
                        dice.below(4)
                    );
                    world.ask(&drop, RollupUse::Auto);
                }
                14 if dice.below(4) == 0 => {
                    world.ask("DROP ROLLUP r ON d", RollupUse::Auto);
                    world.ask(ROLLUP, RollupUse::Auto);
                }
                _ => {
                    world.engine.stop();
                    drop(world);
                    world = World::open(folder.path());
                }
            }
            for _ in 0..3 {
                asked += 1;
                read += usize::from(world.check(&World::query(&mut dice)));
            }
        }
        world.build_all();
        for _ in 0..10 {
            world.write_random(&mut dice);
            world.check_percentiles(&mut dice);
            world.build_all();
            asked += 1;
            read += usize::from(world.check_percentiles(&mut dice));
        }
        world.engine.stop();
    }
    // The comparison is worth something: many of these were answered from states.
    assert!(read * 4 > asked, "{read} of {asked}");
}

#[test]
fn states_are_used_repaired_dropped_and_hidden() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut world = World::open(folder.path());
    world.ask("CREATE DATABASE d", RollupUse::Auto);
    let mut lines = String::new();
    for at in 0..7200 {
        lines += &format!("m,host=a v={at},i={at}i {}\n", BEGIN + at * SECOND);
    }
    world.write(&lines);
    world.ask("CREATE ROLLUP r ON d EVERY 1h", RollupUse::Auto);
    let query = "SELECT sum(i), max(v) FROM m";
    let explain = |world: &World| {
        world
            .ask(&format!("EXPLAIN {query}"), RollupUse::Auto)
            .to_string()
    };
    assert!(!explain(&world).contains("rollup"), "nothing is built yet");
    world.build_all();
    let show = |world: &World| world.ask("SHOW ROLLUPS", RollupUse::Auto)["series"][0]["values"][0].clone();
    assert_eq!(
        show(&world),
        serde_json::json!(["r", "CREATE ROLLUP r ON d EVERY 1h", 1, 0, 100])
    );
    assert!(
        explain(&world).contains("rollup r, 2 intervals of 1h (2 states)"),
        "{}",
        explain(&world)
    );
    let day = format!(
        "{query} WHERE time >= {BEGIN} AND time < {}",
        BEGIN + 86_400 * SECOND
    );
    assert!(world.check(&day));
    // A late point, an overwrite: waits, then built again.
    world.write(&format!("m,host=a v=9000000 {}\n", BEGIN + 60 * SECOND));
    assert_eq!(show(&world)[3], serde_json::json!(1));
    let top = |world: &World| world.ask(&day, RollupUse::Always)["series"][0]["values"][0][2].clone();
    assert_eq!(top(&world), serde_json::json!(9_000_000));
    world.build_all();
    assert_eq!(top(&world), serde_json::json!(9_000_000));
    world.ask(
        &format!("DELETE FROM m WHERE time = {}", BEGIN + 60 * SECOND),
        RollupUse::Auto,
    );
    assert_eq!(top(&world), serde_json::json!(7_199));
    world.build_all();
    assert!(world.check(&day));
    // Nobody sees where the states are.
    for statement in [
        "SHOW MEASUREMENTS",
        "SHOW RETENTION POLICIES",
        "SHOW SERIES",
        "SHOW FIELD KEYS",
        "SHOW SHARDS",
    ] {
        let answer = world.ask(statement, RollupUse::Auto).to_string();
        assert!(
            !answer.contains("rollup") && !answer.contains("\\u0001"),
            "{answer}"
        );
    }
    let hidden = |world: &World| world.engine.catalog().database("d").expect("there").hidden.len();
    assert_eq!(hidden(&world), 1);
    // The policy's duration is that of the points.
    world.ask(
        "ALTER RETENTION POLICY autogen ON d DURATION 10000w",
        RollupUse::Auto,
    );
    world.keeper.follow();
    let policy = world.engine.catalog().database("d").expect("there").hidden[0].clone();
    assert_eq!(policy.duration, 10_000 * 7 * 86_400 * SECOND);
    world.ask("DROP ROLLUP r ON d", RollupUse::Auto);
    assert_eq!(hidden(&world), 0);
    assert!(!explain(&world).contains("rollup"));
    assert!(world.ask("SHOW ROLLUPS", RollupUse::Auto)["series"][0]["values"].is_null());
    // What is dropped while nobody looks is found by whoever cleans up.
    world.ask("CREATE ROLLUP r ON d EVERY 1h", RollupUse::Auto);
    world.build_all();
    world.ask("DROP MEASUREMENT m", RollupUse::Auto);
    world.keeper.follow();
    let catalog = world.engine.catalog();
    let policy = catalog.database("d").expect("there").hidden[0].id;
    assert!(catalog.measurements(policy).is_empty());
    world.ask("DROP DATABASE d", RollupUse::Auto);
    assert!(world.engine.rollups().definitions().is_empty());
    world.engine.stop();
}
