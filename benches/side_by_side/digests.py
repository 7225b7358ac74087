#!/usr/bin/env python3
"""Does Kymo answer every query of bench.py as InfluxDB does?

    digests.py KYMO GEN SCRATCH [cpu|card|gauge ..] [--rows N] [--queries N]

Writes the same lines (of gen.rs; the first N of them, so that they are those of the first N/series moments) to `KYMO serve` and to influxd 1.x (in PATH), lets both settle, and asks both
the same queries with several parameters each. Tells which answers are the same to the byte once read as JSON, and of others how far they are apart: only the order of rows, only
the last bits of floats (by how much), or more, with the first place that differs. Servers listen on loopback and are stopped by pid.
"""
import argparse, itertools, json, math, os, random, subprocess, urllib.parse
import bench

OFF = " --line-tcp off --line-udp off --statsd off --host-metrics off"
WORKLOADS = {
    "cpu": (["cpu", "1000", "2160"], bench.CPU_Q, bench.q_cpu),
    "card": (["card", "1000000", "10"], bench.CARD_Q, bench.q_card),
    "gauge": (["gauge", "200", "360"], bench.GAUGE_Q, bench.q_gauge),
}


def lines(gen, arguments, rows, path):
    made = subprocess.Popen([gen, *arguments, "lp"], stdout=subprocess.PIPE)
    with open(path, "wb") as file:
        file.writelines(itertools.islice(made.stdout, rows))
    made.kill()
    made.wait()


def answers(peer, command, scratch, path, queries, port_shift):
    server = bench.Server(peer, scratch, command)
    server.port += port_shift
    server.start()
    told = bench.ingest(server, path, 5000, 4)
    assert not told["nerr"], told["errors"]
    server.settle()
    found = []
    for _, q in queries:
        status, body = server.get("/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "ns", "q": q}))
        found.append(json.loads(body) if status == 200 else {"status": status, "body": body.decode()})
    server.stop()
    return found


def rows(answer):
    for result in answer.get("results", [{"error": answer}]):
        if "error" in result:
            yield ("error", str(result["error"]))
        for series in result.get("series", []):
            head = (series["name"], json.dumps(series.get("tags"), sort_keys=True), tuple(series["columns"]))
            for values in series["values"]:
                yield (*head, *values)


def envelope(answer):
    all_ = [series for result in answer.get("results", []) for series in result.get("series", [])]
    return f"{len(all_)} series with {sorted({key for series in all_ for key in series})}"


def apart(a, b):
    """The largest relative difference of two rows' floats; None where more differs."""
    if len(a) != len(b):
        return None
    most = 0.0
    for x, y in zip(a, b):
        if x == y:
            continue
        if not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (x, y)):
            return None
        most = max(most, abs(x - y) / max(abs(x), abs(y)))
    return most


def verdict(ours, theirs):
    if ours == theirs:
        return "equal"
    a, b = list(rows(ours)), list(rows(theirs))
    if a == b:
        return f"equal rows, other envelope: {envelope(ours)} against {envelope(theirs)}"
    order = lambda row: json.dumps(row)
    if sorted(a, key=order) == sorted(b, key=order):
        return "equal rows in another order"
    if len(a) == len(b):
        far = [apart(x, y) for x, y in zip(a, b)]
        if None not in far and max(far) < 1e-9:
            return f"equal but for {sum(d > 0 for d in far)} floats of {len(far)} rows, {max(far):.1e} apart at most ({math.ulp(1.0):.1e} is a bit)"
    for at, (x, y) in enumerate(itertools.zip_longest(a, b)):
        if x != y:
            return f"DIFFERS: {len(a)} rows against {len(b)}; row {at}: {x} against {y}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("kymo")
    arguments.add_argument("gen")
    arguments.add_argument("scratch")
    arguments.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    arguments.add_argument("--rows", type=int)
    arguments.add_argument("--port-shift", type=int, default=0)
    arguments.add_argument("--queries", type=int, default=4)
    given = arguments.parse_args()
    for workload in given.workloads:
        generated, names, make = WORKLOADS[workload]
        path = os.path.join(given.scratch, f"digests-{workload}.lp")
        lines(given.gen, generated, given.rows, path)
        queries = []
        for name in names:
            random_ = random.Random(name)
            queries += [(name, make(random_, name)["influx"]) for _ in range(given.queries)]
        command = f"{given.kymo} serve --data-dir {{data}} --http 127.0.0.1:{{port}}{OFF}"
        ours = answers("kymo", command, given.scratch, path, queries, given.port_shift)
        theirs = answers("influx", None, given.scratch, path, queries, given.port_shift)
        os.remove(path)
        for name in names:
            told = [verdict(a, b) for (of, _), a, b in zip(queries, ours, theirs) if of == name]
            sizes = [len(list(rows(a))) for (of, _), a in zip(queries, ours) if of == name]
            for text in dict.fromkeys(told):
                print(f"{workload} {name}: {told.count(text)} of {len(told)} (rows {min(sizes)} to {max(sizes)}): {text}"[:900], flush=True)


main()
