#!/usr/bin/env python3
"""What second copies cost: copies.py KYMO.. writes the same to each, by turns, with a small head, so that it seals again and again.

Each request has new series (2,000 of 4,000 points) or, with --old, the same ones. Prints CPU seconds of the server, MiB that it had written, seals, and
the bytes of its copies (store/mirror), after everything is sealed.
"""

import argparse
import http.client
import os
import shutil
import statistics
import subprocess
import tempfile
import time

PORT = 19671
args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("kymo", nargs="+")
args.add_argument("--old", action="store_true")
args.add_argument("--rounds", type=int, default=3)
args.add_argument("--requests", type=int, default=150)
args.add_argument("--head", default="2MiB")
args = args.parse_args()


def ask(method, path, body=None):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=120)
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    assert answer.status in (200, 204), (answer.status, text)
    return text


def body(n):
    first = 0 if args.old else n * 2000
    lines = (f"cpu,host=server-{first + i % 2000:08},region=eu-{i % 7} usage={(i * 7919 + n) % 1009 / 10},idle={i % 97}i {(n * 4000 + i) * 10**8}" for i in range(4000))
    return "\n".join(lines).encode()


def run(kymo):
    folder = tempfile.mkdtemp(prefix="kymo-copies-")
    flags = ["--data-dir", folder + "/data", "--http", f"127.0.0.1:{PORT}", "--head-bytes", args.head, "--host-metrics", "off"]
    ways = ["--line-tcp", "off", "--line-udp", "off", "--statsd", "off"]
    server = subprocess.Popen([kymo, "serve", *flags, *ways], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                ask("GET", "/health")
                break
            except (OSError, AssertionError):
                time.sleep(0.05)
        ask("POST", "/query?q=CREATE+DATABASE+d")
        for n in range(args.requests):
            ask("POST", "/write?db=d", bodies[n])
        metrics = {}
        while metrics.get("kymo_sequence_sealed", 0) != metrics.get("kymo_sequence_durable", 1):
            time.sleep(0.2)
            lines = (line.rsplit(" ", 1) for line in ask("GET", "/metrics").split("\n") if line and line[0] != "#")
            metrics = {name: value for name, value in lines}
        stat = open(f"/proc/{server.pid}/stat").read().rsplit(")", 1)[1].split()
        cpu = (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")
        io = dict(line.split(": ") for line in open(f"/proc/{server.pid}/io").read().split("\n") if line)
        mirror = sum(os.path.getsize(os.path.join(at, name)) for at, _, names in os.walk(folder + "/data/store/mirror") for name in names)
        return cpu, int(io["write_bytes"]) / (1 << 20), int(float(metrics["kymo_seals_total"])), mirror / (1 << 20)
    finally:
        server.terminate()
        server.wait(60)
        shutil.rmtree(folder, ignore_errors=True)


bodies = [body(n) for n in range(args.requests)]
found = {kymo: [] for kymo in args.kymo}
for _ in range(args.rounds):
    for kymo in args.kymo:
        found[kymo].append(run(kymo))
for kymo, runs in found.items():
    cpu, written, seals, mirror = (statistics.median(column) for column in zip(*runs))
    print(f"{kymo}: CPU {cpu:.2f} s ({', '.join(f'{r[0]:.2f}' for r in runs)}), {written:.1f} MiB written, {seals} seals, copies {mirror:.2f} MiB")
