//! A disk that fails under the store while the journal can still be written: seals fail, so what is durable stays in memory, which is
//! bounded. Writers are refused clearly, at once, and lose nothing; reads, DELETE and `/health` go on; senders that cannot hear wait in
//! bounded buffers; when seals work again everything does. On a disk below libc ([`crate::disk`]).

use crate::datagrams::{figure, wait};
use crate::disk::Disk;
use crate::full::{FLAGS, ROWS, lines, resume, rows};
use crate::support::{KYMO, Server, free_address, get, run};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::Duration;

const EIO: i32 = rustix::io::Errno::IO.raw_os_error();
const ENOSPC: i32 = rustix::io::Errno::NOSPC.raw_os_error();
const DATAGRAMS: u64 = 3;
/// Without an answer.
const PATIENCE: Duration = Duration::from_secs(300);

struct Failing {
    disk: Disk,
    server: Server,
    acknowledged: u64,
    /// The next request.
    request: u64,
    udp: String,
    tcp: String,
}

impl Failing {
    /// A server whose every seal fails, and which refuses points for it. `None`, loudly, without a C compiler.
    fn begin(errno: i32) -> Option<Self> {
        let disk = Disk::new()?.failing_below("data/store");
        let (udp, tcp) = (free_address(), free_address());
        let server = Self::start(&disk, &udp, &tcp);
        server.create("d");
        let mut this = Self {
            disk,
            server,
            acknowledged: 0,
            request: 0,
            udp,
            tcp,
        };
        // Something is sealed before.
        while this.metric("kymo_seals_total") == 0 {
            this.write();
        }
        this.disk.fail(1..=u64::MAX, errno);
        let why = "unsealed points fill their memory (head_bytes) and cannot be sealed: ";
        while !this.write().is_some_and(|refused| refused.contains(why)) {
            assert!(this.request < 10_000, "1 GB find room in 2 MiB");
        }
        assert!(this.metric("kymo_seal_failures_total") > 0);
        Some(this)
    }

    fn start(disk: &Disk, udp: &str, tcp: &str) -> Server {
        let udp = format!("line-protocol+udp://{udp}?database=d&buffer=65536");
        let tcp = format!("line-protocol+tcp://{tcp}?database=d");
        let flags = ["--disk-floor", "0", "--listen", &udp, "--listen", &tcp];
        let data = disk.path().join("data");
        Server::launch(&disk.server(), &data, &[&FLAGS[..], &flags].concat())
    }

    /// Another request: what was said, if it was refused.
    fn write(&mut self) -> Option<String> {
        let answer = ureq::post(self.server.url("/write?db=d"))
            .config()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .send(lines(self.request).as_bytes());
        let mut answer = answer.expect("an answer");
        self.request += 1;
        if answer.status() == 204 {
            self.acknowledged += ROWS;
            return None;
        }
        let after = answer.headers().get("retry-after").cloned();
        let said = answer.body_mut().read_to_string().expect("a text");
        assert_eq!(answer.status(), 503, "{said}");
        assert_eq!(after.expect("it says when"), "1", "{said}");
        Some(said)
    }

    fn metric(&self, name: &str) -> u64 {
        let (_, metrics) = get(&self.server.url("/metrics")).expect("an answer");
        let value = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.expect("it is there").parse().expect("a number")
    }

    fn count(&self, measurement: &str) -> u64 {
        let found = self
            .server
            .rows("d", &format!("SELECT count(v) FROM {measurement}"));
        found.first().and_then(|row| row[1].as_u64()).unwrap_or(0)
    }

    /// What can go on does.
    fn goes_on(&mut self) {
        assert!(self.write().is_some(), "and again");
        assert_eq!(rows(&self.server), self.acknowledged, "reads go on");
        assert_eq!(get(&self.server.url("/health")).expect("an answer").0, 200);
        // The last row of the first request: it is sealed. The last that was acknowledged is not.
        let answer = self.server.query("d", "DELETE FROM m WHERE time = 99");
        assert!(answer["results"][0].get("error").is_none(), "{answer}");
        self.acknowledged -= 1;
        assert_eq!(rows(&self.server), self.acknowledged, "so does DELETE");
    }

    /// The process ends, one way or another: its folder is sound, and the next one has all that was acknowledged.
    fn ends(self, end: impl FnOnce(Server)) {
        end(self.server);
        self.disk.heal();
        let data = self.disk.path().join("data");
        let verify = || drop(run(Command::new(KYMO).arg("verify").arg("--data-dir").arg(&data)));
        verify();
        let server = Self::start(&self.disk, &self.udp, &self.tcp);
        assert_eq!(rows(&server), self.acknowledged, "after a start");
        assert_eq!(server.terminate(), Some(0));
        verify();
    }
}

#[test]
fn while_seals_fail_points_are_refused_and_then_taken_again() {
    let Some(mut failing) = Failing::begin(EIO) else {
        return;
    };
    failing.goes_on();
    // Those that hear nothing, or only that nobody reads.
    let ways = [("udp", &failing.udp), ("tcp", &failing.tcp)];
    let ways = ways.map(|(kind, address)| format!("line-protocol+{kind}://{address}"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    for i in 0..DATAGRAMS {
        let line = format!("datagram v=1i {i}");
        socket.send_to(line.as_bytes(), &failing.udp).expect("sent");
    }
    let mut connection = TcpStream::connect(&failing.tcp).expect("it listens");
    connection.write_all(b"connection v=1i 1\n").expect("it reads");
    for way in &ways {
        wait("tried again", || {
            figure(&failing.server, "retries_total", way) > 0
        });
    }
    assert_eq!((failing.count("datagram"), failing.count("connection")), (0, 0));
    failing.disk.heal();
    resume(&failing.server, failing.request);
    failing.acknowledged += ROWS;
    assert_eq!(rows(&failing.server), failing.acknowledged);
    wait("all stored", || {
        failing.count("datagram") == DATAGRAMS && failing.count("connection") == 1
    });
    for way in &ways {
        assert_eq!(figure(&failing.server, "overloaded_total", way), 0, "{way}");
    }
    assert_eq!(figure(&failing.server, "datagrams_dropped_total", &ways[0]), 0);
    failing.ends(|server| assert_eq!(server.terminate(), Some(0)));
}

#[test]
fn what_could_not_be_sealed_survives_a_kill() {
    let Some(mut failing) = Failing::begin(ENOSPC) else {
        return;
    };
    failing.goes_on();
    failing.ends(Server::kill);
}
