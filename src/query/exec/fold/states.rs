//! Any function, by way of its [`State`]: slower, and for one thread where the order of rows can show in the result.

use super::Rows;
use crate::query::functions::aggregate::{Aggregate, Run, State};

/// The states of one function by slot.
pub struct States {
    function: Aggregate,
    states: Vec<State>,
    bytes: usize,
}

impl States {
    /// No slots.
    pub fn new(function: Aggregate) -> Self {
        Self {
            function,
            states: Vec::new(),
            bytes: 0,
        }
    }

    /// May several threads fold apart? Not where points of equal time count in the order in which they come, or where what
    /// stands beside them differs, or where rounding depends on the order.
    pub fn is_shared(&self, beside: bool) -> bool {
        let ordered = matches!(
            self.function,
            Aggregate::Sum
                | Aggregate::Mean
                | Aggregate::Stddev
                | Aggregate::Integral(_)
                | Aggregate::Sample(_)
                | Aggregate::Sequence
        );
        !beside && !ordered
    }

    /// Takes over what another worker folded; `map` says which slot each of its slots is here.
    pub fn absorb(&mut self, other: Self, map: &[u32]) {
        for (state, &to) in other.states.iter().zip(map) {
            let here = &mut self.states[to as usize];
            self.bytes -= here.bytes().min(self.bytes);
            here.merge(&self.function, state);
            self.bytes += here.bytes();
        }
    }

    /// There are so many slots now.
    pub fn grow(&mut self, slots: usize) {
        self.states.resize(slots, State::Empty);
    }

    /// Takes rows.
    pub fn push(&mut self, rows: &Rows<'_>) {
        for s in rows.segments {
            let start = s.start as usize;
            let beside = |i: usize| rows.beside.map_or_else(Box::default, |beside| beside(start + i));
            let run = Run {
                times: &rows.times[s.rows()],
                column: rows.column,
                start,
                aux: if rows.beside.is_some() {
                    Some(&beside)
                } else {
                    None
                },
            };
            let state = &mut self.states[s.slot as usize];
            self.bytes -= state.bytes().min(self.bytes);
            state.push(&self.function, &run);
            self.bytes += state.bytes();
        }
    }

    /// Does the slot have anything?
    pub fn has(&self, slot: usize) -> bool {
        !self.states[slot].is_empty()
    }

    /// The state of a slot, which is empty then.
    pub fn take(&mut self, slot: usize) -> State {
        std::mem::replace(&mut self.states[slot], State::Empty)
    }

    /// The state of a slot, which stays.
    pub fn peek(&self, slot: usize) -> State {
        self.states[slot].clone()
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes + self.states.capacity() * size_of::<State>()
    }
}
