#!/usr/bin/env python3
"""How much memory a server takes when more comes than it can take: over.py KYMO [--memory 512MiB] [--seconds 12] [--cgroup] LOAD..

LOAD: bulk (40 clients, bodies of 3 MiB), small (8), json (4, 1 MiB), remote (4, remote write of 20,000 samples), queries (4 clients, of which
each wants more than it may have), huge (lines of 20 MB), bombs (gzip of 400 MiB), lines (16 connections), garbage (an endless line), statsd-tcp,
statsd-udp, graphite, udp (line protocol), collectd (nonsense by UDP), live (10,000 subscriptions that nobody reads), slow (300 requests that
never get whole), or all (clients.py has them). Meanwhile /health, /ready, /metrics and a query of a few points are asked, each a second after the
last answer. Prints the most that was resident, what parts held then (/metrics), how long those took, what was answered, what each protocol's
clients offered and had taken a second, and what is left afterwards.
With --cgroup the server runs in a memory cgroup (version 1) of that size instead of --memory. --cpus 0.2 gives it so much of a core (a cpu
cgroup, version 1), and that much whatever else runs, so that clients on the same machine can offer several times what it can take. --alone first measures, on a server of its own
each, what the server takes of each protocol when it is the only one, from 4 clients by HTTP (of which none is refused: what a server takes that refuses
most of what comes is less), from others as much as they can send; then --times 4.5 times as much is offered of each at once (--patience: seconds
after which a request is given up), and it ends with what was offered against what is taken alone.
"""

import argparse
import http.client
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from clients import GRAPHITE, LOADS, PORT, STATSD_DATAGRAMS, STATSD_PIECE_ROWS, STATSD_PIECES, STATSD_ROWS, Load, ask, lines, stop

UNITS = {"KiB": 10, "MiB": 20, "GiB": 30}
# Loads of each protocol, and how what is taken is known: by HTTP rows are acknowledged; by connections and datagrams they are stored; statsd sums up, so
# of it counts what was read.
PROTOCOLS = {
    "line protocol": (["bulk", "small"], "acknowledged"),
    "JSON": (["json"], "acknowledged"),
    "remote write": (["remote"], "acknowledged"),
    "line protocol by TCP": (["lines"], "line-tcp"),
    "line protocol by UDP": (["udp"], "line-udp"),
    "statsd by TCP": (["statsd-tcp"], "bytes"),
    "statsd by UDP": (["statsd-udp"], "datagrams"),
    "graphite": (["graphite"], f"graphite+tcp://127.0.0.1:{GRAPHITE}"),
}
# Who asks for /health and the like waits so long.
ASKED_SECONDS = 30
LIGHT_QUERY = "/query?db=d&q=" + urllib.parse.quote("SELECT count(v) FROM m WHERE w = '1' AND time > now() - 5s")

args = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
args.add_argument("kymo")
args.add_argument("loads", nargs="+", choices=[*LOADS, "all"])
args.add_argument("--memory", default="512MiB")
args.add_argument("--seconds", type=int, default=12)
args.add_argument("--rest", type=int, default=8, help="seconds after the load until it is looked at once more")
args.add_argument("--cgroup", action="store_true")
args.add_argument("--cpus", type=float, help="cores that the server may use")
args.add_argument("--alone", action="store_true")
args.add_argument("--few", action="store_true", help="4 clients of each load by HTTP, so that nothing is refused")
args.add_argument("--times", type=float, default=5)
args.add_argument("--patience", type=float, default=2)
args.add_argument("--rates", help="a file for what each protocol offered and what was taken of it, JSON")
args.add_argument("--alone-rates", help="a file with what is taken alone, JSON, from an earlier --alone; written if it is not there")
args = args.parse_args()
if "all" in args.loads:
    args.loads = list(LOADS)


def measure_alone():
    alone = {}
    for protocol, (loads, _) in PROTOCOLS.items():
        loads = [load for load in loads if load in args.loads]
        if not loads:
            continue
        with tempfile.NamedTemporaryFile() as rates:
            flags = ["--memory", args.memory, "--seconds", str(args.seconds), "--rest", "0", "--few", "--rates", rates.name]
            flags += ["--cgroup"] * args.cgroup + (["--cpus", str(args.cpus)] if args.cpus else [])
            subprocess.run([sys.executable, __file__, args.kymo, *flags, *loads], check=True, stdout=subprocess.DEVNULL)
            alone[protocol] = json.load(rates)[protocol][1]
    return alone


alone = {}
if args.alone_rates and os.path.exists(args.alone_rates):
    alone = json.load(open(args.alone_rates))
elif args.alone or args.alone_rates:
    alone = measure_alone()
    if args.alone_rates:
        json.dump(alone, open(args.alone_rates, "w"))
if alone:
    print("alone, rows/s that are taken:", {protocol: f"{taken:,.0f}" for protocol, taken in alone.items()}, flush=True)

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
    for name, value in [("cpu.cfs_period_us", 100_000), ("cpu.cfs_quota_us", int(args.cpus * 100_000)), ("cpu.shares", 1 << 16)]:
        with open(f"{cpu_group}/{name}", "w") as setting:
            setting.write(str(value))
    command = ["sh", "-c", f'echo $$ > {cpu_group}/cgroup.procs && exec "$@"', "sh"] + command
log = open(folder + "/log", "w")
server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)


def status(name):
    with open(f"/proc/{server.pid}/status") as lines:
        return next(int(line.split()[1]) >> 10 for line in lines if line.startswith(name))


def cpu_seconds():
    with open(f"/proc/{server.pid}/stat") as stat:
        return sum(int(ticks) for ticks in stat.read().rsplit(")", 1)[1].split()[11:13]) / os.sysconf("SC_CLK_TCK")


def metrics():
    try:
        text = ask("GET", "/metrics", patience=ASKED_SECONDS)[1].decode()
        return dict(line.rsplit(" ", 1) for line in text.split("\n") if line and line[0] != "#")
    except (OSError, http.client.HTTPException):
        return {}


def ingested(figure, way):
    return float(now.get(f'kymo_ingest_{figure}{{from="{way}"}}', 0))


def taken():
    """Rows that were taken so far, by protocol."""
    out = {}
    for protocol, (names, known) in PROTOCOLS.items():
        if known == "acknowledged":
            out[protocol] = sum(loads[name].tally[1] for name in names if name in loads)
        elif known == "bytes":
            out[protocol] = ingested("bytes_total", "statsd") / len(STATSD_PIECES[0]) * STATSD_PIECE_ROWS
        elif known == "datagrams":
            read = ingested("requests_total", "statsd") - ingested("datagrams_dropped_total", "statsd")
            out[protocol] = STATSD_ROWS * (read - ingested("waiting_bytes", "statsd") / len(STATSD_DATAGRAMS[0]))
        else:
            out[protocol] = ingested("rows_total", known)
    return out


class Asked:
    """Asks for something a second after each answer: by a connection each, or by one that is kept open. In processes of their own: clients' threads keep
    each other waiting."""

    def __init__(self, path, kept=False):
        self.path, self.took, self.outcomes = path, [], {}
        self.thread = threading.Thread(target=self.ask_kept if kept else self.ask)
        self.thread.start()

    def add(self, what, took):
        self.outcomes[what] = self.outcomes.get(what, 0) + 1
        self.took.append(took)
        time.sleep(1)

    def ask_kept(self):
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=ASKED_SECONDS)
        while time.time() - began < args.seconds and server.poll() is None:
            asked = time.time()
            try:
                connection.request("GET", self.path)
                answer = connection.getresponse()
                answer.read()
                what = "answered" if answer.status == 200 else str(answer.status)
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                what = f"closed, or no answer: {type(error).__name__}"
            self.add(what, time.time() - asked)

    def ask(self):
        while time.time() - began < args.seconds and server.poll() is None:
            form = "%{stderr}%{http_code} %{time_total} %header{retry-after}"
            asked = subprocess.run(["curl", "-s", "-m", str(ASKED_SECONDS), "-w", form, f"http://127.0.0.1:{PORT}{self.path}"], capture_output=True, text=True)
            code, took, *retry = asked.stderr.split()
            error = code == "200" and '"error"' in asked.stdout
            what = {"200": "answered with an error" if error else "answered", "503": f"refused, retry after {retry}", "000": "no answer"}.get(code, code)
            self.add(what, float(took))

    def told(self):
        took = sorted(self.took)
        return f"{self.outcomes}, p50 {took[len(took) // 2]:.2f} s, slowest {took[-1]:.2f} s"


while True:
    try:
        if ask("GET", "/health")[0] == 200:
            break
    except OSError:
        time.sleep(0.1)
ask("POST", "/query?q=CREATE+DATABASE+d")
rates = {name: alone[protocol] * args.times for protocol, (names, _) in PROTOCOLS.items() for name in names if protocol in alone}
loads = {name: Load(name, rates.get(name), args.patience, args.few) for name in args.loads}

now = metrics()
before, began = taken(), time.time()
tallies = {name: list(load.tally) for name, load in loads.items()}
paths = {"/health": "/health", "/ready": "/ready", "/metrics": "/metrics", "a light query": LIGHT_QUERY}
asked = {name: Asked(path) for name, path in paths.items()}
asked["/health, by a connection kept open"] = Asked("/health", kept=True)
cpu = cpu_seconds()
peak = 0
while any(one.thread.is_alive() for one in asked.values()) and server.poll() is None:
    peak = max(peak, status("VmRSS"))
    time.sleep(0.25)
now = metrics() if server.poll() is None else {}
lasted, after = time.time() - began, taken()
cpu = cpu_seconds() - cpu if server.poll() is None else 0
tallies = {name: [n - b for n, b in zip(load.tally, tallies[name])] for name, load in loads.items()}
stop.value = 1
counts = {what: n for load in loads.values() for what, n in load.ended().items()}
if server.poll() is not None:
    print("THE SERVER ENDED:", server.returncode)
else:
    used = {name.split('"')[1]: int(float(n)) >> 20 for name, n in now.items() if name.startswith("kymo_budget_used")}
    print(f"{args.memory} {'cgroup ' if group else ''}{' '.join(args.loads) if args.loads != list(LOADS) else 'all'}: {status('VmHWM')} MiB resident at most ({peak} seen), {lasted:.0f} s, {cpu / lasted:.2f} of a core used")
    for name, one in asked.items():
        print(f"  {name}: {one.told()}")
    print("  held at the end, MiB:", used, "refused for want of memory:", now.get("kymo_memory_refused_total"))
    print("  answered:", dict(sorted(counts.items())))
    offers = {}
    for protocol, (names, _) in PROTOCOLS.items():
        rows = sum(tallies[name][0] for name in names if name in loads) / lasted
        if rows:
            offers[protocol] = rows, (after[protocol] - before[protocol]) / lasted
            times = f", {rows / alone[protocol]:.1f} times the {alone[protocol]:,.0f} that it takes alone" if alone.get(protocol) else ""
            own = f"{offers[protocol][1]:,.0f} taken" if "statsd" not in protocol or len(loads) == 1 else "summed up"
            print(f"  {protocol}: {rows:,.0f} rows/s offered, {own}{times}")
    if args.rates:
        with open(args.rates, "w") as file:
            json.dump(offers, file)
    print("  MiB/s offered, acknowledged or taken by the socket:", {name: [round(n / lasted / (1 << 20), 1) for n in tally[2:]] for name, tally in tallies.items() if tally[2]})
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
    if args.rest and "small" in loads:
        q = "/query?db=d&q=" + urllib.parse.quote("SELECT count(v) FROM m")
        found = json.loads(ask("GET", q)[1])["results"][0].get("series", [{"values": [[0, 0]]}])[0]["values"][0][1]
        print(f"  small requests acknowledged: {counts.get('small 204', 0)}, of these and of those that were given up there are {found}")
    if args.rest:
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
