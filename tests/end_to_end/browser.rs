//! A page in a real browser (headless Chromium) follows live windows.
//!
//! Kymo serves no pages, and takes subscriptions only from pages of its own origin. So a small proxy, as people put before it, gives
//! the page and hands on everything else.

use crate::support::{PATIENCE, Server, program};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::mpsc::{Sender, channel};

const PAGE: &str = include_str!("../clients/live_page.html");

/// Gives the page, takes its report, and pipes all else to the server.
fn serve(mut client: TcpStream, server: &str, report: &Sender<String>) -> std::io::Result<()> {
    let mut got = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        let read = client.read(&mut piece)?;
        if read == 0 {
            return Ok(());
        }
        got.extend_from_slice(&piece[..read]);
        if let Some(at) = got.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
    };
    let head = String::from_utf8_lossy(&got[..end]).into_owned();
    let answer = |client: &mut TcpStream, kind: &str, body: &str| {
        let length = body.len();
        write!(
            client,
            "HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
        )
    };
    if head.starts_with("GET /page") {
        return answer(&mut client, "text/html", PAGE);
    }
    if head.starts_with("POST /result") {
        let lower = head.to_lowercase();
        let length = lower
            .split("content-length: ")
            .nth(1)
            .and_then(|rest| rest.split("\r\n").next()?.parse::<usize>().ok());
        while got.len() < end + length.expect("a length") {
            let read = client.read(&mut piece)?;
            got.extend_from_slice(&piece[..read]);
        }
        let _ = report.send(String::from_utf8_lossy(&got[end..]).into_owned());
        return answer(&mut client, "text/plain", "");
    }
    if head.starts_with("GET /favicon") {
        return answer(&mut client, "image/x-icon", "");
    }
    let mut upstream = TcpStream::connect(server)?;
    upstream.write_all(&got)?;
    let (mut from, mut to) = (upstream.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Both);
    });
    let _ = std::io::copy(&mut client, &mut upstream);
    upstream.shutdown(std::net::Shutdown::Both)
}

#[test]
fn a_page_in_chromium_follows_windows() {
    let Some(chromium) = program("chromium", "the Debian package chromium") else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(&folder.path().join("data"));
    server.create("d");
    let (sender, report) = channel();
    let [address, reports] = [(); 2].map(|()| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let (upstream, sender) = (server.http.clone(), sender.clone());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (upstream, sender) = (upstream.clone(), sender.clone());
                std::thread::spawn(move || serve(client, &upstream, &sender));
            }
        });
        address
    });
    let profile = folder.path().join("profile");
    let mut browser = Command::new(chromium)
        .args([
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--no-first-run",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .arg(format!("http://{address}/page#{reports}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("it starts");
    let said = report.recv_timeout(PATIENCE * 2);
    let _ = browser.kill();
    let _ = browser.wait();
    let said = said.expect("the page reports");
    let (cuts, shown) = said.split_once('\n').unwrap_or_else(|| panic!("{said}"));
    assert_eq!(cuts, "5", "times it was connected");
    let mut wanted = Vec::new();
    for host in ["a", "b"] {
        let q =
            format!("SELECT sum(v) FROM m WHERE host = '{host}' AND time > 0 GROUP BY time(1s) fill(none)");
        for row in server.rows("d", &q) {
            wanted.push(format!("{host} {} {}", row[0], row[1]));
        }
    }
    wanted.sort();
    assert_eq!(wanted.len(), 14);
    assert_eq!(
        shown,
        wanted.join("\n"),
        "what the page shows is what a query answers"
    );
}
