//! Addresses to listen on: `--listen graphite+tcp://127.0.0.1:2003?database=graphite`.
//!
//! `FORMAT+tcp://HOST:PORT`, `FORMAT+udp://HOST:PORT`, `FORMAT+unix:///PATH` (a stream), `FORMAT+unixgram:///PATH` (datagrams),
//! `http+unix:///PATH` (the HTTP API), and after a `?` options: those named here, and those of the format.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// The database for what comes in where nothing else is said.
pub const DEFAULT_DATABASE: &str = "metrics";

/// Where to listen, for what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenAddress {
    /// The format's name, or `http`.
    pub format: String,
    /// Where.
    pub transport: Transport,
    /// The database, made when it is not there.
    pub database: String,
    /// Settings of the socket.
    pub socket: SocketSettings,
    /// Everything else after the `?`: the format's options.
    pub options: Vec<(String, String)>,
}

/// How bytes arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transport {
    /// Connections.
    Tcp(SocketAddr),
    /// Datagrams.
    Udp(SocketAddr),
    /// Connections to a socket in the file system.
    Unix(PathBuf),
    /// Datagrams to a socket in the file system.
    UnixDatagram(PathBuf),
}

/// Settings of a socket, each with a default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketSettings {
    /// Connections that may be open at once (`connections`).
    pub connections_max: u64,
    /// Seconds after which a connection that says nothing is closed (`idle`); 0: never.
    pub idle_seconds: u64,
    /// Bytes of datagrams that wait inside the server while it cannot keep up (`buffer`).
    pub buffer_bytes_max: usize,
    /// Bytes of receive buffer asked of the kernel (`receive_buffer`); none: what suits the machine's memory.
    pub receive_bytes: Option<usize>,
    /// Sockets that share the address, each with threads of its own (`readers`); 0: as many as fit the machine.
    pub readers: usize,
    /// Who may write to a socket in the file system (`mode`, octal).
    pub mode: u32,
}

impl Default for SocketSettings {
    fn default() -> Self {
        Self {
            connections_max: 4096,
            idle_seconds: 3600,
            buffer_bytes_max: 32 << 20,
            receive_bytes: None,
            readers: 0,
            mode: 0o660,
        }
    }
}

/// Sockets that may share an address.
const READERS_MAX: u64 = 64;
/// Bytes a buffer may be set to.
const BUFFER_BYTES_MAX: u64 = 1 << 32;
/// What does not parse is told with this.
const USAGE: &str = "write FORMAT+tcp://ADDR, FORMAT+udp://ADDR, FORMAT+unix:///PATH, FORMAT+unixgram:///PATH or http+unix:///PATH, then ?database=NAME&OPTION=VALUE where needed";

impl ListenAddress {
    /// Of a format and a way, with everything else as it usually is.
    pub fn new(format: &str, transport: Transport, database: &str) -> Self {
        Self {
            format: format.to_string(),
            transport,
            database: database.to_string(),
            socket: SocketSettings::default(),
            options: Vec::new(),
        }
    }

    fn set(&mut self, name: String, value: String) -> Result<(), String> {
        let number = |least: u64, most: u64| {
            let number = value.parse::<u64>().ok();
            number
                .filter(|n| (least..=most).contains(n))
                .ok_or_else(|| format!("invalid {name} {value:?} (use a number from {least} to {most})"))
        };
        match name.as_str() {
            "database" | "db" if value.is_empty() => return Err("the database has no name".into()),
            "database" | "db" => self.database = value,
            "connections" => self.socket.connections_max = number(1, 1 << 20)?,
            "idle" => self.socket.idle_seconds = number(0, 1 << 32)?,
            "buffer" => self.socket.buffer_bytes_max = number(1 << 16, BUFFER_BYTES_MAX)? as usize,
            "receive_buffer" => self.socket.receive_bytes = Some(number(1 << 12, 1 << 30)? as usize),
            "readers" => self.socket.readers = number(0, READERS_MAX)? as usize,
            "mode" => {
                let mode = u32::from_str_radix(&value, 8).ok().filter(|mode| *mode <= 0o777);
                self.socket.mode =
                    mode.ok_or_else(|| format!("invalid mode {value:?} (use octal, as 660)"))?;
            }
            _ => self.options.push((name, value)),
        }
        Ok(())
    }
}

impl FromStr for ListenAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let usage = || format!("{text:?} is no listen address ({USAGE})");
        let (before, query) = text.split_once('?').unwrap_or((text, ""));
        let (scheme, place) = before.split_once("://").ok_or_else(usage)?;
        let (format, way) = scheme.rsplit_once('+').ok_or_else(usage)?;
        let path = || match place {
            "" | "/" => Err(usage()),
            path => Ok(PathBuf::from(percent_decode(path))),
        };
        let transport = match way {
            "tcp" => Transport::Tcp(socket_address(place)?),
            "udp" => Transport::Udp(socket_address(place)?),
            "unix" => Transport::Unix(path()?),
            "unixgram" => Transport::UnixDatagram(path()?),
            _ => return Err(usage()),
        };
        let is_http = format == "http";
        if format.is_empty() || (is_http && !matches!(transport, Transport::Unix(_))) {
            return Err(usage());
        }
        let mut address = Self::new(format, transport, DEFAULT_DATABASE);
        for (name, value) in url_pairs(query) {
            address.set(name.replace('-', "_"), value)?;
        }
        Ok(address)
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}+{}", self.format, self.transport)
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "tcp://{address}"),
            Self::Udp(address) => write!(f, "udp://{address}"),
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::UnixDatagram(path) => write!(f, "unixgram://{}", path.display()),
        }
    }
}

/// Reads an address; `:8086` and `localhost:8086` are taken as people mean them.
///
/// # Errors
/// It is none.
pub fn socket_address(text: &str) -> Result<SocketAddr, String> {
    // `:8086` is what InfluxDB's users write.
    let whole = if text.starts_with(':') {
        format!("0.0.0.0{text}")
    } else {
        text.replace("localhost", "127.0.0.1")
    };
    whole
        .parse()
        .map_err(|_| format!("{text:?} is no address (write 127.0.0.1:8086, [::1]:8086, or off)"))
}

/// Names and values of a URL's query string or a form body, decoded.
pub fn url_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(name), percent_decode(value))
    })
}

/// Percent-decodes; bytes that are no text become U+FFFD.
pub fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut input = text.bytes();
    while let Some(byte) = input.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = input.clone();
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push((high * 16 + low) as u8);
                        input = ahead;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let read = |text: &str| text.parse::<ListenAddress>();
        let graphite = read("graphite+tcp://127.0.0.1:2003").expect("an address");
        let tcp = Transport::Tcp("127.0.0.1:2003".parse().expect("an address"));
        assert_eq!(graphite, ListenAddress::new("graphite", tcp, "metrics"));
        assert_eq!(graphite.to_string(), "graphite+tcp://127.0.0.1:2003");

        let udp = read(
            "line-protocol+udp://localhost:8089?database=a%20b&precision=s&receive-buffer=65536&readers=4",
        )
        .expect("an address");
        assert_eq!(
            udp.transport,
            Transport::Udp("127.0.0.1:8089".parse().expect("an address"))
        );
        assert_eq!(udp.database, "a b");
        assert_eq!((udp.socket.receive_bytes, udp.socket.readers), (Some(65536), 4));
        assert_eq!(udp.options, [("precision".to_string(), "s".to_string())]);

        let unix = read("http+unix:///run/kymo.sock").expect("an address");
        assert_eq!(unix.transport, Transport::Unix("/run/kymo.sock".into()));
        let gram = read("statsd+unixgram:///run/statsd.sock").expect("an address");
        assert_eq!(gram.transport, Transport::UnixDatagram("/run/statsd.sock".into()));
    }

    #[test]
    fn what_is_no_address_is_told() {
        for (text, told) in [
            ("127.0.0.1:2003", "is no listen address"),
            ("tcp://127.0.0.1:2003", "is no listen address"),
            ("+tcp://127.0.0.1:2003", "is no listen address"),
            ("graphite+tcp://2003", "is no address"),
            ("graphite+ftp://127.0.0.1:2003", "is no listen address"),
            ("graphite+unix://", "is no listen address"),
            ("http+tcp://127.0.0.1:80", "is no listen address"),
            ("graphite+tcp://:2003?connections=0", "invalid connections \"0\""),
            ("graphite+unix:///x?mode=9", "invalid mode \"9\""),
            ("graphite+tcp://:2003?database=", "the database has no name"),
        ] {
            let error = text.parse::<ListenAddress>().expect_err(text);
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    #[test]
    fn percent_decoding() {
        let pairs: Vec<(String, String)> =
            url_pairs("db=a%20b&q=SELECT+1%2B1&bad=%zz%4&empty=&%C3%A9=x&alone").collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let want = [
            ("db", "a b"),
            ("q", "SELECT 1+1"),
            ("bad", "%zz%4"),
            ("empty", ""),
            ("é", "x"),
            ("alone", ""),
        ];
        assert_eq!(pairs, want);
    }
}
