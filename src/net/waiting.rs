//! Datagrams that were received and wait to be decoded, so that the kernel's small buffer is emptied at once whatever else the server
//! does. Bounded: what does not fit is thrown away and counted.

use super::received::{Part, Received};
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Datagrams end to end.
#[derive(Debug, Default)]
pub struct Datagrams {
    bytes: Vec<u8>,
    /// Where each ends in `bytes`.
    ends: Vec<u32>,
}

/// A taker that waited so long without anything gets nothing, and may do something else.
const PATIENCE: Duration = Duration::from_millis(500);
/// What each datagram costs beside its bytes.
const OVERHEAD_BYTES: usize = 4;

impl Datagrams {
    /// Adds one.
    pub fn push(&mut self, datagram: &[u8]) {
        self.bytes.extend_from_slice(datagram);
        // Far below 4 GiB: a set of datagrams is handed on at some hundred KiB.
        self.ends.push(self.bytes.len() as u32);
    }

    /// How many.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// None.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes it takes.
    pub fn cost(&self) -> usize {
        self.bytes.len() + self.ends.len() * OVERHEAD_BYTES
    }

    /// Bytes of all datagrams.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Each.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends.iter().map(move |&end| {
            let datagram = &self.bytes[start..end as usize];
            start = end as usize;
            datagram
        })
    }
}

/// See the module.
pub struct Waiting {
    bytes_max: usize,
    all: Arc<Received>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    sets: VecDeque<Datagrams>,
    cost: usize,
    closed: bool,
}

impl Waiting {
    /// For so many bytes, which must also find room among those of all sockets.
    pub fn new(bytes_max: usize, all: Arc<Received>) -> Self {
        Self {
            bytes_max,
            all,
            state: Mutex::default(),
            changed: Condvar::new(),
        }
    }

    /// Adds datagrams, or gives back how many found no room.
    pub fn push(&self, datagrams: Datagrams) -> Result<(), usize> {
        let mut state = self.lock();
        if state.cost + datagrams.cost() > self.bytes_max || !self.all.take(Part::Datagrams, datagrams.cost())
        {
            return Err(datagrams.len());
        }
        state.cost += datagrams.cost();
        state.sets.push_back(datagrams);
        drop(state);
        self.changed.notify_one();
        Ok(())
    }

    /// Bytes that wait.
    pub fn cost(&self) -> usize {
        self.lock().cost
    }

    /// No more will come.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits for datagrams; after the first, until there are `enough` bytes or `gather` is over, for others may follow at
    /// once. Takes about `enough`; nothing when nothing came for a while. `None` when no more will come.
    pub fn take(&self, enough: usize, gather: Duration) -> Option<Vec<Datagrams>> {
        let state = self.lock();
        let empty = |state: &mut State| state.sets.is_empty() && !state.closed;
        let (state, _) = self
            .changed
            .wait_timeout_while(state, PATIENCE, empty)
            .unwrap_or_else(PoisonError::into_inner);
        if state.sets.is_empty() {
            return (!state.closed).then(Vec::new);
        }
        let few = |state: &mut State| state.cost < enough && !state.closed;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, gather, few)
            .unwrap_or_else(PoisonError::into_inner);
        let mut taken = Vec::new();
        let mut cost = 0;
        while cost < enough
            && let Some(set) = state.sets.pop_front()
        {
            cost += set.cost();
            taken.push(set);
        }
        state.cost -= cost;
        self.all.give_back(Part::Datagrams, cost);
        Some(taken)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(bytes: usize) -> Waiting {
        Waiting::new(bytes, Received::new(1 << 20, 0))
    }

    fn datagrams(texts: &[&str]) -> Datagrams {
        let mut out = Datagrams::default();
        texts.iter().for_each(|text| out.push(text.as_bytes()));
        out
    }

    fn texts(sets: &[Datagrams]) -> Vec<String> {
        let all = sets.iter().flat_map(Datagrams::iter);
        all.map(|d| String::from_utf8_lossy(d).into_owned()).collect()
    }

    #[test]
    fn what_is_put_in_comes_out_in_order_and_whole() {
        let waiting = waiting(1000);
        waiting.push(datagrams(&["a", "", "bc"])).expect("room");
        waiting.push(datagrams(&["d"])).expect("room");
        waiting.close();
        let taken = waiting.take(1000, Duration::ZERO).expect("some");
        assert_eq!(texts(&taken), ["a", "", "bc", "d"]);
        assert_eq!(waiting.cost(), 0);
        assert!(waiting.take(1000, Duration::ZERO).is_none());
    }

    #[test]
    fn what_finds_no_room_is_counted() {
        let waiting = waiting(20);
        assert_eq!(waiting.push(datagrams(&["12345678", "1"])), Ok(()));
        assert_eq!(waiting.push(datagrams(&["1", "2"])), Err(2));
        assert_eq!(
            texts(&waiting.take(1, Duration::ZERO).expect("some")),
            ["12345678", "1"]
        );
        assert_eq!(
            waiting.push(datagrams(&["1", "2"])),
            Ok(()),
            "there is room again"
        );
    }

    #[test]
    fn takers_wait_for_what_comes() {
        let waiting = Arc::new(waiting(1000));
        let other = waiting.clone();
        let taker = std::thread::spawn(move || {
            let mut all = Vec::new();
            while let Some(taken) = other.take(1, Duration::ZERO) {
                all.extend(texts(&taken));
            }
            all
        });
        for text in ["a", "b", "c"] {
            waiting.push(datagrams(&[text])).expect("room");
            std::thread::yield_now();
        }
        waiting.close();
        assert_eq!(taker.join().expect("no panic"), ["a", "b", "c"]);
    }
}
