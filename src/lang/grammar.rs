//! Random query texts for tests, made of choices: the same bytes give the same text, and fewer bytes a shorter one, so that
//! proptest shrinks them. Every text is a statement of the language; it need not make sense.

/// A source of choices; 0 for ever when it is used up.
pub struct Choices<'a> {
    left: &'a [u8],
}

impl<'a> Choices<'a> {
    /// From these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { left: bytes }
    }

    fn byte(&mut self) -> usize {
        match self.left {
            [first, rest @ ..] => {
                self.left = rest;
                usize::from(*first)
            }
            [] => 0,
        }
    }

    fn pick<'b>(&mut self, from: &[&'b str]) -> &'b str {
        from[self.byte() % from.len()]
    }

    fn maybe(&mut self) -> bool {
        self.byte() % 3 == 1
    }

    fn some(&mut self, make: fn(&mut Self) -> String, between: &str) -> String {
        let count = 1 + self.byte() % 3;
        let all: Vec<String> = (0..count).map(|_| make(self)).collect();
        all.join(between)
    }

    fn option(&mut self, make: fn(&mut Self) -> String) -> String {
        if self.maybe() { make(self) } else { String::new() }
    }

    fn name(&mut self) -> String {
        let names = [
            "v",
            "host",
            "usage_user",
            "cpu",
            "\"a b\"",
            "\"select\"",
            "\"q\\\"uote\"",
            "over",
            "join",
            "case",
            "\"back\\\\slash\"",
            "rollups",
            "x1",
            "\"new\\nline\"",
            "if",
            "\"über\"",
            "left",
            "tz",
            "\"\"",
            "_n",
            "fill",
        ];
        self.pick(&names).to_string()
    }

    fn number(&mut self) -> String {
        let numbers = [
            "1",
            "0",
            "-3",
            "2.5",
            "-0.125",
            "9223372036854775807",
            "-9223372036854775808",
            "9223372036854775808",
            "1.",
            ".5",
            "100000000000000000000000.0",
            "0.000000000000000000001",
            "50",
            "+4",
        ];
        self.pick(&numbers).to_string()
    }

    fn duration(&mut self) -> String {
        let durations = ["1m", "90s", "1h30m", "250ms", "7u", "3ns", "1w", "2d", "5m"];
        self.pick(&durations).to_string()
    }

    fn text(&mut self) -> String {
        let texts = [
            "'a'",
            "''",
            "'it\\'s'",
            "'a\\\\b'",
            "'2020-01-01T00:00:00Z'",
            "'two\\nlines'",
            "'ü'",
        ];
        self.pick(&texts).to_string()
    }

    fn regex(&mut self) -> String {
        self.pick(&["/a.*/", "/^x\\/y$/", "/[a-z]{2}/", "/\\d+/", "/(?i)CPU/"])
            .to_string()
    }

    fn var(&mut self) -> String {
        let kinds = [
            "",
            "",
            "",
            "::float",
            "::integer",
            "::tag",
            "::field",
            "::string",
            "::boolean",
            "::unsigned",
        ];
        let dotted = if self.maybe() {
            format!(".{}", self.name())
        } else {
            String::new()
        };
        format!("{}{dotted}{}", self.name(), self.pick(&kinds))
    }

    fn call(&mut self, depth: usize) -> String {
        let names = [
            "mean",
            "count",
            "max",
            "percentile",
            "top",
            "derivative",
            "abs",
            "pow",
            "moving_average",
            "holt_winters",
            "corr",
            "rate",
            "distinct",
            "sum",
            "if",
            "histogram_buckets",
            "nonsense",
            "elapsed",
            "cumulative_sum",
            "mode",
            "sample",
            "integral",
            "approx_percentile",
            "corr_lag",
            "first",
            "stddev",
        ];
        let name = self.pick(&names);
        let count = self.byte() % 4;
        let args: Vec<String> = (0..count).map(|i| self.argument(name, i, depth)).collect();
        format!("{name}({})", args.join(", "))
    }

    fn argument(&mut self, name: &str, at: usize, depth: usize) -> String {
        if name == "if" && at == 0 {
            return self.condition(depth);
        }
        match self.byte() % 8 {
            0..=2 => self.var(),
            3 => self.number(),
            4 => self.duration(),
            5 => self
                .pick(&["*", "/re/", "*::field", "'seasonal'", "distinct v"])
                .to_string(),
            _ => self.expr(depth),
        }
    }

    fn expr(&mut self, depth: usize) -> String {
        if depth == 0 {
            return if self.maybe() { self.number() } else { self.var() };
        }
        match self.byte() % 12 {
            0..=2 => self.var(),
            3 => self.number(),
            4..=6 => self.call(depth - 1),
            7 => format!("({})", self.expr(depth - 1)),
            8 => format!("-{}", self.var()),
            9 => format!(
                "CASE WHEN {} THEN {} ELSE {} END",
                self.condition(depth - 1),
                self.expr(depth - 1),
                self.expr(depth - 1)
            ),
            _ => {
                let op = self.pick(&["+", "-", "*", "/", "%", "&", "|", "^"]);
                format!("{} {op} {}", self.expr(depth - 1), self.expr(depth - 1))
            }
        }
    }

    fn condition(&mut self, depth: usize) -> String {
        match self.byte() % if depth == 0 { 6 } else { 9 } {
            0 => format!("{} = {}", self.var(), self.text()),
            1 => format!(
                "{} {} {}",
                self.var(),
                self.pick(&["<", "<=", ">", ">=", "!=", "<>", "="]),
                self.number()
            ),
            2 => format!("{} {} {}", self.var(), self.pick(&["=~", "!~"]), self.regex()),
            3 => format!(
                "time {} now() - {}",
                self.pick(&[">", ">=", "<"]),
                self.duration()
            ),
            4 => format!(
                "time >= {}",
                self.pick(&["'2020-01-01'", "0", "10s", "1577836800000ms", "'nonsense'"])
            ),
            5 => self.pick(&["true", "false", "b", "host"]).to_string(),
            6 => format!("({})", self.condition(depth - 1)),
            _ => {
                let op = self.pick(&["AND", "OR"]);
                format!("{} {op} {}", self.condition(depth - 1), self.condition(depth - 1))
            }
        }
    }

    fn field(&mut self) -> String {
        let alias = if self.maybe() {
            format!(" AS {}", self.name())
        } else {
            String::new()
        };
        match self.byte() % 6 {
            0 => self
                .pick(&["*", "/v.*/", "*::tag", "DISTINCT v", "time"])
                .to_string(),
            _ => format!("{}{alias}", self.expr(3)),
        }
    }

    fn measurement(&mut self) -> String {
        match self.byte() % 7 {
            0..=2 => self.name(),
            3 => self.regex(),
            4 => format!("{}.{}", self.name(), self.name()),
            5 => format!("{}..{}", self.name(), self.name()),
            _ => format!("{}.{}.{}", self.name(), self.name(), self.regex()),
        }
    }

    fn source(&mut self) -> String {
        let one = |c: &mut Self| {
            let alias = if c.maybe() {
                format!(" AS {}", c.name())
            } else {
                String::new()
            };
            if c.byte() % 4 == 1 && c.left.len() > 4 {
                format!("({}){alias}", c.select())
            } else {
                format!("{}{alias}", c.measurement())
            }
        };
        let mut out = one(self);
        while self.byte() % 5 == 1 {
            out.push_str(self.pick(&[
                " JOIN ",
                " LEFT JOIN ",
                " FULL JOIN ",
                " ASOF JOIN ",
                " INNER JOIN ",
            ]));
            out.push_str(&one(self));
        }
        out
    }

    fn dimension(&mut self) -> String {
        match self.byte() % 8 {
            0 | 1 => format!("time({})", self.duration()),
            2 => format!("time({}, over {})", self.duration(), self.duration()),
            3 => format!(
                "time({})",
                self.pick(&["1mo", "1y", "1h, -15m", "1d, now()", "1w", "1h, '2020-01-01'", ""])
            ),
            4 => self.pick(&["*", "/h.*/", "(host)", "host::tag"]).to_string(),
            _ => self.name(),
        }
    }

    fn count(&mut self, keyword: &str) -> String {
        format!(" {keyword} {}", self.byte())
    }

    fn where_clause(&mut self) -> String {
        format!(" WHERE {}", self.condition(3))
    }

    fn page(&mut self) -> String {
        let limit = self.option(|c| c.count("LIMIT"));
        limit + &self.option(|c| c.count("OFFSET"))
    }

    /// A SELECT without INTO.
    pub fn select(&mut self) -> String {
        let mut out = format!(
            "SELECT {} FROM {}",
            self.some(Self::field, ", "),
            self.some(Self::source, ", ")
        );
        out += &self.option(Self::where_clause);
        out += &self.option(|c| format!(" GROUP BY {}", c.some(Self::dimension, ", ")));
        out += &self.option(|c| {
            let fills = ["none", "null", "previous", "linear", "0", "-1.5", "7"];
            format!(" fill({})", c.pick(&fills))
        });
        out += &self.option(|c| {
            let orders = ["time", "time DESC", "DESC", "ASC", "mean DESC", "v"];
            format!(" ORDER BY {}", c.pick(&orders))
        });
        out += &self.page();
        out += &self.option(|c| c.count("SLIMIT"));
        out += &self.option(|c| c.count("SOFFSET"));
        out + &self.option(|c| {
            format!(
                " tz('{}')",
                c.pick(&["Europe/Berlin", "America/New_York", "Nowhere"])
            )
        })
    }

    fn into(&mut self) -> String {
        let target = match self.byte() % 4 {
            0 => self.name(),
            1 => format!("{}.{}.{}", self.name(), self.name(), self.name()),
            2 => format!("{}..:MEASUREMENT", self.name()),
            _ => format!("{}.:MEASUREMENT", self.name()),
        };
        self.select()
            .replacen(" FROM ", &format!(" INTO {target} FROM "), 1)
    }

    fn on(&mut self) -> String {
        format!(" ON {}", self.name())
    }

    fn from(&mut self) -> String {
        format!(" FROM {}", self.some(Self::measurement, ", "))
    }

    fn with_key(&mut self) -> String {
        let filter = match self.byte() % 5 {
            0 => format!("= {}", self.name()),
            1 => format!("!= {}", self.name()),
            2 => format!("=~ {}", self.regex()),
            3 => format!("!~ {}", self.regex()),
            _ => format!("IN ({})", self.some(Self::name, ", ")),
        };
        format!(" WITH KEY {filter}")
    }

    fn policy_options(&mut self) -> String {
        let kept = if self.maybe() {
            "INF".to_string()
        } else {
            self.duration()
        };
        let mut out = format!("DURATION {kept} REPLICATION {}", 1 + self.byte());
        out += &self.option(|c| format!(" SHARD DURATION {}", c.duration()));
        out += &self.option(|c| format!(" FUTURE LIMIT {}", c.duration()));
        out + &self.option(|c| format!(" PAST LIMIT {}", c.duration()))
    }

    /// Any statement. Its parts can be parsed each; what they say together may still be refused.
    pub fn statement(&mut self) -> String {
        let name = self.name();
        let other = self.name();
        match self.byte() % 32 {
            0..=7 => self.select(),
            8 => self.into(),
            9 => format!(
                "EXPLAIN {}{}",
                self.pick(&["", "ANALYZE ", "VERBOSE ", "ANALYZE VERBOSE "]),
                self.select()
            ),
            10 => format!("DELETE{}{}", self.from(), self.option(Self::where_clause)),
            11 => format!("DROP SERIES{}", self.where_clause()),
            12 => format!("DROP {} {name}", self.pick(&["MEASUREMENT", "DATABASE", "USER"])),
            13 => format!("DROP SHARD {}", self.byte()),
            14 if self.maybe() => format!(
                "ALTER DATABASE {name} NUMERIC PROMOTION {}",
                self.pick(&["ON", "OFF"])
            ),
            14 => format!("CREATE DATABASE {name}"),
            15 => format!(
                "CREATE DATABASE {name} WITH {} NAME {other}",
                self.policy_options()
            ),
            16 => format!(
                "CREATE RETENTION POLICY {name} ON {other} {} DEFAULT",
                self.policy_options()
            ),
            17 => format!(
                "ALTER RETENTION POLICY {name} ON {other} {}",
                self.policy_options()
            ),
            18 => format!(
                "DROP {} {name} ON {other}",
                self.pick(&["RETENTION POLICY", "CONTINUOUS QUERY", "ROLLUP"])
            ),
            19 => {
                let resample = self.option(|c| format!(" RESAMPLE EVERY {}", c.duration()));
                format!(
                    "CREATE CONTINUOUS QUERY {name} ON {other}{resample} BEGIN {} END",
                    self.into()
                )
            }
            20 => {
                let from = self.option(|c| format!(" FROM {}, {}", c.name(), c.name()));
                let second = self.option(|c| format!(", {}", c.duration()));
                let without = self.pick(&["", " WITHOUT PERCENTILES"]);
                format!(
                    "CREATE ROLLUP {name} ON {other}{from} EVERY {}{second}{without}",
                    self.duration()
                )
            }
            21 => format!(
                "CREATE SUBSCRIPTION {name} ON {other}.{name} DESTINATIONS ANY 'udp://a:1', {}",
                self.text()
            ),
            22 => format!(
                "GRANT {} ON {name} TO {other}",
                self.pick(&["READ", "WRITE", "ALL", "ALL PRIVILEGES"])
            ),
            23 => format!("REVOKE ALL FROM {name}"),
            24 => format!("KILL QUERY {}{}", self.byte(), self.option(Self::on)),
            25 => {
                let with = self.option(|c| format!(" WITH MEASUREMENT =~ {}", c.regex()));
                let on = self.pick(&["", " ON *.*", " ON *", " ON d.rp", " ON d"]);
                format!(
                    "SHOW MEASUREMENTS{on}{with}{}{}",
                    self.option(Self::where_clause),
                    self.page()
                )
            }
            26 => format!(
                "SHOW SERIES{}{}{}{}",
                self.option(Self::on),
                self.option(Self::from),
                self.option(Self::where_clause),
                self.page()
            ),
            27 => {
                let keys = self.option(Self::with_key);
                format!(
                    "SHOW TAG KEYS{}{}{keys}{}{}",
                    self.option(Self::on),
                    self.option(Self::from),
                    self.option(Self::where_clause),
                    self.page()
                )
            }
            28 => format!(
                "SHOW TAG VALUES{}{}{}{}",
                self.option(Self::from),
                self.with_key(),
                self.option(Self::where_clause),
                self.page()
            ),
            29 => {
                let what = self.pick(&["SERIES", "MEASUREMENT", "TAG KEY", "FIELD KEY"]);
                let exact = self.pick(&["", "EXACT "]);
                format!(
                    "SHOW {what} {exact}CARDINALITY{}{}{}",
                    self.option(Self::from),
                    self.option(Self::where_clause),
                    self.page()
                )
            }
            30 => format!(
                "SHOW CORRELATED WITH ({}){}{}{}",
                self.select(),
                self.option(Self::from),
                self.option(Self::where_clause),
                self.page()
            ),
            _ => {
                let shows = [
                    "DATABASES",
                    "QUERIES",
                    "SHARDS",
                    "SHARD GROUPS",
                    "STATS",
                    "STATS FOR 'x'",
                    "DIAGNOSTICS",
                    "SUBSCRIPTIONS",
                    "USERS",
                    "GRANTS FOR u",
                    "RETENTION POLICIES ON d",
                    "CONTINUOUS QUERIES",
                    "ROLLUPS",
                    "REJECTED ON d LIMIT 3",
                    "FIELD KEYS FROM cpu LIMIT 1",
                    "TAG VALUES EXACT CARDINALITY WITH KEY = host",
                ];
                format!("SHOW {}", self.pick(&shows))
            }
        }
    }
}
