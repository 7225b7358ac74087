"""Reads a golden file of a pack by docs/formats/{keys,block}.md alone, without a line of the server's code, and checks every
row of it. `read_pack.py FILE`; needs zstandard and xxhash. Prints how often it met each kind of chunk.

FILE is (u32 length, bytes) for key, value, key, value, .. of the keyspace `blocks`.
"""

import collections
import math
import struct
import sys

import xxhash
import zstandard

M64 = (1 << 64) - 1
seen = collections.Counter()


def signed(n):
    n &= M64
    return n - (1 << 64) if n >> 63 else n


class Input:
    """Bytes from the front."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, n):
        assert self.at + n <= len(self.data), "the bytes end"
        self.at += n
        return self.data[self.at - n : self.at]

    def byte(self):
        return self.take(1)[0]

    def v(self):
        value = shift = 0
        while True:
            byte = self.byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    def s(self):
        n = self.v()
        return n >> 1 ^ -(n & 1)

    def rest(self):
        return self.take(len(self.data) - self.at)

    def end(self):
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes too many"


class Bits:
    """Bits from the lowest of each byte on."""

    def __init__(self, data):
        self.word, self.left = int.from_bytes(data, "little"), len(data) * 8

    def get(self, n):
        assert n <= self.left, "the bits end"
        value = self.word & ((1 << n) - 1)
        self.word >>= n
        self.left -= n
        return value

    def gamma(self):
        zeroes = 0
        while not self.get(1):
            zeroes += 1
        return 1 << zeroes | self.get(zeroes)

    def end(self):
        assert self.left < 8 and self.word == 0


def unpack(data, count, width):
    """`count` numbers of a frame."""
    if count < 128:
        bits = Bits(data.take((count * width + 7) // 8))
        return [bits.get(width) for _ in range(count)]
    lanes, size = (4, 4) if width <= 32 else (2, 8)
    words = [data.take(size) for _ in range(width * lanes)]
    streams = [Bits(b"".join(words[lane::lanes])) for lane in range(lanes)]
    return [streams[i % lanes].get(width) for i in range(count)]


def frames(data, count):
    out = []
    while len(out) < count:
        n = min(128, count - len(out))
        width, exceptions, base = data.byte(), data.byte(), data.s()
        high = [(data.byte(), data.v()) for _ in range(exceptions)]
        frame = unpack(data, n, width)
        for at, bits in high:
            frame[at] |= bits << width
        seen["exceptions"] += exceptions
        out += [signed(base + offset) for offset in frame]
    return out


def symbols(data, count):
    scheme = data.byte()
    base = width = 0
    if scheme == 0:
        base = data.s()
    elif scheme == 1:
        base, width = data.s(), data.byte()
    else:
        exact = [data.s() for _ in range(data.v())]
    used = data.v()
    first, second, open_ = (data.take(data.v()) for _ in range(3))
    streams = [Bits(first), Bits(second)]
    alphabet, symbol = [], 0
    for _ in range(used):
        symbol += streams[0].gamma() - 1
        alphabet.append(symbol)
    log = streams[0].get(4)
    frequencies = [streams[0].gamma() for _ in range(used)]
    size = 1 << log
    assert sum(frequencies) == size
    spread, at = [None] * size, 0
    for symbol, frequency in zip(alphabet, frequencies):
        for _ in range(frequency):
            assert spread[at] is None
            spread[at] = symbol
            at = (at + size // 2 + size // 8 + 3) % size
    number = dict(zip(alphabet, frequencies))
    table = []
    for symbol in spread:
        x = number[symbol]
        number[symbol] += 1
        bits = log - (x.bit_length() - 1)
        table.append((symbol, bits, (x << bits) - size))
    states = [streams[i // 4].get(log) for i in range(8)]
    found = []
    for i in range(count):
        symbol, bits, below = table[states[i % 8]]
        states[i % 8] = below + streams[i % 8 // 4].get(bits)
        found.append(symbol)
    assert states == [0] * 8
    [stream.end() for stream in streams]
    seen[f"symbols {('near', 'even', 'exact')[scheme]}"] += 1
    if scheme == 2:
        assert not open_
        return [exact[s] for s in found]
    if scheme == 1:
        out, low = [], Input(open_)
        for begin in range(0, count, 128):
            frame = found[begin : begin + 128]
            below = unpack(low, len(frame), width)
            out += [signed(base + (s << width) + b) for s, b in zip(frame, below)]
        low.end()
        return out
    out, bits = [], Bits(open_)
    for s in found:
        side, s = (1, s) if s < 256 else (-1, s - 256)
        if s >= 16:
            e, q = divmod(s, 4)
            s = (1 << e) + (q << (e - 2)) + bits.get(e - 2)
        out.append(signed(base + side * s))
    bits.end()
    return out


def ints(data, count):
    if count == 0:
        return []
    kind = data.byte()
    seen[f"ints {('constant', 'frames', 'symbols', 'scaled', 'steps')[kind]}"] += 1
    if kind == 0:
        return [data.s()] * count
    if kind == 1:
        return frames(data, count)
    if kind == 2:
        return symbols(data, count)
    if kind == 3:
        first, unit = data.s(), data.v()
        return [signed(first + unit * n) for n in ints(data, count)]
    out = [data.s()]
    for step in ints(data, count - 1):
        out.append(signed(out[-1] + step))
    return out


def from_bits(bits):
    return struct.unpack("<d", struct.pack("<Q", bits & M64))[0]


def to_bits(number):
    return struct.unpack("<Q", struct.pack("<d", number))[0]


def floats(data, count):
    """As bits."""
    if count == 0:
        return []
    kind = data.byte()
    seen[f"floats {('constant', 'decimal', 'raw', 'ordered')[kind]}"] += 1
    if kind == 0:
        return list(struct.unpack("<Q", data.take(8))) * count
    if kind == 2:
        return list(struct.unpack(f"<{count}Q", data.take(8 * count)))
    if kind == 3:
        return [(n if n >= 0 else n ^ (M64 >> 1)) & M64 for n in ints(data, count)]
    power = 10.0 ** data.byte()
    exceptions = [(data.v(), *struct.unpack("<Q", data.take(8))) for _ in range(data.v())]
    out = [to_bits(n / power) for n in ints(data, count)]
    at = 0
    for distance, bits in exceptions:
        at += distance
        out[at] = bits
    seen["float exceptions"] += len(exceptions)
    return out


def lz4(packed, length):
    out, data = bytearray(), Input(packed)

    def more(n):
        while n >= 15:
            byte = data.byte()
            n += byte
            if byte < 255:
                break
        return n

    while True:
        token = data.byte()
        out += data.take(more(token >> 4))
        if data.at == len(packed):
            assert len(out) == length
            return bytes(out)
        distance = struct.unpack("<H", data.take(2))[0]
        for _ in range(more(token & 15) + 4):
            out.append(out[-distance])


def texts(data, count):
    lengths = ints(data, count)
    kind = data.byte()
    seen[f"texts {('raw', 'lz4', 'zstd')[kind]}"] += 1
    packed = data.take(data.v())
    if kind == 1:
        packed = lz4(packed, sum(lengths))
    elif kind == 2:
        packed = zstandard.decompress(packed, max_output_size=sum(lengths))
    data = Input(packed)
    out = [data.take(n).decode() for n in lengths]
    data.end()
    return out


def strings(data, count):
    if count == 0:
        return []
    kind = data.byte()
    seen[f"strings {('plain', 'dictionary')[kind]}"] += 1
    if kind == 0:
        return texts(data, count)
    different = texts(data, data.v())
    return [different[code] for code in ints(data, count)]


def bits(data, count):
    stream = Bits(data.take((count + 7) // 8))
    return [bool(stream.get(1)) for _ in range(count)]


READ = [
    floats,
    ints,
    lambda data, count: [n & M64 for n in ints(data, count)],
    strings,
    bits,
]


def column(chunk, field_type):
    data = Input(chunk)
    rows = data.v()
    present = bits(data, rows) if data.byte() else [True] * rows
    seen["rows without a value"] += rows - sum(present)
    values = iter(READ[field_type](data, sum(present)))
    data.end()
    return [next(values) if p else None for p in present]


def row_keys(chunk):
    data = Input(chunk)
    rows, runs = data.v(), data.v()
    ids, lengths, starts = (ints(data, runs) for _ in range(3))
    steps = iter(ints(data, rows - runs))
    data.end()
    out = []
    for id_, length, time in zip(ids, lengths, starts):
        out.append((id_, time))
        for _ in range(length - 1):
            time += next(steps)
            out.append((id_, time))
    return out


def statistics(data):
    count, kind = data.v(), data.byte()
    if kind == 0:
        return count, None
    if kind == 1:
        return count, struct.unpack("<3d", data.take(24))
    least, most = (data.s(), data.s()) if kind == 2 else (data.v(), data.v())
    return count, (least, most, int.from_bytes(data.take(16), "little", signed=kind == 2))


def unframed(key, value, version=1):
    body, checksum = value[:-8], struct.unpack("<Q", value[-8:])[0]
    assert xxhash.xxh3_64_intdigest(body, seed=xxhash.xxh3_64_intdigest(key)) == checksum
    assert body[0] == version, f"version {body[0]}"
    return Input(body[1:])


def unzipped(data, length, compressed=None):
    packed = data.rest() if compressed is None else data.take(compressed)
    raw = zstandard.decompress(packed, max_output_size=length)
    assert len(raw) == length
    return Input(raw)


class Directory:
    def __init__(self, key, value):
        data = unframed(key, value)
        inline, length, compressed = data.byte(), data.v(), data.v()
        raw = unzipped(data, length, compressed)
        self.inline = data.rest() if inline else None
        self.stripe, blocks = raw.v(), raw.v()
        each = range(blocks)
        self.rows = [raw.v() for _ in each]
        for _ in range(4):  # first series, last series, min time, max time
            [raw.v() for _ in each]
        self.keys = [raw.v() for _ in each]
        self.fields = []
        for _ in range(raw.v()):
            self.fields.append((raw.v(), raw.byte(), [raw.v() for _ in each]))
        self.statistics = [[statistics(raw) if n else None for n in chunks] for _, _, chunks in self.fields]
        raw.end()


def read_measurement(values, pack, run, measurement):
    """Rows as (series, time), and columns by field."""
    prefix = struct.pack(">QII", pack, run, measurement)
    key = prefix + b"\xff\xff\xff\xff"
    directory = Directory(key, values.pop(key))
    inline = directory.inline and Input(directory.inline)

    def stored(stripe, part):
        key = prefix + struct.pack(">I", stripe) + part
        return unframed(key, values.pop(key))

    def chunks(part, lengths):
        for block, length in enumerate(lengths):
            if block % directory.stripe == 0:
                data = inline or stored(block // directory.stripe, part)
            yield data.take(length)
            if not inline and (block + 1) % directory.stripe == 0 or block + 1 == len(lengths):
                inline or data.end()

    rows = [row for chunk in chunks(b"\0", directory.keys) for row in row_keys(chunk)]
    columns = {}
    for (field, field_type, lengths), stats in zip(directory.fields, directory.statistics):
        out = columns.setdefault(field, [])
        encoded = chunks(b"\2" + struct.pack(">H", field) + b"\0", [max(n - 1, 0) for n in lengths])
        for chunk, n, rows_of_block, known in zip(encoded, lengths, directory.rows, stats):
            part = column(chunk, field_type) if n else [None] * rows_of_block
            out += part
            if known is None:
                continue
            present = [v for v in part if v is not None]
            assert known[0] == len(present)
            if known[1] and field_type in (1, 2):
                assert known[1] == (min(present), max(present), sum(present))
            elif known[1]:
                numbers = [from_bits(v) for v in present if not math.isnan(from_bits(v))]
                assert known[1][:2] == (min(numbers), max(numbers))
                assert math.isclose(known[1][2], math.fsum(numbers), rel_tol=1e-9)
    if inline:
        inline.end()
    # Steps are drawn in block.md, too; here only their frames are checked.
    for key in [key for key in values if key.startswith(prefix)]:
        unframed(key, values.pop(key))
        seen["values of steps"] += 1
    return rows, columns


def random(i):
    z = ((i + 1) * 0x9E3779B97F4A7C15) & M64
    return ((z ^ z >> 29) * 0xBF58476D1CE4E5B9 & M64) >> 13


def expected(series, per_series, columns_max):
    """What src/store/golden_test.rs writes."""
    count = series * per_series
    sometimes = lambda f: lambda i: f(i) if i % 5 else None
    columns = [
        lambda i: 42,
        lambda i: random(i) % 1000,
        lambda i: i * 10 + random(i) % 3,
        sometimes(lambda i: (200, 404, 1 << 40)[random(i) % 3]),
        lambda i: signed(random(i) << random(i + 7) % 40),
        lambda i: to_bits(random(i) % 100_000 / 100.0),
        sometimes(lambda i: 0x7FF8000000000000 if i % 97 == 1 else to_bits(i % 50 / 8.0)),
        lambda i: to_bits(math.sqrt(random(i))),
        lambda i: 1 << 63 if i % 2 == 0 else (random(i) << 11 | i) & M64,
        lambda i: M64 - random(i) % 7,
        lambda i: f"state {random(i) % 4}",
        lambda i: f"request {random(i)} took {i} us",
        lambda i: to_bits(2.5),
        lambda i: random(i) % 3 == 0,
    ]
    begin = 1_793_491_200_000_000_000
    rows = [(i // per_series, begin + i % per_series * 10_000_000_000) for i in range(count)]
    return rows, {field: [f(i) for i in range(count)] for field, f in enumerate(columns[:columns_max])}


KINDS = """exceptions, float exceptions, floats constant, floats decimal, floats ordered, floats raw, ints constant, ints frames,
ints scaled, ints steps, ints symbols, rows without a value, strings dictionary, strings plain, symbols even, symbols exact,
symbols near, texts lz4, texts raw, texts zstd, values of steps"""


def main(path):
    data, parts = Input(open(path, "rb").read()), []
    while data.at < len(data.data):
        parts.append(data.take(struct.unpack("<I", data.take(4))[0]))
    values = dict(zip(parts[::2], parts[1::2]))
    pack = 3
    header_key = struct.pack(">QI", pack, 0xFFFFFFFF)
    data = unframed(header_key, values.pop(header_key))
    raw = unzipped(data, data.v())
    assert [raw.v() for _ in range(3)] == [7, 99, 5], "commit, watermark, next pack"
    assert [(raw.v(), raw.v()) for _ in range(raw.v())] == [(1, 2)], "replaced runs"
    for run in range(raw.v()):
        raw.s()
        assert (raw.byte(), raw.v(), raw.v(), raw.byte()) == (run, 98, 97, run), "level, sequence, deletes, encoding"
        raw.s(), raw.s(), raw.v(), raw.v()
        measurement, found = 0, {}
        for _ in range(raw.v()):
            measurement += raw.v()
            _last_series, dropped, rows = raw.v(), raw.v(), raw.v()
            assert dropped == 4
            found[measurement] = read_measurement(values, pack, run, measurement)
            assert len(found[measurement][0]) == rows
        assert found == {1: expected(3, 3000, 3), 5: expected(3, 400, 14), 9: expected(2, 3, 14)}
    raw.end()
    assert not values, "every value was read"
    missing = {kind.strip() for kind in KINDS.replace("\n", " ").split(",")} - {k for k, n in seen.items() if n}
    assert not missing, f"the file has no {missing}"
    print(", ".join(f"{kind} {n}" for kind, n in sorted(seen.items())))


main(sys.argv[1])
