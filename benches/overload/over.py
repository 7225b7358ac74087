#!/usr/bin/env python3
"""How much memory a server takes when more comes than it can take: over.py KYMO [--memory 512MiB] [--seconds 12] [--cgroup] LOAD..

LOAD: bulk (40 clients, bodies of 3 MiB), small (8), json (4, 1 MiB), remote (4, remote write of 20,000 samples), queries (4 clients, of which
each wants more than it may have), huge (lines of 20 MB), bombs (gzip of 400 MiB), lines (16 connections), garbage (an endless line), statsd
(TCP and UDP), graphite, udp, collectd (nonsense by UDP), live (10,000 subscriptions that nobody reads), slow (300 requests that never get
whole), or all. Prints the most that was resident, what parts held then (/metrics), what was answered, what each group of clients offered and
got acknowledged (or, where nothing is acknowledged, what was stored of it) a second, and what is left afterwards.
With --cgroup the server runs in a memory cgroup (version 1) of that size instead of --memory. --cpus 0.2 gives it so much of a core (a cpu
cgroup, version 1), so that clients on the same machine can offer several times what it can take. --alone first measures, on a server of its own
each, what the server takes of each protocol when it is the only one; then --times 4.5 times as much is offered of each at once, by requests that begin at that rate,
whether or not earlier ones were answered, and give up after --patience seconds; and it ends with what was offered against what is taken alone.
"""

import argparse
import gzip
import http.client
import itertools
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

LOADS = "bulk small json remote queries huge bombs lines garbage statsd graphite udp collectd live slow".split()
QUERIES = [
    "SELECT * FROM f",
    "SELECT percentile(v,50), distinct(w), mode(x) FROM f GROUP BY *",
    "SELECT count(v) FROM m, f GROUP BY time(1ns), *",
    "SELECT top(v, 1000) FROM f",
]
UNITS = {"KiB": 10, "MiB": 20, "GiB": 30}
PORT = 19631

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("kymo")
args.add_argument("loads", nargs="+", choices=LOADS + ["all"])
args.add_argument("--memory", default="512MiB")
args.add_argument("--seconds", type=int, default=12)
args.add_argument("--rest", type=int, default=8, help="seconds after the load until it is looked at once more")
args.add_argument("--cgroup", action="store_true")
args.add_argument("--cpus", type=float, help="cores that the server may use")
args.add_argument("--alone", action="store_true")
args.add_argument("--times", type=float, default=4.5)
args.add_argument("--patience", type=float, default=2)
args.add_argument("--rates", help="a file for what each group offered and what was taken of it, JSON")
args = args.parse_args()
if "all" in args.loads:
    args.loads = LOADS

# What is measured by protocol: by HTTP rows are taken when they are acknowledged, by UDP when they are stored. Whoever sends by TCP is held back, and offers no
# more than is taken; statsd is summed up.
PROTOCOLS = {"lines": ["bulk", "small"], "JSON": ["json"], "remote write": ["remote"], "UDP lines": ["udp"]}
UDP_ROWS = b"u,s=a v=1\nu,s=b v=2\n" * 20
alone = {}
if args.alone:
    for loads in [[load for load in loads if load in args.loads] for loads in PROTOCOLS.values()]:
        if not loads:
            continue
        with tempfile.NamedTemporaryFile() as rates:
            flags = ["--memory", args.memory, "--seconds", str(args.seconds), "--rest", "0", "--rates", rates.name]
            flags += ["--cgroup"] * args.cgroup + (["--cpus", str(args.cpus)] if args.cpus else [])
            subprocess.run([sys.executable, __file__, args.kymo, *flags, *loads], check=True, stdout=subprocess.DEVNULL)
            alone |= {way: taken for way, (_, taken) in json.load(rates).items() if taken}
    print("alone, rows/s that are taken:", {way: f"{taken:,.0f}" for way, taken in alone.items()}, flush=True)

folder = tempfile.mkdtemp(prefix="kymo-over-")
command = [args.kymo, "serve", "--data-dir", folder + "/data", "--http", f"127.0.0.1:{PORT}"]
for i, way in enumerate(["--line-tcp", "--line-udp", "--statsd"], 1):
    command += [way, f"127.0.0.1:{PORT + i}"]
command += ["--listen", f"graphite+tcp://127.0.0.1:{PORT + 4}", "--listen", f"collectd+udp://127.0.0.1:{PORT + 5}"]
group = None
if args.cgroup:
    own = next(line.split(":", 2)[2] for line in open("/proc/self/cgroup").read().split("\n") if ":memory:" in line)
    parents = [f"/sys/fs/cgroup/memory{own}", "/sys/fs/cgroup/memory"]
    group = next(p for p in parents if os.path.isdir(p)) + f"/kymo-over-{os.getpid()}"
    os.mkdir(group)
    with open(group + "/memory.limit_in_bytes", "w") as limit:
        limit.write(str(int(args.memory[:-3]) << UNITS[args.memory[-3:]]))
    command = ["sh", "-c", f'echo $$ > {group}/cgroup.procs && exec "$@"', "sh"] + command
else:
    command += ["--memory", args.memory]
cpu_group = None
if args.cpus:
    cpu_group = f"/sys/fs/cgroup/cpu/kymo-over-{os.getpid()}"
    os.mkdir(cpu_group)
    for name, value in [("cpu.cfs_period_us", 100_000), ("cpu.cfs_quota_us", int(args.cpus * 100_000))]:
        with open(f"{cpu_group}/{name}", "w") as setting:
            setting.write(str(value))
    command = ["sh", "-c", f'echo $$ > {cpu_group}/cgroup.procs && exec "$@"', "sh"] + command
log = open(folder + "/log", "w")
server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
stop = False
counts = {}
# Per group of clients: bytes and points offered, bytes and points acknowledged.
offered = {name: [0, 0, 0, 0] for name in ["bulk", "small", "json", "remote"]}
sent = {}


def status(name):
    with open(f"/proc/{server.pid}/status") as lines:
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(name))


def ask(method, path, body=None, headers={}, patience=60):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=patience)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, text


def again(name, path, body, headers={}, method="POST", points=0):
    while not stop:
        content = body() if callable(body) else body
        tally = offered.get(name, [0] * 4)
        tally[0], tally[1] = tally[0] + len(content or b""), tally[1] + points
        try:
            code, text = ask(method, path, content, headers)
            if code == 204:
                tally[2], tally[3] = tally[2] + len(content), tally[3] + points
            key = f"{name} {code}{' error' if code == 200 and b'error' in text else ''}"
        except OSError:
            key = name + " cut off"
        except http.client.HTTPException:
            key = name + " cut off"
        counts[key] = counts.get(key, 0) + 1


def at_a_rate(name, per_second, path, bodies, headers, points):
    """Begins so many requests a second, in so many threads that each may take as long as its patience. What is late is not made up for."""
    turns, lock, due = itertools.count(), threading.Lock(), [time.time()]

    def work():
        while not stop:
            with lock:
                turn, at = next(turns), max(due[0], time.time() - 0.1)
                due[0] = at + 1 / per_second
            time.sleep(max(0, at - time.time()))
            body = bodies[turn % len(bodies)]
            tally = offered[name]
            tally[0], tally[1] = tally[0] + len(body), tally[1] + points
            try:
                code, _ = ask("POST", path, body, headers, args.patience)
                if code == 204:
                    tally[2], tally[3] = tally[2] + len(body), tally[3] + points
                key = f"{name} {code}"
            except (OSError, http.client.HTTPException):
                key = name + " given up or cut off"
            counts[key] = counts.get(key, 0) + 1

    go(int(per_second * args.patience) + 2, work)


def flood(port, piece):
    while not stop:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
                while not stop:
                    n = stream.send(piece)
                    sent[port] = sent.get(port, 0) + n
        except OSError:
            counts[f"port {port} held back"] = counts.get(f"port {port} held back", 0) + 1


def datagrams(port, datagram):
    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    while not stop:
        try:
            n = sender.sendto(datagram, ("127.0.0.1", port))
            sent[-port] = sent.get(-port, 0) + n
        except OSError:
            pass


def subscribe():
    streams = []
    for k in range(100):
        stream = socket.create_connection(("127.0.0.1", PORT))
        head = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        stream.sendall((head + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        for n in range(100):
            w = (k * 100 + n) % 200
            q = f"SELECT mean(v), count(v) FROM m WHERE w = '{w}' GROUP BY time(10s)"
            text = f'{{"type":"subscribe","id":"{n}","db":"d","q":"{q}"}}'.encode()
            stream.sendall(b"\x81" + bytes([0x80 | 126]) + struct.pack(">H", len(text)) + b"\0\0\0\0" + text)
        streams.append(stream)
        time.sleep(0.02)
    return streams


def slow():
    streams = []
    for i in range(300):
        stream = socket.create_connection(("127.0.0.1", PORT))
        head = b"POST /write?db=d HTTP/1.1\r\nHost: x\r\n"
        heads = [head, head + b"X-Long: " + b"l" * 60000 + b"\r\n", head + b"Content-Length: 20000000\r\n\r\n"]
        try:
            stream.sendall(heads[i % 3] + (b"X-Slow: " if i % 3 < 2 else b""))
        except OSError:
            pass
        streams.append(stream)
    while not stop:
        for stream in streams:
            try:
                stream.send(b"a")
            except OSError:
                pass
        time.sleep(0.1)


def varint(n):
    out = b""
    while n >= 0x80:
        out, n = out + bytes([n & 0x7F | 0x80]), n >> 7
    return out + bytes([n])


def part(number, content):
    return bytes([number << 3 | 2]) + varint(len(content)) + content


def remote_write(samples):
    out = b""
    for i in range(samples // 10):
        labels = [(b"__name__", b"fr"), (b"host", b"h%d" % i)]
        series = b"".join(part(1, part(1, name) + part(2, value)) for name, value in labels)
        for at in range(10):
            series += part(2, b"\x09" + struct.pack("<d", at) + b"\x10" + varint(at))
        out += part(1, series)
    # Snappy without compression: literals of 64 KiB at most.
    packed = varint(len(out))
    for at in range(0, len(out), 1 << 16):
        piece = out[at : at + (1 << 16)]
        packed += b"\xf4" + struct.pack("<H", len(piece) - 1) + piece
    return packed


def lines(seed):
    out, bytes_, i = [], 0, seed << 20
    while bytes_ < 3 << 20:
        line = f'f,h=host{i % 997},r=r{i % 7} v={i}i,w={i % 1009}.25,x="text {i % 13}" {i}\n'
        out.append(line)
        bytes_, i = bytes_ + len(line), i + 1
    return "".join(out).encode()


def metrics():
    try:
        text = ask("GET", "/metrics")[1].decode()
        return dict(line.rsplit(" ", 1) for line in text.split("\n") if line and line[0] != "#")
    except (OSError, http.client.HTTPException):
        return {}


def go(clients, work, *given):
    for _ in range(clients):
        threading.Thread(target=work, args=given, daemon=True).start()


while True:
    try:
        if ask("GET", "/health")[0] == 200:
            break
    except OSError:
        time.sleep(0.1)
ask("POST", "/query?q=CREATE+DATABASE+d")
has = args.loads.__contains__
kept = subscribe() if has("live") else None
if has("bulk"):
    fillers = [lines(seed) for seed in range(8)]
    rows = fillers[0].count(b"\n")
    if "lines" in alone:
        at_a_rate("bulk", alone["lines"] * args.times / rows, "/write?db=d", fillers, {}, rows)
    else:
        for i in range(40):
            go(1, again, "bulk", "/write?db=d", fillers[i % 8], {}, "POST", rows)
if has("small"):
    go(8, again, "small", "/write?db=d", lambda: b"m,w=1 v=1i %d\n" % time.time_ns(), {}, "POST", 1)
if has("json"):
    point = '{"measurement":"fj","tags":{"host":"h%d"},"fields":{"v":%d},"time":%d}\n'
    body = "".join(point % (i % 997, i, i) for i in range(14000)).encode()
    if "JSON" in alone:
        at_a_rate("json", alone["JSON"] * args.times / 14000, "/write?db=d&format=json", [body], {}, 14000)
    else:
        go(4, again, "json", "/write?db=d&format=json", body, {}, "POST", 14000)
if has("remote"):
    kinds = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    body = remote_write(20000)
    if "remote write" in alone:
        at_a_rate("remote", alone["remote write"] * args.times / 20000, "/api/v1/write?db=d", [body], kinds, 20000)
    else:
        go(4, again, "remote", "/api/v1/write?db=d", body, kinds, "POST", 20000)
if has("queries"):
    for q in QUERIES:
        go(1, again, "query", "/query?db=d&q=" + urllib.parse.quote(q), None, {}, "GET")
if has("huge"):
    go(2, again, "huge", "/write?db=d", b"x" * 20_000_000)
if has("bombs"):
    go(2, again, "bomb", "/write?db=d", gzip.compress(b"\0" * (400 << 20), 1), {"Content-Encoding": "gzip"})
if has("lines"):
    go(16, flood, PORT + 1, b"t,c=1 v=1i\n" * 500)
if has("garbage"):
    go(1, flood, PORT + 1, b"y" * 65536)
if has("statsd"):
    go(1, flood, PORT + 3, b"hits:1|c\ntook:12|ms\n" * 500)
    go(1, datagrams, PORT + 3, b"load:0.5|g\ntook:12|ms\nnew.5:1|c\n")
if has("graphite"):
    go(1, flood, PORT + 4, b"a.b.c 1 1700000000\n" * 500)
if has("udp"):
    go(1, datagrams, PORT + 2, UDP_ROWS)
if has("collectd"):
    go(1, datagrams, PORT + 5, b"\7" * 1000)
if has("slow"):
    go(1, slow)

def stored():
    """Rows that were stored, by the way they came."""
    name = "kymo_ingest_rows_total{from="
    return {way.split('"')[1]: float(n) for way, n in metrics().items() if way.startswith(name)}


stored_before = stored()
for tally in offered.values():
    tally[:] = [0] * 4
sent.clear()
began, peak, at_peak, slowest = time.time(), 0, {}, 0
while time.time() - began < args.seconds and server.poll() is None:
    # In a process of its own: the clients' threads keep each other waiting.
    asked = subprocess.run(["curl", "-s", "-o", os.devnull, "-m", "60", "-w", "%{http_code} %{time_total}", f"http://127.0.0.1:{PORT}/health"], capture_output=True, text=True)
    code, took = asked.stdout.split()
    healthy = code == "200"
    key = "health" if healthy else "health missing"
    counts[key] = counts.get(key, 0) + 1
    slowest = max(slowest, float(took))
    resident = status("VmRSS")
    if resident > peak:
        peak, at_peak = resident, (not alone and metrics()) or at_peak
    time.sleep(0.25)
lasted = time.time() - began
offered, sent = {name: list(tally) for name, tally in offered.items()}, dict(sent)
stored_then = stored() if server.poll() is None else {}
stop = True
if server.poll() is not None:
    print("THE SERVER ENDED:", server.returncode)
else:
    used = {name.split('"')[1]: int(float(n)) >> 20 for name, n in at_peak.items() if name.startswith("kymo_budget_used")}
    print(f"{args.memory} {'cgroup ' if group else ''}{' '.join(args.loads) if args.loads != LOADS else 'all'}: {status('VmHWM')} MiB resident at most; slowest /health {slowest * 1000:.0f} ms")
    print("  held then, MiB:", used, "refused for want of memory:", at_peak.get("kymo_memory_refused_total"))
    print("  answered:", dict(sorted(counts.items())))
    for name, (bytes_, points, acked_bytes, acked_points) in offered.items():
        if points:
            mib = [n / lasted / (1 << 20) for n in (bytes_, acked_bytes)]
            ratio = f"{points / acked_points:.1f} times" if acked_points else "endlessly"
            print(f"  {name}: {mib[0]:.1f} MiB/s ({points / lasted:,.0f} points/s) offered, {mib[1]:.2f} ({acked_points / lasted:,.0f}) acknowledged: {ratio} more")
    rates = {("datagrams to " if port < 0 else "") + f"port {abs(port)}": f"{n / lasted / (1 << 20):.1f} MiB/s" for port, n in sorted(sent.items())}
    if rates:
        print("  taken by the kernel:", rates)
    taken = {way: (n - stored_before.get(way, 0)) / lasted for way, n in stored_then.items() if n > stored_before.get(way, 0)}
    offers = {}
    for protocol, names in PROTOCOLS.items():
        rows, acked = (sum(offered.get(name, [0] * 4)[at] for name in names) / lasted for at in (1, 3))
        if protocol == "UDP lines":
            rows, acked = sent.get(-(PORT + 2), 0) / len(UDP_ROWS) * UDP_ROWS.count(b"\n") / lasted, taken.get("line-udp", 0)
        if rows:
            offers[protocol] = rows, acked
    if args.rates:
        with open(args.rates, "w") as rates:
            json.dump(offers, rates)
    for way, (rows, _) in offers.items():
        if way in alone:
            print(f"  {way}: {rows:,.0f} rows/s offered, {rows / alone[way]:.1f} times the {alone[way]:,.0f} that it takes alone")
    print("  stored, rows/s:", {way: f"{(n - stored_before.get(way, 0)) / lasted:,.0f}" for way, n in stored_then.items() if n > stored_before.get(way, 0)})
    ended, large = time.time(), None
    for second in range(args.rest):
        time.sleep(1)
        if not large and ask("POST", "/write?db=d", lines(0))[0] == 204:
            large = second + 1
        if second % 4 == 3:
            now = metrics()
            own = int(float(now.get("kymo_memory_own_bytes", 0))) >> 20
            print(f"  {time.time() - ended:.0f} s after the load: {status('VmRSS')} MiB resident, {own} of them its own, parts hold",
                  sum(int(float(n)) for name, n in now.items() if name.startswith("kymo_budget_used")) >> 20)
    print("  a large body was taken", f"{large} s after the load" if large else "NOT AGAIN")
    if group:
        with open(group + "/memory.max_usage_in_bytes") as most, open(group + "/memory.failcnt") as failed:
            ended = open(group + "/memory.oom_control").read().split()[-1]
            print("  charged at most", int(most.read()) >> 20, "MiB, failcnt", failed.read().strip(), "oom_kill", ended)
    server.terminate()
    server.wait(60)
shutil.rmtree(folder, ignore_errors=True)
for group in filter(None, [group, cpu_group]):
    os.rmdir(group)
