//! How the machine is right now: memory left, stalls for want of it, and whether it runs on battery.

use super::Meter;
use super::machine::{groups, meminfo};
use std::fs::read_to_string;
use std::path::Path;

/// One look.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Observation {
    /// Bytes of memory that may be used in all.
    pub memory: u64,
    /// Bytes of it that are left, caches of the kernel counted as left.
    pub available: u64,
    /// Share of the last ten seconds in which something waited for memory, percent; `None` where the kernel does not say.
    pub stalled_percent: Option<f64>,
    /// No mains.
    pub on_battery: bool,
}

/// Looks at the machine, at the cgroup this process is in, and at what the process has of the memory it was told to count on.
pub fn observe(meter: &Meter) -> Observation {
    let memory = meminfo("MemTotal").unwrap_or(u64::MAX);
    let mut seen = Observation {
        memory,
        available: meminfo("MemAvailable").unwrap_or(memory),
        stalled_percent: read_to_string("/proc/pressure/memory")
            .ok()
            .and_then(|text| some_avg10(&text)),
        on_battery: on_battery(Path::new("/sys/class/power_supply")),
    };
    let available = meter.bytes_max().saturating_sub(meter.resident());
    if share(available, meter.bytes_max()) < share(seen.available, seen.memory) {
        (seen.memory, seen.available) = (meter.bytes_max(), available);
    }
    for group in groups() {
        if let (Some(max), Some(used)) = (group.limit(), group.usage_but_cold_files()) {
            let available = max.saturating_sub(used);
            if share(available, max) < share(seen.available, seen.memory) {
                (seen.memory, seen.available) = (max, available);
            }
        }
        let stalled = read_to_string(group.folder.join("memory.pressure"))
            .ok()
            .and_then(|text| some_avg10(&text));
        seen.stalled_percent = match (seen.stalled_percent, stalled) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
    }
    seen
}

/// Bytes of this process that are in memory; 0 where the system does not say.
pub fn resident_bytes() -> u64 {
    in_memory().0
}

/// Those of them that are no pages of files, which are given back before anything suffers.
pub fn own_bytes() -> u64 {
    let (resident, of_files) = in_memory();
    resident.saturating_sub(of_files)
}

/// Bytes in memory, and those of them that are pages of files.
fn in_memory() -> (u64, u64) {
    let pages = read_to_string("/proc/self/statm").unwrap_or_default();
    let mut pages = pages.split_whitespace().skip(1).map(|n| n.parse::<u64>());
    let mut next = || pages.next().and_then(Result::ok).unwrap_or(0) * rustix::param::page_size() as u64;
    (next(), next())
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// `some avg10=1.23 avg60=..` of a pressure file.
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let value = line
        .split_whitespace()
        .find_map(|word| word.strip_prefix("avg10="))?;
    value.parse().ok()
}

/// A battery discharges, or there are mains and all are off.
fn on_battery(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return false;
    };
    let (mut mains, mut online, mut discharging) = (false, false, false);
    for entry in entries.flatten() {
        let read = |file: &str| read_to_string(entry.path().join(file)).unwrap_or_default();
        match read("type").trim() {
            "Mains" | "USB" => {
                mains = true;
                online |= read("online").trim() == "1";
            }
            // Mice and keyboards have batteries, too.
            "Battery" if read("scope").trim() != "Device" => {
                discharging |= read("status").trim() == "Discharging"
            }
            _ => {}
        }
    }
    discharging && !(mains && online)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_kernel_are_read() {
        let pressure = "some avg10=12.50 avg60=1.00 avg300=0.00 total=7\nfull avg10=3.00 avg60=0.00 avg300=0.00 total=0\n";
        assert_eq!(some_avg10(pressure), Some(12.5));
        assert_eq!(some_avg10("full avg10=3.00"), None);
        assert_eq!(some_avg10("some avg10=x"), None);
        assert!(own_bytes() > 1 << 20 && own_bytes() < resident_bytes());
        let seen = observe(&Meter::default());
        assert!(seen.available <= seen.memory && seen.available > 0, "{seen:?}");
        // A process that has more than it was told to count on leaves nothing.
        let room = vec![1; 65 << 20];
        let seen = observe(&Meter::new(1));
        assert_eq!((seen.memory, seen.available), (64 << 20, 0), "{}", room.len());
    }

    #[test]
    fn batteries() {
        let folder = tempfile::tempdir().expect("a folder");
        let supply = |name: &str, files: &[(&str, &str)]| {
            let path = folder.path().join(name);
            std::fs::create_dir_all(&path).expect("made");
            for (file, text) in files {
                std::fs::write(path.join(file), format!("{text}\n")).expect("written");
            }
        };
        assert!(!on_battery(folder.path()), "no supplies: a server");
        supply(
            "mouse",
            &[
                ("type", "Battery"),
                ("scope", "Device"),
                ("status", "Discharging"),
            ],
        );
        assert!(!on_battery(folder.path()));
        supply("BAT0", &[("type", "Battery"), ("status", "Discharging")]);
        assert!(on_battery(folder.path()));
        supply("AC", &[("type", "Mains"), ("online", "1")]);
        assert!(!on_battery(folder.path()), "mains help out a weak charger");
        supply("AC", &[("online", "0")]);
        assert!(on_battery(folder.path()));
    }
}
