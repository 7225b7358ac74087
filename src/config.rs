//! What the server is told on its command line, and what it finds out about the machine.

use crate::listen::{ListenAddress, socket_address};
use clap::{Args, ValueEnum};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listen {
    /// Do not listen.
    Off,
    /// Listen here.
    At(SocketAddr),
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.eq_ignore_ascii_case("off") {
            return Ok(Self::Off);
        }
        socket_address(text).map(Self::At)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::At(address) => write!(f, "{address}"),
        }
    }
}

/// A switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Yes.
    On,
    /// No.
    Off,
}

/// Flags of `kymo serve`. Each can be given in the environment, too.
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Folder for all data [default: kymo in the platform's data folder]
    #[arg(long, value_name = "DIR", env = "KYMO_DATA_DIR")]
    pub data_dir: Option<PathBuf>,
    /// Address of the HTTP API, or off
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8086",
        env = "KYMO_HTTP"
    )]
    pub http: Listen,
    /// Address for line protocol over TCP, or off
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8094",
        env = "KYMO_LINE_TCP"
    )]
    pub line_tcp: Listen,
    /// Address for line protocol over UDP, or off
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8089",
        env = "KYMO_LINE_UDP"
    )]
    pub line_udp: Listen,
    /// Address for statsd over UDP and TCP, or off
    #[arg(
        long,
        value_name = "ADDR",
        default_value = "127.0.0.1:8125",
        env = "KYMO_STATSD"
    )]
    pub statsd: Listen,
    /// A further way in: FORMAT+tcp://ADDR, FORMAT+udp://ADDR, FORMAT+unix:///PATH, FORMAT+unixgram:///PATH or
    /// http+unix:///PATH, with ?database=NAME and options of the format; may be given several times (in the
    /// environment: separated by blanks)
    #[arg(
        long,
        value_name = "FORMAT+WAY://ADDR",
        env = "KYMO_LISTEN",
        value_delimiter = ' '
    )]
    pub listen: Vec<ListenAddress>,
    /// Database for line protocol over TCP
    #[arg(
        long,
        value_name = "NAME",
        default_value = "metrics",
        env = "KYMO_LINE_TCP_DATABASE"
    )]
    pub line_tcp_database: String,
    /// Database for line protocol over UDP
    #[arg(
        long,
        value_name = "NAME",
        default_value = "metrics",
        env = "KYMO_LINE_UDP_DATABASE"
    )]
    pub line_udp_database: String,
    /// Database for statsd
    #[arg(
        long,
        value_name = "NAME",
        default_value = "statsd",
        env = "KYMO_STATSD_DATABASE"
    )]
    pub statsd_database: String,
    /// Record the machine this server runs on, in the database `host`
    #[arg(long, value_name = "on|off", default_value = "on", env = "KYMO_HOST_METRICS")]
    pub host_metrics: Switch,
    /// Shard threads [default: one a core, at most 8]
    #[arg(long, value_name = "N", env = "KYMO_SHARDS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    /// What to log: error, warn, info, debug, trace, or a filter such as kymo=debug
    #[arg(
        long,
        value_name = "FILTER",
        default_value = "warn,kymo=info",
        env = "KYMO_LOG"
    )]
    pub log: String,
}

impl ServeArgs {
    /// The data folder.
    ///
    /// # Errors
    /// None was given, and the platform names none.
    pub fn data_folder(&self) -> Result<PathBuf, String> {
        if let Some(folder) = &self.data_dir {
            return Ok(folder.clone());
        }
        let found = directories::ProjectDirs::from("", "", "kymo").map(|dirs| dirs.data_dir().to_path_buf());
        found.ok_or_else(|| "this user has no home folder; choose a data folder with --data-dir".to_string())
    }
}

/// What the machine gives, as the budgets are made of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that may be used.
    pub cores: usize,
    /// Bytes of memory that may be used: the machine's, or less where a cgroup says so.
    pub memory: u64,
}

/// Bytes assumed where the machine does not say.
const MEMORY_UNKNOWN: u64 = 1 << 30;

impl Machine {
    /// Looks.
    pub fn look() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut memory = MEMORY_UNKNOWN;
        if let Ok(mut system) = sysinfo::System::new() {
            system.refresh_memory();
            memory = system.total_memory();
        }
        if let Some(limit) = cgroup_memory_max() {
            memory = memory.min(limit);
        }
        Self { cores, memory }
    }

    /// Bytes of unsealed points at which they are sealed.
    pub fn head_bytes(&self) -> usize {
        const MIB: u64 = 1 << 20;
        (self.memory / 32).clamp(8 * MIB, 128 * MIB) as usize
    }

    /// Bytes of the store's cache.
    pub fn cache_bytes(&self) -> usize {
        const MIB: u64 = 1 << 20;
        (self.memory / 16).clamp(16 * MIB, 1024 * MIB) as usize
    }

    /// Shard threads.
    pub fn shards(&self) -> u16 {
        self.cores.clamp(1, 8) as u16
    }
}

/// The memory limit of this process's cgroup (v2), if it has one.
fn cgroup_memory_max() -> Option<u64> {
    let own = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let path = own.lines().find_map(|line| line.strip_prefix("0::"))?;
    let mut folder = PathBuf::from("/sys/fs/cgroup").join(path.trim_start_matches('/'));
    let mut limit = None;
    // Any of the groups above may say less.
    while folder.starts_with("/sys/fs/cgroup") {
        if let Ok(text) = std::fs::read_to_string(folder.join("memory.max"))
            && let Ok(bytes) = text.trim().parse::<u64>()
        {
            limit = Some(limit.map_or(bytes, |known: u64| known.min(bytes)));
        }
        folder.pop();
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let cases = [
            ("off", Some("off")),
            ("OFF", Some("off")),
            ("127.0.0.1:1", Some("127.0.0.1:1")),
            (":8086", Some("0.0.0.0:8086")),
            ("localhost:9", Some("127.0.0.1:9")),
            ("[::1]:5", Some("[::1]:5")),
            ("8086", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(
                text.parse::<Listen>().ok().map(|l| l.to_string()).as_deref(),
                want,
                "{text}"
            );
        }
    }

    #[test]
    fn budgets_follow_the_memory_within_bounds() {
        let machine = |memory| Machine { cores: 2, memory };
        assert_eq!(machine(256 << 20).head_bytes(), 8 << 20);
        assert_eq!(machine(1 << 30).head_bytes(), 32 << 20);
        assert_eq!(machine(1 << 40).head_bytes(), 128 << 20);
        assert_eq!(machine(256 << 20).cache_bytes(), 16 << 20);
    }
}
