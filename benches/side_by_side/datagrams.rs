//! Line protocol over UDP on loopback at a rate: what was sent, what is stored, and where the rest went.
//!
//! `cargo bench --profile profiling --bench datagrams -- --kymo BINARY [--seconds 20] [--lines 10] FILE POINTS_A_SECOND ..`
//!
//! One socket sends packets of `--lines` lines of FILE (of gen.rs), each with a time of its own so that every point is another one, paced by the
//! millisecond. The server runs with its default settings (but for its ports). "kernel" are drops told by /proc/net/udp, "told" those in
//! /metrics: both must be the same, and stored, dropped and told must add up to what was sent.

mod server;

use server::Server;
use std::net::UdpSocket;
use std::thread::sleep;
use std::time::{Duration, Instant};

const HTTP: &str = "127.0.0.1:18472";
const UDP: &str = "127.0.0.1:18473";

struct Settings {
    kymo: String,
    folder: String,
    seconds: u64,
    lines: usize,
    file: String,
    rates: Vec<u64>,
}

impl Settings {
    fn read() -> Option<Self> {
        let mut out = Self {
            kymo: "target/profiling/kymo".into(),
            folder: std::env::temp_dir().join("kymo-datagrams").display().to_string(),
            seconds: 20,
            lines: 10,
            file: String::new(),
            rates: Vec::new(),
        };
        let mut words = std::env::args().skip(1).filter(|word| word != "--bench");
        while let Some(word) = words.next() {
            let mut value = || words.next().unwrap_or_else(|| panic!("a value after {word}"));
            match word.as_str() {
                "--kymo" => out.kymo = value(),
                "--folder" => out.folder = value(),
                "--seconds" => out.seconds = value().parse().expect("a number of seconds"),
                "--lines" => out.lines = value().parse().expect("a number of lines"),
                _ if out.file.is_empty() => out.file = word,
                rate => out.rates.push(rate.parse().expect("points a second")),
            }
        }
        // As a test target there is nothing to measure.
        (!out.rates.is_empty()).then_some(out)
    }
}

/// A figure of /metrics of the way `line-udp`.
fn figure(metrics: &str, name: &str) -> u64 {
    let line = metrics
        .lines()
        .find(|line| line.starts_with(name) && line.contains("line-udp"))
        .unwrap_or_else(|| panic!("{name} is in /metrics"));
    let value = line
        .rsplit(' ')
        .next()
        .and_then(|value| value.parse::<f64>().ok());
    value.expect("a number") as u64
}

/// What the kernel dropped of the server's socket.
fn kernel_drops() -> u64 {
    let table = std::fs::read_to_string("/proc/net/udp").expect("Linux");
    let port: u16 = UDP
        .rsplit(':')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let address = format!("0100007F:{port:04X}");
    let ours = table.lines().filter(|line| line.contains(&address));
    ours.filter_map(|line| line.split_ascii_whitespace().next_back()?.parse::<u64>().ok())
        .sum()
}

fn rows(server: &Server) -> u64 {
    let query = "/query?db=metrics&q=SELECT+count(*)+FROM+%2F.*%2F";
    let (_, answer) = server.get(query).expect("an answer");
    let json: serde_json::Value = serde_json::from_str(&answer).expect("JSON");
    let none = Vec::new();
    let series = json["results"][0]["series"].as_array().unwrap_or(&none);
    series
        .iter()
        .map(|series| {
            let row = series["values"][0].as_array().expect("a row");
            row.iter()
                .filter_map(serde_json::Value::as_u64)
                .max()
                .unwrap_or(0)
        })
        .sum()
}

fn measure(settings: &Settings, lines: &[&str], rate: u64) {
    let command = format!(
        "{} serve --data-dir {{data}} --http {HTTP} --line-udp {UDP} --line-tcp off --statsd off --host-metrics off",
        settings.kymo
    );
    let server = Server::start(&command, &settings.folder, HTTP, "/ping");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bound");
    socket.connect(UDP).expect("connected");
    let per_second = rate / settings.lines as u64;
    let total = per_second * settings.seconds;
    let (begin, before) = (Instant::now(), server.cpu());
    let (mut sent, mut bytes, mut at, mut packet) = (0u64, 0u64, 0, String::new());
    while sent < total {
        let due = (begin.elapsed().as_micros() as u64 * per_second / 1_000_000).min(total);
        while sent < due {
            packet.clear();
            for _ in 0..settings.lines {
                // Each round through the file gets its own seconds.
                let round = at / lines.len();
                let line = lines[at % lines.len()];
                let (rest, time) = line.rsplit_once(' ').expect("a time");
                let time: u64 = time.parse().expect("a time");
                packet.push_str(rest);
                packet.push_str(&format!(" {}\n", time + round as u64 * 1_000_000));
                at += 1;
            }
            socket.send(packet.as_bytes()).expect("loopback takes it");
            bytes += packet.len() as u64;
            sent += 1;
        }
        sleep(Duration::from_micros(500));
    }
    let wall = begin.elapsed().as_secs_f64();
    // What waits inside the server is stored; the kernel is asked every five seconds.
    sleep(Duration::from_secs(8));
    let cpu = server.cpu() - before;
    let (_, metrics) = server.get("/metrics").expect("an answer");
    let (kernel, told) = (
        kernel_drops(),
        figure(&metrics, "kymo_ingest_kernel_dropped_total"),
    );
    let ours = figure(&metrics, "kymo_ingest_datagrams_dropped_total");
    let overloaded = figure(&metrics, "kymo_ingest_overloaded_total");
    let stored = rows(&server);
    let points = sent * settings.lines as u64;
    let missing = points - stored;
    let accounted = (kernel + ours) * settings.lines as u64 + overloaded;
    println!(
        "{rate} points/s asked, {:.0} sent ({:.0} MB/s): {points} sent, {stored} stored, {missing} missing; datagrams dropped: kernel {kernel} (told {told}), server {ours}; rows thrown away {overloaded}; {}; server {:.2} cores, {:.2} M points a CPU s, {} MB, receive buffer {}",
        points as f64 / wall,
        bytes as f64 / wall / 1e6,
        if missing == accounted && kernel == told {
            "adds up"
        } else {
            "DOES NOT ADD UP"
        },
        cpu / wall,
        stored as f64 / cpu / 1e6,
        server.peak_memory(),
        figure(&metrics, "kymo_ingest_receive_buffer_bytes"),
    );
}

fn main() {
    let Some(settings) = Settings::read() else { return };
    let text = std::fs::read_to_string(&settings.file).expect("a file of lines");
    // Lines that stay in the cache: the sender is not what is measured.
    let lines: Vec<&str> = text.lines().take(200_000).collect();
    for &rate in &settings.rates {
        measure(&settings, &lines, rate);
    }
}
