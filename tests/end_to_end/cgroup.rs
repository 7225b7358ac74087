//! A memory cgroup of the test's own, of version 1 or 2, in which a server is started: the kernel ends what goes beyond it.

use std::path::{Path, PathBuf};

/// See the module. Removed when dropped; the server must have ended by then.
pub struct Cgroup {
    folder: PathBuf,
    peak: &'static str,
}

impl Cgroup {
    /// A group below the test's own, or at the top; `None` where the kernel has none or lets nobody make one.
    pub fn new(name: &str, bytes: u64) -> Option<Self> {
        let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        own.lines().find_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let (root, limit, peak) = match controllers {
                "memory" => (
                    "/sys/fs/cgroup/memory",
                    "memory.limit_in_bytes",
                    "memory.max_usage_in_bytes",
                ),
                "" => ("/sys/fs/cgroup", "memory.max", "memory.peak"),
                _ => return None,
            };
            let own = Path::new(root).join(path.trim_start_matches('/'));
            [own.as_path(), Path::new(root)].into_iter().find_map(|parent| {
                let folder = parent.join(format!("kymo-test-{name}-{}", std::process::id()));
                // Where the hierarchy is not mounted this would be any folder: there is no file for the limit in it then.
                std::fs::create_dir(&folder).ok()?;
                let group = Self { folder, peak };
                let limit = std::fs::OpenOptions::new()
                    .write(true)
                    .open(group.folder.join(limit));
                std::io::Write::write_all(&mut limit.ok()?, bytes.to_string().as_bytes()).ok()?;
                Some(group)
            })
        })
    }

    /// The command that starts a program in it.
    pub fn command(&self, program: &[&str]) -> Vec<String> {
        let enter = format!("echo $$ > {}/cgroup.procs && exec \"$@\"", self.folder.display());
        let words = ["sh", "-c", &enter, "sh"]
            .into_iter()
            .chain(program.iter().copied());
        words.map(str::to_string).collect()
    }

    /// The most that was ever charged to it, page cache included.
    #[allow(dead_code, reason = "for tests/crash")]
    pub fn peak_bytes(&self) -> Option<u64> {
        std::fs::read_to_string(self.folder.join(self.peak))
            .ok()?
            .trim()
            .parse()
            .ok()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // What is left in it is the kernel's to end first.
        for _ in 0..50 {
            if std::fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    }
}
