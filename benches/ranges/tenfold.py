#!/usr/bin/env python3
"""What every query of bench.py costs over a range of time and over a tenth of it.

  tenfold.py KYMO --scratch DIR [--port 18099] [--runs 15] [cpu|card|gauge ..]

DIR has w1.lp, w2.lp, w3.lp (of benches/side_by_side/gen.rs). Writes each to a new folder, lets it settle, and asks each query as it is and over the first tenth of its time (those without
a time over all the data's and a tenth of that), in turns, with five sets of parameters each asked several times. Tells the medians of the server's CPU time (exited threads counted)
and of the time on the wall; of the queries over ten times the range CPU may be ten times at most. Servers listen on loopback and are stopped by pid.
"""
import argparse, os, random, re, statistics, sys, time, urllib.parse

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "side_by_side"))
import bench

OFF = " --line-tcp off --line-udp off --statsd off --host-metrics off"
WORKLOADS = {
    "cpu": ("w1.lp", bench.CPU_Q, bench.q_cpu, 21_600),
    "card": ("w2.lp", [name for name in bench.CARD_Q if name != "series-cardinality"], bench.q_card, 600),
    "gauge": ("w3.lp", bench.GAUGE_Q, bench.q_gauge, 3_600),
}
TIME = re.compile(r"time >= (\d+)s AND time < (\d+)s|time < (\d+)s AND time >= (\d+)s")


def over(q, total, share):
    """The query over a share of its time."""

    def shortened(found):
        a, b, b2, a2 = found.groups()
        begin, end = int(a or a2), int(b or b2)
        return f"time >= {begin}s AND time < {begin + (end - begin) // share}s"

    if TIME.search(q):
        return TIME.sub(shortened, q)
    bound = f"time >= {bench.T0}s AND time < {bench.T0 + total // share}s"
    if "WHERE" in q:
        return q.replace("WHERE", f"WHERE {bound} AND", 1)
    # Behind the innermost FROM.
    return re.sub(r"FROM (\w+)", rf"FROM \1 WHERE {bound}", q, count=1)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("kymo")
    arguments.add_argument("workloads", nargs="*", default=list(WORKLOADS))
    arguments.add_argument("--scratch", required=True)
    arguments.add_argument("--port", type=int, default=18099)
    arguments.add_argument("--runs", type=int, default=15)
    arguments.add_argument("--kept", help="a settled data folder to use instead of writing the lines")
    given = arguments.parse_args()
    over_ten = []
    for workload in given.workloads:
        file, names, make, total = WORKLOADS[workload]
        server = bench.Server("kymo", given.scratch, f"{given.kymo} serve --data-dir {{data}} --http 127.0.0.1:{{port}}{OFF}")
        server.port, server.data = given.port, given.kept or os.path.join(given.scratch, "data-tenfold")
        server.start(fresh=not given.kept)
        if not given.kept:
            told = bench.ingest(server, os.path.join(given.scratch, file), 5000, 4)
            assert not told["nerr"], told["errors"]
            server.settle()
        clock = (~server.p.pid << 3) | 2
        for name in names:
            random_ = random.Random(name)
            queries = [make(random_, name)["influx"] for _ in range(5)]
            cost, sizes = {1: ([], []), 10: ([], [])}, {1: 0, 10: 0}
            for run in range(given.runs + 5):
                for share, (walls, cpus) in cost.items():
                    q = over(queries[run % 5], total, share)
                    before, began = time.clock_gettime_ns(clock), time.perf_counter()
                    status, body = server.get("/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "ns", "q": q}))
                    wall, cpu = time.perf_counter() - began, time.clock_gettime_ns(clock) - before
                    assert status == 200 and b'"error"' not in body, body[:300]
                    sizes[share] += len(body)
                    # The first of each parameters fills caches.
                    if run >= 5:
                        walls.append(wall * 1e3)
                        cpus.append(cpu / 1e6)
            (walls, cpus), (tenth_walls, tenth_cpus) = ([statistics.median(list_) for list_ in cost[share]] for share in (1, 10))
            ratio = cpus / tenth_cpus
            over_ten += [name] * (ratio > 10)
            print(
                f"{workload} {name}: CPU {cpus:.2f} ms, a tenth {tenth_cpus:.2f}: {ratio:.1f} times; wall {walls:.2f}, {tenth_walls:.2f}: {walls / tenth_walls:.1f} times; bytes of answers {sizes[1] / sizes[10]:.1f} times",
                flush=True,
            )
        server.stop()
    print("more than ten times:", ", ".join(over_ten) or "none", flush=True)


main()
