//! A server under measurement: started on a fresh folder, asked over HTTP, stopped by its id; its CPU time and memory.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a server may take to start.
const PATIENCE: Duration = Duration::from_secs(120);

/// See the module. Killed when dropped.
pub struct Server {
    child: Child,
    address: String,
    folder: String,
}

impl Server {
    /// Runs `command` (words with blanks between; `{data}` is the folder, which is emptied) and waits until `ready` answers.
    pub fn start(command: &str, folder: &str, address: &str, ready: &str) -> Self {
        let _ = std::fs::remove_dir_all(folder);
        std::fs::create_dir_all(folder).expect("a folder for the server");
        let command = command.replace("{data}", folder);
        let mut words = command.split_ascii_whitespace();
        let mut process = Command::new(words.next().expect("a command"));
        let child = process
            .args(words)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let server = Self {
            child: child.unwrap_or_else(|error| panic!("{command}: {error}")),
            address: address.to_string(),
            folder: folder.to_string(),
        };
        let begin = Instant::now();
        while !server.get(ready).is_ok_and(|(status, _)| status < 300) {
            assert!(begin.elapsed() < PATIENCE, "{command} does not answer");
            sleep(Duration::from_millis(20));
        }
        server
    }

    /// CPU seconds it has used.
    pub fn cpu(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("it runs");
        let after_name = stat.rsplit(')').next().expect("a name in brackets");
        let columns: Vec<&str> = after_name.split_ascii_whitespace().collect();
        let ticks = |at: usize| columns[at].parse::<f64>().expect("a number");
        (ticks(11) + ticks(12)) / 100.0
    }

    /// The most memory it had resident, in MB.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) / 1024
    }

    /// A connection.
    pub fn connect(&self) -> io::Result<Connection> {
        Connection::new(&self.address)
    }

    /// One request without a body.
    pub fn get(&self, path: &str) -> io::Result<(u16, String)> {
        self.connect()?.request("GET", path, "", &[])
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// An HTTP connection that is kept.
pub struct Connection {
    stream: BufReader<TcpStream>,
    address: String,
}

impl Connection {
    fn new(address: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            address: address.to_string(),
        })
    }

    /// One request: the status and the answer. `headers` end with line ends.
    pub fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> io::Result<(u16, String)> {
        let (address, len) = (&self.address, body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Content-Length: {len}\r\n\r\n");
        self.stream.get_mut().write_all(head.as_bytes())?;
        self.stream.get_mut().write_all(body)?;
        let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_string());
        let mut line = String::new();
        self.stream.read_line(&mut line)?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| invalid("no status line"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            line.clear();
            self.stream.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else {
                break;
            };
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().map_err(|_| invalid("length"))?,
                "transfer-encoding" => chunked = value.contains("chunked"),
                _ => {}
            }
        }
        let mut answer = Vec::new();
        if chunked {
            loop {
                line.clear();
                self.stream.read_line(&mut line)?;
                let length = u64::from_str_radix(line.trim(), 16).map_err(|_| invalid("chunk"))?;
                (&mut self.stream).take(length).read_to_end(&mut answer)?;
                self.stream.read_line(&mut line)?;
                if length == 0 {
                    break;
                }
            }
        } else if status != 204 {
            (&mut self.stream).take(length).read_to_end(&mut answer)?;
        }
        Ok((status, String::from_utf8_lossy(&answer).into_owned()))
    }
}
