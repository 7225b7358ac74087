#!/usr/bin/env python3
"""Commit-to-push latency, what subscribers cost ingestion, and what idle subscribers weigh.

    benches/live/load.py KYMO [--points 100000] [--seconds 15] [--subscribers 0] [--queries 50] [--idle 0] [--one]

Needs PyPI's `websockets`. Starts a server of its own on a free port. The writer is another process: it writes batches at the rate that is
asked, and beside them, 20 times a second, a mark into a measurement of its own, noting when its acknowledgement came. A subscriber to the
marks notes when each was pushed: the difference is the latency beyond the fsync, client included. CPU is that of the server's process.
With --one there are two more beside the others, who read what those read: a tail of one series, and a window over it.
"""

import argparse
import asyncio
import http.client
import json
import multiprocessing
import os
import resource
import socket
import statistics
import subprocess
import tempfile
import time

import websockets


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_bytes(pid):
    with open(f"/proc/{pid}/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))


def write(connection, body):
    connection.request("POST", "/write?db=d", body)
    response = connection.getresponse()
    response.read()
    assert response.status == 204, response.status


def figures(port):
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def writer(port, rate, seconds, marks):
    """Sends 20 batches a second, each followed by a mark."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    each, written = rate // 20, 0
    begin = time.perf_counter()
    for tick in range(int(seconds * 20)):
        pause = begin + tick / 20 - time.perf_counter()
        if pause > 0:
            time.sleep(pause)
        base = time.time_ns()
        lines = [f"load,host=h{i % 1000},metric=q{i % 50} v={(i + 31 * tick) % 97} {base + i}" for i in range(each)]
        write(connection, "\n".join(lines))
        written += each
        acknowledged = time.perf_counter()
        write(connection, f"mark tick={tick}i {time.time_ns()}")
        marks.put((tick, base, acknowledged, time.perf_counter()))
    marks.put((None, None, None, written / (time.perf_counter() - begin)))


async def subscribe(port, q):
    connection = await websockets.connect(f"ws://127.0.0.1:{port}/live", compression=None, max_size=1 << 24)
    await connection.send(json.dumps({"type": "subscribe", "id": "1", "db": "d", "q": q}))
    return connection


async def drain(connection, counts):
    async for _ in connection:
        counts[0] += 1


async def run(options, port, pid):
    report = {}
    before = rss_bytes(pid)
    idle = []
    for begun in range(0, options.idle, 100):
        some = min(100, options.idle - begun)
        idle += await asyncio.gather(*(subscribe(port, "SELECT max(v) FROM quiet GROUP BY time(10s)") for _ in range(some)))
    if options.idle:
        await asyncio.sleep(3)
        report["idle"] = {"subscribers": options.idle, "rss_before": before, "rss_after": rss_bytes(pid)}
    counts, tasks = [0], []
    for i in range(options.subscribers):
        q = f"SELECT mean(v), max(v) FROM load WHERE metric = 'q{i % options.queries}' GROUP BY time(10s)"
        tasks.append(asyncio.create_task(drain(await subscribe(port, q), counts)))
    if options.points:
        seen = {"mark": {}, "tail": {}, "window": {}}
        follower = await subscribe(port, "SELECT tick FROM mark")

        async def follow():
            async for text in follower:
                at = time.perf_counter()
                for series in json.loads(text).get("series", []):
                    for _, tick in series["values"]:
                        seen["mark"].setdefault(tick, at)

        tasks.append(asyncio.create_task(follow()))
        if options.one:
            where = "FROM load WHERE host = 'h1' AND metric = 'q1'"
            tail = await subscribe(port, f"SELECT v {where}")
            window = await subscribe(port, f"SELECT count(v) {where} GROUP BY time(10s)")

            async def follow_tail():
                async for text in tail:
                    at = time.perf_counter()
                    for series in json.loads(text).get("series", []):
                        for when, _ in series["values"]:
                            seen["tail"].setdefault(when, at)

            async def follow_window():
                windows, each = {}, len(range(1, options.points // 20, 1000))
                async for text in window:
                    at = time.perf_counter()
                    for series in json.loads(text).get("series", []):
                        windows.update(series["values"])
                    for tick in range(sum(windows.values()) // each):
                        seen["window"].setdefault(tick, at)

            tasks += [asyncio.create_task(follow_tail()), asyncio.create_task(follow_window())]
        marks = multiprocessing.Queue()
        cpu = cpu_seconds(pid)
        process = multiprocessing.Process(target=writer, args=(port, options.points, options.seconds, marks))
        process.start()
        acknowledged, reached = {"mark": {}, "tail": {}, "window": {}}, None
        while reached is None:
            tick, base, written, marked = await asyncio.to_thread(marks.get)
            if tick is None:
                reached = marked
            else:
                acknowledged["mark"][tick] = marked
                acknowledged["tail"][base + 1] = acknowledged["window"][tick] = written
        await asyncio.sleep(1)
        process.join()
        report["points_per_second"] = round(reached)
        metrics = await asyncio.to_thread(figures, port)
        for name in ("evaluations", "folds", "gaps"):
            report[name] = metrics.get(f"kymo_live_{name}_total")
        report["server_cpu_seconds"] = round(cpu_seconds(pid) - cpu, 2)
        report["subscribers"] = options.subscribers
        report["messages"] = counts[0]
        for name in ("mark", "tail", "window") if options.one else ("mark",):
            late = sorted(1000 * (seen[name][tick] - at) for tick, at in acknowledged[name].items() if tick in seen[name])
            report[name] = {
                "written": len(acknowledged[name]),
                "pushed": len(late),
                "p50_ms": round(statistics.median(late), 2),
                "p99_ms": round(late[int(len(late) * 0.99)], 2),
                "max_ms": round(late[-1], 2),
            }
    for task in tasks:
        task.cancel()
    return report


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kymo")
    parser.add_argument("--points", type=int, default=100_000, help="points a second; 0 writes none")
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--subscribers", type=int, default=0)
    parser.add_argument("--queries", type=int, default=50, help="different ones among the subscribers'")
    parser.add_argument("--idle", type=int, default=0)
    parser.add_argument("--one", action="store_true", help="also a tail of one series and a window over it")
    options = parser.parse_args()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    port = free_port()
    off = [flag for name in ("line-tcp", "line-udp", "statsd") for flag in (f"--{name}", "off")]
    with tempfile.TemporaryDirectory() as folder:
        command = [options.kymo, "serve", "--data-dir", folder, "--http", f"127.0.0.1:{port}", "--host-metrics", "off", *off]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            for _ in range(200):
                try:
                    connection = http.client.HTTPConnection("127.0.0.1", port)
                    connection.request("POST", "/query?q=CREATE+DATABASE+d")
                    response = connection.getresponse()
                    response.read()
                    # While it starts it says so.
                    if response.status == 200:
                        break
                except OSError:
                    pass
                time.sleep(0.05)
            print(json.dumps(asyncio.run(run(options, port, server.pid)), indent=2))
        finally:
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
