"""The clients of over.py: each load is a process of its own, so that none waits for another's turn of Python.

With a rate (rows a second) a load offers that much whether or not it is taken: requests begin at that rate and give up after `patience`, senders by
connection make so many lines and throw away what the socket does not take, as agents with bounded buffers do. What is late is not made up for. Without a
rate each client goes on as soon as it may. All rows of a piece, a datagram or a body are points of their own: a point said five hundred times costs a
server less than five hundred points.
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
# Of datagrams, where they come at a rate.
SENDERS = 2
# Of all processes.
stop = multiprocessing.RawValue("b", 0)


def ask(method, path, body=None, headers={}, patience=60):
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=patience)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers.get("Retry-After")
    finally:
        connection.close()


class Load:
    """One of LOADS. `rate`: rows a second, or None. `few`: so few clients that nothing is refused."""

    def __init__(self, name, rate, patience, few=False):
        self.name, self.rate, self.patience, self.few = name, rate, patience, few
        # Rows offered, acknowledged; bytes offered, acknowledged (by HTTP) or taken by the socket.
        self.tally = multiprocessing.RawArray("d", 4)
        self.lock, self.counts = threading.Lock(), {}
        self.report = tempfile.NamedTemporaryFile("w+")
        self.process = multiprocessing.Process(target=self.run, daemon=True)
        self.process.start()

    def run(self):
        # Those who ask for /health on the same machine go first: what is measured is the server, not its clients.
        os.nice(5)
        # By a thread: whatever a load waits for, it ends when all do.
        self.go(1, LOADS[self.name], self)
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
            code, text, retry = ask(method, path, body, headers, patience)
            what = f"{code}{' error' if code == 200 and b'error' in text else ''}{' with Retry-After' if retry else ''}"
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
            # Connecting, sending and waiting for the answer may each take as long as one is patient, and these clients wait for each other, too.
            self.go(int(self.rate / rows * self.patience * 5) + 2, at_the_rate)
        else:
            self.go(min(clients, 4) if self.few else clients, again)

    def stream(self, connections, port, pieces, rows):
        """Sends pieces of so many rows by connections."""

        def flood(stream, piece):
            sent = stream.send(piece)
            self.add(rows=rows * sent / len(pieces[0]), bytes_=sent, taken=sent)
            return piece[sent:]

        def at_the_rate(stream, due, rest, piece):
            due[0] = max(due[0], time.time() - 0.1)
            time.sleep(max(0, due[0] - time.time()))
            due[0] += rows * connections / self.rate
            self.add(rows=rows, bytes_=len(piece))
            try:
                sent = stream.send(rest or piece)
                self.add(taken=sent)
                return (rest or piece)[sent:]
            except BlockingIOError:
                self.add(what="held back")
                return rest

        def work(turn):
            due = [time.time()]
            while not stop.value:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=5) as stream:
                        rest = b""
                        stream.setblocking(not self.rate)
                        while not stop.value:
                            turn += 1
                            piece = pieces[turn % len(pieces)]
                            rest = at_the_rate(stream, due, rest, piece) if self.rate else flood(stream, rest or piece)
                except OSError:
                    self.add(what="held back, or cut off")

        for turn in range(connections):
            self.go(1, work, turn)

    def datagrams(self, port, datagrams, rows):
        def work():
            sender, due = socket.socket(socket.AF_INET, socket.SOCK_DGRAM), time.time()
            sender.connect(("127.0.0.1", port))
            many = [datagrams[i % len(datagrams)] for i in range(100)]
            bytes_ = sum(map(len, many))
            while not stop.value:
                if self.rate:
                    due = max(due, time.time() - 0.1)
                    time.sleep(max(0, due - time.time()))
                    due += rows * len(many) * SENDERS / self.rate
                lost = 0
                for datagram in many:
                    try:
                        sender.send(datagram)
                    except OSError:
                        lost += 1
                part = 1 - lost / len(many)
                self.add(rows=rows * len(many) * part, bytes_=bytes_ * part, taken=bytes_ * part)

        self.go(SENDERS if self.rate else 1, work)


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
    head = f"GET /live HTTP/1.1\r\nHost: 127.0.0.1:{PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    head += "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    for k in range(100):
        out = head.encode()
        for n in range(100):
            w = (k * 100 + n) % 200
            q = f"SELECT mean(v), count(v) FROM m WHERE w = '{w}' GROUP BY time(10s)"
            text = f'{{"type":"subscribe","id":"{n}","db":"d","q":"{q}"}}'.encode()
            out += b"\x81" + bytes([0x80 | 126]) + struct.pack(">H", len(text)) + b"\0\0\0\0" + text
        try:
            stream = socket.create_connection(("127.0.0.1", PORT), timeout=5)
            load.streams.append(stream)
            stream.sendall(out)
            load.add(what="subscribed")
        except OSError:
            load.add(what="held back")
        time.sleep(0.02)


def slow(load):
    def work():
        streams = []
        for i in range(300):
            try:
                stream = socket.create_connection(("127.0.0.1", PORT), timeout=5)
            except OSError:
                load.add(what="no connection")
                continue
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


def pieces(many, rows, line):
    """So many pieces, of so many lines each: `line` of a number that no other has."""
    return ["".join(line(n * rows + i) for i in range(rows)).encode() for n in range(many)]


# Of so many hosts. What has no time is of the time when it comes, and so no two points are the same.
HOSTS = 997
UDP_ROWS = 60
TCP_PIECES = pieces(16, 500, lambda i: f"t,host=host{i % HOSTS} v={i % 10000}i\n")
UDP_DATAGRAMS = pieces(50, UDP_ROWS, lambda i: f"u,host=host{i % HOSTS} v={i % 1000}i\n")
GRAPHITE_PIECES = pieces(64, 500, lambda i: f"servers.host{i % HOSTS}.load {i % 1000} {1_700_000_000 + i // HOSTS}\n")
# The rows of a piece, and of each datagram, of statsd. Of equal length, so that bytes tell how many were read.
STATSD_PIECE_ROWS, STATSD_ROWS = 1000, 60
STATSD_PIECES = pieces(4, STATSD_PIECE_ROWS // 2, lambda i: f"hits.{i % 500:03}:1|c\ntook.{i % 500:03}:12|ms\n")
STATSD_DATAGRAMS = pieces(25, STATSD_ROWS // 3, lambda i: f"load.{i % 500:03}:0.5|g\ntook.{i % 500:03}:12|ms\nnew.{i % 500:03}:1|c\n")

LOADS = {
    "bulk": bulk,
    "small": small,
    "json": json_points,
    "remote": remote,
    "queries": queries,
    "huge": huge,
    "bombs": bombs,
    "lines": lambda load: load.stream(16, LINE_TCP, TCP_PIECES, 500),
    "garbage": lambda load: load.stream(1, LINE_TCP, [b"y" * 65536], 0),
    "statsd-tcp": lambda load: load.stream(1, STATSD, STATSD_PIECES, STATSD_PIECE_ROWS),
    "statsd-udp": lambda load: load.datagrams(STATSD, STATSD_DATAGRAMS, STATSD_ROWS),
    "graphite": lambda load: load.stream(1, GRAPHITE, GRAPHITE_PIECES, 500),
    "udp": lambda load: load.datagrams(LINE_UDP, UDP_DATAGRAMS, UDP_ROWS),
    "collectd": lambda load: load.datagrams(COLLECTD, [b"\7" * 1000], 0),
    "live": live,
    "slow": slow,
}
