//! Aggregates over segments of columns: one array a function, one entry a slot (a window of a group). Taking a segment is a
//! loop over a slice; workers fold apart and are put together in the end.
//!
//! Sums of floats are compensated (two-sum): the error does not grow with the number of rows, and the order in which rows are
//! added, so what was sealed when or which thread read it, does not show. Sums of integers are exact.

mod count;
mod digests;
mod edge;
mod extreme;
mod gather;
mod moments;
mod number;
mod states;
mod sum;

pub use states::States;

use super::windows::{Ladder, Segment};
use crate::block::stats::Numbers;
use crate::block::steps::{StepKeys, StepStats};
use crate::model::{Bitmap, Column, FieldType};
use crate::query::functions::aggregate::Aggregate;
use crate::query::value::Value;
use number::Number;
use std::any::Any;

/// Rows of a batch, ready to be folded.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// Which rows go into which slot.
    pub segments: &'a [Segment],
    /// One a row.
    pub times: &'a [i64],
    /// One entry a row, of the type the fold was made for.
    pub column: &'a Column,
    /// Gives the values that stand beside a row; `None` when nobody wants them.
    pub beside: Option<&'a dyn Fn(usize) -> Box<[Value]>>,
}

/// Steps of a block, ready to be folded.
#[derive(Clone, Copy)]
pub struct StepRows<'a> {
    /// Which steps: places in `keys`.
    pub wanted: &'a [u32],
    /// Into which slot each of them goes.
    pub slots: &'a [u32],
    /// The steps.
    pub keys: &'a StepKeys,
    /// What the field amounts to in them.
    pub stats: &'a StepStats,
}

impl StepRows<'_> {
    /// Those that have a value: slot, place of the step, and how many values.
    fn each(&self) -> impl Iterator<Item = (usize, usize, u32)> + '_ {
        let counts = match &self.stats.sparse {
            Some(sparse) => &sparse.count,
            None => &self.keys.rows,
        };
        let all = self.slots.iter().zip(self.wanted);
        all.map(|(&slot, &step)| (slot as usize, step as usize, counts[step as usize]))
            .filter(|(_, _, count)| *count > 0)
    }

    /// When its first and its last value was, by step.
    fn edges(&self) -> (&[i64], &[i64]) {
        match &self.stats.sparse {
            Some(sparse) => (&sparse.first, &sparse.last),
            None => (&self.keys.first, &self.keys.last),
        }
    }
}

/// What some slots amount to.
#[derive(Debug)]
pub struct Folded {
    /// One entry a slot, none where there is no value.
    pub values: Column,
    /// When each was, for folds that keep the time.
    pub times: Option<Vec<i64>>,
    /// Which slots make a row, where that is not all those with a value.
    pub rows: Option<Bitmap>,
}

/// One function in all slots.
pub trait Fold: Send + Sync {
    /// There are so many slots now.
    fn grow(&mut self, slots: usize);

    /// Takes rows.
    fn push(&mut self, rows: &Rows<'_>);

    /// Are the statistics of a zone enough to take it?
    fn takes_whole(&self, slot: usize, count: u64, numbers: Option<&Numbers>) -> bool;

    /// Takes a zone of which only statistics are known, and [are enough](Self::takes_whole).
    fn push_whole(&mut self, slot: usize, count: u64, numbers: Option<&Numbers>);

    /// May a segment have rows of several series, times not ascending?
    fn takes_joined(&self) -> bool {
        true
    }

    /// Can it take ladders?
    fn takes_ladders(&self) -> bool {
        false
    }

    /// Takes rows that go into a slot each, if it [can](Self::takes_ladders); every row has a value.
    fn push_ladders(&mut self, _ladders: &[Ladder], _column: &Column) {}

    /// Would no number like these change a slot?
    fn loses(&self, _slot: usize, _numbers: &Numbers) -> bool {
        false
    }

    /// Can it take steps instead of rows?
    fn takes_steps(&self) -> bool {
        false
    }

    /// Takes rows of which only the statistics of steps are known, if it [can](Self::takes_steps).
    fn push_steps(&mut self, _steps: &StepRows<'_>) {}

    /// Takes over what another worker folded; `map` says which slot each of its slots is here.
    fn absorb(&mut self, other: Box<dyn Fold>, map: &[u32]);

    /// For [`absorb`](Self::absorb), which knows the type.
    fn into_any(self: Box<Self>) -> Box<dyn Any>;

    /// The same in little memory and no longer exact, if it keeps more values than that and can do without them.
    fn digests(&self, _values_max: usize) -> Option<Box<dyn Fold>> {
        None
    }

    /// Nothing more comes until it is finished; what takes long is done here, once.
    fn settle(&mut self) {}

    /// Does the slot have a value?
    fn has(&self, slot: usize) -> bool;

    /// What slots amount to, after [`settle`](Self::settle).
    fn finish(&self, slots: &[u32]) -> Folded;

    /// Bytes of memory, roughly.
    fn bytes(&self) -> usize;
}

/// A fold for a function of values of a type; `None` where there is none but [`States`]. With `timed`, the time of the point that a
/// selector chose is kept.
pub fn fold_of(function: &Aggregate, field_type: FieldType, timed: bool) -> Option<Box<dyn Fold>> {
    use FieldType::{Boolean, Float, Integer, String, Unsigned};
    if matches!(function, Aggregate::Count) {
        return Some(Box::new(count::Counts::default()));
    }
    Some(match field_type {
        Float => match function {
            Aggregate::Sum => Box::new(sum::FloatSums::new(false)),
            Aggregate::Mean => Box::new(sum::FloatSums::new(true)),
            _ => return numbers_fold::<f64>(function, timed),
        },
        Integer => match function {
            Aggregate::Sum => Box::new(sum::WholeSums::<i64>::new(false)),
            Aggregate::Mean => Box::new(sum::WholeSums::<i64>::new(true)),
            _ => return numbers_fold::<i64>(function, timed),
        },
        Unsigned => match function {
            Aggregate::Sum => Box::new(sum::WholeSums::<u64>::new(false)),
            Aggregate::Mean => Box::new(sum::WholeSums::<u64>::new(true)),
            _ => return numbers_fold::<u64>(function, timed),
        },
        Boolean => match function {
            Aggregate::Min => Box::new(extreme::Extremes::<bool>::new(false, timed)),
            Aggregate::Max => Box::new(extreme::Extremes::<bool>::new(true, timed)),
            Aggregate::First => Box::new(edge::Edges::<bool>::new(false)),
            Aggregate::Last => Box::new(edge::Edges::<bool>::new(true)),
            _ => return None,
        },
        String => return None,
    })
}

fn numbers_fold<T: Number>(function: &Aggregate, timed: bool) -> Option<Box<dyn Fold>> {
    Some(match function {
        Aggregate::Min => Box::new(extreme::Extremes::<T>::new(false, timed)),
        Aggregate::Max => Box::new(extreme::Extremes::<T>::new(true, timed)),
        Aggregate::First => Box::new(edge::Edges::<T>::new(false)),
        Aggregate::Last => Box::new(edge::Edges::<T>::new(true)),
        Aggregate::Spread => Box::new(extreme::Spreads::<T>::default()),
        Aggregate::Stddev => Box::new(moments::Moments::<T>::default()),
        Aggregate::Median => Box::new(gather::Gather::<T>::median()),
        Aggregate::Percentile(percent) => Box::new(gather::Gather::<T>::percentile(*percent, timed)),
        _ => return None,
    })
}

/// Takes what is behind a fold of a known type.
fn same<T: 'static>(other: Box<dyn Fold>) -> T {
    *other
        .into_any()
        .downcast::<T>()
        .expect("workers make their folds alike")
}
