//! Damage, crashes and full disks against the real store and the real binary. How often each runs comes from the environment
//! (`KYMO_FLIPS`, `KYMO_IMAGES`, ..); what a run has counted is printed, and docs/reliability.md reports the large ones.

mod backup;
#[path = "../end_to_end/cgroup.rs"]
mod cgroup;
mod datagrams;
mod db;
mod disk;
mod failing;
mod faults;
mod flips;
mod folder;
mod full;
mod history;
mod images;
mod index;
mod kill;
mod merges;
mod mirror;
mod overload;
mod power;
mod recorder;
mod repair;
mod start;
#[allow(dead_code, reason = "written for the end to end tests")]
#[path = "../end_to_end/support.rs"]
mod support;
mod unsynced;

/// How many rounds of something to run.
fn rounds(variable: &str, default: u64) -> u64 {
    std::env::var(variable)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Reproducible chance.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
