//! What the server is told on its command line.

use crate::budget::{Budget, Machine, Overrides, parse_bytes};
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
    /// Memory the server may count on; its other budgets follow [default: the machine's, or its cgroup's limit]
    #[arg(long, value_name = "BYTES", env = "KYMO_MEMORY", value_parser = parse_bytes)]
    pub memory: Option<u64>,
    /// Shard threads [default: one a core, at most 8]
    #[arg(long, value_name = "N", env = "KYMO_SHARDS", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub shards: Option<u16>,
    /// Unsealed points in memory at which they are sealed [default: 1/32 of the memory, 7M to 256M]
    #[arg(long, value_name = "BYTES", env = "KYMO_HEAD_BYTES", value_parser = parse_bytes)]
    pub head_bytes: Option<u64>,
    /// Cache of blocks [default: 1/16 of the memory, 8M to 1G]
    #[arg(long, value_name = "BYTES", env = "KYMO_BLOCK_CACHE_BYTES", value_parser = parse_bytes)]
    pub block_cache_bytes: Option<u64>,
    /// Cache of the series index [default: 1/32 of the memory, 7M to 512M]
    #[arg(long, value_name = "BYTES", env = "KYMO_INDEX_CACHE_BYTES", value_parser = parse_bytes)]
    pub index_cache_bytes: Option<u64>,
    /// Cache from the spellings of series to their ids [default: 1/32 of the memory, 4M to 192M]
    #[arg(long, value_name = "BYTES", env = "KYMO_SPELLING_CACHE_BYTES", value_parser = parse_bytes)]
    pub spelling_cache_bytes: Option<u64>,
    /// Memory that bodies of requests may hold together; beyond it they are answered 503 [default: 1/8 of the memory, 28M to 1G]
    #[arg(long, value_name = "BYTES", env = "KYMO_BODY_BYTES", value_parser = parse_bytes)]
    pub body_bytes: Option<u64>,
    /// Memory that connections and datagrams may hold before they are decoded; beyond it connections are read slower or
    /// closed and datagrams dropped [default: 1/32 of the memory, 7M to 512M]
    #[arg(long, value_name = "BYTES", env = "KYMO_RECEIVED_BYTES", value_parser = parse_bytes)]
    pub received_bytes: Option<u64>,
    /// Memory of batches that wait for the journal; beyond it writes are answered 503 [default: 1/32 of the memory, 7M to 64M]
    #[arg(long, value_name = "BYTES", env = "KYMO_WAITING_BYTES", value_parser = parse_bytes)]
    pub waiting_bytes: Option<u64>,
    /// Memory that live subscriptions may hold; beyond it windows are evaluated anew and slow clients are sent a new
    /// snapshot [default: 1/16 of the memory, 14M to 640M]
    #[arg(long, value_name = "BYTES", env = "KYMO_LIVE_BYTES", value_parser = parse_bytes)]
    pub live_bytes: Option<u64>,
    /// Memory one query may hold [default: 1/8 of the memory, 16M to 4G]
    #[arg(long, value_name = "BYTES", env = "KYMO_QUERY_BYTES", value_parser = parse_bytes)]
    pub query_bytes: Option<u64>,
    /// Memory all queries may hold together [default: 1/4 of the memory, 32M to 8G]
    #[arg(long, value_name = "BYTES", env = "KYMO_ALL_QUERIES_BYTES", value_parser = parse_bytes)]
    pub all_queries_bytes: Option<u64>,
    /// Queries that run at once; others wait [default: 4 a core]
    #[arg(long, value_name = "N", env = "KYMO_QUERIES", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub queries: Option<u16>,
    /// Queries that may wait for others (queries_waiting_max); more are refused
    #[arg(long, value_name = "N", default_value_t = 1_000, env = "KYMO_QUERIES_WAITING", value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub queries_waiting: u32,
    /// Series that the result of a query may have (query_groups_max)
    #[arg(long, value_name = "N", default_value_t = 1_000_000, env = "KYMO_QUERY_GROUPS", value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub query_groups: u32,
    /// Windows times groups of a query (query_buckets_max)
    #[arg(long, value_name = "N", default_value_t = 10_000_000, env = "KYMO_QUERY_BUCKETS", value_parser = clap::value_parser!(u32).range(1..=1_000_000_000))]
    pub query_buckets: u32,
    /// Seconds a query may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300, env = "KYMO_QUERY_TIMEOUT", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub query_timeout: u64,
    /// Percent of one core that updates of live queries may take [default: 6 while one is busy; 1.6 for many, down to 0.4 if each costs much; cheap ones first]
    #[arg(long, value_name = "PERCENT", env = "KYMO_LIVE_CPU", value_parser = clap::value_parser!(u16).range(1..=100))]
    pub live_cpu: Option<u16>,
    /// Seconds that an HTTP client may take to send the head of a request
    #[arg(long, value_name = "SECONDS", default_value_t = 10, env = "KYMO_HEAD_PATIENCE", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub head_patience: u64,
    /// Seconds between pings to clients of /live; who answers none of two is cut off
    #[arg(long, value_name = "SECONDS", default_value_t = 20, env = "KYMO_LIVE_PING", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub live_ping: u64,
    /// Seconds after which a client of /live is cut off that takes nothing of what is sent
    #[arg(long, value_name = "SECONDS", default_value_t = 60, env = "KYMO_LIVE_PATIENCE", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub live_patience: u64,
    /// Merges of stored data that run at once when the server is idle; 0: only those that must be [default: half of
    /// the cores, at most 4; 0 on battery]
    #[arg(long, value_name = "N", env = "KYMO_MERGE_THREADS", value_parser = clap::value_parser!(u16).range(0..=64))]
    pub merge_threads: Option<u16>,
    /// Memory all merges may hold [default: 1/16 of the memory, 14M to 256M]
    #[arg(long, value_name = "BYTES", env = "KYMO_MERGE_BYTES", value_parser = parse_bytes)]
    pub merge_bytes: Option<u64>,
    /// Free space on the disk, in bytes (K, M, G, T), below which points are refused [default: 2 % of the disk, 256M to 2G, at most a quarter of it]
    #[arg(long, value_name = "BYTES", env = "KYMO_DISK_FLOOR", value_parser = parse_bytes)]
    pub disk_floor: Option<u64>,
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
    /// The machine, with the memory it is to be taken for.
    pub fn machine(&self) -> Machine {
        let machine = Machine::look();
        Machine {
            memory: self.memory.unwrap_or(machine.memory),
            ..machine
        }
    }

    /// What was chosen by hand.
    pub fn overrides(&self) -> Overrides {
        Overrides::default()
            .with(Budget::Shards, self.shards.map(u64::from))
            .with(Budget::Head, self.head_bytes)
            .with(Budget::BlockCache, self.block_cache_bytes)
            .with(Budget::IndexCache, self.index_cache_bytes)
            .with(Budget::Spellings, self.spelling_cache_bytes)
            .with(Budget::Bodies, self.body_bytes)
            .with(Budget::Received, self.received_bytes)
            .with(Budget::Waiting, self.waiting_bytes)
            .with(Budget::Live, self.live_bytes)
            .with(Budget::Query, self.query_bytes)
            .with(Budget::AllQueries, self.all_queries_bytes)
            .with(Budget::Queries, self.queries.map(u64::from))
            .with(Budget::MergeThreads, self.merge_threads.map(u64::from))
            .with(Budget::Merge, self.merge_bytes)
    }

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
}
