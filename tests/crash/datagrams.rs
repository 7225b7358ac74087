//! Senders that cannot hear a refusal: while the disk has no room, or the journal stands still, what they send waits in bounded
//! buffers and is stored afterwards; what does not fit is counted, to the last datagram. Each test has a form that runs anywhere, on a
//! disk that is counted or stopped below libc ([`crate::disk`]), and one on a file system that is mounted for it, where that is allowed.

use crate::disk::Disk;
use crate::full::{FLAGS, Mount, Small};
use crate::overload::dropped_by_the_network;
use crate::support::{Server, free_address, get, post, run};
use std::io::Write;
use std::net::{TcpStream, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(180);

/// A figure of the way in at this address.
pub fn figure(server: &Server, name: &str, from: &str) -> u64 {
    let (_, metrics) = get(&server.url("/metrics")).expect("an answer");
    let line = format!("kymo_ingest_{name}{{from=\"{from}\"}} ");
    let found = metrics.lines().find_map(|text| text.strip_prefix(&line));
    found
        .unwrap_or_else(|| panic!("{line} is in {metrics}"))
        .parse()
        .expect("a number")
}

pub fn wait(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Sends one point a datagram, each another one, and counts them.
struct Sender {
    socket: UdpSocket,
    to: String,
    sent: u64,
    /// The server's name for this way in.
    from: String,
}

impl Sender {
    fn new(to: &str, from: &str) -> Self {
        Self {
            socket: UdpSocket::bind("127.0.0.1:0").expect("a socket"),
            to: to.to_string(),
            sent: 0,
            from: from.to_string(),
        }
    }

    /// In steps, none larger than the kernel's buffer: all of it reaches the server.
    fn send(&mut self, server: &Server, count: u64, mut text: impl FnMut() -> String) {
        for step in 1..=count {
            self.sent += 1;
            let line = format!("m v={}i,t=\"{}\" {}", self.sent, text(), self.sent);
            self.socket.send_to(line.as_bytes(), &self.to).expect("sent");
            if step % 20 == 0 || step == count {
                wait("received", || {
                    figure(server, "requests_total", &self.from) == self.sent
                });
            }
        }
    }
}

fn stored(server: &Server) -> u64 {
    let rows = server.rows("d", "SELECT count(v) FROM m");
    rows.first().and_then(|row| row[1].as_u64()).unwrap_or(0)
}

#[test]
fn datagrams_wait_while_the_disk_is_at_its_floor() {
    if let Some(disk) = Small::counted(80 << 20) {
        come_to_the_floor(&disk);
    }
}

#[test]
fn datagrams_wait_while_a_tmpfs_is_at_its_floor() {
    if let Some(disk) = Small::mounted(80 << 20) {
        come_to_the_floor(&disk);
    }
}

fn come_to_the_floor(disk: &Small) {
    let (udp, tcp) = (free_address(), free_address());
    let address = format!("line-protocol+udp://{udp}?database=d&buffer=65536");
    let connections = format!("line-protocol+tcp://{tcp}?database=d");
    let more = ["--listen", address.as_str(), "--listen", &connections];
    let server = disk.start(&[&FLAGS[..], &more].concat());
    server.create("d");
    let mut sender = Sender::new(&udp, &format!("line-protocol+udp://{udp}"));
    let from = sender.from.clone();
    sender.send(&server, 10, String::new);
    wait("stored", || stored(&server) == 10);

    // Below the floor, which is a quarter of the disk.
    let fill = || {
        disk.fill_up_to(10 << 20);
        // The server looks at the disk when somebody writes.
        wait("low", || {
            let probe = post(&server.url("/write?db=d"), b"probe v=1 1").expect("an answer");
            probe.0 == 503
        });
    };
    fill();
    sender.send(&server, 100, String::new);
    let mut connection = TcpStream::connect(&tcp).expect("it listens");
    connection.write_all(b"tcp v=1i 1\n").expect("it reads");
    wait("tried again", || figure(&server, "retries_total", &from) > 0);
    assert_eq!(stored(&server), 10, "nothing is taken below the floor");
    disk.unfill();
    wait("all stored", || stored(&server) == 110);
    server.wait_rows("d", "SELECT v FROM tcp", |rows| rows.len() == 1);
    assert_eq!(figure(&server, "datagrams_dropped_total", &from), 0);
    assert_eq!(figure(&server, "overloaded_total", &from), 0);

    // More than may wait: what fits is stored, the rest is counted.
    fill();
    sender.send(&server, 500, || "x".repeat(1000));
    wait("something waits", || figure(&server, "waiting_bytes", &from) > 0);
    let dropped = figure(&server, "datagrams_dropped_total", &from);
    assert!(
        (1..500).contains(&dropped),
        "{dropped} of 500 KB do not fit into 64 KiB and a batch"
    );
    disk.unfill();
    wait("what fits is stored", || stored(&server) == sender.sent - dropped);
    assert_eq!(figure(&server, "datagrams_dropped_total", &from), dropped);
    assert_eq!(figure(&server, "overloaded_total", &from), 0);
    assert_eq!(server.terminate(), Some(0));
}

/// A server that stands still reads nothing, and the kernel throws away what it has no room for: that is counted as well, to the last datagram.
#[test]
fn what_the_kernel_drops_is_counted() {
    // Far more than any buffer that a server may ask for.
    const DATAGRAMS: u64 = 4000;
    let folder = tempfile::tempdir().expect("a folder");
    let udp = free_address();
    let from = format!("line-protocol+udp://{udp}");
    let address = format!("{from}?database=d");
    let server = Server::start(folder.path(), &["--host-metrics", "off", "--listen", &address]);
    let pid = rustix::process::Pid::from_raw(server.pid() as i32).expect("a pid");
    let signal = |signal| rustix::process::kill_process(pid, signal).expect("it runs");
    let lost_before = dropped_by_the_network();
    signal(rustix::process::Signal::STOP);
    wait("it stands still", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", server.pid())).expect("it is there");
        stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" T"))
    });
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let comment = [b"#".repeat(60_000), b"\n".to_vec()].concat();
    for _ in 0..DATAGRAMS {
        assert!(
            socket
                .send_to(&comment, &udp)
                .is_ok_and(|sent| sent == comment.len())
        );
    }
    let lost = dropped_by_the_network() - lost_before;
    signal(rustix::process::Signal::CONT);
    wait("each is received or dropped", || {
        let [received, dropped] =
            ["requests", "kernel_dropped"].map(|what| figure(&server, &format!("{what}_total"), &from));
        assert!(received + dropped <= DATAGRAMS, "{received} and {dropped}");
        dropped > 0 && received + dropped + lost >= DATAGRAMS
    });
    assert_eq!(server.terminate(), Some(0));
}

/// A disk that can be made to stand still.
enum Stopping {
    /// ext4 of its own; unmounted before its image is removed.
    Ext4(
        Mount,
        #[expect(dead_code, reason = "it is removed when this goes")] tempfile::TempDir,
    ),
    BelowLibc(Disk),
}

impl Stopping {
    /// `None`, with a notice, where nobody may mount one.
    fn ext4() -> Option<Self> {
        let scratch = tempfile::tempdir().expect("a folder");
        let (image, folder) = (scratch.path().join("image"), scratch.path().join("disk"));
        std::fs::create_dir(&folder).expect("a folder");
        let file = std::fs::File::create(&image).expect("a file");
        file.set_len(512 << 20).expect("a sparse file");
        let quiet = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
        let mounted = quiet(Command::new("mkfs.ext4").arg("-q").arg(&image))
            && quiet(Command::new("mount").args(["-o", "loop"]).args([&image, &folder]));
        if mounted {
            return Some(Self::Ext4(Mount(folder), scratch));
        }
        eprintln!(
            "LEFT OUT: the form of this test that needs the right to mount an image of ext4; the other one runs"
        );
        None
    }

    fn start(&self, flags: &[&str]) -> Server {
        match self {
            Self::Ext4(mount, _) => Server::start(&mount.0.join("data"), flags),
            Self::BelowLibc(disk) => Server::launch(&disk.server(), &disk.path().join("data"), flags),
        }
    }

    fn freeze(&self) -> Frozen<'_> {
        match self {
            Self::Ext4(mount, _) => drop(run(Command::new("fsfreeze").arg("-f").arg(&mount.0))),
            Self::BelowLibc(disk) => disk.freeze(true),
        }
        Frozen(self)
    }
}

/// Takes up writing again when it goes, whatever happens.
struct Frozen<'a>(&'a Stopping);

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        match self.0 {
            Stopping::Ext4(mount, _) => drop(Command::new("fsfreeze").arg("-u").arg(&mount.0).output()),
            Stopping::BelowLibc(disk) => disk.freeze(false),
        }
    }
}

#[test]
fn datagrams_wait_while_the_queue_is_full() {
    if let Some(disk) = Disk::new() {
        fill_the_queue(&Stopping::BelowLibc(disk));
    }
}

#[test]
fn datagrams_wait_while_the_queue_is_full_on_ext4() {
    if let Some(disk) = Stopping::ext4() {
        fill_the_queue(&disk);
    }
}

fn fill_the_queue(disk: &Stopping) {
    let udp = free_address();
    let address = format!("line-protocol+udp://{udp}?database=d&buffer=4194304");
    let flags = ["--host-metrics", "off", "--disk-floor", "0", "--listen", &address];
    let server = disk.start(&flags);
    server.create("d");
    let mut sender = Sender::new(&udp, &format!("line-protocol+udp://{udp}"));
    let from = sender.from.clone();
    // The journal cannot write: its queue of 64 MiB fills, then the buffer of 4 MiB.
    let frozen = disk.freeze();
    let mut random = crate::Random(7);
    // What packs badly, and is not made anew for each.
    let byte = |_| char::from(b'a' + (random.next() % 26) as u8);
    let noise: String = (0..4 << 20).map(byte).collect();
    let mut place = 0;
    let mut some = || {
        place = (place + 1_234_567) % (noise.len() - 60_000);
        noise[place..place + 60_000].to_string()
    };
    while figure(&server, "datagrams_dropped_total", &from) == 0 {
        assert!(sender.sent < 4_000, "240 MB fit nowhere");
        sender.send(&server, 40, &mut some);
        // So that it is the queue that is full, and not the decoding that is slow.
        wait("decoded, or the queue is full", || {
            figure(&server, "waiting_bytes", &from) == 0 || figure(&server, "retries_total", &from) > 0
        });
    }
    assert!(figure(&server, "retries_total", &from) > 0, "the queue was full");
    assert_eq!(stored(&server), 0, "nothing can be written");
    let dropped = figure(&server, "datagrams_dropped_total", &from);
    drop(frozen);
    wait("what fits is stored", || stored(&server) == sender.sent - dropped);
    assert_eq!(figure(&server, "datagrams_dropped_total", &from), dropped);
    assert_eq!(figure(&server, "overloaded_total", &from), 0);
    assert_eq!(server.terminate(), Some(0));
}
