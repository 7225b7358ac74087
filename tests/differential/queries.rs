//! Random SELECTs: what they mean, and as text.

use crate::data::{Data, FIELDS, NUMBERS, Random, STEP};

#[derive(Clone, Debug)]
pub struct Query {
    pub columns: Columns,
    pub tag_test: Option<TagTest>,
    pub field_tests: Vec<FieldTest>,
    pub min: Option<i64>,
    pub max: Option<i64>,
    pub group: Vec<&'static str>,
    pub window: Option<(i64, i64)>,
    /// Rolling windows of this width.
    pub over: Option<i64>,
    pub fill: Fill,
    pub descending: bool,
    pub limit: usize,
    pub offset: usize,
    pub slimit: usize,
    pub soffset: usize,
}

#[derive(Clone, Debug)]
pub enum Columns {
    /// Fields and tags.
    Raw(Vec<&'static str>),
    Calls(Vec<Call>),
}

#[derive(Clone, Debug)]
pub struct Call {
    pub function: &'static str,
    pub argument: Argument,
    pub parameter: Option<i64>,
}

#[derive(Clone, Debug)]
pub enum Argument {
    Field(&'static str),
    /// `a * n + b`
    Linear(&'static str, i64, &'static str),
}

#[derive(Clone, Debug)]
pub enum TagTest {
    Equal(&'static str, String),
    NotEqual(&'static str, String),
    /// One of these digits at the end.
    Ends(&'static str, Vec<char>),
}

#[derive(Clone, Debug)]
pub enum FieldTest {
    Number(&'static str, &'static str, f64),
    Text(bool, String),
    /// `a > b`
    Fields(&'static str, &'static str),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fill {
    Default,
    None,
    Previous,
    Linear,
    Number(i64),
}

const OF_NUMBERS: [&str; 11] = [
    "count", "sum", "mean", "min", "max", "first", "last", "spread", "stddev", "median", "mode",
];

impl Query {
    pub fn new(random: &mut Random, data: &Data) -> Self {
        let (span, unit) = (data.now / data.unit, data.unit);
        let raw = random.chance(35);
        let group = match random.below(5) {
            0 | 1 => vec![],
            2 => vec!["host"],
            3 => vec!["region"],
            _ => vec!["host", "region"],
        };
        let columns = if raw {
            let mut list: Vec<&'static str> = vec![*random.pick(&FIELDS)];
            for _ in 0..random.below(3) {
                list.push(*random.pick(&["f", "i", "u", "b", "s", "host", "region"]));
            }
            list.dedup();
            list.sort_unstable();
            list.dedup();
            Columns::Raw(list)
        } else {
            let count = if random.chance(45) { 1 } else { 1 + random.below(4) };
            let mut calls: Vec<Call> = Vec::new();
            for _ in 0..count {
                // The same call twice is one call.
                let call = Call::new(random);
                if calls.iter().all(|other| other.text() != call.text()) {
                    calls.push(call);
                }
            }
            Columns::Calls(calls)
        };
        let window = (!raw && random.chance(65)).then(|| {
            let hour = 360 * STEP;
            let steps = [STEP, 3 * STEP, 7 * STEP + 3, 25 * STEP, 1000 * STEP];
            // Hours, and what is made of them, only where data goes on for so long.
            let step = match data.is_long() {
                true if random.chance(60) => hour * *random.pick(&[1, 1, 4, 24]),
                _ => *random.pick(&steps),
            };
            (
                step * unit,
                if random.chance(20) {
                    random.below(step as u64) as i64 * unit
                } else {
                    0
                },
            )
        });
        let mut min = random.chance(60).then(|| random.below(span as u64) as i64 - 20);
        let mut max = random
            .chance(60)
            .then(|| min.unwrap_or(0) + random.below(span as u64 + 40) as i64);
        if data.is_long() && random.chance(50) {
            // From hour to hour.
            min = min.map(|t| t.div_euclid(3600) * 3600);
            max = max.map(|t| (t.div_euclid(3600) + 1) * 3600 - 1);
        }
        let (min, max) = (min.map(|t| t * unit), max.map(|t| t * unit));
        let numbers = match &columns {
            Columns::Raw(_) => false,
            Columns::Calls(calls) => calls
                .iter()
                .all(|call| !matches!(call.argument, Argument::Field("b" | "s"))),
        };
        let fill = match random.below(7) {
            _ if raw => Fill::Default,
            0 => Fill::None,
            1 => Fill::Previous,
            2 => Fill::Linear,
            3 if numbers => Fill::Number(random.below(9) as i64 - 4),
            _ => Fill::Default,
        };
        // What fill(previous) carries is that of plain windows here.
        let over = window
            .filter(|_| fill != Fill::Previous && random.chance(25))
            .map(|(step, _)| step + (1 + random.below(9) as i64) * step / 2);
        let mut field_tests = Vec::new();
        while random.chance(30) {
            field_tests.push(FieldTest::new(random));
        }
        Self {
            columns,
            tag_test: random.chance(35).then(|| TagTest::new(random)),
            field_tests,
            min,
            max,
            group,
            window,
            over,
            fill: if window.is_none() { Fill::Default } else { fill },
            descending: random.chance(40),
            limit: if random.chance(40) {
                1 + random.below(6) as usize
            } else {
                0
            },
            offset: if random.chance(15) {
                random.below(4) as usize
            } else {
                0
            },
            slimit: if random.chance(15) {
                1 + random.below(3) as usize
            } else {
                0
            },
            soffset: if random.chance(10) {
                random.below(3) as usize
            } else {
                0
            },
        }
    }

    pub fn text(&self) -> String {
        let columns: Vec<String> = match &self.columns {
            Columns::Raw(list) => list.iter().map(|c| (*c).to_string()).collect(),
            Columns::Calls(calls) => calls.iter().map(Call::text).collect(),
        };
        let mut tests: Vec<String> = Vec::new();
        tests.extend(self.min.map(|t| format!("time >= {t}")));
        tests.extend(self.tag_test.as_ref().map(TagTest::text));
        tests.extend(self.field_tests.iter().map(FieldTest::text));
        tests.extend(self.max.map(|t| format!("time <= {t}")));
        let mut text = format!("SELECT {} FROM m", columns.join(", "));
        if !tests.is_empty() {
            text += &format!(" WHERE {}", tests.join(" AND "));
        }
        let mut group: Vec<String> = self.group.iter().map(|g| (*g).to_string()).collect();
        if let Some((step, offset)) = self.window {
            let offset = match offset {
                0 => String::new(),
                offset => format!(", {offset}ns"),
            };
            let over = self
                .over
                .map(|over| format!(", over {over}ns"))
                .unwrap_or_default();
            group.push(format!("time({step}ns{offset}{over})"));
        }
        if !group.is_empty() {
            text += &format!(" GROUP BY {}", group.join(", "));
        }
        text += &match self.fill {
            Fill::Default => String::new(),
            Fill::None => " fill(none)".into(),
            Fill::Previous => " fill(previous)".into(),
            Fill::Linear => " fill(linear)".into(),
            Fill::Number(n) => format!(" fill({n})"),
        };
        if self.descending {
            text += " ORDER BY time DESC";
        }
        for (word, n) in [
            ("LIMIT", self.limit),
            ("OFFSET", self.offset),
            ("SLIMIT", self.slimit),
            ("SOFFSET", self.soffset),
        ] {
            if n > 0 {
                text += &format!(" {word} {n}");
            }
        }
        text
    }
}

impl Call {
    fn new(random: &mut Random) -> Self {
        let number = *random.pick(&NUMBERS);
        let argument = if random.chance(15) {
            Argument::Linear(
                *random.pick(&["f", "i"]),
                1 + random.below(3) as i64,
                *random.pick(&["f", "i"]),
            )
        } else {
            Argument::Field(number)
        };
        match random.below(10) {
            0 => Self {
                function: "percentile",
                argument,
                parameter: Some(*random.pick(&[1, 50, 95, 100])),
            },
            1 => Self {
                function: *random.pick(&["count", "first", "last"]),
                argument: Argument::Field(*random.pick(&["b", "s"])),
                parameter: None,
            },
            2 => Self {
                function: *random.pick(&["min", "max"]),
                argument: Argument::Field("b"),
                parameter: None,
            },
            _ => Self {
                function: *random.pick(&OF_NUMBERS),
                argument,
                parameter: None,
            },
        }
    }

    fn text(&self) -> String {
        let argument = match &self.argument {
            Argument::Field(field) => (*field).to_string(),
            Argument::Linear(a, n, b) => format!("{a} * {n} + {b}"),
        };
        match self.parameter {
            Some(parameter) => format!("{}({argument}, {parameter})", self.function),
            None => format!("{}({argument})", self.function),
        }
    }
}

impl TagTest {
    fn new(random: &mut Random) -> Self {
        let value = match random.below(3) {
            0 => format!("r{}", random.below(3)),
            1 => String::new(),
            _ => format!("h{}", random.below(6)),
        };
        let key = if value.starts_with('h') { "host" } else { "region" };
        match random.below(3) {
            0 => Self::Equal(key, value),
            1 => Self::NotEqual(key, value),
            _ => Self::Ends(
                *random.pick(&["host", "region"]),
                vec!['0', char::from(b'1' + random.below(4) as u8)],
            ),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Equal(key, value) => format!("{key} = '{value}'"),
            Self::NotEqual(key, value) => format!("{key} != '{value}'"),
            Self::Ends(key, digits) => format!("{key} =~ /[{}]$/", digits.iter().collect::<String>()),
        }
    }
}

impl FieldTest {
    fn new(random: &mut Random) -> Self {
        match random.below(6) {
            0 => Self::Text(
                random.chance(50),
                random.pick(&["up", "down", "nothing"]).to_string(),
            ),
            1 => Self::Fields(*random.pick(&["f", "i"]), *random.pick(&["f", "i"])),
            _ => {
                let bound = if random.chance(50) {
                    3.0
                } else {
                    random.below(80) as f64 / 4.0 - 5.0
                };
                Self::Number(
                    *random.pick(&NUMBERS),
                    *random.pick(&["<", "<=", ">", ">=", "=", "!="]),
                    bound,
                )
            }
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Text(equal, text) => format!("s {} '{text}'", if *equal { "=" } else { "!=" }),
            Self::Fields(a, b) => format!("{a} > {b}"),
            Self::Number(field, op, bound) => format!("{field} {op} {bound}"),
        }
    }
}
