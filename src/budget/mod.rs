//! How much of the machine each part may use, made from the machine at start and following it while the server runs.
//!
//! [`machine`] and [`pressure`] look at the machine, [`governor`] decides (pure), and the server's `kymo-budget` thread applies what it
//! says. No setting is needed; each has an override, and an override is never changed.
//!
//! Budgets are estimates of what each part holds. That they add up is measured: [`meter`] looks at what the process has in memory, and
//! beyond a share of what it may have, work that needs much is refused until there is less.

pub mod allocator;
pub mod current;
pub mod governor;
pub mod machine;
pub mod meter;
pub mod niceness;
pub mod pressure;
pub mod turns;

pub use current::Current;
pub use machine::Machine;
pub use meter::Meter;

use std::fmt;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;

/// A budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Budget {
    /// Shard threads. Fixed at start.
    Shards,
    /// Bytes of unsealed points at which they are sealed; at twice as many, writing waits.
    Head,
    /// Bytes of the cache of blocks.
    BlockCache,
    /// Bytes of the cache of the series index.
    IndexCache,
    /// Bytes of the cache from the spellings of series to their ids.
    Spellings,
    /// Bytes that bodies of requests may hold together. Fixed at start.
    Bodies,
    /// Bytes that connections and datagrams hold before they are decoded: buffers, unfinished lines, what waits. Fixed at start.
    Received,
    /// Bytes of batches that wait for the journal. Fixed at start.
    Waiting,
    /// Bytes that live subscriptions hold: the last batches, what windows were folded to, what waits for clients. Fixed at start.
    Live,
    /// Bytes one query may hold.
    Query,
    /// Bytes all queries may hold together.
    AllQueries,
    /// Queries that run at once.
    Queries,
    /// Merges that run at once when the server is idle, of which one when it is busy. 0: only those that must be.
    MergeThreads,
    /// Bytes all merges may hold.
    Merge,
}

/// All of them, in the order in which they are told.
pub const ALL: [Budget; 14] = [
    Budget::Shards,
    Budget::Head,
    Budget::BlockCache,
    Budget::IndexCache,
    Budget::Spellings,
    Budget::Bodies,
    Budget::Received,
    Budget::Waiting,
    Budget::Live,
    Budget::Query,
    Budget::AllQueries,
    Budget::Queries,
    Budget::MergeThreads,
    Budget::Merge,
];

impl Budget {
    /// Its name in /metrics, SHOW DIAGNOSTICS, and (with dashes) as a flag.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shards => "shards",
            Self::Head => "head_bytes",
            Self::BlockCache => "block_cache_bytes",
            Self::IndexCache => "index_cache_bytes",
            Self::Spellings => "spelling_cache_bytes",
            Self::Bodies => "body_bytes",
            Self::Received => "received_bytes",
            Self::Waiting => "waiting_bytes",
            Self::Live => "live_bytes",
            Self::Query => "query_bytes",
            Self::AllQueries => "all_queries_bytes",
            Self::Queries => "queries",
            Self::MergeThreads => "merge_threads",
            Self::Merge => "merge_bytes",
        }
    }

    /// Counted in bytes?
    pub fn is_bytes(self) -> bool {
        !matches!(self, Self::Shards | Self::Queries | Self::MergeThreads)
    }

    /// Gets smaller under memory pressure.
    fn yields(self) -> bool {
        matches!(
            self,
            Self::Head
                | Self::BlockCache
                | Self::IndexCache
                | Self::Spellings
                | Self::MergeThreads
                | Self::Merge
        )
    }

    /// What suits a machine.
    fn of(self, machine: &Machine) -> u64 {
        let memory = machine.memory;
        let cores = machine.cores as u64;
        match self {
            Self::Shards => cores.clamp(1, 8),
            Self::Head => (memory / 32).clamp(7 * MIB, 256 * MIB),
            Self::BlockCache => (memory / 16).clamp(8 * MIB, 1024 * MIB),
            Self::IndexCache => (memory / 32).clamp(7 * MIB, 512 * MIB),
            Self::Spellings => (memory / 32).clamp(4 * MIB, 192 * MIB),
            Self::Bodies => (memory / 8).clamp(28 * MIB, 1024 * MIB),
            Self::Received => (memory / 32).clamp(7 * MIB, 512 * MIB),
            Self::Waiting => (memory / 32).clamp(7 * MIB, 64 * MIB),
            Self::Live => (memory / 16).clamp(14 * MIB, 640 * MIB),
            Self::Query => (memory / 8).clamp(16 * MIB, 4096 * MIB),
            Self::AllQueries => (memory / 4).clamp(32 * MIB, 8192 * MIB),
            Self::Queries => (cores * 4).clamp(4, 64),
            Self::MergeThreads => (cores / 2).clamp(1, 4),
            Self::Merge => (memory / 16).clamp(14 * MIB, 256 * MIB),
        }
    }

    /// What it never goes below.
    fn floor(self) -> u64 {
        match self {
            Self::Head => 4 * MIB,
            Self::BlockCache | Self::IndexCache | Self::Spellings => 2 * MIB,
            Self::Merge => 14 * MIB,
            _ => 1,
        }
    }
}

/// What each budget is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Budgets([u64; ALL.len()]);

/// Budgets that were chosen by hand; `None`: by the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overrides([Option<u64>; ALL.len()]);

fn at(budget: Budget) -> usize {
    ALL.iter().position(|b| *b == budget).unwrap_or(0)
}

impl Overrides {
    /// With one more.
    pub fn with(mut self, budget: Budget, value: Option<u64>) -> Self {
        self.0[at(budget)] = value;
        self
    }

    /// Was it chosen by hand?
    pub fn has(&self, budget: Budget) -> bool {
        self.0[at(budget)].is_some()
    }
}

impl Budgets {
    /// What suits a machine, where nothing was chosen by hand.
    pub fn new(machine: &Machine, overrides: &Overrides) -> Self {
        Self(std::array::from_fn(|i| {
            overrides.0[i].unwrap_or_else(|| ALL[i].of(machine))
        }))
    }

    /// One of them.
    pub fn get(&self, budget: Budget) -> u64 {
        self.0[at(budget)]
    }

    /// One that is used as a size in memory.
    pub fn size(&self, budget: Budget) -> usize {
        usize::try_from(self.get(budget)).unwrap_or(usize::MAX)
    }

    /// With those that yield halved `level` times, and nothing that can wait on battery; but for what was chosen by hand.
    fn squeezed(&self, level: u32, on_battery: bool, overrides: &Overrides) -> Self {
        let mut out = self.clone();
        for (i, budget) in ALL.into_iter().enumerate() {
            if budget.yields() && !overrides.has(budget) {
                out.0[i] = (self.0[i] >> level).max(budget.floor().min(self.0[i]));
            }
            if budget == Budget::MergeThreads && on_battery && !overrides.has(budget) {
                out.0[i] = 0;
            }
        }
        out
    }
}

/// Reads a number of bytes: `512`, `64K`, `256M`, `2G`, `1T`.
///
/// # Errors
/// It is none; the text says what one looks like.
pub fn parse_bytes(text: &str) -> Result<u64, String> {
    let upper = text.to_ascii_uppercase();
    let plain = upper
        .strip_suffix("IB")
        .or_else(|| upper.strip_suffix('B'))
        .unwrap_or(&upper);
    let (number, shift) = match plain.char_indices().next_back() {
        Some((at, unit)) if "KMGT".contains(unit) => {
            (&plain[..at], "KMGT".find(unit).map_or(0, |i| (i + 1) * 10))
        }
        _ => (plain, 0),
    };
    let parsed = number
        .trim()
        .parse::<u64>()
        .ok()
        .and_then(|n| n.checked_mul(1 << shift));
    parsed.ok_or_else(|| format!("{text:?} is no number of bytes (write 512M or 2G)"))
}

/// A number of bytes for people.
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n if n >= MIB => write!(f, "{} MiB", n / MIB),
            n if n >= KIB => write!(f, "{} KiB", n / KIB),
            n => write!(f, "{n} B"),
        }
    }
}

impl fmt::Display for Budgets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, budget) in ALL.into_iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            let name = budget.name().trim_end_matches("_bytes").replace('_', " ");
            match budget.is_bytes() {
                true => write!(f, "{comma}{name} {}", Size(self.0[i]))?,
                false => write!(f, "{comma}{} {name}", self.0[i])?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(memory: u64) -> Machine {
        Machine { cores: 2, memory }
    }

    #[test]
    fn budgets_fit_into_the_memory_they_are_made_of() {
        for memory in [240 * MIB, 256 * MIB, 512 * MIB, 1024 * MIB, 8192 * MIB, 1 << 40] {
            let budgets = Budgets::new(&machine(memory), &Overrides::default());
            // The head counts twice: what is sealed, and what comes meanwhile. The quarter that is left is for what no part counts:
            // code, stacks, what the allocator has free, what is being decoded and encoded. That it is enough is measured (`meter`).
            let held = 2 * budgets.get(Budget::Head)
                + budgets.get(Budget::BlockCache)
                + budgets.get(Budget::IndexCache)
                + budgets.get(Budget::Spellings)
                + budgets.get(Budget::Merge)
                + budgets.get(Budget::Bodies)
                + budgets.get(Budget::Received)
                + budgets.get(Budget::Waiting)
                + budgets.get(Budget::Live)
                + budgets.get(Budget::AllQueries);
            assert!(held <= memory / 4 * 3, "{memory}: {} of {budgets}", Size(held));
        }
    }

    #[test]
    fn what_is_chosen_by_hand_stays() {
        let overrides = Overrides::default().with(Budget::Head, Some(5 * MIB));
        let budgets = Budgets::new(&machine(1 << 30), &overrides);
        assert_eq!(budgets.get(Budget::Head), 5 * MIB);
        let squeezed = budgets.squeezed(3, false, &overrides);
        assert_eq!(squeezed.get(Budget::Head), 5 * MIB);
        assert_eq!(squeezed.get(Budget::BlockCache), 8 * MIB);
        assert_eq!(squeezed.get(Budget::Shards), 2);
        assert_eq!(
            budgets.squeezed(60, false, &overrides).get(Budget::BlockCache),
            Budget::BlockCache.floor()
        );
    }

    #[test]
    fn numbers_of_bytes() {
        let cases = [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64K", Some(64 << 10)),
            ("256MB", Some(256 << 20)),
            ("2g", Some(2 << 30)),
            ("1 GiB", Some(1 << 30)),
            ("1T", Some(1 << 40)),
            ("99999999T", None),
            ("", None),
            ("M", None),
            ("1.5G", None),
            ("é", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_bytes(text).ok(), want, "{text}");
        }
    }

    #[test]
    fn they_are_told_in_words() {
        let budgets = Budgets::new(&machine(1 << 30), &Overrides::default());
        assert_eq!(
            budgets.to_string(),
            "2 shards, head 32 MiB, block cache 64 MiB, index cache 32 MiB, spelling cache 32 MiB, body 128 MiB, received 32 MiB, waiting 32 MiB, live 64 MiB, query 128 MiB, all queries 256 MiB, 8 queries, 1 merge threads, merge 64 MiB"
        );
    }
}
