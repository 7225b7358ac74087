#!/usr/bin/env python3
"""How ingestion, memory and opening behave as a store grows.

  growth.py KYMO GEN KIND SIZE STEPS --dir SCRATCH [--tenths 10] [--port 18099]

Starts `KYMO serve` on a new folder, sends what `GEN KIND SIZE STEPS lp` (benches/side_by_side/gen.rs) prints, 5000 lines a
request over 4 connections, and tells for each tenth: rows per second and per CPU second of the server, memory, bytes on disk.
Then it waits until the server is at rest, tells what was written to disk in all over what is kept (write amplification), restarts it, and
tells the time until the first query answers. One process a run; the server is stopped by its pid.
"""
import argparse, http.client, os, queue, shutil, subprocess, threading, time, urllib.parse

HZ = os.sysconf("SC_CLK_TCK")
LINES = 5000


class Server:
    def __init__(self, kymo, data, port):
        self.kymo, self.data, self.port = kymo, data, port

    def start(self):
        began = time.time()
        off = [f"--{way}=off" for way in ("line-tcp", "line-udp", "statsd", "host-metrics")]
        log = open(self.data + ".log", "ab")
        command = [self.kymo, "serve", "--data-dir", self.data, "--http", f"127.0.0.1:{self.port}", *off]
        self.process = subprocess.Popen(command, stdout=log, stderr=log)
        while True:
            try:
                if self.ask("/ping")[0] < 300:
                    return time.time() - began
            except OSError:
                time.sleep(0.005)
            if self.process.poll() is not None:
                raise SystemExit(f"it ended: see {self.data}.log")

    def ask(self, path, method="GET", body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read()

    def query(self, text):
        began = time.time()
        status, body = self.ask("/query?" + urllib.parse.urlencode({"db": "bench", "q": text}), "POST")
        return time.time() - began, body.decode()[:200].strip()

    def cpu(self):
        fields = open(f"/proc/{self.process.pid}/stat").read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / HZ

    def status(self, name):
        for line in open(f"/proc/{self.process.pid}/status"):
            if line.startswith(name):
                return int(line.split()[1]) / 1024
        return 0

    def written(self):
        for line in open(f"/proc/{self.process.pid}/io"):
            if line.startswith("write_bytes"):
                return int(line.split()[1])
        return 0

    def device(self):
        """Bytes written to the block device of the folder, by anybody: the truth where the folder has a device of its own. What the
        kernel accounts to the process (write_bytes) counts whole folios, which may be far more than what is written."""
        number = os.stat(self.data).st_dev
        try:
            return int(open(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}/stat").read().split()[6]) * 512
        except OSError:
            return 0

    def disk(self):
        return int(subprocess.run(["du", "-s", "--block-size=1", self.data], capture_output=True, text=True).stdout.split()[0])

    def metric(self, name):
        for line in self.ask("/metrics")[1].decode().splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
        return 0

    def settle(self):
        last, same = -1, 0
        for _ in range(900):
            before = self.cpu()
            time.sleep(1)
            disk = self.disk()
            same = same + 1 if abs(disk - last) < 65536 and self.cpu() - before < 0.15 else 0
            last = disk
            if same >= 8:
                return

    def stop(self):
        self.process.terminate()
        self.process.wait(300)


def batches(stream, into):
    rest = b""
    lines, parts = 0, []
    while True:
        chunk = stream.read(1 << 20)
        if not chunk:
            break
        chunk = rest + chunk
        cut = chunk.rfind(b"\n") + 1
        chunk, rest = chunk[:cut], chunk[cut:]
        # Lines of a generator have about the same length: a chunk is cut where 5000 of them end.
        count = chunk.count(b"\n")
        parts.append(chunk)
        lines += count
        if lines >= LINES:
            into.put((b"".join(parts), lines))
            lines, parts = 0, []
    if parts:
        into.put((b"".join(parts), lines))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kymo"), parser.add_argument("gen"), parser.add_argument("kind")
    parser.add_argument("size", type=int), parser.add_argument("steps", type=int)
    parser.add_argument("--dir", default="."), parser.add_argument("--port", type=int, default=18099)
    parser.add_argument("--tenths", type=int, default=10)
    parser.add_argument("--query", action="append", default=[])
    options = parser.parse_args()
    data = os.path.join(options.dir, "data-growth")
    shutil.rmtree(data, ignore_errors=True)
    os.makedirs(data)
    server = Server(options.kymo, data, options.port)
    server.start()
    server.ask("/query?" + urllib.parse.urlencode({"q": "CREATE DATABASE bench"}), "POST")
    total = options.size * options.steps * (100 if options.kind == "gauge" else 1)
    waiting, sent, lock, failed = queue.Queue(16), [0], threading.Lock(), []

    def work():
        connection = http.client.HTTPConnection("127.0.0.1", options.port, timeout=900)
        while (batch := waiting.get()) is not None:
            while True:
                connection.request("POST", "/write?db=bench", batch[0])
                answer = connection.getresponse()
                body = answer.read()
                if answer.status == 503:
                    time.sleep(0.1)
                    continue
                break
            if answer.status != 204:
                failed.append((answer.status, body[:200]))
            with lock:
                sent[0] += batch[1]

    def watch():
        began = last_time = time.time()
        last_cpu, last_rows, part = server.cpu(), 0, 1
        print(f"{options.kind} {options.size} x {options.steps}: {total} rows", flush=True)
        print("rows, k | rows/s, k | rows per CPU s, k | RSS MB | disk MB", flush=True)
        while part <= options.tenths:
            time.sleep(0.05)
            if sent[0] >= total * part // options.tenths or ended.is_set():
                now, cpu, rows = time.time(), server.cpu(), sent[0]
                print(
                    f"{rows / 1e3:.0f} | {(rows - last_rows) / (now - last_time) / 1e3:.0f} | "
                    f"{(rows - last_rows) / max(cpu - last_cpu, 0.01) / 1e3:.0f} | {server.status('VmRSS'):.0f} | {server.disk() / 1e6:.0f}",
                    flush=True,
                )
                last_time, last_cpu, last_rows, part = now, cpu, rows, part + 1
        print(f"in all {sent[0] / (time.time() - began) / 1e3:.0f} k rows/s", flush=True)

    ended = threading.Event()
    cpu_before, device_before = server.cpu(), server.device()
    workers = [threading.Thread(target=work) for _ in range(4)]
    watcher = threading.Thread(target=watch)
    [thread.start() for thread in [*workers, watcher]]
    generator = subprocess.Popen([options.gen, options.kind, str(options.size), str(options.steps), "lp"], stdout=subprocess.PIPE)
    batches(generator.stdout, waiting)
    [waiting.put(None) for _ in workers]
    [worker.join() for worker in workers]
    ended.set()
    watcher.join()
    ingest_cpu = server.cpu() - cpu_before
    peak = server.status("VmHWM")
    server.settle()
    cpu = server.cpu() - cpu_before
    os.sync()
    disk, written, device = server.disk(), server.written(), server.device() - device_before
    sealed = server.metric("kymo_store_bytes")
    journal, stored = server.metric("kymo_journal_bytes_total"), server.metric("kymo_store_written_bytes_total")
    merged_in, merged_out = server.metric("kymo_merge_read_bytes_total"), server.metric("kymo_merge_written_bytes_total")
    seal_bytes = sealed - merged_out + merged_in
    print(f"failed: {failed[:3]}" if failed else "every request was acknowledged with 204")
    print(f"rows per CPU s: {sent[0] / ingest_cpu / 1e3:.0f} k, settling counted in {sent[0] / cpu / 1e3:.0f} k; peak RSS {peak:.0f} MB, settled {server.status('VmRSS'):.0f} MB")
    print(f"disk {disk / 1e6:.1f} MB, {disk / sent[0]:.2f} bytes a row; written to the device {device / 1e6:.1f} MB: {device / disk:.2f} times what is kept (runs: {sealed / 1e6:.1f} MB); write_bytes {written / 1e6:.0f} MB")
    print(f"of that the journal {journal / 1e6:.1f} MB, values of the store {stored / 1e6:.1f} MB: runs sealed {seal_bytes / 1e6:.1f} MB, merged {merged_out / 1e6:.1f} MB, the rest is the series index")
    print(f"written to the device over sealed runs: {device / max(seal_bytes, 1):.2f}; over sealed runs and index {device / max(stored - merged_out, 1):.2f}")
    for query in options.query:
        print(f"{query}: %.3f s, %s" % server.query(query))
    print(f"RSS after queries {server.status('VmRSS'):.0f} MB, peak {server.status('VmHWM'):.0f} MB")
    server.stop()
    opened = server.start()
    measurement = {"card": "req", "cpu": "cpu", "gauge": "node_metric_00"}[options.kind]
    took, answer = server.query(f"SHOW SERIES EXACT CARDINALITY FROM {measurement}")
    print(f"restart: {opened:.3f} s until it answers, first query {took:.3f} s ({answer}), RSS {server.status('VmRSS'):.0f} MB")
    server.stop()


if __name__ == "__main__":
    main()
