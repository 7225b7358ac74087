#!/usr/bin/env python3
"""Asks Kymo and InfluxDB 1.6.7 (Debian's package influxdb) the same random queries about the same random data.

  differential.py --kymo target/debug/kymo [--queries 3000] [--seed 1] [--influxd influxd] [--show 20]

Answers must be equal: errors where the other has errors, names, tags, columns, times, texts and integers exactly, floats to
1e-9 of their size. Rows of equal time may come in any order. Where Kymo differs on purpose the query is not asked, and
counted by reason; docs/query-language.md ("Where Kymo differs from InfluxDB") has every reason. Exit code 0 only if no
answer differs. Same seed, same queries. Standard library only.
"""
import argparse, collections, http.client, json, math, os, random, re, shutil, signal, socket, subprocess, sys, tempfile, time
import urllib.parse

from grammar import Grammar, datasets, known_difference

TOLERANCE = 1e-9


class Server:
    """A running server and a connection to it."""

    def __init__(self, name, command, port, log):
        self.name, self.port = name, port
        self.log = open(log, "w")
        self.process = subprocess.Popen(command, stdout=self.log, stderr=subprocess.STDOUT)
        deadline = time.time() + 60
        while True:
            try:
                self.connect()
                if self.request("GET", "/ping")[0] == 204:
                    return
            except OSError:
                pass
            if self.process.poll() is not None or time.time() > deadline:
                sys.exit(f"{name} did not start: {open(log).read()[-2000:]}")
            time.sleep(0.05)

    def connect(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def request(self, method, path, body=None):
        for attempt in (1, 2):
            try:
                self.connection.request(method, path, body)
                response = self.connection.getresponse()
                return response.status, response.read().decode()
            except (http.client.HTTPException, ConnectionError):
                if attempt == 2:
                    raise
                self.connect()

    def query(self, text, db="d", **more):
        path = "/query?" + urllib.parse.urlencode({"db": db, "epoch": "ns", "q": text, **more})
        status, body = self.request("POST", path, "")
        try:
            return json.loads(body)
        except ValueError:
            return {"error": f"no JSON ({status}): {body[:200]}"}

    def write(self, lines, db="d"):
        status, body = self.request("POST", f"/write?db={db}", "\n".join(lines))
        if status != 204:
            sys.exit(f"{self.name} refused the data: {status} {body[:500]}")

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_influxd(binary, folder):
    port, other = free_port(), free_port()
    config = os.path.join(folder, "influxd.conf")
    with open(config, "w") as f:
        f.write(f"""reporting-disabled = true
bind-address = "127.0.0.1:{other}"
[meta]
  dir = "{folder}/meta"
[data]
  dir = "{folder}/data"
  wal-dir = "{folder}/wal"
  index-version = "inmem"
  query-log-enabled = false
[http]
  bind-address = "127.0.0.1:{port}"
  log-enabled = false
[monitor]
  store-enabled = false
[continuous_queries]
  enabled = false
""")
    return Server("influxd", [binary, "-config", config], port, f"{folder}/influxd.log")


def start_kymo(binary, folder):
    port = free_port()
    command = [binary, "serve", "--data-dir", f"{folder}/kymo", "--http", f"127.0.0.1:{port}", "--line-tcp", "off",
               "--line-udp", "off", "--statsd", "off", "--host-metrics", "off"]
    return Server("kymo", command, port, f"{folder}/kymo.log")


def same_value(a, b):
    number = (int, float)
    if isinstance(a, bool) or isinstance(b, bool) or not isinstance(a, number) or not isinstance(b, number):
        return type(a) is type(b) and a == b
    if a == b:
        return True
    # A float that is whole is written as an integer: only large numbers tell the two apart.
    return math.isclose(a, b, rel_tol=TOLERANCE, abs_tol=1e-12)


def same_row(a, b):
    return len(a) == len(b) and all(map(same_value, a, b))


def same_rows(a, b):
    if len(a) != len(b):
        return False
    i = 0
    while i < len(a):
        if same_row(a[i], b[i]):
            i += 1
            continue
        # Rows of the same time, in whatever order.
        j = i
        while j < len(a) and a[j][0] == a[i][0]:
            j += 1
        left = list(b[i:j])
        for row in a[i:j]:
            found = next((k for k, other in enumerate(left) if same_row(row, other)), None)
            if found is None:
                return False
            left.pop(found)
        i = j
    return True


def same_answer(kymo, influx):
    if "error" in kymo or "error" in influx:
        return "error" in kymo and "error" in influx
    for a, b in zip(kymo.get("results", []), influx.get("results", [])):
        if "error" in a or "error" in b:
            if not ("error" in a and "error" in b):
                return False
            continue
        left, right = a.get("series", []), b.get("series", [])
        if len(left) != len(right):
            return False
        for s, t in zip(left, right):
            if any(s.get(k) != t.get(k) for k in ("name", "tags", "columns")):
                return False
            if not same_rows(s.get("values", []), t.get("values", [])):
                return False
    return len(kymo.get("results", [])) == len(influx.get("results", []))


def without_what_was_before(text, kymo, influx):
    """Kymo's answer without what fill() knows of the time before the range (docs/query-language.md): the values with which
    fill(previous) begins, and the windows of an answer without any point. None if there is nothing of the kind."""
    try:
        ours, theirs = kymo["results"][0], influx["results"][0]
    except (KeyError, IndexError):
        return None
    if "error" in ours or "error" in theirs or "series" not in ours:
        return None
    if "fill(previous)" not in text:
        return {"results": [{}]} if re.search(r"fill\(-?\d", text) and not theirs.get("series") else None
    tags = lambda s: (s.get("name"), json.dumps(s.get("tags"), sort_keys=True))
    known = {tags(s): s for s in theirs.get("series", [])}
    out = []
    for series in ours["series"]:
        other = known.get(tags(series))
        if other is None:
            continue  # It has no points in the range: all of it is from before.
        rows = [list(row) for row in series["values"]]
        for column in range(1, len(series["columns"])):
            for row, their in zip(rows, other["values"]):
                if len(their) <= column or their[column] is not None:
                    break
                row[column] = None
        out.append({**series, "values": rows})
    return {"results": [{**ours, "series": out}]}


def error_of(answer):
    if "error" in answer:
        return answer["error"]
    return next((r["error"] for r in answer.get("results", []) if "error" in r), None)


def size_of(answer):
    return sum(len(s.get("values", [])) for r in answer.get("results", []) for s in r.get("series", []))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--kymo", required=True)
    ap.add_argument("--influxd", default="influxd")
    ap.add_argument("--queries", type=int, default=3000)
    ap.add_argument("--seed", type=int, default=1)
    ap.add_argument("--show", type=int, default=20, help="differences to print in full")
    ap.add_argument("--only", default="", help="ask only queries that contain this text")
    ap.add_argument("--keep", default="", help="write what differs to this file")
    a = ap.parse_args()
    if not shutil.which(a.influxd):
        print("LEFT OUT: no influxd (Debian package influxdb) to compare with", file=sys.stderr)
        sys.exit(1 if os.environ.get("CI") else 0)
    folder = tempfile.mkdtemp(prefix="kymo-differential-")
    kymo, influx = start_kymo(a.kymo, folder), start_influxd(a.influxd, folder)
    counts, reasons, errors = collections.Counter(), collections.Counter(), collections.Counter()
    kept = open(a.keep, "w") if a.keep else None
    try:
        for server in (kymo, influx):
            server.query('CREATE DATABASE "d"')
        for lines in datasets(random.Random(a.seed)):
            kymo.write(lines)
            influx.write(lines)
        grammar = Grammar(random.Random(a.seed * 7919 + 1))
        while counts["asked"] < a.queries:
            text = grammar.query()
            if a.only and a.only not in text:
                continue
            reason = known_difference(text)
            if reason:
                reasons[reason] += 1
                counts["known"] += 1
                if counts["known"] > 20 * a.queries:
                    sys.exit("the grammar makes too many queries that are not asked")
                continue
            more = {}
            if "host = 'a'" in text and len(text) % 3 == 0:
                text, more = text.replace("host = 'a'", "host = $h"), {"params": json.dumps({"h": "a"})}
            ours, theirs = kymo.query(text, **more), influx.query(text, **more)
            counts["asked"] += 1
            counts["errors" if error_of(theirs) else "empty" if size_of(theirs) == 0 else "with rows"] += 1
            if "unsupported value" in str(theirs.get("error")):
                reasons["a number that is not finite is null; InfluxDB has no answer at all"] += 1
                counts["asked"] -= 1
                counts["errors"] -= 1
                continue
            same = same_answer(ours, theirs)
            if not same:
                shortened = without_what_was_before(text, ours, theirs)
                if shortened is not None and same_answer(shortened, theirs):
                    reasons["asked, and equal but for it: fill() knows what was before the time range"] += 1
                    same = True
            if same:
                counts["equal"] += 1
                if error_of(ours) != error_of(theirs):
                    errors[f"{error_of(theirs)}  |  {error_of(ours)}"] += 1
                continue
            counts["different"] += 1
            if counts["different"] <= a.show:
                print(f"DIFFERENT {text}\n  influxd {json.dumps(theirs)[:1500]}\n  kymo    {json.dumps(ours)[:1500]}", flush=True)
            if kept:
                kept.write(json.dumps([text, theirs, ours]) + "\n")
            if kymo.process.poll() is not None:
                sys.exit(f"kymo stopped after: {text}\n{open(folder + '/kymo.log').read()[-3000:]}")
    finally:
        kymo.stop()
        influx.stop()
        if not counts["different"]:
            shutil.rmtree(folder, ignore_errors=True)
    for text, count in errors.most_common(10):
        print(f"other words ({count}): {text}")
    for reason, count in reasons.most_common():
        print(f"not asked ({count}): {reason}")
    print(f"differential: {counts['equal']} of {counts['asked']} answers equal (seed {a.seed}; {counts['with rows']} with rows, "
          f"{counts['empty']} empty, {counts['errors']} errors), {counts['different']} different")
    sys.exit(0 if counts["different"] == 0 and counts["with rows"] * 2 > counts["asked"] else 1)


if __name__ == "__main__":
    main()
