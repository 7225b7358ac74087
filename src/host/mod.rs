//! The machine this server runs on, as line protocol: so the first query of a new user answers with real data.
//!
//! Pure of actors and sockets: whoever owns a [`Sampler`] decides when it looks.

use std::collections::BTreeMap;
use std::fmt::Write;
use sysinfo::{
    CpuRefreshKind, Disks, MemoryRefreshKind, Networks, ProcessRefreshKind, ProcessesToUpdate, RefreshKind,
    System,
};

/// Processes shown: so many by CPU, and so many by memory.
const PROCESSES_MAX: usize = 10;
/// File systems that are no disks.
const PSEUDO_FILE_SYSTEMS: &[&str] = &[
    "tmpfs", "devtmpfs", "overlay", "squashfs", "proc", "sysfs", "ramfs",
];

/// Looks at the machine again and again.
pub struct Sampler {
    system: System,
    disks: Disks,
    networks: Networks,
    host: String,
    /// (busy, total) jiffies by CPU and mode, from the look before.
    cpu_before: BTreeMap<String, [u64; 8]>,
}

/// Columns of /proc/stat, in its order.
const CPU_MODES: [&str; 8] = [
    "user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal",
];

impl Sampler {
    /// Takes a first look, to which the next one is compared.
    ///
    /// # Errors
    /// This platform tells nothing about its machine.
    pub fn new() -> Result<Self, sysinfo::Error> {
        let kinds = RefreshKind::nothing()
            .with_cpu(CpuRefreshKind::everything())
            .with_memory(MemoryRefreshKind::everything());
        let mut sampler = Self {
            system: System::new_with_specifics(kinds)?,
            disks: Disks::new_with_refreshed_list()?,
            networks: Networks::new_with_refreshed_list()?,
            host: System::host_name().unwrap_or_else(|_| "localhost".into()),
            cpu_before: BTreeMap::new(),
        };
        sampler.refresh();
        sampler.cpu_before = proc_stat();
        Ok(sampler)
    }

    fn refresh(&mut self) {
        self.system.refresh_cpu_all();
        self.system.refresh_memory();
        let kinds = ProcessRefreshKind::nothing().with_cpu().with_memory();
        self.system
            .refresh_processes_specifics(ProcessesToUpdate::All, true, kinds);
        self.disks.refresh(true);
        self.networks.refresh(true);
    }

    /// Appends lines for `now` (nanoseconds).
    pub fn sample(&mut self, now: i64, out: &mut String) {
        self.refresh();
        self.cpu(now, out);
        self.system_and_memory(now, out);
        self.disks(now, out);
        self.networks(now, out);
        self.processes(now, out);
    }

    fn line(
        &self,
        out: &mut String,
        now: i64,
        measurement: &str,
        tags: &[(&str, &str)],
        fields: &[(&str, Number)],
    ) {
        let _ = write!(out, "{measurement},host={}", Escaped(&self.host));
        for (key, value) in tags.iter().filter(|(_, value)| !value.is_empty()) {
            let _ = write!(out, ",{key}={}", Escaped(value));
        }
        let mut separator = ' ';
        for (key, value) in fields {
            let _ = match value {
                Number::Float(v) if v.is_finite() => write!(out, "{separator}{key}={v}"),
                Number::Float(_) => continue,
                Number::Integer(v) => write!(out, "{separator}{key}={v}i"),
            };
            separator = ',';
        }
        let _ = writeln!(out, " {now}");
    }

    fn cpu(&mut self, now: i64, out: &mut String) {
        let seen = proc_stat();
        if seen.is_empty() {
            // Not Linux: what sysinfo knows.
            for (i, cpu) in self.system.cpus().iter().enumerate() {
                let name = format!("cpu{i}");
                self.line(
                    out,
                    now,
                    "cpu",
                    &[("cpu", &name)],
                    &[("usage", Number::Float(f64::from(cpu.usage())))],
                );
            }
            let total = f64::from(self.system.global_cpu_usage());
            self.line(
                out,
                now,
                "cpu",
                &[("cpu", "cpu-total")],
                &[("usage", Number::Float(total))],
            );
            return;
        }
        for (name, after) in &seen {
            let before = self.cpu_before.get(name).copied().unwrap_or_default();
            let change: Vec<u64> = after
                .iter()
                .zip(before)
                .map(|(a, b)| a.saturating_sub(b))
                .collect();
            let total = change.iter().sum::<u64>().max(1) as f64;
            let percent = |jiffies: u64| Number::Float((jiffies as f64 / total * 10_000.0).round() / 100.0);
            let idle = change[3] + change[4];
            let names: Vec<String> = CPU_MODES.iter().map(|mode| format!("usage_{mode}")).collect();
            let mut fields: Vec<(&str, Number)> = vec![("usage", percent(change.iter().sum::<u64>() - idle))];
            fields.extend(
                names
                    .iter()
                    .map(String::as_str)
                    .zip(change.iter().map(|c| percent(*c))),
            );
            let shown = if name == "cpu" { "cpu-total" } else { name };
            self.line(out, now, "cpu", &[("cpu", shown)], &fields);
        }
        self.cpu_before = seen;
    }

    fn system_and_memory(&self, now: i64, out: &mut String) {
        let load = System::load_average().map_or([f64::NAN; 3], |load| [load.one, load.five, load.fifteen]);
        let integer = |v: u64| Number::Integer(i64::try_from(v).unwrap_or(i64::MAX));
        let share = |part: u64, whole: u64| {
            Number::Float(if whole == 0 {
                0.0
            } else {
                part as f64 * 100.0 / whole as f64
            })
        };
        let system = &self.system;
        self.line(
            out,
            now,
            "system",
            &[],
            &[
                ("load1", Number::Float(load[0])),
                ("load5", Number::Float(load[1])),
                ("load15", Number::Float(load[2])),
                ("uptime", integer(System::uptime().unwrap_or_default())),
                ("processes", integer(system.processes().len() as u64)),
                ("cpus", integer(system.cpus().len() as u64)),
            ],
        );
        self.line(
            out,
            now,
            "mem",
            &[],
            &[
                ("total", integer(system.total_memory())),
                ("used", integer(system.used_memory())),
                ("available", integer(system.available_memory())),
                ("free", integer(system.free_memory())),
                ("used_percent", share(system.used_memory(), system.total_memory())),
            ],
        );
        self.line(
            out,
            now,
            "swap",
            &[],
            &[
                ("total", integer(system.total_swap())),
                ("used", integer(system.used_swap())),
                ("free", integer(system.free_swap())),
                ("used_percent", share(system.used_swap(), system.total_swap())),
            ],
        );
    }

    fn disks(&self, now: i64, out: &mut String) {
        let mut reads: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let real: Vec<_> = self
            .disks
            .iter()
            .filter(|d| {
                d.total_space() > 0
                    && !PSEUDO_FILE_SYSTEMS.contains(&d.file_system().to_string_lossy().as_ref())
            })
            .collect();
        // In a container there may be nothing but an overlay; then that is the disk.
        let shown: Vec<_> = if real.is_empty() {
            self.disks.iter().filter(|d| d.total_space() > 0).collect()
        } else {
            real
        };
        for disk in shown {
            let (total, free) = (disk.total_space(), disk.available_space());
            let used = total.saturating_sub(free);
            let (device, path) = (
                disk.name().to_string_lossy(),
                disk.mount_point().to_string_lossy(),
            );
            let kind = disk.file_system().to_string_lossy();
            let integer = |v: u64| Number::Integer(i64::try_from(v).unwrap_or(i64::MAX));
            self.line(
                out,
                now,
                "disk",
                &[("device", &device), ("fstype", &kind), ("path", &path)],
                &[
                    ("total", integer(total)),
                    ("used", integer(used)),
                    ("free", integer(free)),
                    ("used_percent", Number::Float(used as f64 * 100.0 / total as f64)),
                ],
            );
            let usage = disk.usage();
            reads.insert(
                device.into_owned(),
                (usage.total_read_bytes, usage.total_written_bytes),
            );
        }
        for (device, (read, written)) in reads {
            self.line(
                out,
                now,
                "diskio",
                &[("name", &device)],
                &[
                    ("read_bytes", Number::Integer(read as i64)),
                    ("write_bytes", Number::Integer(written as i64)),
                ],
            );
        }
    }

    fn networks(&self, now: i64, out: &mut String) {
        for (name, data) in &self.networks {
            self.line(
                out,
                now,
                "net",
                &[("interface", &name.to_string_lossy())],
                &[
                    ("bytes_recv", Number::Integer(data.total_received() as i64)),
                    ("bytes_sent", Number::Integer(data.total_transmitted() as i64)),
                    (
                        "packets_recv",
                        Number::Integer(data.total_packets_received() as i64),
                    ),
                    (
                        "packets_sent",
                        Number::Integer(data.total_packets_transmitted() as i64),
                    ),
                    ("err_in", Number::Integer(data.total_errors_on_received() as i64)),
                    (
                        "err_out",
                        Number::Integer(data.total_errors_on_transmitted() as i64),
                    ),
                ],
            );
        }
    }

    /// The busiest programs by name: a process id as a tag would make new series for ever.
    fn processes(&self, now: i64, out: &mut String) {
        let mut by_name: BTreeMap<String, (f64, u64, i64)> = BTreeMap::new();
        for process in self
            .system
            .processes()
            .values()
            .filter(|p| p.thread_kind().is_none())
        {
            let entry = by_name
                .entry(process.name().to_string_lossy().into_owned())
                .or_default();
            entry.0 += f64::from(process.cpu_usage());
            entry.1 += process.memory();
            entry.2 += 1;
        }
        let mut list: Vec<(&String, &(f64, u64, i64))> = by_name.iter().collect();
        let mut shown: BTreeMap<&String, &(f64, u64, i64)> = BTreeMap::new();
        list.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
        shown.extend(list.iter().take(PROCESSES_MAX).copied());
        list.sort_by_key(|(_, (_, memory, _))| std::cmp::Reverse(*memory));
        shown.extend(list.iter().take(PROCESSES_MAX).copied());
        for (name, (cpu, memory, count)) in shown {
            self.line(
                out,
                now,
                "processes",
                &[("name", name)],
                &[
                    ("cpu", Number::Float((cpu * 100.0).round() / 100.0)),
                    ("memory", Number::Integer(*memory as i64)),
                    ("count", Number::Integer(*count)),
                ],
            );
        }
    }
}

enum Number {
    Float(f64),
    Integer(i64),
}

/// A tag value with what line protocol needs escaped.
struct Escaped<'a>(&'a str);

impl std::fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // A backslash at the end would escape what follows.
        for c in self.0.trim_end_matches('\\').chars().filter(|c| !c.is_control()) {
            if matches!(c, ',' | '=' | ' ') {
                f.write_char('\\')?;
            }
            f.write_char(c)?;
        }
        Ok(())
    }
}

/// Jiffies by CPU and mode; empty where there is no /proc/stat.
fn proc_stat() -> BTreeMap<String, [u64; 8]> {
    let text = std::fs::read_to_string("/proc/stat").unwrap_or_default();
    let cpu = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().filter(|name| name.starts_with("cpu"))?;
        let mut modes = [0; 8];
        for mode in &mut modes {
            *mode = words.next()?.parse().ok()?;
        }
        Some((name.to_string(), modes))
    };
    text.lines().filter_map(cpu).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_plugin_api::{Framing, Options, kit};

    #[test]
    fn every_line_can_be_read_and_what_users_ask_for_is_there() {
        let mut sampler = Sampler::new().expect("a machine to look at");
        let mut lines = String::new();
        sampler.sample(1_000_000_000, &mut lines);
        let read = kit::decode(
            &kymo_line_protocol::LineProtocol,
            &Options::new(),
            Framing::Lines,
            &[lines.as_bytes()],
        );
        assert_eq!(read.rejections, []);
        for measurement in ["cpu,", "system,", "mem,", "swap,", "processes,"] {
            assert!(
                read.rows.iter().any(|row| row.starts_with(measurement)),
                "{measurement} in {lines}"
            );
        }
        assert!(lines.contains("cpu=cpu-total usage="), "{lines}");
    }
}
