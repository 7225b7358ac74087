//! Bounds of memory, each by itself: who is refused, with which words, and that it is taken again afterwards.

use crate::support::{KYMO, Server, get, post};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

const MIB: usize = 1 << 20;
/// How long anything may take that must happen: the machine may be slow and busy.
const PATIENCE: Duration = Duration::from_secs(300);

fn figure(server: &Server, name: &str) -> u64 {
    let (_, metrics) = get(&server.url("/metrics")).expect("an answer");
    let line = metrics
        .lines()
        .find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
        .unwrap_or_else(|| panic!("{name}: {metrics}"))
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Lines of so many bytes in all.
fn lines(bytes: usize) -> Vec<u8> {
    b"m,a=b v=1\n".repeat(bytes / 10)
}

/// A body of which only the first bytes have come, and are held.
struct Begun {
    stream: TcpStream,
    rest: Vec<u8>,
}

impl Begun {
    fn new(server: &Server, body: &[u8], sent: usize) -> Self {
        let held = figure(server, "kymo_body_bytes");
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let bytes = body.len();
        write!(
            stream,
            "POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n"
        )
        .expect("sent");
        stream.write_all(&body[..sent]).expect("sent");
        wait_for("what has come is held", || {
            figure(server, "kymo_body_bytes") >= held + sent as u64
        });
        Self {
            stream,
            rest: body[sent..].to_vec(),
        }
    }

    /// Sends the rest: the status.
    fn end(mut self) -> String {
        self.stream.write_all(&self.rest).expect("sent");
        let mut answer = [0; 12];
        self.stream.read_exact(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    }
}

/// Asks until there is an answer: a client whose body is not read to its end may find its connection reset.
fn is_refused(server: &Server, body: &[u8], words: &str) {
    let mut answer = None;
    wait_for("an answer", || {
        answer = post(&server.url("/write?db=d"), body).ok();
        answer.is_some()
    });
    let (status, text) = answer.unwrap_or_default();
    assert_eq!(status, 503, "{text}");
    assert!(text.contains(words), "{text}");
}

fn is_taken(server: &Server, body: &[u8]) {
    let (status, text) = post(&server.url("/write?db=d"), body).expect("an answer");
    assert_eq!(status, 204, "{text}");
}

/// What connections hold takes all of the memory: bodies are refused but for one, and taken again when it was given back.
#[test]
fn while_memory_is_short_one_body_is_taken_and_afterwards_all() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = [
        "--memory",
        "64M",
        "--received-bytes",
        "1G",
        "--host-metrics",
        "off",
    ];
    let server = Server::start(folder.path(), &flags);
    server.create("d");
    let own = || figure(&server, "kymo_memory_own_bytes");
    let memory = figure(&server, "kymo_memory_max_bytes");
    assert_eq!(memory, 64 << 20);
    // Lines without an end, until three quarters are taken.
    let mut unfinished = Vec::new();
    wait_for("unfinished lines take the memory", || {
        if own() < memory / 4 * 3 {
            let mut stream = TcpStream::connect(&server.line_tcp).expect("it listens");
            stream.write_all(&vec![b'x'; 900 << 10]).expect("sent");
            unfinished.push(stream);
            return false;
        }
        true
    });
    let first = Begun::new(&server, &lines(12 * MIB), 10 * MIB);
    let refused = figure(&server, "kymo_memory_refused_total");
    is_refused(&server, &lines(MIB), "in memory (memory)");
    is_refused(&server, b"m v=1", "in memory (memory)");
    assert!(figure(&server, "kymo_memory_refused_total") >= refused + 2);
    drop(unfinished);
    wait_for("the memory is given back", || own() < memory / 8 * 5);
    is_taken(&server, &lines(MIB));
    is_taken(&server, b"m v=1");
    assert_eq!(first.end(), "204");
    wait_for("nothing is held", || figure(&server, "kymo_body_bytes") == 0);
}

#[test]
fn bodies_hold_no_more_together_than_they_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &["--body-bytes", "20M", "--host-metrics", "off"]);
    server.create("d");
    let first = Begun::new(&server, &lines(10 * MIB), 9 * MIB);
    let second = Begun::new(&server, &lines(9 * MIB), 8 * MIB);
    is_refused(&server, &lines(5 * MIB), "body_bytes");
    is_taken(&server, b"m v=1");
    assert_eq!(second.end(), "204");
    is_taken(&server, &lines(5 * MIB));
    assert_eq!(first.end(), "204");
}

/// Reading a body only to refuse it costs as much as taking it.
#[test]
fn a_body_that_finds_no_room_is_refused_before_it_comes() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(folder.path(), &["--body-bytes", "12M", "--host-metrics", "off"]);
    server.create("d");
    let first = Begun::new(&server, &lines(10 * MIB), 9 * MIB);
    let ask = |bytes: usize| {
        let mut stream = TcpStream::connect(&server.http).expect("it listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        let head = format!("POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: {bytes}\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("sent");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).expect("an answer");
        String::from_utf8_lossy(&answer[9..]).into_owned()
    };
    assert_eq!(ask(5 * MIB), "503");
    assert_eq!(ask(13 * MIB), "413", "there never is room for it");
    is_taken(&server, b"m v=1");
    assert_eq!(first.end(), "204");
    is_taken(&server, &lines(5 * MIB));
}

#[test]
fn connections_hold_no_more_together_than_they_may() {
    let folder = tempfile::tempdir().expect("a folder");
    // Room for 16 with the smallest buffers.
    let server = Server::start(
        folder.path(),
        &["--received-bytes", "256K", "--host-metrics", "off"],
    );
    let open: Vec<TcpStream> = (0..40)
        .map(|_| TcpStream::connect(&server.line_tcp).expect("it listens"))
        .collect();
    let refused = "kymo_ingest_connections_refused_total{from=\"line-tcp\"}";
    wait_for("those beyond the bound are closed", || {
        figure(&server, refused) == 24
    });
    wait_for("the others are open", || {
        figure(&server, "kymo_ingest_connections{from=\"line-tcp\"}") == 16
    });
    drop(open);
    wait_for("they are gone", || {
        figure(&server, "kymo_ingest_connections{from=\"line-tcp\"}") == 0
    });
    let mut stream = TcpStream::connect(&server.line_tcp).expect("it listens");
    stream.write_all(b"after v=1 1\n").expect("sent");
    wait_for("others are taken again", || {
        !server.query("metrics", "SELECT v FROM after")["results"][0]["series"].is_null()
    });
}

#[test]
fn too_little_address_space_is_told_and_not_stumbled_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "ulimit -v 524288 && exec \"$0\" --data-dir \"$1\" --http 127.0.0.1:0";
    let mut command = Command::new("sh");
    command.args(["-c", script, KYMO]).arg(folder.path());
    let output = command.output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("address space is limited to 512 MiB (ulimit -v), 1024 are needed"),
        "{said}"
    );
}

/// Datagrams that nobody has read yet are the kernel's, which counts them to the server's cgroup.
#[test]
fn receive_buffers_of_udp_follow_the_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    let memory = 256 * MIB as u64;
    let listen: Vec<String> = (0..6)
        .map(|at| format!("graphite+udp://127.0.0.1:0?readers=2&database=d{at}"))
        .collect();
    let mut flags = vec!["--memory", "256MiB", "--host-metrics", "off"];
    listen
        .iter()
        .for_each(|address| flags.extend(["--listen", address]));
    let server = Server::start(folder.path(), &flags);
    let (_, metrics) = get(&server.url("/metrics")).expect("an answer");
    let given: Vec<u64> = metrics
        .lines()
        .filter(|line| line.starts_with("kymo_ingest_receive_buffer_bytes{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse().ok())
        .collect();
    let all: u64 = given.iter().sum();
    assert!((1..=memory / 16).contains(&all), "{given:?} {metrics}");
}
