//! Clients that mean no good: endless bodies, requests that never get whole, connections that are gone as soon as they are there.

use super::clients::{Clients, add, connect, post_as};
use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

/// Connections that send their requests bit by bit.
const SLOW: usize = 300;
/// Headers that one in three of them begins with.
const HEADERS_BYTES: usize = 60 << 10;

/// A small body that becomes 400 MiB.
pub fn bomb() -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let zeros = vec![0; 1 << 20];
    (0..400).for_each(|_| encoder.write_all(&zeros).expect("in memory"));
    encoder.finish().expect("in memory")
}

impl Clients<'_> {
    /// Compressed bodies without an end, and one of a single huge line: refused, never stored.
    pub fn bombs(&self, bomb: &[u8]) {
        let huge = vec![b'x'; 20_000_000];
        let url = self.server.url("/write?db=d");
        while self.go_on() {
            for (headers, body) in [(&[("Content-Encoding", "gzip")][..], bomb), (&[], &huge)] {
                let status = post_as(&url, headers, body);
                add(&self.tally.bombs, u64::from(status >= 400));
                add(&self.tally.bombs_taken, u64::from((200..300).contains(&status)));
            }
        }
    }

    /// Connections on which a request never gets whole: some never end their headers, some began with many, some never end their bodies.
    pub fn slowloris(&self) {
        let open = |i: usize| {
            let mut stream = connect(&self.server.http)?;
            let mut head = match i % 3 {
                0 => "POST /write?db=d HTTP/1.1\r\nHost: x\r\n".to_string(),
                1 => format!(
                    "POST /write?db=d HTTP/1.1\r\nHost: x\r\nX-Long: {}\r\n",
                    "l".repeat(HEADERS_BYTES)
                ),
                _ => "POST /write?db=d HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n".to_string(),
            };
            if i % 3 < 2 {
                head += "X-Slow: ";
            }
            stream.write_all(head.as_bytes()).ok()?;
            Some(stream)
        };
        let mut streams: Vec<Option<TcpStream>> = (0..SLOW).map(open).collect();
        while self.go_on() {
            for (i, slot) in streams.iter_mut().enumerate() {
                let bytes = if i % 3 < 2 { 1 } else { 512 };
                let sent = slot
                    .as_mut()
                    .map(|stream| stream.write_all(&[b'a'; 512][..bytes]));
                if !matches!(sent, Some(Ok(()))) {
                    add(&self.tally.slow_cut_off, u64::from(sent.is_some()));
                    *slot = open(i);
                }
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Connects, and is gone again.
    pub fn reconnect(&self, graphite: &str) {
        let server = self.server;
        while self.go_on() {
            for address in [&server.http, &server.line_tcp, &server.statsd, graphite] {
                if let Some(stream) = connect(address) {
                    // Reset, so that the test's own ports do not run out.
                    let _ = socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO));
                    add(&self.tally.reconnects, 1);
                }
            }
        }
    }
}
