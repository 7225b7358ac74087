//! The whole index: its generations, and how they come and go. A seal that brings new series writes a generation, and takes small
//! older ones into it; a merge in the background keeps the larger ones few. Readers hold the generations they read.

use super::generation::{Generation, Stored, VERSION};
use super::header::Header;
use super::page::{Page, page_of, slot_of};
use super::part::Part;
use super::place;
use super::sealed::{Sealed, Totals, totals};
use super::table::hash_of;
use super::writer::Sources;
use crate::model::{MeasurementId, SeriesId};
use crate::store::engine::PackSink;
use crate::store::{Core, StoreError, frame, keys};
use arc_swap::ArcSwap;
use roaring::RoaringBitmap;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A seal takes an older generation into its own if that has at most so many times the series.
const FOLD_RATIO: u64 = 4;
/// A seal takes in no more than so many older series: the rest is for merges, which nobody waits for.
const FOLD_SERIES_MAX: u64 = 128 << 10;
/// A generation is written again without what is gone when one in so many of its series was dropped.
const GONE_SHARE: u64 = 4;
/// Generations of one size class that are merged: sizes of a class differ by this factor at most.
const FAN_IN: u64 = 4;

/// New series of a measurement, for a seal.
#[derive(Clone, Debug)]
pub struct NewSeries {
    /// The measurement.
    pub measurement: MeasurementId,
    /// Pages, ascending.
    pub pages: Vec<Arc<Page>>,
    /// The series on them that are meant.
    pub ids: RoaringBitmap,
}

/// See the module. Shared.
#[derive(Default)]
pub struct SeriesIndex {
    /// None in tests that have no store.
    core: Option<Arc<Core>>,
    set: ArcSwap<GenerationSet>,
    /// Whoever ends a pack, one at a time: seals while they write, merges only for their first and last steps.
    commit: Mutex<Commit>,
    next_pack: AtomicU64,
    /// Series may have been dropped since generations were last looked at for it.
    drops: AtomicBool,
}

/// The generations there are at one moment.
#[derive(Debug, Default)]
pub struct GenerationSet {
    /// Grows with every change.
    pub version: u64,
    /// By series, the largest last.
    generations: Vec<Arc<Generation>>,
}

#[derive(Default)]
struct Commit {
    /// Packs that a merge is reading now.
    merging: BTreeSet<u64>,
    /// Replaced, but somebody may still read them.
    spent: Vec<Arc<Generation>>,
}

/// What a pack is made of.
struct Plan<'a> {
    /// Measurements that have new series.
    measurements: BTreeSet<MeasurementId>,
    /// Older generations that are taken in.
    replaced: &'a [Arc<Generation>],
    /// Packs that were replaced before and may still be on disk.
    spent: Vec<u64>,
}

impl Commit {
    fn spent_packs(&self) -> Vec<u64> {
        self.spent.iter().map(|g| g.pack).collect()
    }
}

impl GenerationSet {
    /// All of them, the largest last.
    pub fn generations(&self) -> &[Arc<Generation>] {
        &self.generations
    }

    /// The sealed series of a measurement.
    pub fn of(&self, measurement: MeasurementId) -> Sealed {
        Sealed::new(measurement, &self.generations)
    }

    /// What is known of them without reading.
    pub fn totals(&self, measurement: MeasurementId) -> Totals {
        totals(
            self.generations
                .iter()
                .filter_map(|g| g.header.entry(measurement)),
        )
    }

    /// What each generation that has series of a measurement has of it.
    fn parts(
        &self,
        measurement: MeasurementId,
    ) -> impl Iterator<Item = (&Arc<Generation>, Result<Arc<Part>, StoreError>)> {
        self.generations.iter().filter_map(move |generation| {
            let entry = generation.header.entry(measurement)?;
            (entry.series > 0).then(|| (generation, generation.part(measurement)))
        })
    }

    /// Has any generation series of this measurement?
    pub fn has(&self, measurement: MeasurementId) -> bool {
        let mut entries = self
            .generations
            .iter()
            .filter_map(|g| g.header.entry(measurement));
        entries.any(|entry| entry.series > 0)
    }

    /// Is this series in the index?
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn contains(&self, measurement: MeasurementId, id: SeriesId) -> Result<bool, StoreError> {
        for (_, part) in self.parts(measurement) {
            let found = match &*part? {
                Part::Large(large) => large.ids.contains(id),
                Part::Small(small) => {
                    let page = small.page(page_of(id));
                    page.is_some_and(|page| page.present().contains(slot_of(id)))
                }
            };
            if found {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The series with these tags (sorted by key), whose [`key_hash`](super::key_hash) is known, if `wanted` takes it.
    ///
    /// # Errors
    /// Damage, input/output.
    pub fn find(
        &self,
        measurement: MeasurementId,
        key_hash: u64,
        tags: &[(String, String)],
        wanted: &dyn Fn(SeriesId) -> bool,
    ) -> Result<Option<SeriesId>, StoreError> {
        let hash = hash_of(key_hash);
        for (generation, part) in self.parts(measurement) {
            let part = part?;
            let found = match (Stored::new(generation, measurement, &part), &*part) {
                (Some(stored), _) => stored.find(hash, tags, wanted)?,
                (None, Part::Small(small)) => small.with_hash(hash).find(|&id| {
                    let page = small.page(page_of(id));
                    wanted(id) && page.is_some_and(|page| page.has_tags(slot_of(id), tags))
                }),
                (None, Part::Large(_)) => None,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.generations.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }
}

impl SeriesIndex {
    /// Reads the headers of all generations, and nothing else.
    pub(in crate::store) fn open(core: &Arc<Core>) -> Result<Self, StoreError> {
        let mut found: Vec<Generation> = Vec::new();
        let mut before = None;
        while let Some((key, value)) = core.engine.series_header_before(before)? {
            let pack = keys::pack_of(&key)
                .ok_or_else(|| StoreError::damaged("the list of index packs", "a key too short"))?;
            let describe = || format!("header of index pack {pack}");
            let payload = frame::open_at(&key, &value, VERSION, &describe)?;
            let header = Header::decode(payload).filter(|_| key == place::header(pack));
            let header =
                header.ok_or_else(|| StoreError::damaged(describe(), "contents of another shape"))?;
            found.push(Generation {
                pack,
                header,
                core: core.clone(),
            });
            before = Some(pack);
        }
        let replaced: BTreeSet<u64> = found
            .iter()
            .flat_map(|g| g.header.replaces.iter().copied())
            .collect();
        let next_pack = found
            .iter()
            .map(|g| g.header.next_pack.max(g.pack + 1))
            .max()
            .unwrap_or(1);
        let (spent, live): (Vec<_>, Vec<_>) = found
            .into_iter()
            .map(Arc::new)
            .partition(|g| replaced.contains(&g.pack));
        let mut set = GenerationSet {
            version: 0,
            generations: live,
        };
        set.generations.sort_by_key(|g| (g.series(), g.pack));
        let index = Self {
            core: Some(core.clone()),
            set: ArcSwap::from_pointee(set),
            commit: Mutex::new(Commit {
                spent,
                ..Commit::default()
            }),
            next_pack: AtomicU64::new(next_pack),
            drops: AtomicBool::new(true),
        };
        index.free_spent();
        Ok(index)
    }

    /// The generations as of now.
    pub fn set(&self) -> Arc<GenerationSet> {
        self.set.load_full()
    }

    /// The sealed series of a measurement as of now.
    pub fn of(&self, measurement: MeasurementId) -> Sealed {
        self.set.load().of(measurement)
    }

    /// The seed of [`key_hash`](super::key_hash) in this store.
    pub fn key_seed(&self) -> u64 {
        self.core.as_ref().map_or(0, |core| core.key_seed)
    }

    fn commit(&self) -> MutexGuard<'_, Commit> {
        // It is changed only after what it describes is durable, in one step.
        self.commit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes new series: durable and visible on return. Series that are there already are passed over, so the same may
    /// be tried again. `gone` are series that the store durably knows as dropped; nothing is kept of measurements not `alive`.
    pub(in crate::store) fn seal(
        &self,
        new: &[NewSeries],
        gone: &dyn Fn(MeasurementId) -> Result<RoaringBitmap, StoreError>,
        alive: &dyn Fn(MeasurementId) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        let Some(core) = &self.core else { return Ok(()) };
        let mut commit = self.commit();
        let set = self.set();
        let mut fresh: BTreeMap<MeasurementId, (&NewSeries, RoaringBitmap)> = BTreeMap::new();
        for one in new {
            let ids = &one.ids - set.of(one.measurement).ids()?;
            if !ids.is_empty() {
                fresh.insert(one.measurement, (one, ids));
            }
        }
        if fresh.is_empty() {
            return Ok(());
        }
        let count = fresh.values().map(|(_, ids)| ids.len()).sum();
        let folded = set.small_enough(count, &commit.merging);
        let mut add = |measurement, sources: &mut Sources| {
            if let Some((one, ids)) = fresh.get(&measurement) {
                sources.add_pages(one.pages.iter(), Some(ids));
            }
        };
        let plan = Plan {
            measurements: fresh.keys().copied().collect(),
            replaced: &folded,
            spent: commit.spent_packs(),
        };
        let written = self.write(core, plan, &mut add, gone, alive, &|| true)?;
        self.publish(&mut commit, written, &folded);
        drop(commit);
        self.free_spent();
        Ok(())
    }

    /// Series were durably dropped: there may be space to get back.
    pub(in crate::store) fn note_drops(&self) {
        self.drops.store(true, Ordering::Release);
    }

    /// A generation of which much is gone.
    fn much_gone(
        &self,
        gone: &dyn Fn(MeasurementId) -> Result<RoaringBitmap, StoreError>,
        alive: &dyn Fn(MeasurementId) -> Result<bool, StoreError>,
        merging: &BTreeSet<u64>,
    ) -> Result<Option<Arc<Generation>>, StoreError> {
        for generation in self.set().generations() {
            let mut count = 0;
            for entry in generation.header.measurements.iter().filter(|e| e.series > 0) {
                if !alive(entry.measurement)? {
                    count += entry.series;
                    continue;
                }
                let gone = gone(entry.measurement)?;
                if !gone.is_empty() {
                    count += generation.part(entry.measurement)?.ids().intersection_len(&gone);
                }
            }
            if count > 0 && count >= generation.series() / GONE_SHARE && !merging.contains(&generation.pack) {
                return Ok(Some(generation.clone()));
            }
        }
        Ok(None)
    }

    /// Merges generations where there are too many of a size, or much of one is gone. Gives back whether there was anything to do. Long: readers and
    /// seals go on meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Stopped`] when `go_on` says no; damage, input/output. Nothing is changed then.
    pub(in crate::store) fn merge(
        &self,
        gone: &dyn Fn(MeasurementId) -> Result<RoaringBitmap, StoreError>,
        alive: &dyn Fn(MeasurementId) -> Result<bool, StoreError>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<bool, StoreError> {
        self.free_spent();
        let Some(core) = &self.core else { return Ok(false) };
        let (sources, spent) = {
            let mut commit = self.commit();
            let mut sources = self.set().too_many(&commit.merging);
            if sources.is_empty() && self.drops.swap(false, Ordering::AcqRel) {
                let found = self.much_gone(gone, alive, &commit.merging);
                // There may be more of them, and this one may not come to an end.
                self.drops.store(!matches!(found, Ok(None)), Ordering::Release);
                sources.extend(found?);
            }
            commit.merging.extend(sources.iter().map(|g| g.pack));
            (sources, commit.spent_packs())
        };
        if sources.is_empty() {
            return Ok(false);
        }
        let plan = Plan {
            measurements: BTreeSet::new(),
            replaced: &sources,
            spent,
        };
        let written = self.write(core, plan, &mut |_, _| {}, gone, alive, go_on);
        let mut commit = self.commit();
        sources.iter().for_each(|g| {
            commit.merging.remove(&g.pack);
        });
        self.publish(&mut commit, written?, &sources);
        drop(commit);
        drop(sources);
        self.free_spent();
        Ok(true)
    }

    /// Writes a pack: what older generations have, and what `add` adds.
    fn write(
        &self,
        core: &Arc<Core>,
        plan: Plan<'_>,
        add: &mut dyn FnMut(MeasurementId, &mut Sources),
        gone: &dyn Fn(MeasurementId) -> Result<RoaringBitmap, StoreError>,
        alive: &dyn Fn(MeasurementId) -> Result<bool, StoreError>,
        go_on: &dyn Fn() -> bool,
    ) -> Result<Generation, StoreError> {
        let Plan {
            mut measurements,
            replaced,
            spent,
        } = plan;
        // Even a pack that fails used its number up: parts of it may be on disk.
        let pack = self.next_pack.fetch_add(1, Ordering::Relaxed);
        let of_older = replaced
            .iter()
            .flat_map(|g| g.header.measurements.iter().map(|entry| entry.measurement));
        measurements.extend(of_older);
        let fill = |sink: &mut PackSink<'_>| {
            let mut header = Header {
                // The headers of what is replaced go with it, so what they replaced is said again while it is on disk.
                replaces: replaced.iter().map(|g| g.pack).chain(spent).collect(),
                ..Header::default()
            };
            for &measurement in &measurements {
                if !alive(measurement)? {
                    continue;
                }
                let mut sources = Sources::without(gone(measurement)?, core.key_seed);
                for generation in replaced {
                    sources.add_generation(generation, measurement)?;
                }
                add(measurement, &mut sources);
                header
                    .measurements
                    .push(sources.write(sink, pack, measurement, go_on)?);
            }
            header.next_pack = self.next_pack.load(Ordering::Relaxed);
            let key = place::header(pack);
            let mut value = frame::begin(VERSION);
            header.encode(&mut value);
            sink.write(&key, frame::finish(&key, value))?;
            Ok(header)
        };
        let header = core.engine.series_ingest(fill)?;
        Ok(Generation {
            pack,
            header,
            core: core.clone(),
        })
    }

    fn publish(&self, commit: &mut Commit, new: Generation, replaced: &[Arc<Generation>]) {
        let old = self.set();
        let is_replaced = |g: &&Arc<Generation>| replaced.iter().any(|r| r.pack == g.pack);
        let mut generations: Vec<_> = old
            .generations
            .iter()
            .filter(|g| !is_replaced(g))
            .cloned()
            .collect();
        generations.push(Arc::new(new));
        generations.sort_by_key(|g| (g.series(), g.pack));
        self.set.store(Arc::new(GenerationSet {
            version: old.version + 1,
            generations,
        }));
        commit.spent.extend(replaced.iter().cloned());
    }

    /// Drops the packs of replaced generations that nobody reads any more.
    pub(in crate::store) fn free_spent(&self) {
        let Some(core) = &self.core else { return };
        let mut commit = self.commit();
        commit.spent.retain(|generation| {
            if Arc::strong_count(generation) > 1 {
                return true;
            }
            match core.engine.series_drop_pack(generation.pack) {
                Ok(()) => false,
                Err(error) => {
                    // Only room is lost; the next open tries again at the latest.
                    tracing::warn!(pack = generation.pack, %error, "cannot drop an index pack");
                    true
                }
            }
        });
    }

    /// Changes the cache's budget at once.
    pub fn set_cache_bytes(&self, bytes: usize) {
        if let Some(core) = &self.core {
            core.index_cache.set_budget(bytes);
        }
    }

    /// Bytes in the cache, its hits, its misses.
    pub fn cache_figures(&self) -> (usize, u64, u64) {
        self.core
            .as_ref()
            .map_or((0, 0, 0), |core| core.index_cache.figures())
    }
}

impl GenerationSet {
    /// The small generations that a seal of so many series takes in.
    fn small_enough(&self, mut series: u64, merging: &BTreeSet<u64>) -> Vec<Arc<Generation>> {
        let mut folded = Vec::new();
        let mut older = 0;
        for generation in &self.generations {
            let size = generation.series();
            if merging.contains(&generation.pack) {
                continue;
            }
            if size > series.saturating_mul(FOLD_RATIO) || older + size > FOLD_SERIES_MAX {
                break;
            }
            series += size;
            older += size;
            folded.push(generation.clone());
        }
        folded
    }

    /// The generations to be merged: as soon as there are [`FAN_IN`] of a size class, they and all that are smaller.
    fn too_many(&self, merging: &BTreeSet<u64>) -> Vec<Arc<Generation>> {
        if !merging.is_empty() {
            return Vec::new();
        }
        let class = |g: &Arc<Generation>| g.series().max(1).ilog(FAN_IN);
        let mut end = 0;
        for (at, generation) in self.generations.iter().enumerate() {
            let same = self.generations[..=at].iter().rev();
            if same.take_while(|g| class(g) == class(generation)).count() as u64 >= FAN_IN {
                end = at + 1;
            }
        }
        self.generations[..end].to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::super::header::Entry;
    use super::*;
    use crate::store::StoreOptions;

    fn set(core: &Arc<Core>, sizes: &[u64]) -> GenerationSet {
        let generations = sizes.iter().zip(1..).map(|(&series, pack)| {
            let entry = Entry {
                series,
                ..Entry::default()
            };
            let header = Header {
                measurements: vec![entry],
                ..Header::default()
            };
            Arc::new(Generation {
                pack,
                header,
                core: core.clone(),
            })
        });
        GenerationSet {
            version: 0,
            generations: generations.collect(),
        }
    }

    #[test]
    fn small_generations_are_taken_in_and_large_ones_merged_by_class() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let options = StoreOptions::default();
        let store = crate::store::Store::open(dir.path(), options, &mut |_| {}).expect("a new folder");
        let core = &store.core;
        // (sizes, new, taken in)
        let cases: &[(&[u64], u64, &[u64])] = &[
            (&[], 5, &[]),
            (&[1, 3, 9, 100], 1, &[1, 3, 9]),
            (&[100, 500], 10, &[]),
            (&[100, 200_000], 100_000, &[100]),
            (&[60_000, 60_000, 60_000], 1_000_000, &[60_000, 60_000]),
        ];
        for (sizes, new, want) in cases {
            let folded = set(core, sizes).small_enough(*new, &BTreeSet::new());
            assert_eq!(
                folded.iter().map(|g| g.series()).collect::<Vec<_>>(),
                *want,
                "{sizes:?}"
            );
        }
        let cases: &[(&[u64], usize)] = &[
            (&[], 0),
            (&[70, 80, 90], 0),
            (&[70, 80, 90, 100], 4),
            (&[5, 70, 80, 90, 100, 5000], 5),
            (&[1, 2, 3, 70, 80, 5000, 5001], 0),
        ];
        for (sizes, want) in cases {
            assert_eq!(
                set(core, sizes).too_many(&BTreeSet::new()).len(),
                *want,
                "{sizes:?}"
            );
        }
        assert!(
            set(core, &[70, 80, 90, 100])
                .too_many(&BTreeSet::from([9]))
                .is_empty()
        );
        assert_eq!(set(core, &[1, 3]).small_enough(9, &BTreeSet::from([1])).len(), 1);
    }
}
