#!/usr/bin/env python3
"""Do merges block ingestion or queries? Acknowledgements of writes and answers of a query, while runs are merged and while they are not.

    benches/merging/load.py KYMO [--rows 5000000] [--rate 200000] [--seconds 60]

Starts a server of its own on a free port, with a small head, so that runs are sealed and merged all the time. After `--rows` points to begin with, one connection writes a thousand points at a time at the rate
that is asked, and another asks the same query about sealed points again and again. What is measured while `kymo_merge_running` is 1 is told
apart from the rest. Latencies are of the client, which is Python and one process: they include its waiting for a core and for itself.
"""

import argparse
import bisect
import http.client
import os
import socket
import subprocess
import tempfile
import threading
import time
import urllib.parse

HOSTS = 1000
BATCH = 1000
QUERY = "/query?db=d&q=" + urllib.parse.quote("SELECT mean(a), max(b) FROM m WHERE time >= 1200s AND time < 1800s GROUP BY time(1m)")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def request(connection, method, path, body=None):
    connection.request(method, path, body)
    response = connection.getresponse()
    text = response.read()
    assert response.status in (200, 204), (response.status, text)
    return text.decode()


def figures(port):
    lines = request(http.client.HTTPConnection("127.0.0.1", port), "GET", "/metrics").splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")}


def body(number):
    """The batch of this number: a tick of all hosts."""
    lines = []
    for i in range(BATCH):
        n = number * BATCH + i
        at = n // HOSTS * 1_000_000_000
        lines.append(f"m,host=h{n % HOSTS} a={n * 7919 % 101}i,b={n * 31 % 1009}.5 {at}\n")
    return "".join(lines)


class Server:
    def __init__(self, kymo, folder, *flags):
        self.port = free_port()
        off = [flag for name in ("line-tcp", "line-udp", "statsd", "host-metrics") for flag in (f"--{name}", "off")]
        command = [kymo, "serve", "--data-dir", folder, "--http", f"127.0.0.1:{self.port}", *off, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        while True:
            try:
                self.connection = http.client.HTTPConnection("127.0.0.1", self.port)
                request(self.connection, "POST", "/query?q=CREATE+DATABASE+d")
                return
            except OSError:
                time.sleep(0.05)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Load:
    """Writes and asks until it is told to stop; each latency with when it was taken."""

    def __init__(self, port, number, rate):
        self.port, self.number, self.rate = port, number, rate
        self.taken = {"write": [], "query": []}
        self.stopping = False
        self.threads = [threading.Thread(target=self.write), threading.Thread(target=self.ask)]
        for thread in self.threads:
            thread.start()

    def timed(self, kind, *what):
        began = time.monotonic()
        request(*what)
        self.taken[kind].append((began, (time.monotonic() - began) * 1000))

    def write(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        due = time.monotonic()
        while not self.stopping:
            self.timed("write", connection, "POST", "/write?db=d", body(self.number))
            self.number += 1
            due = max(due + BATCH / self.rate, time.monotonic() - 1)
            time.sleep(max(0, due - time.monotonic()))

    def ask(self):
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        while not self.stopping:
            # Ten minutes of what is sealed, and is being merged.
            self.timed("query", connection, "GET", QUERY)
            time.sleep(0.05)

    def stop(self):
        self.stopping = True
        for thread in self.threads:
            thread.join()


def told(name, latencies):
    if len(latencies) < 20:
        return f"{name}: only {len(latencies)}"
    latencies.sort()
    at = lambda share: latencies[min(len(latencies) - 1, int(len(latencies) * share))]
    return f"{name}: {len(latencies)}, p50 {at(0.5):.2f} ms, p99 {at(0.99):.2f} ms, max {latencies[-1]:.2f} ms"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kymo")
    parser.add_argument("--rows", type=int, default=5_000_000)
    parser.add_argument("--rate", type=int, default=200_000)
    parser.add_argument("--seconds", type=int, default=60)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        server = Server(given.kymo, folder, "--head-bytes", "4M")
        batches = given.rows // BATCH
        for number in range(batches):
            request(server.connection, "POST", "/write?db=d", body(number))
        before = figures(server.port)
        load = Load(server.port, batches, given.rate)
        running, began = [], time.monotonic()
        while time.monotonic() - began < given.seconds:
            running.append((time.monotonic(), figures(server.port)["kymo_merge_running"] > 0))
            time.sleep(0.02)
        load.stop()
        after = figures(server.port)
        server.stop()
    seen = {name: value - before[name] for name, value in after.items() if name in before}
    merged = f"{seen['kymo_merges_total']:.0f} merges, {seen['kymo_merge_read_bytes_total'] / 2**20:.1f} MiB read"
    print(f"{merged}, {seen['kymo_merge_seconds_total']:.1f} s of merging, {time.monotonic() - began:.0f} s in all")
    times = [at for at, _ in running]

    def state(at):
        place = bisect.bisect(times, at) - 1
        return running[max(place, 0)][1]

    for kind, taken in load.taken.items():
        for name, wanted in (("merging", True), ("not merging", False)):
            print(told(f"{kind}, {name}", [latency for at, latency in taken if state(at) == wanted]))


if __name__ == "__main__":
    main()
