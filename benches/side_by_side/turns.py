#!/usr/bin/env python3
"""VictoriaMetrics and Kymo by turns on one workload of bench.py: every round and the medians.

    benches/side_by_side/turns.py KYMO cpu|card|gauge|small ROUNDS SCRATCH

SCRATCH has w1.lp, w2.lp, w3.lp (of gen.rs) and the program victoria-metrics. "settled": the CPU of sealing and merging, or flushing, counted in.
"""
import statistics, sys
import bench

FILES = {"cpu": ("w1.lp", 10), "small": ("w1.lp", 10), "card": ("w2.lp", 1), "gauge": ("w3.lp", 1)}
OFF = " --line-tcp off --line-udp off --statsd off --host-metrics off"


def round_of(peer, kymo, workload, scratch):
    file, values = FILES[workload]
    lines, connections, limit = (100, 16, 150_000) if workload == "small" else (5000, 4, None)
    command = f"{kymo} serve --data-dir {{data}} --http 127.0.0.1:{{port}}{OFF}" if peer == "kymo" else None
    server = bench.Server(peer, scratch, command)
    server.start()
    idle, before = server.rss("VmRSS"), server.cpu()
    told = bench.ingest(server, f"{scratch}/{file}", lines, connections, limit)
    server.settle()
    row = {
        "k_rows_cpu_s": told["rows_cpu_s"] / 1e3,
        "k_settled": told["rows"] / (server.cpu() - before) / 1e3,
        "k_wall": told["rows_s"] / 1e3,
        "bytes_value": server.disk() / told["rows"] / values,
        "peak_rss_mb": told["rss"],
        "idle_rss_mb": idle,
        "errors": told["nerr"],
    }
    server.stop()
    print(workload, peer, {name: round(value, 3) for name, value in row.items()}, flush=True)
    return row


def main():
    if len(sys.argv) != 5 or sys.argv[2] not in FILES:
        sys.exit(__doc__)
    kymo, workload, rounds, scratch = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    rows = {"vm": [], "kymo": []}
    for _ in range(rounds):
        for peer, list_ in rows.items():
            list_.append(round_of(peer, kymo, workload, scratch))
    for name in rows["kymo"][0]:
        ours, theirs = (statistics.median(row[name] for row in rows[peer]) for peer in ("kymo", "vm"))
        print("median", name, round(ours, 3), round(theirs, 3), *([round(ours / theirs, 2)] if theirs else []))


main()
