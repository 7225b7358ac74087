#!/usr/bin/env python3
"""What queries over long times cost, whatever state the points are in, and how long reads take while others write.

  ranges.py KYMO --dir SCRATCH [--port 18098] [--lines FILE]

Starts `KYMO serve` on a new folder and writes a year of one series, a point every 10 s (3,153,600; an integer `v` and a float `f`). Asks for
days of the whole year and of a tenth of it three times: while the points are in memory, as soon as they are sealed, and when they are
merged. Tells the median and the least of 11 runs, and the CPU time of the server for one.

With --lines (w3.lp of benches/side_by_side/gen.rs) it then finds out how fast the server takes these lines over 4 connections, writes them at
half that speed, and tells how long small queries of the year take meanwhile: p50, p99, the most; and the same without writes.
One process a run; the server is stopped by its pid.
"""
import argparse, http.client, json, os, shutil, statistics, subprocess, threading, time, urllib.parse

YEAR, EVERY, DAY = 31_536_000, 10, 86_400
BEGIN = 1_700_006_400  # The start of a day.
LINES = 5_000


class Server:
    def __init__(self, kymo, data, port):
        self.data, self.port = data, port
        shutil.rmtree(data, ignore_errors=True)
        off = [f"--{way}=off" for way in ("line-tcp", "line-udp", "statsd", "host-metrics")]
        # All points fit into memory, as long as something comes every now and then.
        command = [kymo, "serve", "--data-dir", data, "--http", f"127.0.0.1:{port}", "--head-bytes", "512M", *off]
        log = open(data + ".log", "wb")
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while True:
            try:
                if self.ask("/ping")[0] < 300:
                    break
            except OSError:
                time.sleep(0.01)
            if self.process.poll() is not None:
                raise SystemExit(f"it ended: see {data}.log")

    def ask(self, path, method="GET", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        connection.request(method, path, body)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        return answer.status, text

    def write(self, lines, precision="s"):
        status, text = self.ask(f"/write?db=bench&precision={precision}", "POST", lines)
        assert status == 204, text

    def query(self, q):
        began = time.perf_counter()
        status, text = self.ask("/query?" + urllib.parse.urlencode({"db": "bench", "epoch": "s", "q": q}))
        took = time.perf_counter() - began
        answer = json.loads(text)["results"][0]
        assert status == 200 and "error" not in answer, text[:300]
        return took * 1e3, answer.get("series", [])

    def cpu(self):
        total = 0
        for task in os.listdir(f"/proc/{self.process.pid}/task"):
            try:
                total += int(open(f"/proc/{self.process.pid}/task/{task}/schedstat").read().split()[0])
            except OSError:
                pass
        return total / 1e6

    def metric(self, name):
        for line in self.ask("/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        raise SystemExit(f"no metric {name}")

    def stop(self):
        self.process.terminate()
        self.process.wait(120)


def year(server):
    lines = []
    for at in range(0, YEAR, EVERY):
        wander = at * 7919 % 1009
        lines.append(f"year,host=a v={wander}i,f={wander / 8} {BEGIN + at}")
        if len(lines) == 20_000:
            server.write("\n".join(lines))
            lines.clear()
    server.write("\n".join(lines))


def days(server, state):
    parts = server.metric("kymo_head_active_bytes") + server.metric("kymo_head_frozen_bytes")
    print(f"{state}: {parts / 1e6:.1f} MB in memory, {server.metric('kymo_store_runs'):.0f} runs", flush=True)
    for what in ("mean(v)", "mean(f)", "max(v)", "percentile(f, 95)"):
        cells = []
        for share in (1, 10):
            end = BEGIN + YEAR // share // DAY * DAY
            q = f"SELECT {what} FROM year WHERE time >= {BEGIN}s AND time < {end}s GROUP BY time(1d)"
            first, series = server.query(q)
            assert len(series[0]["values"]) == YEAR // share // DAY, len(series[0]["values"])
            before = server.cpu()
            took = [server.query(q)[0] for _ in range(11)]
            cpu = (server.cpu() - before) / 11
            cells.append((statistics.median(took), min(took), cpu, first))
        (whole, tenth) = cells
        print(
            f"  {what:18} a year: first {whole[3]:.1f} ms, then {whole[0]:.1f} ms (least {whole[1]:.1f}), {whole[2]:.1f} ms of CPU;"
            f" a tenth: {tenth[0]:.2f} ms (least {tenth[1]:.2f}), {tenth[2]:.2f} ms of CPU;"
            f" ratio {whole[0] / tenth[0]:.1f}, of CPU {whole[2] / tenth[2]:.1f}",
            flush=True,
        )


def wait(what, done, seconds=300):
    for _ in range(seconds * 20):
        if done():
            return
        time.sleep(0.05)
    raise SystemExit(f"it did not come to {what} in {seconds} s")


def small(number):
    """An hour by minutes, or a day by hours, somewhere in the year."""
    begin = BEGIN + number * 7907 * EVERY % (YEAR - DAY)
    what = ("max(v)", "mean(f)", "max(v), mean(f)")[number % 3]
    length, window = (3600, "1m") if number % 2 else (DAY, "1h")
    return f"SELECT {what} FROM year WHERE time >= {begin}s AND time < {begin + length}s GROUP BY time({window})"


def reads(server, path):
    with open(path, "rb") as file:
        lines = [line for line, _ in zip(file, range(2_000_000))]
    bodies = [b"".join(lines[at : at + LINES]) for at in range(0, len(lines), LINES)]
    lock, at, pace = threading.Lock(), [0], [None]
    stop = threading.Event()

    def send():
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=900)
        while not stop.is_set():
            with lock:
                number, at[0] = at[0], at[0] + 1
                due = pace[0] and pace[0][0] + number * LINES / pace[0][1]
            if due and due > time.perf_counter():
                time.sleep(due - time.perf_counter())
            # The same lines again and again: nothing is kept of them but work.
            connection.request("POST", "/write?db=bench", bodies[number % len(bodies)])
            answer = connection.getresponse()
            answer.read()
            assert answer.status in (204, 503), answer.status

    def run(seconds, rate=None, ask=False):
        at[0], pace[0] = 0, (time.perf_counter(), rate) if rate else None
        stop.clear()
        threads = [threading.Thread(target=send) for _ in range(4 if rate is None or rate else 0)]
        began = time.perf_counter()
        [thread.start() for thread in threads]
        took, number = [], 0
        while time.perf_counter() - began < seconds:
            if not ask:
                time.sleep(0.05)
                continue
            took.append(server.query(small(number))[0])
            number += 1
        stop.set()
        [thread.join() for thread in threads]
        return at[0] * LINES / (time.perf_counter() - began), sorted(took)

    def tell(name, rate, took):
        p = lambda share: took[min(len(took) - 1, int(len(took) * share))]
        print(
            f"{name}: {rate / 1e3:.0f} k rows/s written; {len(took)} queries: p50 {p(0.5):.2f} ms, p99 {p(0.99):.2f} ms, most {took[-1]:.2f} ms",
            flush=True,
        )

    full, _ = run(10)
    print(f"full speed: {full / 1e3:.0f} k rows/s", flush=True)
    tell("reads at half of it", *run(20, full / 2, ask=True))
    tell("reads at full speed", *run(10, None, ask=True))
    tell("reads alone", *run(10, 0, ask=True))


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("kymo")
    arguments.add_argument("--dir", required=True)
    arguments.add_argument("--port", type=int, default=18098)
    arguments.add_argument("--lines")
    given = arguments.parse_args()
    server = Server(given.kymo, os.path.join(given.dir, "data-ranges"), given.port)
    try:
        server.ask("/query?" + urllib.parse.urlencode({"q": "CREATE DATABASE bench"}), "POST")
        year(server)
        busy = threading.Event()

        def trickle():
            number = 0
            while not busy.wait(1):
                server.write(f"other v={number}i {BEGIN + number}")
                number += 1

        thread = threading.Thread(target=trickle)
        thread.start()
        days(server, "in memory")
        busy.set()
        thread.join()
        before = server.metric("kymo_seals_total")
        head = lambda: server.metric("kymo_head_active_bytes") + server.metric("kymo_head_frozen_bytes")
        wait("a seal", lambda: server.metric("kymo_seals_total") > before and head() < 1e5)
        days(server, "just sealed")
        rest = [0, 0]

        def merged():
            runs = (server.metric("kymo_merges_total"), server.metric("kymo_merge_running"))
            rest[0] = rest[0] + 1 if runs == rest[1] and runs[1] == 0 else 0
            rest[1] = runs
            return rest[0] > 200

        wait("rest", merged)
        days(server, f"merged ({rest[1][0]:.0f} merges)")
        if given.lines:
            reads(server, given.lines)
    finally:
        server.stop()


main()
