//! A WebSocket client sees a window open, change and close while points arrive over UDP.

use crate::support::{PATIENCE, Server};
use serde_json::{Value, json};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio_tungstenite::tungstenite::stream::MaybeTlsStream;
use tokio_tungstenite::tungstenite::{Message, WebSocket, connect};

/// A connection to `/live`.
pub struct Live(WebSocket<MaybeTlsStream<TcpStream>>);

impl Live {
    /// Connects.
    pub fn open(server: &Server) -> Self {
        let (socket, _) = connect(format!("ws://{}/live", server.http)).expect("it listens");
        if let MaybeTlsStream::Plain(stream) = socket.get_ref() {
            stream
                .set_read_timeout(Some(Duration::from_secs(8)))
                .expect("a socket");
        }
        Self(socket)
    }

    /// Sends a message.
    pub fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).expect("sent");
    }

    /// The next message.
    pub fn next(&mut self) -> Value {
        self.next_in(PATIENCE).expect("a message in time")
    }

    /// The next message, if it comes in time. Pings do not count.
    pub fn next_in(&mut self, patience: Duration) -> Option<Value> {
        let deadline = Instant::now() + patience;
        while Instant::now() < deadline {
            match self.0.read() {
                Ok(Message::Text(text)) => return Some(serde_json::from_str(&text).expect("JSON")),
                Ok(_) => continue,
                // It waits for less than all of our patience.
                Err(error) if is_time_out(&error) => continue,
                Err(error) => panic!("the connection broke: {error}"),
            }
        }
        None
    }

    /// Reads until a message satisfies `wanted`.
    fn until(&mut self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        let mut seen = Vec::new();
        while Instant::now() < deadline {
            let message = self.next();
            if wanted(&message) {
                return message;
            }
            seen.push(message);
        }
        panic!("no {what}; saw {seen:?}");
    }
}

fn is_time_out(error: &tokio_tungstenite::tungstenite::Error) -> bool {
    use std::io::ErrorKind::{TimedOut, WouldBlock};
    let tokio_tungstenite::tungstenite::Error::Io(error) = error else {
        return false;
    };
    [TimedOut, WouldBlock].contains(&error.kind())
}

/// The newest value of a message's row for the window at `time`.
fn row(message: &Value, time: i64) -> Option<Value> {
    let series = message.get("series")?.as_array()?;
    let mut rows = series
        .iter()
        .flat_map(|s| s["values"].as_array().into_iter().flatten());
    rows.rfind(|row| row[0] == time).map(|row| row[1].clone())
}

#[test]
fn a_window_opens_changes_and_closes() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::start(
        folder.path(),
        &["--host-metrics", "off", "--line-udp-database", "live"],
    );
    server.create("live");
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let now = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .expect("after 1970")
            .as_nanos() as i64
    };
    let window = now() / 2_000_000_000 * 2_000_000_000 + 2_000_000_000;
    while now() < window {
        std::thread::sleep(Duration::from_millis(5));
    }
    server.write("live", &format!("m,host=a v=1 {}", window + 1));

    let mut live = Live::open(&server);
    live.send(
        json!({"type": "subscribe", "id": "1", "db": "live", "q": "SELECT sum(v) FROM m GROUP BY time(2s)"}),
    );
    let snapshot = live.until("snapshot", |m| m["type"] == "snapshot");
    assert_eq!(snapshot["id"], "1");
    assert_eq!(row(&snapshot, window), Some(json!(1)), "{snapshot}");
    let first = snapshot["sequence"].as_u64().expect("a sequence");

    udp.send_to(
        format!("m,host=b v=10 {}", window + 2).as_bytes(),
        &server.line_udp,
    )
    .expect("sent");
    let update = live.until("update", |m| {
        m["type"] == "update" && row(m, window) == Some(json!(11))
    });
    assert!(
        update["sequence"].as_u64().expect("a sequence") > first,
        "{update}"
    );

    let closed = live.until("final", |m| m["type"] == "final" && row(m, window).is_some());
    assert_eq!(row(&closed, window), Some(json!(11)), "{closed}");

    udp.send_to(
        format!("m,host=c v=100 {}", window + 3).as_bytes(),
        &server.line_udp,
    )
    .expect("sent");
    let correction = live.until("correction", |m| m["type"] == "correction");
    assert_eq!(row(&correction, window), Some(json!(111)), "{correction}");

    live.send(json!({"type": "unsubscribe", "id": "1"}));
    live.send(json!({"type": "subscribe", "id": "2", "db": "live", "q": "SELECT nonsense("}));
    let error = live.until("error", |m| m["type"] == "error");
    assert_eq!(error["id"], "2");
}

/// However long some or all are silent: the server's clock says when a window is final, not before its lateness is over.
#[test]
fn a_source_that_says_nothing_holds_no_window_open() {
    let folder = tempfile::tempdir().expect("a folder");
    let server = Server::quiet(folder.path());
    server.create("d");
    let now = || {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        since.expect("after 1970").as_nanos() as i64
    };
    const WINDOW: i64 = 1_000_000_000;
    const LATENESS: i64 = 2_000_000_000;
    let mut live = Live::open(&server);
    live.send(
        json!({"type": "subscribe", "id": "1", "db": "d", "lateness": "2s",
        "q": "SELECT count(v) FROM m GROUP BY time(1s), host"}),
    );
    live.until("snapshot", |m| m["type"] == "snapshot");
    let of = |m: &Value, host: &str| {
        let mut series = m["series"].as_array().into_iter().flatten();
        series.any(|one| one["tags"]["host"] == host)
    };
    // A point that took so long that its window was over already is written again.
    let mut closes = |host: &str| loop {
        let at = now();
        server.write("d", &format!("m,host={host} v=1 {at}"));
        let closed = live.until("the end of a window", |m| {
            (m["type"] == "final" || m["type"] == "correction") && of(m, host)
        });
        if closed["type"] == "final" {
            return (closed, at / WINDOW * WINDOW);
        }
    };
    // One says something once, and then nothing; nor does anybody else.
    let (closed, window) = closes("silent");
    let closed_at = now();
    assert_eq!(row(&closed, window), Some(json!(1)), "{closed}");
    assert!(closed_at >= window + WINDOW + LATENESS, "too soon: {closed_at}");
    // Another goes on: its windows become final without the silent one.
    let (closed, window) = closes("other");
    assert_eq!(row(&closed, window), Some(json!(1)), "{closed}");
    assert!(!of(&closed, "silent"), "{closed}");
}
