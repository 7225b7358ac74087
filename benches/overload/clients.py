"""The clients of over.py: each load is a process of its own, so that none waits for another's turn of Python.

With a rate (rows a second) a load offers that much whether or not it is taken: requests begin at that rate and give up after `patience`, senders by
connection make so many lines and throw away what the socket does not take, as agents with bounded buffers do. What is late is not made up for. Without a
rate each client goes on as soon as it may.
"""

import gzip
import http.client
import itertools
import json
import multiprocessing
import os
import socket
import struct
import tempfile
import threading
import time
import urllib.parse

PORT = 19631
LINE_TCP, LINE_UDP, STATSD, GRAPHITE, COLLECTD = range(PORT + 1, PORT + 6)
QUERIES = [
    "SELECT * FROM f",
    "SELECT percentile(v,50), distinct(w), mode(x) FROM f GROUP BY *",
    "SELECT count(v) FROM m, f GROUP BY time(1ns), *",
    "SELECT top(v, 1000) FROM f",
]
# Of all processes.
stop = multiprocessing.RawValue("b", 0)


def ask(method, path, body=None, headers={}, patience=60):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=patience)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, text


class Load:
    """One of LOADS. `rate`: rows a second, or None."""

    def __init__(self, name, rate, patience):
        self.name, self.rate, self.patience = name, rate, patience
        # Rows offered, acknowledged; bytes offered, acknowledged (by HTTP) or taken by the socket.
        self.tally = multiprocessing.RawArray("d", 4)
        self.lock, self.counts = threading.Lock(), {}
        self.report = tempfile.NamedTemporaryFile("w+")
        self.process = multiprocessing.Process(target=self.run, daemon=True)
        self.process.start()

    def run(self):
        LOADS[self.name](self)
        while not stop.value:
            time.sleep(0.05)
        with self.lock:
            json.dump(self.counts, self.report)
            self.report.flush()
            os._exit(0)

    def ended(self):
        """How often what happened, once all are to stop."""
        self.process.join()
        self.report.seek(0)
        return {f"{self.name} {what}": n for what, n in json.load(self.report).items()}

    def go(self, clients, work, *given):
        for _ in range(clients):
            threading.Thread(target=work, args=given, daemon=True).start()

    def add(self, rows=0, acked=0, bytes_=0, taken=0, what=None):
        with self.lock:
            for at, n in enumerate([rows, acked, bytes_, taken]):
                self.tally[at] += n
            if what:
                self.counts[what] = self.counts.get(what, 0) + 1

    def request(self, path, body, headers={}, method="POST", rows=0, patience=60):
        self.add(rows=rows, bytes_=len(body or b""))
        try:
            code, text = ask(method, path, body, headers, patience)
            what = f"{code}{' error' if code == 200 and b'error' in text else ''}"
            done = code == 204
        except (OSError, http.client.HTTPException):
            what, done = "given up or cut off", False
        self.add(acked=rows * done, taken=len(body or b"") * done, what=what)

    def requests(self, clients, path, bodies, headers={}, method="POST", rows=0):
        """By so many clients, or at the rate. `bodies`: each in turn, or a function that makes one."""
        turns, lock, due = itertools.count(), threading.Lock(), [time.time()]

        def body(turn):
            return bodies() if callable(bodies) else bodies[turn % len(bodies)]

        def again():
            while not stop.value:
                self.request(path, body(next(turns)), headers, method, rows)

        def at_the_rate():
            while not stop.value:
                with lock:
                    turn, at = next(turns), max(due[0], time.time() - 0.1)
                    due[0] = at + rows / self.rate
                time.sleep(max(0, at - time.time()))
                self.request(path, body(turn), headers, method, rows, self.patience)

        if self.rate:
            self.go(int(self.rate / rows * self.patience) + 2, at_the_rate)
        else:
            self.go(clients, again)

    def stream(self, connections, port, piece, rows):
        """Sends pieces of so many rows by connections."""

        def flood(stream):
            sent = stream.send(piece)
            self.add(rows=rows * sent / len(piece), bytes_=sent, taken=sent)

        def at_the_rate(stream, due, rest):
            due[0] = max(due[0], time.time() - 0.1)
            time.sleep(max(0, due[0] - time.time()))
            due[0] += rows * connections / self.rate
            self.add(rows=rows, bytes_=len(piece))
            rest[0] = rest[0] or piece
            try:
                sent = stream.send(rest[0])
                rest[0] = rest[0][sent:]
                self.add(taken=sent)
            except BlockingIOError:
                self.add(what="held back")

        def work():
            due = [time.time()]
            while not stop.value:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
                        rest = [b""]
                        stream.setblocking(not self.rate)
                        while not stop.value:
                            at_the_rate(stream, due, rest) if self.rate else flood(stream)
                except OSError:
                    self.add(what="held back, or cut off")

        self.go(connections, work)

    def datagrams(self, port, datagram, rows):
        def work():
            sender, due = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), time.time()
            while not stop.value:
                many = 100
                if self.rate:
                    due = max(due, time.time() - 0.1)
                    time.sleep(max(0, due - time.time()))
                    due += rows * many / self.rate
                sent = 0
                for _ in range(many):
                    try:
                        sent += sender.sendto(datagram, ("127.0.0.1", port)) > 0
                    except OSError:
                        pass
                self.add(rows=rows * sent, bytes_=len(datagram) * sent, taken=len(datagram) * sent)

        self.go(1, work)


def bulk(load):
    fillers = [lines(seed) for seed in range(8)]
    load.requests(40, "/write?db=d", fillers, rows=fillers[0].count(b"\n"))


def small(load):
    # They go on as soon as they may, in any case: there are few of them.
    load.rate = None
    load.requests(8, "/write?db=d", lambda: b"m,w=1 v=1i %d\n" % time.time_ns(), rows=1)


def json_points(load):
    point = '{"measurement":"fj","tags":{"host":"h%d"},"fields":{"v":%d},"time":%d}\n'
    body = "".join(point % (i % 997, i, i) for i in range(14000)).encode()
    load.requests(4, "/write?db=d&format=json", [body], rows=14000)


def remote(load):
    kinds = {"Content-Encoding": "snappy", "Content-Type": "application/x-protobuf"}
    load.requests(4, "/api/v1/write?db=d", [remote_write(20000)], kinds, rows=20000)


def queries(load):
    for q in QUERIES:
        load.requests(1, "/query?db=d&q=" + urllib.parse.quote(q), [None], method="GET")


def huge(load):
    load.requests(2, "/write?db=d", [b"x" * 20_000_000])


def bombs(load):
    load.requests(2, "/write?db=d", [gzip.compress(b"\0" * (400 << 20), 1)], {"Content-Encoding": "gzip"})


def live(load):
    # Kept open, and never read.
    load.streams = []
    for k in range(100):
        stream = socket.create_connection(("127.0.0.1", PORT))
        head = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        stream.sendall((head + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n").encode())
        for n in range(100):
            w = (k * 100 + n) % 200
            q = f"SELECT mean(v), count(v) FROM m WHERE w = '{w}' GROUP BY time(10s)"
            text = f'{{"type":"subscribe","id":"{n}","db":"d","q":"{q}"}}'.encode()
            stream.sendall(b"\x81" + bytes([0x80 | 126]) + struct.pack(">H", len(text)) + b"\0\0\0\0" + text)
        load.streams.append(stream)
        time.sleep(0.02)


def slow(load):
    def work():
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
        while not stop.value:
            for stream in streams:
                try:
                    stream.send(b"a")
                except OSError:
                    pass
            time.sleep(0.1)

    load.go(1, work)


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


# The rows of each datagram of statsd.
STATSD_ROWS = 75
STATSD_PIECE, STATSD_DATAGRAM = b"hits:1|c\ntook:12|ms\n" * 500, b"load:0.5|g\ntook:12|ms\nnew.5:1|c\n" * (STATSD_ROWS // 3)

LOADS = {
    "bulk": bulk,
    "small": small,
    "json": json_points,
    "remote": remote,
    "queries": queries,
    "huge": huge,
    "bombs": bombs,
    "lines": lambda load: load.stream(16, LINE_TCP, b"t,c=1 v=1i\n" * 500, 500),
    "garbage": lambda load: load.stream(1, LINE_TCP, b"y" * 65536, 0),
    "statsd-tcp": lambda load: load.stream(1, STATSD, STATSD_PIECE, 1000),
    "statsd-udp": lambda load: load.datagrams(STATSD, STATSD_DATAGRAM, STATSD_ROWS),
    "graphite": lambda load: load.stream(1, GRAPHITE, b"a.b.c 1 1700000000\n" * 500, 500),
    "udp": lambda load: load.datagrams(LINE_UDP, b"u,s=a v=1\nu,s=b v=2\n" * 20, 40),
    "collectd": lambda load: load.datagrams(COLLECTD, b"\7" * 1000, 0),
    "live": live,
    "slow": slow,
}
