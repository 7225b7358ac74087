//! Any function, by way of its [`State`]: slower, and for one thread.

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

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        self.bytes + self.states.capacity() * size_of::<State>()
    }
}
