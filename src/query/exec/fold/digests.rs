//! `percentile` and `median` of more values than are kept: a t-digest a slot. Not exact (see
//! [`crate::query::functions::digest`]), and only where what is folded outlives a query.

use super::number::Number;
use super::{Fold, Folded, Rows};
use crate::block::stats::Numbers;
use crate::model::{Bitmap, Column, Values};
use crate::query::functions::digest::Digest;
use std::any::Any;
use std::marker::PhantomData;

/// See the module.
pub struct Digests<T> {
    /// `None`: the median.
    percent: Option<f64>,
    slots: Vec<Digest>,
    of: PhantomData<T>,
}

impl<T: Number> Digests<T> {
    /// Of so many percent; `None`: the median.
    pub fn new(percent: Option<f64>) -> Self {
        Self {
            percent,
            slots: Vec::new(),
            of: PhantomData,
        }
    }

    /// Adds a value.
    pub fn add(&mut self, slot: u32, value: f64) {
        self.slots[slot as usize].push(value);
    }
}

impl<T: Number> Fold for Digests<T> {
    fn grow(&mut self, slots: usize) {
        self.slots.resize_with(slots, Digest::default);
    }

    fn push(&mut self, rows: &Rows<'_>) {
        let values = T::of(&rows.column.values);
        for s in rows.segments {
            for row in s.rows().filter(|&row| rows.column.has(row)) {
                self.add(s.slot, values[row].to_f64());
            }
        }
    }

    fn takes_whole(&self, _: usize, count: u64, _: Option<&Numbers>) -> bool {
        count == 0
    }

    fn push_whole(&mut self, _: usize, _: u64, _: Option<&Numbers>) {}

    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]) {
        let other = other.digests(0).unwrap_or(other);
        // What is none yet has no values.
        let Ok(other) = other.into_any().downcast::<Self>() else {
            return;
        };
        for (digest, &to) in other.slots.into_iter().zip(map) {
            self.slots[to as usize].merge(digest);
        }
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }

    fn has(&self, slot: usize) -> bool {
        !self.slots[slot].is_empty()
    }

    fn finish(&self, slots: &[u32]) -> Folded {
        let mut present = Bitmap::new();
        let mut found = Vec::with_capacity(slots.len());
        for &slot in slots {
            let digest = self.slots[slot as usize].clone();
            let value = digest.percentile(self.percent.unwrap_or(50.0));
            present.push(value.is_some());
            found.push(value.unwrap_or_default());
        }
        // Of the type that an exact answer has; the middle of two whole numbers need not be one.
        let values = match (self.percent, T::into_values(Vec::new())) {
            (Some(_), Values::Integer(_)) => {
                Values::Integer(found.iter().map(|v| v.round() as i64).collect())
            }
            (Some(_), Values::Unsigned(_)) => {
                Values::Unsigned(found.iter().map(|v| v.round() as u64).collect())
            }
            _ => Values::Float(found),
        };
        Folded {
            values: Column {
                values,
                present: Some(present),
            },
            times: None,
            rows: None,
        }
    }

    fn bytes(&self) -> usize {
        let digests: usize = self.slots.iter().map(Digest::bytes).sum();
        digests + self.slots.capacity() * size_of::<Digest>()
    }
}
