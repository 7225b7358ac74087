//! JSON and remote write side by side with VictoriaMetrics: rows per CPU second of the server, on the same points.
//!
//! `cargo bench --profile profiling --bench formats -- --kymo BINARY --vm BINARY [--rounds 3] [--only json] FILE ROWS ..`
//!
//! FILE is a file of gen.rs, ROWS how many of its lines. JSON is sent 5,000 lines a request, each server's in its own shape (VictoriaMetrics' groups
//! the samples of a series, as its exports do); remote write 2,000 values a request, which is Prometheus' default, the very same bytes for both. Four
//! connections. The servers run by turns, each round on an empty folder; printed is every round and the medians. "Settled": sealing and
//! merging, or flushing, counted in.

mod bodies;
mod server;

use server::Server;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const CONNECTIONS: usize = 4;
const JSON_LINES: usize = 5000;
const REMOTE_WRITE_VALUES: usize = 2000;
const ADDRESS: &str = "127.0.0.1:18471";

#[derive(Clone, Copy, PartialEq)]
enum Peer {
    Kymo,
    VictoriaMetrics,
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Json,
    RemoteWrite,
}

struct Settings {
    kymo: String,
    vm: String,
    folder: String,
    rounds: usize,
    kinds: Vec<Kind>,
    peers: Vec<Peer>,
    files: Vec<(String, usize)>,
}

/// One round's figures, in rows per CPU second and per second.
struct Round {
    cpu: f64,
    settled: f64,
    wall: f64,
    memory: u64,
}

impl Settings {
    fn read() -> Option<Self> {
        let mut out = Self {
            kymo: "target/profiling/kymo".into(),
            vm: "victoria-metrics".into(),
            folder: std::env::temp_dir().join("kymo-formats").display().to_string(),
            rounds: 3,
            kinds: vec![Kind::Json, Kind::RemoteWrite],
            peers: vec![Peer::Kymo, Peer::VictoriaMetrics],
            files: Vec::new(),
        };
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("a value after {word}"));
            match word.as_str() {
                "--kymo" => out.kymo = value(),
                "--vm" => out.vm = value(),
                "--folder" => out.folder = value(),
                "--rounds" => out.rounds = value().parse().expect("a number of rounds"),
                "--only" => match value().as_str() {
                    "json" => out.kinds = vec![Kind::Json],
                    "remote-write" => out.kinds = vec![Kind::RemoteWrite],
                    "kymo" => out.peers = vec![Peer::Kymo],
                    other => panic!("--only {other}: use json, remote-write or kymo"),
                },
                _ => {
                    let rows = value().parse().expect("a number of rows");
                    out.files.push((word, rows));
                }
            }
        }
        // As a test target there is nothing to measure.
        (!out.files.is_empty()).then_some(out)
    }

    fn start(&self, peer: Peer) -> Server {
        let (command, ready) = match peer {
            Peer::Kymo => (
                format!(
                    "{} serve --data-dir {{data}} --http {ADDRESS} --line-tcp off --line-udp off --statsd off --host-metrics off",
                    self.kymo
                ),
                "/ping",
            ),
            Peer::VictoriaMetrics => (
                format!(
                    "{} -storageDataPath={{data}} -httpListenAddr={ADDRESS} -retentionPeriod=100y -loggerLevel=ERROR",
                    self.vm
                ),
                "/health",
            ),
        };
        let server = Server::start(&command, &self.folder, ADDRESS, ready);
        if peer == Peer::Kymo {
            let made = server.connect().expect("it listens").request(
                "POST",
                "/query?q=CREATE+DATABASE+bench",
                "",
                b"",
            );
            assert_eq!(made.expect("an answer").0, 200);
        }
        server
    }
}

fn path(peer: Peer, kind: Kind) -> (&'static str, &'static str) {
    match (peer, kind) {
        (Peer::Kymo, Kind::Json) => ("/write?db=bench&format=json", ""),
        (Peer::VictoriaMetrics, Kind::Json) => ("/api/v1/import", ""),
        (Peer::Kymo, Kind::RemoteWrite) => ("/api/v1/write?db=bench", REMOTE_WRITE_HEADERS),
        (Peer::VictoriaMetrics, Kind::RemoteWrite) => ("/api/v1/write", REMOTE_WRITE_HEADERS),
    }
}

const REMOTE_WRITE_HEADERS: &str = "Content-Encoding: snappy\r\nContent-Type: application/x-protobuf\r\nX-Prometheus-Remote-Write-Version: 0.1.0\r\n";

fn encode(peer: Peer, kind: Kind, lines: &[&str]) -> Vec<Vec<u8>> {
    let values_a_line = lines[0]
        .split(' ')
        .nth(1)
        .map_or(1, |fields| fields.split(',').count());
    match kind {
        Kind::Json => {
            let encode = if peer == Peer::Kymo {
                bodies::kymo_json
            } else {
                bodies::vm_json
            };
            lines.chunks(JSON_LINES).map(encode).collect()
        }
        Kind::RemoteWrite => {
            let chunks = lines.chunks(REMOTE_WRITE_VALUES / values_a_line);
            chunks.map(bodies::remote_write).collect()
        }
    }
}

fn measure(settings: &Settings, peer: Peer, kind: Kind, bodies: &[Vec<u8>], rows: u64) -> Round {
    let server = settings.start(peer);
    let (path, headers) = path(peer, kind);
    let next = Mutex::new(bodies.iter());
    let (begin, before) = (Instant::now(), server.cpu());
    std::thread::scope(|scope| {
        for _ in 0..CONNECTIONS {
            scope.spawn(|| {
                let mut connection = server.connect().expect("it listens");
                loop {
                    let body = next.lock().expect("no panic").next();
                    let Some(body) = body else { return };
                    let (status, answer) = connection
                        .request("POST", path, headers, body)
                        .expect("an answer");
                    assert!(status < 300, "{status} {answer}");
                }
            });
        }
    });
    let (wall, cpu) = (begin.elapsed().as_secs_f64(), server.cpu() - before);
    if peer == Peer::VictoriaMetrics {
        let _ = server.get("/internal/force_flush");
    }
    settle(&server);
    let settled = server.cpu() - before;
    check(&server, peer, rows);
    let rows = rows as f64;
    Round {
        cpu: rows / cpu,
        settled: rows / settled,
        wall: rows / wall,
        memory: server.peak_memory(),
    }
}

/// Waits until the server uses next to no CPU, two minutes at most.
fn settle(server: &Server) {
    let (mut quiet, mut last) = (0, server.cpu());
    for _ in 0..120 {
        std::thread::sleep(Duration::from_secs(1));
        let now = server.cpu();
        quiet = if now - last < 0.1 { quiet + 1 } else { 0 };
        last = now;
        if quiet == 4 {
            return;
        }
    }
}

/// Everything that was sent must be there.
fn check(server: &Server, peer: Peer, rows: u64) {
    let (path, names) = match peer {
        Peer::Kymo => ("/query?db=bench&q=SELECT+count(*)+FROM+%2F.*%2F", "values"),
        Peer::VictoriaMetrics => (
            "/api/v1/export?match=%7B__name__!=%22%22%7D&reduce_mem_usage=1",
            "values",
        ),
    };
    let (_, answer) = server.get(path).expect("an answer");
    let stored: u64 = match peer {
        Peer::Kymo => {
            let json: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
            let series = json["results"][0]["series"].as_array().expect("series").clone();
            let counts = series
                .iter()
                .flat_map(|s| s[names][0].as_array().expect("a row").clone());
            // The first column is the time, 0 in text.
            counts.filter_map(|count| count.as_u64()).sum()
        }
        Peer::VictoriaMetrics => {
            let of = |line: &str| {
                let list = line.split_once("\"timestamps\":[").expect("timestamps").1;
                list.split(',').count() as u64
            };
            answer.lines().map(of).sum()
        }
    };
    assert_eq!(stored, rows, "values stored");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let Some(settings) = Settings::read() else { return };
    for (file, count) in &settings.files {
        let text = std::fs::read_to_string(file).expect("a file of lines");
        let lines: Vec<&str> = text.lines().take(*count).collect();
        let values = lines[0]
            .split(' ')
            .nth(1)
            .map_or(1, |fields| fields.split(',').count());
        let values = (lines.len() * values) as u64;
        for &kind in &settings.kinds {
            let name = if kind == Kind::Json {
                "json"
            } else {
                "remote write"
            };
            let mut medians = Vec::new();
            let bodies: Vec<_> = settings
                .peers
                .iter()
                .map(|&peer| encode(peer, kind, &lines))
                .collect();
            let mut rounds: Vec<Vec<Round>> = settings.peers.iter().map(|_| Vec::new()).collect();
            for _ in 0..settings.rounds {
                for (at, &peer) in settings.peers.iter().enumerate() {
                    let round = measure(&settings, peer, kind, &bodies[at], values);
                    println!(
                        "{file} {name} {}: {:.0} k values per CPU s, {:.0} k settled, {:.0} k/s wall, {} MB",
                        if peer == Peer::Kymo { "kymo" } else { "vm" },
                        round.cpu / 1e3,
                        round.settled / 1e3,
                        round.wall / 1e3,
                        round.memory
                    );
                    rounds[at].push(round);
                }
            }
            for (at, rounds) in rounds.iter().enumerate() {
                let bytes: usize = bodies[at].iter().map(Vec::len).sum();
                let cpu = median(rounds.iter().map(|r| r.cpu).collect());
                let settled = median(rounds.iter().map(|r| r.settled).collect());
                println!(
                    "{file} {name} {}: median {:.0} k values per CPU s, {:.0} k settled; {} requests, {} MB, {} lines, {values} values",
                    if settings.peers[at] == Peer::Kymo {
                        "kymo"
                    } else {
                        "vm"
                    },
                    cpu / 1e3,
                    settled / 1e3,
                    bodies[at].len(),
                    bytes / 1_000_000,
                    lines.len(),
                );
                medians.push((cpu, settled));
            }
            if let [kymo, vm] = medians[..] {
                println!(
                    "{file} {name}: {:.2} times, settled {:.2} times",
                    kymo.0 / vm.0,
                    kymo.1 / vm.1
                );
            }
        }
    }
}
