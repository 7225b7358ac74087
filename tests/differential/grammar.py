"""Random data and random queries about it, for differential.py."""
import random
import re
import time

START = 1_600_000_000  # Seconds; all data lie within an hour from here but those of `days`.
SECOND = 10**9

TAGS = {"m": ["host", "region"], "n": ["host"], "sparse": ["host"], "same": ["host", "region"], "days": ["host"]}
FLOATS = {"m": ["f", "g"], "n": ["f"], "sparse": ["f"], "same": ["f"], "days": ["f"]}
INTS = {"m": ["i", "c"], "n": ["i"], "sparse": ["i"], "same": ["i"], "days": ["i"]}
TEXTS = {"m": ["s"], "n": [], "sparse": [], "same": ["s"], "days": []}
BOOLS = {"m": ["b"], "n": [], "sparse": ["b"], "same": [], "days": []}
HOSTS, REGIONS = ["a", "b", "c"], ["eu", "us"]


def line(rng, measurement, tags, fields, time):
    text = [f"{k}={v:.2f}" if isinstance(v, float) else f'{k}="{v}"' if isinstance(v, str) else f"{k}={str(v).lower()}"
            if isinstance(v, bool) else f"{k}={v}i" for k, v in fields.items()]
    return f"{measurement}{''.join(f',{k}={v}' for k, v in tags.items())} {','.join(text)} {time}"


def fields(rng, measurement, k, density):
    out = {}
    for name in FLOATS[measurement]:
        if rng.random() < density:
            out[name] = round(rng.uniform(-20, 80), 2)
    for name in INTS[measurement]:
        if rng.random() < density:
            out[name] = 3 * k + rng.randint(0, 4) if name == "c" else rng.randint(-5, 12)
    for name in TEXTS[measurement]:
        if rng.random() < density * 0.7:
            out[name] = rng.choice(["x", "y", "zed", ""])
    for name in BOOLS[measurement]:
        if rng.random() < density * 0.7:
            out[name] = rng.random() < 0.5
    return out


def datasets(rng):
    """Lists of lines. No two points of a measurement have the same time but in `same`."""
    series = [{"host": h, "region": r} for h in HOSTS for r in REGIONS] + [{"host": "a"}]
    for measurement, count, step, density in (("m", 90, 37, 0.8), ("n", 60, 59, 0.9), ("sparse", 25, 143, 0.5)):
        lines, own = [], [s if "region" in TAGS[measurement] else {"host": s["host"]} for s in series]
        own = [dict(t) for t in {tuple(s.items()) for s in own}]
        own.sort(key=lambda s: sorted(s.items()))
        for k in range(count):
            for number, tags in enumerate(own):
                if rng.random() < 0.15:
                    continue
                found = fields(rng, measurement, k, density)
                if found:
                    at = (START + k * step) * SECOND + number * 1_000_000 + (k % 3) * 250_000_000
                    lines.append(line(rng, measurement, tags, found, at))
        yield lines
    lines = []
    for k in range(40):
        for tags in series:
            found = fields(rng, "same", k, 0.7)
            if found:
                lines.append(line(rng, "same", tags, found, (START + k * 30) * SECOND))
    yield lines
    # Around a change of the clocks in Europe and America.
    lines = []
    for base in (1_603_500_000, 1_604_100_000, 1_585_200_000):
        for k in range(60):
            for number, host in enumerate(HOSTS):
                found = fields(rng, "days", k, 0.9)
                if found:
                    lines.append(line(rng, "days", {"host": host}, found, (base + k * 7_000) * SECOND + number * 1_000_000))
    yield lines


NUMERIC = ["mean", "sum", "median", "stddev", "spread", "min", "max", "first", "last", "count", "mode"]
SELECTORS = ["min", "max", "first", "last"]


class Grammar:
    def __init__(self, rng):
        self.rng = rng
        self.m = "m"

    def pick(self, *options):
        return self.rng.choice(options)

    def chance(self, p):
        return self.rng.random() < p

    def number_field(self):
        return self.rng.choice(FLOATS[self.m] + INTS[self.m])

    def any_field(self):
        return self.rng.choice(FLOATS[self.m] + INTS[self.m] + TEXTS[self.m] + BOOLS[self.m])

    def tag(self):
        return self.rng.choice(TAGS[self.m])

    # Expressions

    def literal(self):
        return self.pick("2", "10", "0.5", "-3", "1.25", "0", "100")

    def calculation(self, term, depth=2):
        if depth == 0 or self.chance(0.4):
            return term()
        op = self.pick("+", "-", "*", "/", "+", "-")
        lhs = self.calculation(term, depth - 1)
        rhs = self.calculation(term, depth - 1) if self.chance(0.5) else self.literal()
        if self.chance(0.2):
            lhs, rhs = rhs, lhs
        text = f"{lhs} {op} {rhs}"
        return f"({text})" if self.chance(0.4) else text

    def math(self, term):
        name = self.pick("abs", "ceil", "floor", "round", "sqrt", "exp", "ln", "sin", "cos", "tan", "atan", "log2", "log10")
        if self.chance(0.3):
            return self.pick(f"pow({term()}, 2)", f"log(abs({term()}) + 1, 3)", f"atan2({term()}, {term()})", f"asin({term()} / 1000)",
                             f"acos({term()} / 1000)")
        return f"{name}({term()})"

    # WHERE

    def time_bounds(self):
        # In a statement without an end windows would go on until now.
        if self.m == "days":
            base = self.pick(1_603_500_000, 1_604_100_000, 1_585_200_000)
            start, end = base + self.rng.randint(-20_000, 200_000), base + self.rng.randint(220_000, 450_000)
        else:
            start, end = START + self.rng.randint(-300, 1500), START + self.rng.randint(1600, 4000)
        low = self.pick(f"time >= {start}s", f"time > {start}s", f"time >= {start * 1000}ms")
        high = self.pick(f"time < {end}s", f"time <= {end}s")
        if self.chance(0.2):
            # Texts, and calculations with times.
            text = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start))
            low = self.pick(f"time >= '{text}'", f"time >= '{text[:10]} {text[11:19]}'", f"'{text}' <= time", f"time > '{text}' - 1m",
                            f"time >= {start - 600}s + 10m")
        return f"{low} AND {high}"

    def condition(self):
        def one():
            kind = self.rng.randint(0, 9)
            if kind <= 2:
                return f"host {self.pick('=', '!=')} '{self.pick('a', 'b', 'c', 'nobody', '')}'"
            if kind == 3:
                return f"{self.tag()} {self.pick('=~', '!~')} /{self.pick('a', '^[ab]$', 'u', '.*', 'zz')}/"
            if kind == 4 and TEXTS[self.m]:
                return f"s {self.pick('=', '!=')} '{self.pick('x', 'y', 'nothing')}'"
            if kind == 5 and BOOLS[self.m]:
                return f"b = {self.pick('true', 'false')}"
            if kind == 6:
                return f"{self.number_field()} {self.pick('+', '*', '-')} {self.pick('1', '2.5', '3')} {self.pick('>', '<')} {self.pick('10', '0')}"
            return f"{self.number_field()} {self.pick('>', '>=', '<', '<=', '=', '!=')} {self.pick('5', '0', '20.5', '-1', '40')}"
        text = one()
        while self.chance(0.3):
            text = f"{text} {self.pick('AND', 'OR')} {one()}"
        return f"({text})" if " OR " in text else text

    def where(self, bounded):
        parts = []
        if bounded or self.chance(0.4):
            parts.append(self.time_bounds())
        if self.chance(0.4):
            parts.append(self.condition())
        self.rng.shuffle(parts)
        return " WHERE " + " AND ".join(parts) if parts else ""

    # GROUP BY

    def tags_clause(self):
        kind = self.rng.randint(0, 9)
        if kind <= 3:
            return []
        if kind <= 6:
            return [self.tag()]
        if kind == 7:
            return ["*"]
        if kind == 8:
            return ["/ho|re/"]
        return list(TAGS[self.m])

    def interval(self):
        if self.m == "days":
            return self.pick("1d", "12h", "6h", "1w", "1h")
        return self.pick("60s", "5m", "10m", "47s", "7m", "1h", "90s")

    def group(self, windows):
        parts = self.tags_clause()
        if windows:
            offset = f", {self.pick('10s', '-1m', '2m', '13s')}" if self.chance(0.2) else ""
            parts.insert(self.rng.randint(0, len(parts)), f"time({self.interval()}{offset})")
        return " GROUP BY " + ", ".join(parts) if parts else ""

    def fill(self, windows):
        if not windows or self.chance(0.45):
            return ""
        return f" fill({self.pick('none', 'null', 'previous', 'linear', '0', '7', '-1')})"

    def page(self, limit=True):
        out = ""
        if self.chance(0.15):
            out += " ORDER BY time DESC"
        elif self.chance(0.05):
            out += " ORDER BY time ASC"
        if limit and self.chance(0.25):
            out += f" LIMIT {self.rng.randint(1, 8)}"
            if self.chance(0.4):
                out += f" OFFSET {self.rng.randint(1, 5)}"
        return out

    def series_page(self):
        out = ""
        if self.chance(0.12):
            out += f" SLIMIT {self.rng.randint(1, 3)}"
            if self.chance(0.4):
                out += f" SOFFSET {self.rng.randint(1, 2)}"
        return out

    def zone(self):
        if self.m == "days" and self.chance(0.6):
            return f" tz('{self.pick('Europe/Berlin', 'America/New_York', 'Asia/Kolkata')}')"
        return ""

    # Calls

    def aggregate(self):
        kind = self.rng.randint(0, 11)
        field = self.number_field()
        if kind == 0:
            return f"percentile({field}, {self.pick('50', '90', '99.9', '1', '100', '33')})"
        if kind == 1:
            return f"count({self.any_field()})"
        if kind == 2:
            return f"count(distinct({self.any_field()}))"
        if kind == 3:
            return f"{self.pick('first', 'last', 'mode')}({self.any_field()})"
        if kind == 4 and BOOLS[self.m]:
            return f"{self.pick('min', 'max')}(b)"
        return f"{self.rng.choice(NUMERIC)}({field})"

    def windowed_sequence(self):
        inner = f"{self.pick('mean', 'max', 'sum', 'count', 'last', 'min', 'median')}({self.number_field()})"
        return self.pick(
            f"derivative({inner})", f"derivative({inner}, 1m)", f"non_negative_derivative({inner}, 10s)", f"difference({inner})",
            f"non_negative_difference({inner})", f"moving_average({inner}, 2)", f"cumulative_sum({inner})", f"elapsed({inner}, 1s)",
            f"exponential_moving_average({inner}, 3)", f"double_exponential_moving_average({inner}, 2, 0)",
            f"triple_exponential_moving_average({inner}, 2, 1, 'simple')", f"relative_strength_index({inner}, 3)",
            f"chande_momentum_oscillator({inner}, 2)", f"kaufmans_efficiency_ratio({inner}, 2)",
            f"kaufmans_adaptive_moving_average({inner}, 2, 0)", f"triple_exponential_derivative({inner}, 2)",
            f"holt_winters({inner}, 3, 2)", f"holt_winters_with_fit({inner}, 2, {self.pick('0', '2', '3')})",
            f"non_negative_derivative({inner})", f"difference({inner}) + 1", f"derivative({inner}) / 2")

    def raw_sequence(self):
        field = self.number_field()
        return self.pick(
            f"derivative({field})", f"derivative({field}, 1m)", f"non_negative_derivative({field}, 10s)", f"difference({field})",
            f"non_negative_difference({field})", f"moving_average({field}, 3)", f"cumulative_sum({field})", f"elapsed({field}, 1s)",
            f"elapsed({self.any_field()}, 1ms)", f"integral({field})", f"integral({field}, 1m)",
            f"exponential_moving_average({field}, 4)", f"relative_strength_index({field}, 3, 0, 'simple')",
            f"double_exponential_moving_average({field}, 3)", f"triple_exponential_moving_average({field}, 2)",
            f"triple_exponential_derivative({field}, 2)", f"kaufmans_adaptive_moving_average({field}, 3)",
            f"non_negative_derivative({field})",
            f"chande_momentum_oscillator({field}, 4, 1, 'exponential')", f"kaufmans_efficiency_ratio({field}, 3, 1)")

    # Statements

    def raw(self):
        kind = self.rng.randint(0, 9)
        if kind == 0:
            columns = "*"
        elif kind == 1:
            columns = self.pick("*::field", "/f|i/", "f, *", "/^[fgi]$/")
        elif kind == 2:
            columns = ", ".join([self.any_field(), self.tag()])
        elif kind == 3:
            columns = self.calculation(self.number_field)
        elif kind == 4:
            columns = self.math(self.number_field)
        elif kind == 5:
            columns = f"{self.number_field()}::{self.pick('float', 'integer', 'field')}"
        else:
            names = [self.any_field() for _ in range(self.rng.randint(1, 3))]
            columns = ", ".join(f"{n} AS {self.pick('x', 'y', 'k')}{i}" if self.chance(0.2) else n for i, n in enumerate(names))
        fill = f" fill({self.pick('0', '5', 'previous')})" if self.chance(0.08) else ""
        # With equal times a limit may cut anywhere.
        unique = self.m != "same"
        return f"SELECT {columns} FROM {self.source()}{self.where(False)}{self.group(False)}{fill}{self.page(unique)}{self.series_page()}{self.zone()}"

    def aggregated(self):
        windows = self.chance(0.6)
        kind = self.rng.randint(0, 11)
        if kind <= 4:
            columns = self.aggregate()
        elif kind <= 6:
            columns = ", ".join(self.aggregate() for _ in range(self.rng.randint(2, 3)))
        elif kind == 7:
            columns = self.calculation(lambda: f"{self.pick('mean', 'sum', 'max', 'min', 'count', 'last')}({self.number_field()})")
        elif kind == 8:
            columns = self.math(lambda: f"{self.pick('mean', 'sum', 'max')}({self.number_field()})")
        elif kind == 9:
            columns = f"{self.pick('mean', 'count', 'max', 'first', 'sum', 'mode')}({self.pick('*', '/f|i/')})"
        elif kind == 10:
            columns = f"distinct({self.any_field()})"
        else:
            columns = f"{self.aggregate()} AS x, {self.aggregate()}"
        return self.finish(columns, windows)

    def selector(self):
        windows = self.chance(0.5)
        call = self.pick(f"{self.rng.choice(SELECTORS)}({self.number_field()})", f"percentile({self.number_field()}, {self.pick('50', '90')})")
        beside = ", ".join(self.pick(self.tag(), self.any_field()) for _ in range(self.rng.randint(0, 2)))
        return self.finish(call + (f", {beside}" if beside else ""), windows)

    def ranked(self):
        name, field, n = self.pick("top", "bottom"), self.number_field(), self.rng.randint(1, 4)
        tags = f", {self.tag()}" if self.chance(0.4) else ""
        beside = f", {self.pick(self.tag(), self.any_field())}" if self.chance(0.3) else ""
        return self.finish(f"{name}({field}{tags}, {n}){beside}", self.chance(0.4), limit=False)

    def sequence(self):
        if self.chance(0.5):
            return self.finish(self.windowed_sequence(), True)
        text = self.finish(self.raw_sequence(), False).replace(f"{self.m}, {self.m}", self.m)
        if self.m == "same":
            # Of points of equal time any may come first: one series at a time.
            text = re.sub(r" GROUP BY [^ ]*( [^ ]*/)?( host| region)?", "", text)
            text = re.sub(r"( ORDER| LIMIT| OFFSET| SLIMIT| SOFFSET|$)", r" GROUP BY *\1", text, count=1)
        return text

    def finish(self, columns, windows, limit=True):
        return (f"SELECT {columns} FROM {self.source()}{self.where(windows)}{self.group(windows)}{self.fill(windows)}"
                f"{self.page(limit)}{self.series_page()}{self.zone()}")

    def source(self):
        if self.chance(0.05):
            return self.pick(f"/^{self.m}$/", f"{self.m}, {self.m}", f"d.autogen.{self.m}", f"d..{self.m}")
        return self.m

    def aligned_bounds(self):
        """Times at which every window of 90 seconds, 5 and 10 minutes begins; and 12 hours in `days`."""
        if self.m == "days":
            start = self.pick(1_603_500_000, 1_604_100_000, 1_585_200_000) // 43_200 * 43_200 + 43_200 * self.rng.randint(0, 3)
            return f"time >= {start}s AND time < {start + 43_200 * self.rng.randint(3, 7)}s", self.pick("12h", "6h", "1h")
        start = START // 1800 * 1800 + 1800 * self.rng.randint(0, 1)
        return f"time >= {start}s AND time < {start + self.rng.randint(900, 4000)}s", self.pick("90s", "5m", "10m", "60s")

    def subquery(self):
        tags = self.tags_clause()
        tags = [t for t in tags if not t.startswith("/")]
        bounds, interval = self.aligned_bounds()
        inner_kind = self.rng.randint(0, 3)
        if inner_kind == 0:
            inner = f"SELECT {self.number_field()} AS v FROM {self.m}"
            by = []
        elif inner_kind == 1:
            inner = f"SELECT {self.calculation(self.number_field)} AS v FROM {self.m}"
            by = []
        elif inner_kind == 2:
            inner = f"SELECT {self.pick('mean', 'max', 'sum', 'count', 'first')}({self.number_field()}) AS v FROM {self.m}"
            # InfluxDB gives nothing when an inner window begins before the times asked for.
            by = [f"time({interval})"]
        else:
            inner = f"SELECT {self.raw_sequence()} AS v FROM {self.m}"
            by = ["*"] if self.m == "same" else []
        if inner_kind != 2 and self.chance(0.5):
            inner += f" WHERE {self.condition()}"
        if self.chance(0.5) and tags:
            by += tags
        if by:
            inner += " GROUP BY " + ", ".join(by)
        if inner_kind == 2 and self.chance(0.3):
            inner += f" fill({self.pick('none', '0', 'previous', '3')})"
        windows = self.chance(0.3) and inner_kind != 3
        outer = self.pick("v", "mean(v)", "max(v)", "sum(v)", "count(v)", "v * 2", "percentile(v, 90)", "min(v), max(v)", "last(v)", "difference(v)", "*")
        if windows and outer in ("v", "v * 2", "difference(v)", "*"):
            outer = "mean(v)"
        group = []
        if windows:
            group.append(f"time({self.interval()})")
        if self.chance(0.4) and tags:
            group += tags
        text = f"SELECT {outer} FROM ({inner}) WHERE {bounds}"
        if self.chance(0.15):
            text += f" AND v > {self.pick('0', '5', '-2')}"
        if group:
            text += " GROUP BY " + ", ".join(group)
        if windows and self.chance(0.4):
            text += f" fill({self.pick('none', '0', 'previous')})"
        return text

    def deep_subquery(self):
        """Two below each other."""
        bounds, interval = self.aligned_bounds()
        tag = self.tag()
        inner = (f"SELECT {self.pick('mean', 'max', 'sum', 'last')}({self.number_field()}) AS v FROM {self.m} "
                 f"GROUP BY time({interval}), {tag} fill(none)")
        middle = f"SELECT {self.pick('v', 'v * 2 AS v', 'v + 1 AS v', 'max(v) AS v', 'sum(v) AS v')} FROM ({inner})"
        middle += f" GROUP BY {tag}" if self.chance(0.6) else ""
        outer = self.pick("mean(v)", "sum(v)", "count(v)", "max(v), min(v)", "spread(v)")
        return f"SELECT {outer} FROM ({middle}) WHERE {bounds}" + (f" GROUP BY {tag}" if self.chance(0.5) else "")

    def into(self):
        """What was written is read again, perhaps after some of it was deleted."""
        self.m = self.pick("m", "n", "days", "sparse")
        start, end = (1_603_500_000, 1_603_800_000) if self.m == "days" else (START, START + 3600)
        kind = self.rng.randint(0, 2)
        bounds = f"time >= {start}s AND time < {end}s"
        if kind == 0:
            text = f"SELECT {self.any_field()} AS w INTO copy FROM {self.m} WHERE {bounds} GROUP BY *"
        elif kind == 1:
            text = f"SELECT {self.pick('mean', 'sum', 'count', 'max', 'last')}({self.number_field()}) AS w INTO copy FROM {self.m} WHERE {bounds} GROUP BY time({self.interval()}), host fill(none)"
        else:
            text = f"SELECT mean(*) INTO d.autogen.copy FROM {self.m} WHERE {bounds} GROUP BY time({self.interval()}), *"
        middle = self.rng.randint(start, end)
        change = self.pick("", "", f"DELETE FROM copy WHERE time < {middle}s; ", f"DELETE FROM copy WHERE host = '{self.pick('a', 'b')}' AND time >= {middle}s; ",
                           "DROP SERIES FROM copy WHERE host = 'a'; ")
        # A measurement whose points are all deleted by time stays listed in Kymo.
        keys = "" if "DELETE" in change else "SHOW FIELD KEYS FROM copy; "
        return f"{text}; {change}SELECT * FROM copy GROUP BY *; {keys}DROP MEASUREMENT copy"

    def show(self):
        where = f" WHERE host {self.pick('=', '!=')} '{self.pick('a', 'b', 'zz')}'" if self.chance(0.4) else ""
        source = f" FROM {self.pick('m', 'n', '/m|n/', 'nothing')}" if self.chance(0.6) else ""
        limit = f" LIMIT {self.rng.randint(1, 4)}" if self.chance(0.3) else ""
        return self.pick(
            f"SHOW TAG KEYS{source}{where}{limit}", f"SHOW FIELD KEYS{source}{limit}", f"SHOW SERIES{source}{where}{limit}",
            f"SHOW TAG VALUES{source} WITH KEY = host{where}{limit}", f"SHOW TAG VALUES{source} WITH KEY IN (host, region){where}",
            f"SHOW TAG VALUES{source} WITH KEY =~ /re/{where}", f"SHOW MEASUREMENTS{limit}",
            f"SHOW MEASUREMENTS WITH MEASUREMENT =~ /{self.pick('m', 's', 'q')}/", "SHOW DATABASES", "SHOW MEASUREMENT CARDINALITY",
            "SHOW SERIES EXACT CARDINALITY", f"SHOW TAG KEY CARDINALITY{source}", f"SHOW FIELD KEY CARDINALITY{source}")

    def wrong(self):
        return self.pick(
            f"SELECT mean({self.any_field()}), {self.any_field()} FROM {self.m}", f"SELECT {self.any_field()} + s FROM m",
            f"SELECT top({self.number_field()}, 2), mean(f) FROM {self.m}", f"SELECT mean(mean(f)) FROM {self.m}",
            f"SELECT derivative(f) FROM {self.m} GROUP BY time(1m)", f"SELECT f FROM {self.m} GROUP BY time(1m)",
            "SELECT moving_average(f, 1) FROM m", "SELECT 1 FROM m", "SELECT nothing(f) FROM m", "SELECT f FROM m fill(none)",
            "SELECT percentile(f) FROM m", "SELECT sum(s) FROM m", "SELECT mean(b) FROM m", "SELECT f FROM m WHERE time != 3",
            "SELECT distinct(f), f FROM m", f"SELECT max(f), min(f), {self.tag()} FROM {self.m}", "SELECT f FROM m WHERE mean(f) > 1",
            "SELECT holt_winters(f, 2, 2) FROM m", "SELECT sample(f, 0) FROM m", "SELECT f FROM nodb..m", "SELECT FROM m",
            "SELECT f FROM m LIMIT -1", "SELECT time FROM m", "SELECT nothing FROM m", "SELECT mean(nothing) FROM m", "SELECT host FROM m")

    def query(self):
        self.m = self.rng.choice(["m", "m", "m", "n", "sparse", "same", "days"])
        kind = self.rng.randint(0, 99)
        if kind < 22:
            return self.raw()
        if kind < 50:
            return self.aggregated()
        if kind < 58:
            return self.selector()
        if kind < 64:
            return self.ranked()
        if kind < 78:
            return self.sequence()
        if kind < 88:
            return self.subquery()
        if kind < 90:
            return self.deep_subquery()
        if kind < 92:
            return self.into()
        if kind < 96:
            return self.show()
        return self.wrong()


# Why a query is not asked: the number and title of the difference in docs/query-language.md. The first that fits counts.
SEQUENCES = r"(derivative|difference|elapsed|moving_average|cumulative_sum|integral|strength_index|momentum_oscillator|kaufmans\w*|holt_winters\w*|exponential_derivative)\("
DIFFERENCES = [
    (r"percentile\((v|i|c), [\d.]+\)[^(]*FROM \((?!.*\) WHERE.*GROUP BY.*time\()", "of equal values percentile() picks the earliest point"),
    (r"percentile\(\w+, (1|33)\)", "a window in which percentile() gives nothing ends nothing"),
    (r"FROM \(SELECT [^)]*(\([^)]*\))?[^)]*/", "integers divide to floats, in subqueries too"),
    (r"abs\((sum\(|max\()?(i|c)", "abs() of a negative integer is positive"),
    (r"WHERE.*\b[bsfgic]\b .*(SLIMIT|SOFFSET)|(sparse|same).*(SLIMIT|SOFFSET)", "SLIMIT and SOFFSET count series that have rows"),
    (r"FROM \(.*GROUP BY time\(\w+\), .* fill\(", "fill() in a subquery goes group by group"),
    (r"fill\(previous\)\) WHERE|fill\(previous\).*(SLIMIT|SOFFSET)", "fill(previous) begins with the last value before the time range"),
    (r"distinct\(.*DESC.*LIMIT", "several rows of the same time in descending order"),
    (r"^SELECT [^(]* FROM .*GROUP BY.*fill\(previous\)", "fill(previous) carries nothing from one series into the next"),
    (r"holt_winters\w*\((sum|mean|median)\(", "holt_winters() looks for the best fit step by step, which rounding in the sums before it leads elsewhere"),
    (r"chande.*fill", "chande_momentum_oscillator() leaves no rests of rounding"),
    (r"holt_winters.*GROUP BY.*(host|region|\*|re/)", "a group for which a function gives nothing hides no other group"),
    (r"(count|first|max|mean|sum)\((\*|/).*(fill\(none\).*LIMIT|fill\(-?\d)|\), .*fill\(none\).*LIMIT|^(?!.*time\().*\), .*LIMIT", "LIMIT counts rows, also with several functions; fill(n) fills every column"),
    (r"SELECT .*\(.*\(.* FROM.*fill\(none\).*LIMIT", "LIMIT counts rows, also with several functions; fill(n) fills every column"),
    (r"(round|ceil|floor)\((sum|mean)\(", "sums of floats are added up in another order, which shows where they are rounded"),
    (r"(first|last|top|bottom)\(.* FROM [d.autogen/^]*same|^SELECT (min|max)\(\w+\), .* FROM [d.autogen/^]*same", "points of several series at the same time have no order"),
    (r"same.*fill\(previous\)|same.*DESC|FROM \(.* same", "points of several series at the same time have no order"),
    (r"(percentile|median|count\(distinct\().*, .*DESC|, (percentile|median|count\(distinct).*DESC", "several functions in descending order"),
    (r"mode\(", "of values that come equally often mode() gives the earliest, as documented"),
    (r"percentile\(\w+, [\d.]+\), \w+[, ]", "of equal values percentile() picks the earliest point"),
    (r"^(?!.*GROUP BY.*time\().*percentile\(", "of equal values percentile() picks the earliest point"),
    (r"(first|last|mode|min|max)\((b|s)\).*fill\(-?\d|, [bs] FROM.*fill\(-?\d", "fill(n) is n in columns of texts and truth values too"),
    (r"average\([^)]*\), \d, 0\).*time\(", "no rows before the time range"),
    (rf"{SEQUENCES}.*DESC", "functions of a sequence look at it in the order of time, also when the answer is in descending order"),
    (r"fill\((previous|linear)\).*DESC", "fill(previous) and fill(linear) go forward in time, also when the answer is in descending order"),
    (r"(top|bottom)\(.*DESC", "top() and bottom() in descending order are in descending order"),
    (r"^(?!.*GROUP BY.*time\().*integral\(", "integral() without windows has the time and order that other functions have"),
    (r"SHOW SERIES EXACT CARDINALITY", "a series counts once, however many shards it is in"),
]


def known_difference(text):
    return next((reason for pattern, reason in DIFFERENCES if re.search(pattern, text)), None)
