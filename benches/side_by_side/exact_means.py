#!/usr/bin/env python3
"""Whose means are right? Those of bench.py's mean-by-endpoint beside correctly rounded sums (math.fsum) of the same rows.

    exact_means.py KYMO W2.CSV SCRATCH

W2.CSV is what `gen card 1000000 10 csv` writes; SCRATCH has w2.lp. Tells how many of the means are the exact sum divided by the number of rows, and of how many that is so when values are added one after the
other in the order in which they come.
"""
import collections, json, math, os, sys, urllib.parse
import bench

if len(sys.argv) != 4:
    sys.exit(__doc__)
kymo, csv, scratch = sys.argv[1:]
values = collections.defaultdict(list)
for line in open(csv):
    second, _, _, endpoint, value = line.rstrip().split(",")
    values[endpoint.strip('"'), int(second) // 60 * 60].append(float(value))
off = " --line-tcp off --line-udp off --statsd off --host-metrics off"
server = bench.Server("kymo", scratch, f"{kymo} serve --data-dir {{data}} --http 127.0.0.1:{{port}}{off}")
server.start()
told = bench.ingest(server, os.path.join(scratch, "w2.lp"), 5000, 4)
assert not told["nerr"], told["errors"]
q = f"SELECT mean(value) FROM req WHERE time >= {bench.T0}s AND time < {bench.T0 + 600}s GROUP BY time(1m), endpoint"
_, body = server.get("/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "s", "q": q}))
server.stop()


def plain(numbers):
    total = 0.0
    for number in numbers:
        total += number
    return total / len(numbers)


means = exact = one_by_one = 0
for series in json.loads(body)["results"][0]["series"]:
    for time, mean in series["values"]:
        of = values[series["tags"]["endpoint"], time]
        right = math.fsum(of) / len(of)
        means, exact, one_by_one = means + 1, exact + (mean == right), one_by_one + (plain(of) == right)
print(f"{means} means: {exact} of Kymo's are exact, {one_by_one} of values added one after the other")
