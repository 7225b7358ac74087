//! Starts and stops the real server, speaks HTTP to it, and finds the programs tests need.

use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// The binary under test.
pub const KYMO: &str = env!("CARGO_BIN_EXE_kymo");

/// How long anything that must happen may take before a test calls it missing. Not a timing: a bound on waiting.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A running server and where it listens.
pub struct Server {
    child: Child,
    /// Its data folder.
    pub data: PathBuf,
    /// 127.0.0.1:port of HTTP.
    pub http: String,
    /// Of line protocol over TCP.
    pub line_tcp: String,
    /// Of line protocol over UDP.
    pub line_udp: String,
    /// Of statsd, UDP and TCP.
    pub statsd: String,
    output: Arc<Mutex<String>>,
}

/// An address nobody uses for TCP or UDP right now.
pub fn free_address() -> String {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = tcp.local_addr().expect("bound");
        if UdpSocket::bind(address).is_ok() {
            return address.to_string();
        }
    }
}

impl Server {
    /// Starts a server on `data` with `extra` flags, and waits until it answers.
    pub fn start(data: &Path, extra: &[&str]) -> Self {
        Self::launch(&[KYMO.to_string()], data, extra)
    }

    /// The same by way of a command that ends in the binary, such as `taskset -c 0 kymo`.
    pub fn launch(command: &[String], data: &Path, extra: &[&str]) -> Self {
        // Between choosing a free port and binding it another test may take it: then others are chosen.
        for _ in 0..5 {
            let mut server = Self::spawn(command, data, extra);
            match server.wait_until_ready() {
                Ok(()) => return server,
                Err(said) if said.contains("cannot listen on") => continue,
                Err(said) => panic!("{said}"),
            }
        }
        panic!("no free ports in five tries")
    }

    /// A server that answers HTTP at an address that was chosen before.
    pub fn launch_at(http: &str, data: &Path, extra: &[&str]) -> Self {
        let mut server = Self::spawn_at(http.to_string(), &[KYMO.to_string()], data, extra);
        server.wait_until_ready().unwrap_or_else(|said| panic!("{said}"));
        server
    }

    /// Starts a server and waits for nothing: it may still be starting, or have failed to.
    #[allow(dead_code, reason = "for tests/crash")]
    pub fn begin(data: &Path, extra: &[&str]) -> Self {
        Self::spawn(&[KYMO.to_string()], data, extra)
    }

    fn spawn(command: &[String], data: &Path, extra: &[&str]) -> Self {
        Self::spawn_at(free_address(), command, data, extra)
    }

    fn spawn_at(http: String, command: &[String], data: &Path, extra: &[&str]) -> Self {
        let [line_tcp, line_udp, statsd] = std::array::from_fn(|_| free_address());
        let mut child = Command::new(&command[0])
            .args(&command[1..])
            .arg("serve")
            .args([
                "--data-dir",
                &data.to_string_lossy(),
                "--http",
                &http,
                "--line-tcp",
                &line_tcp,
            ])
            .args(["--line-udp", &line_udp, "--statsd", &statsd])
            .args(extra)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let output = Arc::new(Mutex::new(String::new()));
        keep_output(child.stdout.take().expect("piped"), &output);
        keep_output(child.stderr.take().expect("piped"), &output);
        Self {
            child,
            data: data.to_path_buf(),
            http,
            line_tcp,
            line_udp,
            statsd,
            output,
        }
    }

    /// Starts a server without host metrics, which most tests do not want among their data.
    pub fn quiet(data: &Path) -> Self {
        Self::start(data, &["--host-metrics", "off"])
    }

    /// Waits until it answers; what went wrong when it does not.
    fn wait_until_ready(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                // Its last words are still on their way through the pipe.
                std::thread::sleep(Duration::from_millis(50));
                return Err(format!(
                    "the server ended at start with {status}:\n{}",
                    self.output()
                ));
            }
            if get(&format!("http://{}/ping", self.http)).is_ok_and(|(status, _)| status == 204) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(format!("the server does not answer:\n{}", self.output()));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it printed so far, standard output and error together.
    pub fn output(&self) -> String {
        self.output.lock().expect("no panics while held").clone()
    }

    /// The URL of a path.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.http)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it without warning, as a power cut would the process.
    pub fn kill(mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }

    /// Asks it to stop with SIGTERM and waits: its exit code.
    pub fn terminate(mut self) -> Option<i32> {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it runs");
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.code();
            }
            assert!(
                Instant::now() < deadline,
                "the server does not stop:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs a query; the whole answer.
    pub fn query(&self, database: &str, q: &str) -> Value {
        let (status, body) = self.query_text(&[("db", database), ("epoch", "ns"), ("q", q)]);
        assert_eq!(status, 200, "{q}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|e| panic!("{q}: {e}: {body}"))
    }

    /// Runs a query with these parameters: status and body.
    pub fn query_text(&self, parameters: &[(&str, &str)]) -> (u16, String) {
        get(&self.url(&format!("/query?{}", form(parameters)))).expect("an answer")
    }

    /// The rows of the only series of a query's answer; none without series.
    pub fn rows(&self, database: &str, q: &str) -> Vec<Value> {
        let answer = self.query(database, q);
        let result = &answer["results"][0];
        assert!(result.get("error").is_none(), "{q}: {answer}");
        match result.get("series") {
            None => Vec::new(),
            Some(series) => series[0]["values"].as_array().expect("values").clone(),
        }
    }

    /// Writes lines and insists on 204.
    pub fn write(&self, database: &str, lines: &str) {
        let (status, body) =
            post(&self.url(&format!("/write?db={database}")), lines.as_bytes()).expect("an answer");
        assert_eq!(status, 204, "{body}");
    }

    /// Creates a database.
    pub fn create(&self, database: &str) {
        self.query("", &format!("CREATE DATABASE \"{database}\""));
    }

    /// Waits until a query's rows satisfy `done`; panics with the last rows when they never do.
    pub fn wait_rows(&self, database: &str, q: &str, done: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answer = self.query(database, q);
            let rows = answer["results"][0]["series"][0]["values"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            if done(&rows) {
                return rows;
            }
            assert!(Instant::now() < deadline, "{q} never got there: {answer}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Already gone after kill or terminate; then both calls fail and that is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn keep_output(from: impl Read + Send + 'static, to: &Arc<Mutex<String>>) {
    let to = to.clone();
    std::thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let mut kept = to.lock().expect("no panics while held");
            kept.push_str(&line);
            kept.push('\n');
        }
    });
}

fn agent() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE));
    config.build().into()
}

/// GET: status and body.
pub fn get(url: &str) -> Result<(u16, String), ureq::Error> {
    let mut response = agent().get(url).call()?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

/// POST: status and body.
pub fn post(url: &str, body: &[u8]) -> Result<(u16, String), ureq::Error> {
    let mut response = agent().post(url).send(body)?;
    Ok((response.status().as_u16(), response.body_mut().read_to_string()?))
}

/// Parameters as a URL's query.
pub fn form(parameters: &[(&str, &str)]) -> String {
    let encode = |text: &str| -> String {
        text.bytes()
            .map(|b| match b {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => (b as char).to_string(),
                _ => format!("%{b:02X}"),
            })
            .collect()
    };
    parameters
        .iter()
        .map(|(k, v)| format!("{k}={}", encode(v)))
        .collect::<Vec<_>>()
        .join("&")
}

/// The path of a program. Without it: under CI a failure, elsewhere a loud notice and `None`, and the test is left out.
pub fn program(name: &str, package: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Daemons are not in everybody's PATH.
    let found = std::env::split_paths(&path)
        .chain([PathBuf::from("/usr/sbin")])
        .map(|folder| folder.join(name))
        .find(|path| path.is_file());
    if found.is_none() {
        missing(&format!("{name} (install {package})"));
    }
    found
}

/// A Python that has these modules, as installed by `.ci/run` (or on the machine): from `KYMO_TEST_PYTHON`, else python3.
pub fn python(modules: &[&str]) -> Option<PathBuf> {
    let named = std::env::var_os("KYMO_TEST_PYTHON").map(PathBuf::from);
    let candidates = [
        named,
        Some(PathBuf::from("/usr/bin/python3")),
        Some(PathBuf::from("python3")),
    ];
    let imports = modules
        .iter()
        .map(|m| format!("import {m}"))
        .collect::<Vec<_>>()
        .join("; ");
    let works = |python: &PathBuf| {
        let run = Command::new(python)
            .args(["-c", &imports])
            .stderr(Stdio::null())
            .status();
        run.is_ok_and(|status| status.success())
    };
    let found = candidates.into_iter().flatten().find(works);
    if found.is_none() {
        missing(&format!("python3 with {}", modules.join(", ")));
    }
    found
}

/// Node and the folder of modules that has this one, as installed by `.ci/run`: `KYMO_TEST_NODE_MODULES`.
pub fn node(module: &str) -> Option<(PathBuf, PathBuf)> {
    let node = program("node", "the Debian package nodejs")?;
    let modules = std::env::var_os("KYMO_TEST_NODE_MODULES").map(PathBuf::from);
    let modules = modules.filter(|folder| folder.join(module).is_dir());
    if modules.is_none() {
        missing(&format!(
            "{module} (npm install {module}, and KYMO_TEST_NODE_MODULES=..node_modules)"
        ));
    }
    Some((node, modules?))
}

/// A small generator: tests repeat.
pub struct Random(pub u64);

impl Random {
    /// A number below another.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// Something a test needs is not there: a failure under CI, a loud notice elsewhere.
pub fn missing(what: &str) {
    assert!(
        std::env::var_os("CI").is_none_or(|ci| ci != "true"),
        "CI=true, and there is no {what}"
    );
    eprintln!("LEFT OUT: this test needs {what}");
}

/// Runs a command to its end: standard output. Panics with everything it said when it fails.
pub fn run(command: &mut Command) -> String {
    let output = command.stdin(Stdio::null()).output().expect("the command starts");
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(
        output.status.success(),
        "{command:?} failed with {}:\n{out}\n{err}",
        output.status
    );
    out.into_owned()
}
