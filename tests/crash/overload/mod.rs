//! More than the server can take, on every way in at once, by clients of which some are slow and some mean: memory stays inside the
//! limit (of a cgroup where one can be made, else of `--memory`), what was acknowledged stays, before and after `kill -9`, health answers
//! all along, and when the load ends everybody is served as before. `KYMO_OVERLOAD_SECONDS` makes it longer, `KYMO_OVERLOAD_MEMORY` says
//! how many MiB there are.

mod acknowledged;
mod clients;
mod datagrams;
mod mean;

use crate::cgroup::Cgroup;
use crate::rounds;
use crate::start::figure;
use crate::support::{KYMO, Server, free_address, get};
pub use acknowledged::samples;
use acknowledged::{Acknowledged, WAYS, Way};
use clients::{Clients, Tally};
use datagrams::Datagrams;
pub use datagrams::dropped_by_the_network;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How long anything may take that must happen: the machine may be slow and busy.
const PATIENCE: Duration = Duration::from_secs(300);
/// Small requests of each way that is acknowledged, and large ones: the latter together more than bodies may hold.
const WRITERS: usize = 4;
const BULK: usize = 40;
const LARGE: usize = 4;
/// Connections that send lines as fast as they are taken.
const LINES: usize = 16;
/// Parts of what the server holds that are empty when nobody sends.
const HELD: [&str; 3] = ["body_bytes", "received_bytes", "waiting_bytes"];

/// The most memory a process has had resident.
fn peak_resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.expect("a figure") << 10
}

fn within(server: &Server, memory: u64, when: &str) {
    let peak = peak_resident(server);
    eprintln!("{when}: {} MiB resident at most, of {}", peak >> 20, memory >> 20);
    assert!(
        peak <= memory,
        "{when}: {} MiB resident, {} MiB may be",
        peak >> 20,
        memory >> 20
    );
}

fn wait_for(server: &Server, what: &str, done: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let (_, metrics) = get(&server.url("/metrics")).unwrap_or_default();
        if !metrics.is_empty() && done(&metrics) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{what}: {metrics}\n{}",
            server.output()
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Everybody is served as before: each way in takes a point, and a large body is taken.
fn serves_everybody(server: &Server, graphite: &str, when: &str) {
    let deadline = Instant::now() + PATIENCE;
    let mut waits = WAYS
        .into_iter()
        .map(|way| (format!("{way:?}"), 0))
        .collect::<Vec<_>>();
    waits.push(("large".into(), 0));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let large = clients::lines(0, 3 << 20);
    let after = |name: &str| format!("SELECT * FROM \"after_{when}_{name}\"");
    loop {
        for (way, status) in WAYS.into_iter().zip(&mut waits) {
            status.1 = way.send(server, &format!("after_{when}_{way:?}"), 1, b"");
        }
        waits[WAYS.len()].1 = Way::Lines.send(server, &format!("after_{when}_large"), 1, &large);
        let line = format!("after_{when}_tcp v=1 1\n");
        let sent = [
            clients::send_once(&server.line_tcp, line.as_bytes()),
            clients::send_once(&server.statsd, format!("after_{when}_statsd:1|c\n").as_bytes()),
            clients::send_once(
                graphite,
                format!("after_{when}_graphite 1 1700000000\n").as_bytes(),
            ),
            socket
                .send_to(format!("after_{when}_udp v=1 1").as_bytes(), &server.line_udp)
                .is_ok(),
        ];
        let visible = ["tcp", "statsd", "graphite", "udp"].map(|name| {
            let answer = server.query("d", &after(name));
            answer["results"][0]["series"][0]["values"].is_array()
        });
        if waits.iter().all(|(_, status)| *status == 204) && visible.iter().all(|visible| *visible) {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{when}: {waits:?}, sent {sent:?}, visible {visible:?}: {}",
            server.output()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn overload_costs_nothing_that_was_acknowledged_and_ends_with_the_load() {
    let memory = rounds("KYMO_OVERLOAD_MEMORY", 512) << 20;
    let least = Duration::from_secs(rounds("KYMO_OVERLOAD_SECONDS", 10));
    let folder = tempfile::tempdir().expect("a folder");
    let group = Cgroup::new("overload", memory);
    if group.is_none() {
        eprintln!("no memory cgroup can be made here: memory is measured against --memory");
    }
    let command = group
        .as_ref()
        .map_or_else(|| vec![KYMO.to_string()], |group| group.command(&[KYMO]));
    let (graphite, collectd) = (free_address(), free_address());
    let ways = [
        format!("graphite+tcp://{graphite}?database=d"),
        format!("collectd+udp://{collectd}?database=d"),
    ];
    let bytes = memory.to_string();
    let mut flags = vec!["--listen", &ways[0], "--listen", &ways[1]];
    for way in ["--line-tcp-database", "--line-udp-database", "--statsd-database"] {
        flags.extend([way, "d"]);
    }
    if group.is_none() {
        flags.extend(["--memory", &bytes]);
    }
    let server = Server::launch(&command, folder.path(), &flags);
    server.create("d");
    let sockets = clients::subscribe(&server);
    let (stop, tally, acknowledged) = (AtomicBool::new(false), Tally::default(), Acknowledged::default());
    let clients = Clients {
        server: &server,
        stop: &stop,
        tally: &tally,
        acknowledged: &acknowledged,
    };
    let fillers: Vec<Vec<u8>> = (0..8).map(|i| clients::lines(i, 3 << 20)).collect();
    let (json, samples) = (
        acknowledged::json_filler(1 << 20),
        acknowledged::samples_filler(20_000),
    );
    let bomb = mean::bomb();
    let endless_line = [b'y'; 64 << 10];
    let floods: Vec<(&str, Vec<u8>)> = (0..LINES)
        .map(|i| {
            (
                server.line_tcp.as_str(),
                format!("t,c={i} v=1i\n").repeat(500).into_bytes(),
            )
        })
        .chain([
            (server.line_tcp.as_str(), endless_line.to_vec()),
            (server.statsd.as_str(), b"hits:1|c\ntook:12|ms\n".repeat(500)),
            (graphite.as_str(), b"a.b.c 1 1700000000\n".repeat(500)),
        ])
        .collect();
    // Lines that take far longer to read than to send: they are dropped for certain, on any machine.
    let datagrams = [
        Datagrams::new(
            "line-udp",
            &server.line_udp,
            b"u,s=a v=1\nu,s=b v=2\n".repeat(400),
        ),
        Datagrams::new(
            "statsd",
            &server.statsd,
            b"load:0.5|g\ntook:12|ms\nnew.5:1|c\n".into(),
        ),
        Datagrams::new(&format!("collectd+udp://{collectd}"), &collectd, vec![7; 1000]),
    ];
    let lost_before = dropped_by_the_network();
    let began = Instant::now();
    std::thread::scope(|scope| {
        let (clients, graphite, sockets, bomb) = (&clients, &graphite, &sockets, &bomb);
        let (json, samples) = (&json, &samples);
        // Whatever fails in here, the load ends.
        let ended = EndOnDrop(clients.stop);
        for way in WAYS {
            (0..WRITERS).for_each(|_| go(scope, clients.stop, move || clients.write(way, b"")));
        }
        for filler in (0..BULK).map(|i| &fillers[i % fillers.len()]) {
            go(scope, clients.stop, move || clients.write(Way::Lines, filler));
        }
        for _ in 0..LARGE {
            go(scope, clients.stop, move || clients.write(Way::Json, json));
            go(scope, clients.stop, move || {
                clients.write(Way::RemoteWrite, samples)
            });
        }
        for (address, piece) in &floods {
            go(scope, clients.stop, move || clients.flood(address, piece));
        }
        for way in &datagrams {
            go(scope, clients.stop, move || way.send(clients));
        }
        (0..2).for_each(|_| go(scope, clients.stop, move || clients.bombs(bomb)));
        (0..2).for_each(|_| go(scope, clients.stop, move || clients.reconnect(graphite)));
        (0..4).for_each(|_| go(scope, clients.stop, move || clients.queries()));
        go(scope, clients.stop, move || clients.slowloris());
        go(scope, clients.stop, move || clients.health(PATIENCE));
        go(scope, clients.stop, move || clients.read(sockets));
        let counted = |counter: &AtomicU64| counter.load(Relaxed) > 0;
        // It is overloaded on each way, and goes on. What has not happened yet:
        let missing = || {
            let mut missing: Vec<String> = Vec::new();
            let few = WAYS.into_iter().filter(|way| acknowledged.of(*way) <= 20);
            missing.extend(few.map(|way| format!("{way:?} acknowledged 20 times")));
            let never = tally.all().into_iter().filter(|(_, counter)| !counted(counter));
            missing.extend(never.map(|(what, _)| what.to_string()));
            if datagrams::dropped(clients.server) == 0 {
                missing.push("datagrams dropped".into());
            }
            missing
        };
        loop {
            let missing = missing();
            if began.elapsed() >= least && missing.is_empty() {
                break;
            }
            assert!(
                began.elapsed() < least + PATIENCE,
                "this never happened: {missing:?}; what did: {}\n{}",
                tally.told(clients),
                clients.server.output()
            );
            assert!(clients.go_on(), "a part of the load failed");
            std::thread::sleep(Duration::from_millis(100));
        }
        drop(ended);
    });
    eprintln!("{} s: {}", began.elapsed().as_secs(), tally.told(&clients));
    drop(sockets);
    // statsd counts what comes over connections, too.
    for way in [&datagrams[0], &datagrams[2]] {
        way.are_accounted_for(&server, dropped_by_the_network() - lost_before);
    }
    // Recovery: what waits is done, what was held is given back, and everybody is served again.
    wait_for(&server, "the load ended, and it does not recover", |metrics| {
        figure(metrics, "kymo_journal_queue_batches") == 0
            && figure(metrics, "kymo_live_subscriptions") == 0
            && HELD
                .into_iter()
                .all(|name| figure(metrics, &format!("kymo_budget_used{{name=\"{name}\"}}")) == 0)
    });
    serves_everybody(&server, &graphite, "load");
    assert_eq!(
        tally.bombs_taken.load(Relaxed),
        0,
        "endless bodies are never taken"
    );
    acknowledged.are_there(&server, "after the load");
    if let Some(charged) = group.as_ref().and_then(Cgroup::peak_bytes) {
        eprintln!(
            "charged to the cgroup, pages of files among it: {} MiB at most",
            charged >> 20
        );
    }
    within(&server, memory, "under load");
    server.kill();
    // The same limit holds for the start after it.
    let server = Server::launch(&command, folder.path(), &flags);
    acknowledged.are_there(&server, "after kill -9");
    serves_everybody(&server, &graphite, "restart");
    within(&server, memory, "after kill -9");
    server.kill();
}

struct EndOnDrop<'a>(&'a AtomicBool);

impl Drop for EndOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Does something meanwhile; when it fails the load ends.
fn go<'scope>(
    scope: &'scope std::thread::Scope<'scope, '_>,
    stop: &'scope AtomicBool,
    work: impl FnOnce() + Send + 'scope,
) {
    scope.spawn(move || {
        let _failed = EndOnPanic(stop);
        work();
    });
}

struct EndOnPanic<'a>(&'a AtomicBool);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(true, Relaxed);
        }
    }
}
