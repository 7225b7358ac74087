//! The codecs of a chunk against pco, zstd and a Gorilla-style XOR coder, on the kinds of data that metrics are made of.
//!
//! `cargo bench --bench codecs` prints bits a value, and measures encoding and decoding (throughput: bytes of the numbers
//! themselves, 8 each). `cargo bench --bench codecs -- --table [PART OF A KIND]` prints the table of
//! docs/adr/0011, quicker and coarser.

use criterion::{BenchmarkId, Criterion, Throughput};
use kymo::block::bytes::Input;
use kymo::block::{Level, floats, ints};
use std::hint::black_box;
use std::time::Instant;

/// Rows of a block.
const ROWS: usize = 8192;
/// Chunks of each kind.
const CHUNKS: usize = 16;

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        let (a, b) = (self.unit().max(1e-300), self.unit());
        (-2.0 * a.ln()).sqrt() * (std::f64::consts::TAU * b).cos()
    }
}

/// Numbers of one kind.
enum Data {
    Ints(Vec<i64>),
    Floats(Vec<f64>),
}

/// Rows of series end to end: `series` says how many rows each has; `next` walks one.
fn series<T>(
    random: &mut Random,
    rows: usize,
    mut begin: impl FnMut(&mut Random) -> T,
    next: impl Fn(&mut T, &mut Random) -> f64,
) -> Vec<f64> {
    let mut out = Vec::with_capacity(ROWS * CHUNKS);
    while out.len() < ROWS * CHUNKS {
        let mut state = begin(random);
        out.extend((0..rows).map(|_| next(&mut state, random)));
    }
    out.truncate(ROWS * CHUNKS);
    out
}

fn integers(values: Vec<f64>) -> Data {
    Data::Ints(values.into_iter().map(|v| v as i64).collect())
}

fn kinds() -> Vec<(&'static str, Data)> {
    let mut r = Random(42);
    let hundredths = |v: f64| (v * 100.0).round() / 100.0;
    let second = 1e9;
    let start = 1_793_491_200i64;
    let walk = |x: &mut f64, r: &mut Random| {
        *x = (*x + r.normal()).clamp(0.0, 100.0);
        *x
    };
    let times = |r: &mut Random, step: &dyn Fn(&mut Random) -> i64| {
        let mut out = Vec::with_capacity(ROWS * CHUNKS);
        while out.len() < ROWS * CHUNKS {
            let mut t = start * 1_000_000_000;
            for _ in 0..2160 {
                out.push(t);
                t += step(r);
            }
        }
        out.truncate(ROWS * CHUNKS);
        Data::Ints(out)
    };
    vec![
        (
            "percent, integer walk",
            integers(series(&mut r, 2160, |r| r.unit() * 100.0, walk)),
        ),
        (
            "percent, independent",
            integers(series(&mut r, 2160, |_| 0.0, |_, r| r.unit() * 100.0)),
        ),
        (
            "steady counter",
            integers(series(
                &mut r,
                2160,
                |r| r.unit() * 1000.0,
                |x, r| {
                    *x += 10.0 + (r.next() % 5) as f64;
                    *x
                },
            )),
        ),
        (
            "bursty counter",
            integers(series(
                &mut r,
                2160,
                |r| r.unit() * 1000.0,
                |x, r| {
                    if r.next().is_multiple_of(4) {
                        *x += (r.next() % 10_000) as f64;
                    }
                    *x
                },
            )),
        ),
        (
            "random 64 bit",
            Data::Ints((0..ROWS * CHUNKS).map(|_| r.next() as i64).collect()),
        ),
        (
            "three levels",
            Data::Ints(
                (0..ROWS * CHUNKS)
                    .map(|_| [0, 4096, 1_000_000][(r.next() % 3) as usize] + (r.next() % 4) as i64)
                    .collect(),
            ),
        ),
        ("times, every 10 s", times(&mut r, &|_| (10.0 * second) as i64)),
        (
            "times, ms jitter",
            times(&mut r, &|r| 10_000_000_000 + (r.next() % 11) as i64 * 1_000_000),
        ),
        (
            "times, ns jitter",
            times(&mut r, &|r| (10.0 * second + r.normal() * 1e6) as i64),
        ),
        (
            "times, gaps",
            times(&mut r, &|r| {
                if r.next().is_multiple_of(50) {
                    600_000_000_000
                } else {
                    10_000_000_000
                }
            }),
        ),
        (
            "two decimals, walk",
            Data::Floats(series(
                &mut r,
                2160,
                |r| r.unit() * 1000.0,
                |x, r| {
                    *x = hundredths((*x + r.normal()).max(0.0));
                    *x
                },
            )),
        ),
        (
            "two decimals, 10 rows a series",
            Data::Floats(series(
                &mut r,
                10,
                |r| r.unit() * 1000.0,
                |x, r| {
                    *x = hundredths((*x + r.normal()).max(0.0));
                    *x
                },
            )),
        ),
        (
            "noise, full mantissa",
            Data::Floats(series(&mut r, 2160, |_| 0.0, |_, r| r.unit() * 100.0)),
        ),
        (
            "walk, full mantissa",
            Data::Floats(series(&mut r, 2160, |r| r.unit() * 100.0, walk)),
        ),
        (
            "noise, from 32 bit",
            Data::Floats(series(
                &mut r,
                2160,
                |_| 0.0,
                |_, r| f64::from((r.unit() * 100.0) as f32),
            )),
        ),
        (
            "bytes, multiples of a page",
            Data::Floats(series(
                &mut r,
                2160,
                |r| r.unit() * 1e6,
                |x, r| {
                    *x = (*x + r.normal() * 50.0).max(0.0);
                    x.floor() * 4096.0
                },
            )),
        ),
        ("constant", Data::Floats(vec![67_108_864.0; ROWS * CHUNKS])),
    ]
}

/// A codec over whole columns, chunk by chunk.
struct Codec {
    name: &'static str,
    encode: fn(&Data) -> Option<Vec<Vec<u8>>>,
    decode: fn(&[Vec<u8>], &Data) -> u64,
}

fn ours(data: &Data, level: Level) -> Vec<Vec<u8>> {
    let mut out = Vec::with_capacity(CHUNKS);
    match data {
        Data::Ints(v) => v.chunks(ROWS).for_each(|c| {
            let mut bytes = Vec::new();
            ints::encode(c, level, &mut bytes);
            out.push(bytes);
        }),
        Data::Floats(v) => v.chunks(ROWS).for_each(|c| {
            let mut bytes = Vec::new();
            floats::encode(c, level, &mut bytes);
            out.push(bytes);
        }),
    }
    out
}

fn ours_decode(chunks: &[Vec<u8>], data: &Data) -> u64 {
    let mut sum = 0u64;
    for chunk in chunks {
        let mut input = Input(chunk);
        sum ^= match data {
            Data::Ints(_) => ints::decode(&mut input, ROWS).expect("just encoded")[ROWS - 1] as u64,
            Data::Floats(_) => floats::decode(&mut input, ROWS).expect("just encoded")[ROWS - 1].to_bits(),
        };
    }
    sum
}

fn pco_encode(data: &Data, level: usize) -> Vec<Vec<u8>> {
    let config = pco::ChunkConfig::default().with_compression_level(level);
    match data {
        Data::Ints(v) => v
            .chunks(ROWS)
            .map(|c| pco::standalone::simple_compress(c, &config).expect("numbers"))
            .collect(),
        Data::Floats(v) => v
            .chunks(ROWS)
            .map(|c| pco::standalone::simple_compress(c, &config).expect("numbers"))
            .collect(),
    }
}

fn pco_decode(chunks: &[Vec<u8>], data: &Data) -> u64 {
    let mut sum = 0;
    for chunk in chunks {
        sum ^= match data {
            Data::Ints(_) => {
                pco::standalone::simple_decompress::<i64>(chunk).expect("just encoded")[ROWS - 1] as u64
            }
            Data::Floats(_) => {
                pco::standalone::simple_decompress::<f64>(chunk).expect("just encoded")[ROWS - 1].to_bits()
            }
        };
    }
    sum
}

fn words(data: &Data) -> Vec<u64> {
    match data {
        Data::Ints(v) => v.iter().map(|&v| v as u64).collect(),
        Data::Floats(v) => v.iter().map(|v| v.to_bits()).collect(),
    }
}

/// Bytes of the differences of neighbours (integers) or of their XOR (floats), byte position by byte position.
fn zstd_encode(data: &Data, level: i32) -> Vec<Vec<u8>> {
    let xor = matches!(data, Data::Floats(_));
    let shuffled = words(data);
    let chunk = |c: &[u64]| {
        let mut last = 0u64;
        let steps: Vec<u64> = c
            .iter()
            .map(|&w| {
                let step = if xor { w ^ last } else { w.wrapping_sub(last) };
                last = w;
                step
            })
            .collect();
        let bytes: Vec<u8> = (0..8)
            .flat_map(|b| steps.iter().map(move |s| (s >> (8 * b)) as u8))
            .collect();
        zstd::bulk::compress(&bytes, level).expect("bytes")
    };
    shuffled.chunks(ROWS).map(chunk).collect()
}

fn zstd_decode(chunks: &[Vec<u8>], data: &Data) -> u64 {
    let xor = matches!(data, Data::Floats(_));
    let mut sum = 0;
    for chunk in chunks {
        let bytes = zstd::bulk::decompress(chunk, ROWS * 8).expect("just encoded");
        let mut steps = vec![0u64; ROWS];
        for (b, part) in bytes.chunks(ROWS).enumerate() {
            steps
                .iter_mut()
                .zip(part)
                .for_each(|(s, &byte)| *s |= u64::from(byte) << (8 * b));
        }
        let mut last = 0u64;
        for s in &mut steps {
            last = if xor { *s ^ last } else { s.wrapping_add(last) };
            *s = last;
        }
        sum ^= steps[ROWS - 1];
    }
    sum
}

/// Gorilla (Pelkonen et al. 2015): XOR for floats, delta of delta for integers, bit by bit.
mod gorilla {
    #[derive(Default)]
    pub struct Bits {
        bytes: Vec<u8>,
        filled: usize,
    }

    impl Bits {
        fn put(&mut self, value: u64, width: usize) {
            for i in (0..width).rev() {
                if self.filled.is_multiple_of(8) {
                    self.bytes.push(0);
                }
                let last = self.bytes.len() - 1;
                self.bytes[last] |= ((value >> i & 1) as u8) << (7 - self.filled % 8);
                self.filled += 1;
            }
        }
    }

    struct Reader<'a>(&'a [u8], usize);

    impl Reader<'_> {
        fn get(&mut self, width: usize) -> u64 {
            let mut value = 0;
            for _ in 0..width {
                value = value << 1 | u64::from(self.0[self.1 / 8] >> (7 - self.1 % 8) & 1);
                self.1 += 1;
            }
            value
        }
    }

    pub fn encode_floats(words: &[u64]) -> Vec<u8> {
        let mut out = Bits::default();
        let (mut last, mut lead, mut trail) = (0u64, 65, 0);
        for &word in words {
            let xor = word ^ last;
            last = word;
            if xor == 0 {
                out.put(0, 1);
                continue;
            }
            out.put(1, 1);
            let (l, t) = (
                (xor.leading_zeros() as usize).min(31),
                xor.trailing_zeros() as usize,
            );
            if lead <= l && trail <= t {
                out.put(0, 1);
            } else {
                (lead, trail) = (l, t);
                out.put(1, 1);
                out.put(l as u64, 5);
                out.put((64 - l - t) as u64 % 64, 6);
            }
            out.put(xor >> trail, 64 - lead - trail);
        }
        out.bytes
    }

    pub fn decode_floats(bytes: &[u8], count: usize) -> Vec<u64> {
        let mut input = Reader(bytes, 0);
        let (mut last, mut lead, mut len) = (0u64, 0, 0);
        (0..count)
            .map(|_| {
                if input.get(1) == 1 {
                    if input.get(1) == 1 {
                        lead = input.get(5) as usize;
                        len = input.get(6) as usize;
                        len = if len == 0 { 64 } else { len };
                    }
                    last ^= input.get(len) << (64 - lead - len);
                }
                last
            })
            .collect()
    }

    const CLASSES: [(u64, usize, usize); 4] =
        [(0b10, 2, 7), (0b110, 3, 9), (0b1110, 4, 12), (0b11110, 5, 32)];

    pub fn encode_ints(words: &[u64]) -> Vec<u8> {
        let mut out = Bits::default();
        let (mut last, mut delta) = (0u64, 0u64);
        for &word in words {
            let step = word.wrapping_sub(last);
            let second = step.wrapping_sub(delta) as i64;
            (last, delta) = (word, step);
            if second == 0 {
                out.put(0, 1);
                continue;
            }
            match CLASSES
                .iter()
                .find(|(_, _, bits)| (-(1i64 << (bits - 1))..1 << (bits - 1)).contains(&second))
            {
                Some(&(prefix, len, bits)) => {
                    out.put(prefix, len);
                    out.put(second as u64 & ((1 << bits) - 1), bits);
                }
                None => {
                    out.put(0b11111, 5);
                    out.put(second as u64, 64);
                }
            }
        }
        out.bytes
    }

    pub fn decode_ints(bytes: &[u8], count: usize) -> Vec<u64> {
        let mut input = Reader(bytes, 0);
        let (mut last, mut delta) = (0u64, 0u64);
        (0..count)
            .map(|_| {
                let ones = (0..5).take_while(|_| input.get(1) == 1).count();
                let second = match ones {
                    0 => 0,
                    5 => input.get(64),
                    n => {
                        let bits = CLASSES[n - 1].2;
                        let value = input.get(bits);
                        ((value << (64 - bits)) as i64 >> (64 - bits)) as u64
                    }
                };
                delta = delta.wrapping_add(second);
                last = last.wrapping_add(delta);
                last
            })
            .collect()
    }
}

fn gorilla_encode(data: &Data) -> Option<Vec<Vec<u8>>> {
    let words = words(data);
    let encode = match data {
        Data::Ints(_) => gorilla::encode_ints,
        Data::Floats(_) => gorilla::encode_floats,
    };
    Some(words.chunks(ROWS).map(encode).collect())
}

fn gorilla_decode(chunks: &[Vec<u8>], data: &Data) -> u64 {
    let decode = match data {
        Data::Ints(_) => gorilla::decode_ints,
        Data::Floats(_) => gorilla::decode_floats,
    };
    chunks.iter().fold(0, |sum, c| sum ^ decode(c, ROWS)[ROWS - 1])
}

const CODECS: [Codec; 6] = [
    Codec {
        name: "kymo fast",
        encode: |d| Some(ours(d, Level::Fast)),
        decode: ours_decode,
    },
    Codec {
        name: "kymo small",
        encode: |d| Some(ours(d, Level::Small)),
        decode: ours_decode,
    },
    Codec {
        name: "pco 4",
        encode: |d| Some(pco_encode(d, 4)),
        decode: pco_decode,
    },
    Codec {
        name: "pco 8",
        encode: |d| Some(pco_encode(d, 8)),
        decode: pco_decode,
    },
    Codec {
        name: "zstd 1 of steps",
        encode: |d| Some(zstd_encode(d, 1)),
        decode: zstd_decode,
    },
    Codec {
        name: "gorilla",
        encode: gorilla_encode,
        decode: gorilla_decode,
    },
];

fn bits_a_value(chunks: &[Vec<u8>]) -> f64 {
    chunks.iter().map(Vec::len).sum::<usize>() as f64 * 8.0 / (ROWS * CHUNKS) as f64
}

/// Gigabytes of numbers a second: the best of some runs.
fn speed(mut run: impl FnMut()) -> f64 {
    let mut best = f64::INFINITY;
    let began = Instant::now();
    for i in 0.. {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        if i >= 2 && began.elapsed().as_millis() > 150 {
            break;
        }
    }
    (ROWS * CHUNKS * 8) as f64 / best / 1e9
}

fn table(wanted: Option<&str>) {
    println!("bits a value, GB/s encoded, GB/s decoded\n");
    print!("| |");
    CODECS.iter().for_each(|c| print!(" {} |", c.name));
    println!("\n|---|{}", "---|".repeat(CODECS.len()));
    let is_wanted = |kind: &str| wanted.is_none_or(|part| kind.contains(part));
    for (kind, data) in kinds().into_iter().filter(|(kind, _)| is_wanted(kind)) {
        print!("| {kind} |");
        let last = *words(&data).last().expect("numbers");
        for codec in &CODECS {
            let Some(chunks) = (codec.encode)(&data) else {
                print!(" - |");
                continue;
            };
            let expected = words(&data).chunks(ROWS).fold(0, |sum, c| sum ^ c[ROWS - 1]);
            assert_eq!(
                (codec.decode)(&chunks, &data),
                expected,
                "{kind}, {}: the last is {last}",
                codec.name
            );
            let encode = speed(|| drop(black_box((codec.encode)(&data))));
            let decode = speed(|| {
                black_box((codec.decode)(&chunks, &data));
            });
            print!(" {:.2}, {encode:.2}, {decode:.2} |", bits_a_value(&chunks));
        }
        println!();
    }
}

fn measure(c: &mut Criterion) {
    for (kind, data) in kinds() {
        let mut group = c.benchmark_group(kind);
        group.throughput(Throughput::Bytes((ROWS * CHUNKS * 8) as u64));
        for codec in &CODECS {
            let Some(chunks) = (codec.encode)(&data) else {
                continue;
            };
            println!(
                "{kind}, {}: {:.2} bits a value",
                codec.name,
                bits_a_value(&chunks)
            );
            group.bench_function(BenchmarkId::new("encode", codec.name), |b| {
                b.iter(|| black_box((codec.encode)(&data)))
            });
            group.bench_function(BenchmarkId::new("decode", codec.name), |b| {
                b.iter(|| black_box((codec.decode)(&chunks, &data)))
            });
        }
        group.finish();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|a| a == "--table") {
        let wanted = arguments.get(at + 1).filter(|a| !a.starts_with('-'));
        return table(wanted.map(String::as_str));
    }
    // As a test target there is nothing to measure.
    if !arguments.iter().any(|a| a == "--bench") {
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    measure(&mut criterion);
    criterion.final_summary();
}
