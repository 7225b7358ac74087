//! What is in the store at this moment: runs, the packs that carry them, deletes. Changed in short steps under one lock,
//! each after what it describes is durable; readers take a [`RunSet`] and never wait.

use super::Core;
use super::deletes::Deletes;
use super::keys::RunId;
use super::pack::{PackHeader, RunEntry};
use super::runs::{Run, RunSet};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A pack on disk. Whoever may still read one of its runs holds it.
#[derive(Debug)]
pub struct Pack {
    /// Its number.
    pub id: u64,
    /// Bytes of all its runs, those that are replaced included.
    pub bytes: u64,
}

/// See the module.
pub struct State {
    /// Highest sequence whose data is here.
    pub watermark: u64,
    /// Oldest first.
    pub runs: Vec<Arc<Run>>,
    /// Everything that is hidden.
    pub deletes: Deletes,
    /// Every pack on disk.
    packs: BTreeMap<u64, Arc<Pack>>,
    /// Runs that are replaced and whose pack is still on disk.
    replaced: Vec<RunId>,
    /// The pack with the header that has the say. It stays, runs or none.
    newest: Option<u64>,
}

impl State {
    /// From the headers on disk. The number of the last commit and the next free pack number come with it.
    pub fn open(headers: Vec<(u64, PackHeader)>, deletes: Deletes) -> (Self, u64, u64) {
        let newest = headers.iter().max_by_key(|(pack, header)| (header.commit, *pack));
        let replaced = newest.map(|(_, h)| h.replaces.clone()).unwrap_or_default();
        let commit = newest.map_or(0, |(_, h)| h.commit);
        let next_pack = headers
            .iter()
            .map(|(pack, h)| h.next_pack.max(pack + 1))
            .max()
            .unwrap_or(1);
        let mut state = Self {
            watermark: headers.iter().map(|(_, h)| h.watermark).max().unwrap_or(0),
            runs: Vec::new(),
            deletes,
            packs: BTreeMap::new(),
            newest: newest.map(|(pack, _)| *pack),
            replaced: Vec::new(),
        };
        for (pack, header) in headers {
            state.add_pack(pack, header.runs, &replaced);
        }
        state.replaced = replaced;
        state.replaced.retain(|id| state.packs.contains_key(&id.pack));
        (state, commit, next_pack)
    }

    fn add_pack(&mut self, id: u64, entries: Vec<RunEntry>, replaced: &[RunId]) {
        let bytes = entries.iter().map(|entry| entry.bytes).sum();
        let pack = Arc::new(Pack { id, bytes });
        self.packs.insert(id, pack.clone());
        for (run, entry) in (0..).zip(entries) {
            let id = RunId { pack: id, run };
            if !replaced.contains(&id) {
                let pack = pack.clone();
                self.runs.push(Arc::new(Run { id, entry, pack }));
            }
        }
        self.runs.sort_by_key(|run| (run.entry.sequence, run.id));
    }

    /// The runs a header written now must name as replaced, besides those it replaces itself.
    pub fn replaced(&self) -> &[RunId] {
        &self.replaced
    }

    /// A pack is durable.
    pub fn committed(&mut self, pack: u64, header: PackHeader) {
        let (gone, kept) = std::mem::take(&mut self.runs)
            .into_iter()
            .partition(|run| header.replaces.contains(&run.id));
        self.runs = kept;
        let gone: Vec<Arc<Run>> = gone;
        self.replaced.extend(gone.iter().map(|run| run.id));
        self.watermark = self.watermark.max(header.watermark);
        self.add_pack(pack, header.runs, &[]);
        self.newest = Some(pack);
    }

    /// Packs that nobody needs or reads any more. They are taken off the list: who calls this drops them.
    pub fn take_spent_packs(&mut self) -> Vec<Arc<Pack>> {
        let spent = self.packs.values().filter(|pack| {
            // This list has one; every run and so every reader has another.
            Arc::strong_count(pack) == 1 && self.newest != Some(pack.id)
        });
        let spent: Vec<u64> = spent.map(|pack| pack.id).collect();
        spent.iter().filter_map(|id| self.packs.remove(id)).collect()
    }

    /// The pack is durably gone.
    pub fn dropped(&mut self, pack: u64) {
        self.replaced.retain(|id| id.pack != pack);
    }

    /// It could not be dropped; another try later.
    pub fn not_dropped(&mut self, pack: Arc<Pack>) {
        self.packs.insert(pack.id, pack);
    }

    /// Bytes of replaced runs in a pack.
    pub fn stranded_bytes(&self, pack: &Pack) -> u64 {
        let of_pack = self.runs.iter().filter(|run| run.id.pack == pack.id);
        pack.bytes
            .saturating_sub(of_pack.map(|run| run.entry.bytes).sum())
    }

    /// Packs on disk.
    pub fn packs(&self) -> usize {
        self.packs.len()
    }

    /// What readers take.
    pub fn run_set(&self, core: &Arc<Core>) -> RunSet {
        RunSet::new(core.clone(), self.watermark, &self.runs, &self.deletes)
    }
}

#[cfg(test)]
mod tests {
    use super::super::partition::Partition;
    use super::*;
    use crate::block::Level;
    use crate::model::TimeRange;

    fn header(commit: u64, watermark: u64, runs: usize, replaces: &[(u64, u32)]) -> PackHeader {
        let entry = RunEntry {
            partition: Partition::day(0),
            sequence: watermark,
            deletes_applied: 0,
            level: Level::Fast,
            time: TimeRange { min: 0, max: 1 },
            rows: 1,
            bytes: 10,
            measurements: Vec::new(),
        };
        PackHeader {
            commit,
            watermark,
            next_pack: commit + 1,
            replaces: replaces.iter().map(|&(pack, run)| RunId { pack, run }).collect(),
            runs: vec![entry; runs],
        }
    }

    fn ids(state: &State) -> Vec<(u64, u32)> {
        state.runs.iter().map(|run| (run.id.pack, run.id.run)).collect()
    }

    #[test]
    fn a_pack_is_spent_when_nobody_reads_it_and_its_runs_stay_dead_until_it_is_gone() {
        let headers = vec![(1, header(1, 5, 2, &[])), (2, header(2, 9, 1, &[(1, 0)]))];
        let (mut state, commit, next_pack) = State::open(headers, Deletes::default());
        assert_eq!((state.watermark, commit, next_pack), (9, 2, 3));
        assert_eq!(ids(&state), [(1, 1), (2, 0)]);
        assert_eq!(state.stranded_bytes(&state.runs[0].pack), 10);
        assert!(state.take_spent_packs().is_empty());

        // A merge whose pack number was taken before a seal's that was committed first.
        let reader = state.runs[0].clone();
        state.committed(3, header(4, 9, 1, &[(1, 1), (2, 0)]));
        assert_eq!(ids(&state), [(3, 0)]);
        let spent: Vec<u64> = state.take_spent_packs().iter().map(|p| p.id).collect();
        assert_eq!(spent, [2], "somebody reads pack 1");
        assert_eq!(state.replaced().len(), 3);
        state.dropped(2);
        drop(reader);
        let spent = state.take_spent_packs();
        assert_eq!(spent.len(), 1);
        state.not_dropped(spent[0].clone());
        drop(spent);
        assert_eq!(state.take_spent_packs().len(), 1);
        assert_eq!(state.replaced().len(), 2, "it is still on disk");
        state.dropped(1);
        assert!(state.replaced().is_empty());
        assert!(state.take_spent_packs().is_empty(), "the newest stays");
    }
}
