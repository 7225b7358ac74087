//! What the machine has: cores and memory, a cgroup's limits included.

use std::fs::read_to_string;
use std::path::PathBuf;

/// What budgets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that may be used.
    pub cores: usize,
    /// Bytes of memory that may be used: the machine's, or less where a cgroup or a resource limit says so.
    pub memory: u64,
}

/// Bytes assumed where the machine does not say.
const MEMORY_UNKNOWN: u64 = 1 << 30;

impl Machine {
    /// Looks.
    pub fn look() -> Self {
        // Counts a cgroup's CPU quota and the process's affinity.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut memory = meminfo("MemTotal").unwrap_or(MEMORY_UNKNOWN);
        for limit in [cgroup_limit(), data_limit()].into_iter().flatten() {
            memory = memory.min(limit);
        }
        Self { cores, memory }
    }
}

/// Lets this process open as many files as the system lets it (connections are files, and the usual soft limit is 1024): how many.
/// `None`: there is no limit, or it cannot be changed.
pub fn raise_open_files() -> Option<u64> {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).ok()?;
    limit.current
}

/// Files that this process may have open.
pub fn files_max() -> u64 {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    limit.current.unwrap_or(u64::MAX)
}

/// Bytes of a line of /proc/meminfo.
pub(super) fn meminfo(name: &str) -> Option<u64> {
    parse_meminfo(&read_to_string("/proc/meminfo").ok()?, name)
}

fn parse_meminfo(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.split(':').next() == Some(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    kib.checked_mul(1024)
}

/// RLIMIT_AS or RLIMIT_DATA, whichever is less: what is left of it for the program itself is half.
fn data_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let limits = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    limits.into_iter().flatten().min().map(|bytes| bytes / 2)
}

/// A cgroup that this process is in, or one above it, and what its files are called.
pub(super) struct Group {
    pub folder: PathBuf,
    pub limit: &'static str,
    pub usage: &'static str,
    pub inactive_file: &'static str,
}

impl Group {
    /// A file with one number; `None`: there is none, or it says `max`.
    pub fn number(&self, file: &str) -> Option<u64> {
        read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }
}

/// The groups that may limit memory, of cgroup v2 and v1.
pub(super) fn groups() -> Vec<Group> {
    let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut groups = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let (root, limit, usage, inactive_file) = match controllers {
            "" => ("/sys/fs/cgroup", "memory.max", "memory.current", "inactive_file"),
            "memory" => (
                "/sys/fs/cgroup/memory",
                "memory.limit_in_bytes",
                "memory.usage_in_bytes",
                "total_inactive_file",
            ),
            _ => continue,
        };
        let mut folder = PathBuf::from(root).join(path.trim_start_matches('/'));
        while folder.starts_with(root) {
            groups.push(Group {
                folder: folder.clone(),
                limit,
                usage,
                inactive_file,
            });
            folder.pop();
        }
    }
    groups
}

/// The least of the memory limits of this process's cgroups.
fn cgroup_limit() -> Option<u64> {
    groups()
        .iter()
        .filter_map(|group| group.number(group.limit))
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meminfo_lines_are_found_by_their_whole_name() {
        let text = "MemTotal:       16 kB\nMemFree:  3 kB\nMemAvailable:    8 kB\nbroken\n";
        let cases = [
            ("MemTotal", Some(16384)),
            ("MemAvailable", Some(8192)),
            ("Mem", None),
            ("broken", None),
        ];
        for (name, want) in cases {
            assert_eq!(parse_meminfo(text, name), want, "{name}");
        }
    }

    #[test]
    fn open_files_are_raised_to_the_hard_limit() {
        let raised = raise_open_files();
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
        assert_eq!((raised, limit.current), (limit.maximum, limit.maximum));
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::look();
        assert!(machine.cores >= 1 && machine.memory >= 1 << 20, "{machine:?}");
    }
}
