//! What the machine has: cores and memory, a cgroup's limits included.

use std::fs::read_to_string;
use std::path::{Path, PathBuf};

/// What budgets are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Cores that may be used.
    pub cores: usize,
    /// Bytes of memory that may be used: the machine's, or less where a cgroup or a resource limit says so.
    pub memory: u64,
}

/// One part in so many of a cgroup's limit is left to the kernel: the group pays for its page tables, stacks and sockets, too, and for
/// pages of files until they are written. A process that takes all of the limit for itself is ended.
const KERNEL_PART: u64 = 16;
/// Bytes assumed where the machine does not say.
const MEMORY_UNKNOWN: u64 = 1 << 30;

impl Machine {
    /// Looks.
    pub fn look() -> Self {
        // Counts a cgroup's CPU quota and the process's affinity.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let mut memory = meminfo("MemTotal").unwrap_or(MEMORY_UNKNOWN);
        for limit in [cgroup_limit().map(own_share), data_limit()]
            .into_iter()
            .flatten()
        {
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

/// Less address space than this is refused: the allocator sets ranges of it aside, each thread has a stack of it, and what finds none
/// ends the process.
const ADDRESS_SPACE_MIN: u64 = 1 << 30;

/// Is there enough address space (`ulimit -v`)?
///
/// # Errors
/// It is limited to too little: what to do.
pub fn check_address_space() -> Result<(), String> {
    let limit = rustix::process::getrlimit(rustix::process::Resource::As).current;
    enough_address_space(limit)
}

fn enough_address_space(limit: Option<u64>) -> Result<(), String> {
    match limit {
        Some(bytes) if bytes < ADDRESS_SPACE_MIN => Err(format!(
            "address space is limited to {} MiB (ulimit -v), {} are needed; --memory or a cgroup limit memory itself",
            bytes >> 20,
            ADDRESS_SPACE_MIN >> 20
        )),
        _ => Ok(()),
    }
}

/// RLIMIT_AS or RLIMIT_DATA, whichever is less: what is left of it for the program itself is half.
fn data_limit() -> Option<u64> {
    use rustix::process::{Resource, getrlimit};
    let limits = [Resource::As, Resource::Data].map(|resource| getrlimit(resource).current);
    limits.into_iter().flatten().min().map(|bytes| bytes / 2)
}

/// What a process in a cgroup of this limit may have of its own.
fn own_share(limit: u64) -> u64 {
    limit - limit / KERNEL_PART
}

/// The files of a version of cgroups.
#[derive(Debug, PartialEq, Eq)]
struct Files {
    limit: &'static str,
    usage: &'static str,
    inactive_file: &'static str,
    active_file: &'static str,
}

const VERSION_1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    inactive_file: "total_inactive_file",
    active_file: "total_active_file",
};
const VERSION_2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    inactive_file: "inactive_file",
    active_file: "active_file",
};

/// A cgroup that this process is in, or one above it, and what its files are called.
#[derive(Debug)]
pub(super) struct Group {
    pub folder: PathBuf,
    files: &'static Files,
}

impl Group {
    /// Bytes that it may have; `None`: it has no limit.
    pub fn limit(&self) -> Option<u64> {
        // Version 1 says "no limit" by a number that no machine has.
        self.number(self.files.limit).filter(|bytes| *bytes < 1 << 60)
    }

    /// Bytes that are charged to it, pages of files that the kernel takes back first left out.
    pub fn usage_but_cold_files(&self) -> Option<u64> {
        let files = self.stat(self.files.inactive_file).unwrap_or(0);
        Some(self.number(self.files.usage)?.saturating_sub(files))
    }

    /// Bytes that are charged to it, all pages of files left out: what the kernel cannot take back.
    pub fn taken(&self) -> Option<u64> {
        let files = self.stat(self.files.active_file).unwrap_or(0);
        Some(self.usage_but_cold_files()?.saturating_sub(files))
    }

    /// A file with one number; `None`: there is none, or it says `max`.
    fn number(&self, file: &str) -> Option<u64> {
        read_to_string(self.folder.join(file)).ok()?.trim().parse().ok()
    }

    /// A line `name value` of `memory.stat`.
    fn stat(&self, name: &str) -> Option<u64> {
        let text = read_to_string(self.folder.join("memory.stat")).ok()?;
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        line.trim().parse().ok()
    }
}

/// The groups that may limit memory, of cgroup v2 and v1.
pub(super) fn groups() -> Vec<Group> {
    let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
    groups_of(&own, Path::new("/sys/fs/cgroup"))
}

/// The groups that `own` (/proc/self/cgroup) names, and those above them; where the hierarchies are.
fn groups_of(own: &str, mounts: &Path) -> Vec<Group> {
    let folders = folders_of(own, mounts, "memory");
    let group = |(folder, is_version_2)| Group {
        folder,
        files: if is_version_2 { &VERSION_2 } else { &VERSION_1 },
    };
    folders.into_iter().map(group).collect()
}

/// Where the groups that `own` names are that a controller may limit, and those above them; whether they are of version 2.
fn folders_of(own: &str, mounts: &Path, controller: &str) -> Vec<(PathBuf, bool)> {
    let mut folders = Vec::new();
    for line in own.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" => mounts.to_path_buf(),
            other if other.split(',').any(|name| name == controller) => mounts.join(controller),
            _ => continue,
        };
        let mut folder = root.join(path.trim_start_matches('/'));
        while folder.starts_with(&root) {
            folders.push((folder.clone(), controllers.is_empty()));
            folder.pop();
        }
    }
    folders
}

/// Files that tell how often a quota of processor time was used up, of the groups this process is in.
pub(super) fn throttle_files() -> Vec<PathBuf> {
    let own = read_to_string("/proc/self/cgroup").unwrap_or_default();
    let folders = folders_of(&own, Path::new("/sys/fs/cgroup"), "cpu");
    let files = folders.into_iter().map(|(folder, _)| folder.join("cpu.stat"));
    files.filter(|file| throttled(file).is_some()).collect()
}

/// How often the quota of the group with this file was used up.
pub(super) fn throttled(file: &Path) -> Option<u64> {
    let text = read_to_string(file).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "))?;
    line.trim().parse().ok()
}

/// The group whose limit is the least.
fn tightest() -> Option<(u64, Group)> {
    tightest_of(groups())
}

/// Bytes that are left to this process in that group, after what it, others and the kernel have. `None`: there is no limit.
pub(super) fn group_left() -> Option<u64> {
    left_of(tightest()?)
}

fn left_of((limit, group): (u64, Group)) -> Option<u64> {
    Some(own_share(limit).saturating_sub(group.taken()?))
}

fn tightest_of(groups: Vec<Group>) -> Option<(u64, Group)> {
    let limited = groups
        .into_iter()
        .filter_map(|group| Some((group.limit()?, group)));
    limited.min_by_key(|(limit, _)| *limit)
}

fn cgroup_limit() -> Option<u64> {
    tightest().map(|(limit, _)| limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_address_space_is_refused() {
        assert_eq!(enough_address_space(None), Ok(()));
        assert_eq!(enough_address_space(Some(1 << 30)), Ok(()));
        let refused = enough_address_space(Some(512 << 20)).expect_err("too little");
        assert!(
            refused.contains("512 MiB") && refused.contains("1024"),
            "{refused}"
        );
    }

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

    /// A hierarchy of groups as files: (path, text).
    fn hierarchy(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("below the root")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        root
    }

    #[test]
    fn the_tightest_cgroup_of_version_2_is_found_and_read() {
        let root = hierarchy(&[
            ("memory.stat", "anon 1\n"),
            ("system.slice/memory.max", "1073741824\n"),
            ("system.slice/memory.current", "900\n"),
            ("system.slice/kymo.service/memory.max", "268435456\n"),
            ("system.slice/kymo.service/memory.current", "1000\n"),
            (
                "system.slice/kymo.service/memory.stat",
                "anon 500\nfile 450\nkernel 50\nsock 7\ninactive_file 300\nactive_file 100\n",
            ),
            ("system.slice/kymo.service/free/memory.max", "max\n"),
        ]);
        let find = |own: &str| tightest_of(groups_of(own, root.path()));
        for own in [
            "0::/system.slice/kymo.service\n",
            "0::/system.slice/kymo.service/free\n",
        ] {
            let (limit, group) = find(own).expect("a limit");
            assert_eq!(limit, 256 << 20, "{own}");
            assert_eq!(group.folder, root.path().join("system.slice/kymo.service"));
            assert_eq!(
                (group.usage_but_cold_files(), group.taken()),
                (Some(700), Some(600))
            );
        }
        let (limit, group) = find("0::/system.slice/other\n").expect("a limit above it");
        assert_eq!(limit, 1 << 30);
        assert_eq!(group.taken(), Some(900), "without figures of files all is taken");
        assert!(find("0::/\n").is_none() && find("nonsense\n:\n0:x\n").is_none() && find("").is_none());
    }

    #[test]
    fn the_tightest_cgroup_of_version_1_is_found_and_read() {
        let root = hierarchy(&[
            ("memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory/docker/a/memory.limit_in_bytes", "536870912\n"),
            ("memory/docker/a/memory.usage_in_bytes", "1000\n"),
            (
                "memory/docker/a/memory.stat",
                "inactive_file 1\nactive_file 1\ntotal_inactive_file 200\ntotal_active_file 50\n",
            ),
            // The unified hierarchy beside it has no memory controller.
            ("docker/a/cgroup.procs", ""),
        ]);
        for own in [
            "4:memory:/docker/a\n1:cpu:/x\n0::/docker/a\n",
            "4:cpu,memory:/docker/a/b\n",
        ] {
            let (limit, group) = tightest_of(groups_of(own, root.path())).expect("a limit");
            assert_eq!(limit, 512 << 20, "{own}");
            assert_eq!(
                (group.usage_but_cold_files(), group.taken()),
                (Some(800), Some(750))
            );
        }
        assert!(tightest_of(groups_of("4:memory:/\n", root.path())).is_none());
    }

    #[test]
    fn what_tells_of_quotas_is_found_and_read() {
        let folder = tempfile::tempdir().expect("a folder");
        let mounts = folder.path();
        let own = "5:memory:/other\n4:cpu,cpuacct:/docker/a\n0::/user.slice\n";
        let found: Vec<PathBuf> = folders_of(own, mounts, "cpu")
            .into_iter()
            .map(|(folder, _)| folder)
            .collect();
        let want = ["cpu/docker/a", "cpu/docker", "cpu", "user.slice", ""];
        assert_eq!(found, want.map(|path| mounts.join(path)));
        let file = mounts.join("cpu.stat");
        assert_eq!(throttled(&file), None);
        std::fs::write(&file, "nr_periods 9\nnr_throttled 7\nthrottled_time 12\n").expect("written");
        assert_eq!(throttled(&file), Some(7));
    }

    #[test]
    fn a_part_of_a_cgroup_is_the_kernels() {
        assert_eq!(own_share(256 << 20), 240 << 20);
    }

    #[test]
    fn this_machine_has_something() {
        let machine = Machine::look();
        assert!(machine.cores >= 1 && machine.memory >= 1 << 20, "{machine:?}");
    }
}
