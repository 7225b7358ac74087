//! Makes committed groups visible: all shards' parts of a group at once, in sequence order, and only then the acks.
//!
//! **Invariant:** a snapshot holds whole groups, 1 to its sequence, and nothing later. Frozen parts leave a snapshot's
//! view in the same step in which the run made from them enters it, so no point is ever missing or seen twice.

use super::head::{PartMap, Parts, RowDelete, Update};
use super::part::HeadPart;
use super::recent::Recent;
use super::{Ack, Group};
use crate::model::MeasurementId;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};

/// The published head, over runs of type `R` (the store's; anything in tests).
pub struct Head<R> {
    state: RwLock<State<R>>,
    pending: Mutex<Pending>,
    frozen: Condvar,
    space: Condvar,
    observer: Box<dyn Observer<R>>,
}

/// Who hears of committed groups, in order. Both calls must be quick: the next group waits for them.
pub trait Observer<R>: Send + Sync {
    /// Before a group becomes visible. Says whether the runs changed; they become visible with it.
    fn before(&self, group: &Group) -> bool;

    /// The newest runs. Asked under the head's lock, so that no older ones ever take the place of newer ones.
    fn runs(&self) -> Arc<R>;

    /// After it became visible, before its acks.
    fn after(&self, group: &Group);
}

struct State<R> {
    sequence: u64,
    active: Vec<ActiveShard>,
    frozen: Vec<Arc<PartMap>>,
    runs: Arc<R>,
}

/// The published parts of one shard that are not frozen.
#[derive(Default)]
struct ActiveShard {
    folded: Arc<PartMap>,
    /// Groups that came since, oldest first.
    recent: Vec<Arc<Recent>>,
}

/// Parts, by measurement.
#[derive(Clone)]
enum Listed {
    Parts(Arc<PartMap>),
    Recent(Arc<Recent>),
}

impl Listed {
    fn parts(&self, measurement: MeasurementId) -> Option<&Parts> {
        match self {
            Self::Parts(map) => map.get(&measurement),
            Self::Recent(recent) => recent.parts(measurement),
        }
    }
}

impl ActiveShard {
    fn update(&mut self, update: Update) {
        if let Some(lists) = update.folded {
            // Copies the map only while a snapshot still holds the old one.
            Arc::make_mut(&mut self.folded).extend(lists);
            self.recent.clear();
        }
        self.recent.extend(update.fresh);
    }

    fn listed(&self) -> impl Iterator<Item = Listed> {
        let recent = self.recent.iter().cloned().map(Listed::Recent);
        std::iter::once(Listed::Parts(self.folded.clone())).chain(recent)
    }
}

#[derive(Default)]
struct Pending {
    /// Ticket of the step at the front.
    first: u64,
    steps: VecDeque<Step>,
    /// Set when a freeze went through; taken by the sealer.
    frozen_at: Option<u64>,
    bytes: Vec<usize>,
    frozen_bytes: usize,
    /// Why the last try to seal what is frozen failed.
    stuck: Option<String>,
}

/// Whether there is room for more unsealed points.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Space {
    /// There is.
    There,
    /// Not yet: a seal is making it, or about to.
    NotYet,
    /// There is none, and the last seal failed: why.
    Stuck(String),
}

struct Step {
    kind: StepKind,
    updates: Vec<Option<Update>>,
}

enum StepKind {
    Group { group: Arc<Group>, acks: Vec<Ack> },
    Freeze { sequence: u64 },
}

/// One consistent state: everything up to `sequence`.
pub struct HeadSnapshot<R> {
    /// The last sequence it reflects.
    pub sequence: u64,
    /// What is sealed.
    pub runs: Arc<R>,
    /// Frozen parts first, then active ones.
    listed: Vec<Listed>,
}

impl<R> Clone for HeadSnapshot<R> {
    fn clone(&self) -> Self {
        Self {
            sequence: self.sequence,
            runs: self.runs.clone(),
            listed: self.listed.clone(),
        }
    }
}

impl<R> HeadSnapshot<R> {
    /// The unsealed parts of a measurement. Of two with the same point the later in the list is newer.
    pub fn parts(&self, measurement: MeasurementId) -> Vec<Arc<HeadPart>> {
        self.listed
            .iter()
            .filter_map(|listed| listed.parts(measurement))
            .flat_map(|parts| parts.iter().cloned())
            .collect()
    }
}

impl<R> Head<R> {
    /// An empty head over `runs`, which hold everything up to `sequence`.
    pub fn new(shards: u16, sequence: u64, runs: Arc<R>, observer: impl Observer<R> + 'static) -> Self {
        let active = (0..shards).map(|_| ActiveShard::default()).collect();
        Self {
            state: RwLock::new(State {
                sequence,
                active,
                frozen: Vec::new(),
                runs,
            }),
            pending: Mutex::new(Pending {
                bytes: vec![0; usize::from(shards)],
                ..Pending::default()
            }),
            frozen: Condvar::new(),
            space: Condvar::new(),
            observer: Box::new(observer),
        }
    }

    /// A consistent state, cheap to take and to hold.
    pub fn snapshot(&self) -> HeadSnapshot<R> {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let active = state.active.iter().flat_map(ActiveShard::listed);
        let frozen = state.frozen.iter().cloned().map(Listed::Parts);
        let listed = frozen.chain(active).collect();
        HeadSnapshot {
            sequence: state.sequence,
            runs: state.runs.clone(),
            listed,
        }
    }

    /// The last sequence that queries see.
    pub fn sequence(&self) -> u64 {
        self.state.read().unwrap_or_else(PoisonError::into_inner).sequence
    }

    /// Bytes of active parts and of frozen ones.
    pub fn bytes(&self) -> (usize, usize) {
        let pending = self.pending();
        (pending.bytes.iter().sum(), pending.frozen_bytes)
    }

    /// Waits until active and frozen parts together are below `bytes_max`, a seal fails, or `patience` is over.
    pub fn wait_for_space(&self, bytes_max: usize, patience: std::time::Duration) -> Space {
        let is_full = |p: &Pending| p.bytes.iter().sum::<usize>() + p.frozen_bytes >= bytes_max;
        let waited = self
            .space
            .wait_timeout_while(self.pending(), patience, |p| is_full(p) && p.stuck.is_none());
        let pending = waited.unwrap_or_else(PoisonError::into_inner).0;
        match &pending.stuck {
            _ if !is_full(&pending) => Space::There,
            Some(why) => Space::Stuck(why.clone()),
            None => Space::NotYet,
        }
    }

    /// What is frozen could not be sealed. It is tried again; until [`thaw`](Self::thaw) nobody waits for space.
    pub fn stuck(&self, why: String) {
        self.pending().stuck = Some(why);
        self.space.notify_all();
    }

    /// Announces a group that is about to be handed to all shards. The ticket goes with it.
    pub(super) fn expect_group(&self, group: Arc<Group>, acks: Vec<Ack>) -> u64 {
        self.expect(StepKind::Group { group, acks })
    }

    /// Announces a freeze after everything up to `sequence`.
    pub(super) fn expect_freeze(&self, sequence: u64) -> u64 {
        self.expect(StepKind::Freeze { sequence })
    }

    fn expect(&self, kind: StepKind) -> u64 {
        let mut pending = self.pending();
        let shards = pending.bytes.len();
        pending.steps.push_back(Step {
            kind,
            updates: (0..shards).map(|_| None).collect(),
        });
        pending.first + pending.steps.len() as u64 - 1
    }

    /// A shard has done its share of a step. The last one to say so publishes it.
    pub(super) fn done(&self, ticket: u64, shard: u16, update: Update) {
        let mut pending = self.pending();
        let at = (ticket - pending.first) as usize;
        pending.steps[at].updates[usize::from(shard)] = Some(update);
        while pending
            .steps
            .front()
            .is_some_and(|step| step.updates.iter().all(Option::is_some))
        {
            let step = pending
                .steps
                .pop_front()
                .expect("there is a front: just looked at");
            pending.first += 1;
            self.publish(&mut pending, step);
        }
    }

    fn publish(&self, pending: &mut Pending, step: Step) {
        let updates = step.updates.into_iter().map(|update| update.unwrap_or_default());
        match step.kind {
            StepKind::Group { group, acks } => {
                let runs_changed = self.observer.before(&group);
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                for (shard, update) in updates.enumerate() {
                    pending.bytes[shard] = update.bytes;
                    state.active[shard].update(update);
                }
                for delete in RowDelete::of_group(&group) {
                    // What is frozen is being sealed as it is; the store hides these rows once it is.
                    for map in &mut state.frozen {
                        delete.apply_to_map(map);
                    }
                }
                if runs_changed {
                    state.runs = self.observer.runs();
                }
                state.sequence = group.last;
                drop(state);
                self.observer.after(&group);
                acks.into_iter()
                    .zip(group.first..)
                    .for_each(|(ack, sequence)| ack(Ok(sequence)));
            }
            StepKind::Freeze { sequence } => {
                let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
                assert!(state.frozen.is_empty(), "one seal at a time");
                let shards = state.active.iter_mut().zip(updates);
                let folded = shards.map(|(shard, update)| {
                    // A shard folds all its groups before it freezes.
                    shard.update(update);
                    std::mem::take(shard).folded
                });
                state.frozen = folded.collect();
                drop(state);
                pending.frozen_bytes = pending.bytes.iter().sum();
                pending.bytes.fill(0);
                pending.frozen_at = Some(sequence);
                self.frozen.notify_all();
            }
        }
    }

    /// Waits for an announced freeze to go through: the sequence it reflects, and the frozen maps.
    pub fn wait_frozen(&self) -> (u64, Vec<Arc<PartMap>>) {
        let mut pending = self
            .frozen
            .wait_while(self.pending(), |p| p.frozen_at.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        let sequence = pending.frozen_at.take().expect("waited until it is there");
        (
            sequence,
            self.state
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .frozen
                .clone(),
        )
    }

    /// The frozen parts are now in the runs: the one replaces the other in one step.
    pub fn thaw(&self) {
        {
            let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
            state.frozen.clear();
            state.runs = self.observer.runs();
        }
        let mut pending = self.pending();
        pending.frozen_bytes = 0;
        pending.stuck = None;
        drop(pending);
        self.space.notify_all();
    }

    /// The runs changed without a seal (a merge, retention).
    pub fn refresh_runs(&self) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.runs = self.observer.runs();
    }

    fn pending(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lists of parts, for those who only have maps.
pub fn parts_of(maps: &[Arc<PartMap>], measurement: MeasurementId) -> Vec<Arc<HeadPart>> {
    let lists = maps.iter().filter_map(|map| map.get(&measurement));
    lists.flat_map(|parts: &Parts| parts.iter().cloned()).collect()
}
