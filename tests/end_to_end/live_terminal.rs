//! `kymo live` on a terminal (a pseudo terminal) draws a table in place; into a pipe it prints a message a line.

use crate::support::{KYMO, PATIENCE, Server};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Instant;

/// A terminal of 60 columns and 12 rows: what a program is given, and what it wrote.
fn terminal() -> (File, Receiver<Vec<u8>>) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a pseudo terminal");
    grantpt(&master).expect("granted");
    unlockpt(&master).expect("unlocked");
    let path = ptsname(&master, Vec::new()).expect("a name");
    let path = path.to_str().expect("ASCII").to_string();
    let slave = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .expect("it opens");
    let size = rustix::termios::Winsize {
        ws_row: 12,
        ws_col: 60,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    rustix::termios::tcsetwinsize(&slave, size).expect("it has a size");
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut master = File::from(master);
        let mut piece = [0; 4096];
        // An error: the other side is closed.
        while let Ok(read) = master.read(&mut piece) {
            if read == 0 || sender.send(piece[..read].to_vec()).is_err() {
                return;
            }
        }
    });
    (slave, receiver)
}

fn live(server: &Server, stdout: Stdio) -> Child {
    Command::new(KYMO)
        .args(["live", "--url", &server.url(""), "--database", "d"])
        .arg("SELECT sum(v) FROM m GROUP BY time(1d), host")
        .stdout(stdout)
        .spawn()
        .expect("it starts")
}

#[test]
fn a_table_is_drawn_in_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.write("d", "m,host=a v=41");
    let (slave, output) = terminal();
    let mut child = live(&server, slave.into());
    let mut seen = String::new();
    let mut until = |what: &str, from: usize| -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(at) = seen[from..].find(what) {
                return from + at;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            let piece = output.recv_timeout(left);
            let piece = piece.unwrap_or_else(|_| panic!("no {what:?} after {from} of {seen:?}"));
            seen.push_str(&String::from_utf8_lossy(&piece));
        }
    };
    let first = until("m,host=a", 0);
    let value = until("41", first);
    server.write("d", "m,host=a v=1\nm,host=b v=7");
    // The cursor goes back up, over the lines that were drawn, and the table is there again with what is new.
    let up = until("\x1b[2A", value);
    until("42", up);
    until("m,host=b", up);
    child.kill().expect("it runs");
    child.wait().expect("a child");
}

#[test]
fn a_pipe_gets_a_message_a_line() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    server.write("d", "m,host=a v=41");
    let mut child = live(&server, Stdio::piped());
    let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    let first = lines.next().expect("a line").expect("text");
    let message: serde_json::Value = serde_json::from_str(&first).expect("JSON");
    assert_eq!(message["type"], "snapshot");
    assert_eq!(message["series"][0]["values"][0][1], 41);
    child.kill().expect("it runs");
    child.wait().expect("a child");
}
