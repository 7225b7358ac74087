//! `derivative` and `difference` of one function by window, the commonest of all functions of sequences (counters), a slice at a
//! time. All others, and whatever stands beside these, go by way of points: see [`crate::query::finish`], which this must equal.

use super::Call;
use super::fold::Folded;
use super::setup::{Folder, Setup};
use crate::lang::Fill;
use crate::model::{FieldType, Values};
use crate::query::functions::aggregate::Aggregate;
use crate::query::functions::transform::Transform;
use crate::query::node::Node;

/// What a change is.
pub struct Changes {
    /// Nanoseconds that it is per, if it is a rate.
    unit: Option<i64>,
    /// Negative ones are left out.
    non_negative: bool,
}

impl Changes {
    /// Of a statement that gives these and nothing else.
    pub fn of(setup: &Setup<'_>, folders: &[Folder]) -> Option<Self> {
        let prepared = setup.prepared;
        let (
            [
                Call::Aggregate { function, .. },
                Call::Transform { transform, inner: 0 },
            ],
            [(_, Node::Call(1))],
            [set],
            [Folder::Fold(_)],
        ) = (
            &prepared.calls[..],
            &prepared.columns[..],
            &setup.sets[..],
            folders,
        )
        else {
            return None;
        };
        // An empty window without a value is passed over; one with a value is a point.
        let counts = matches!(function, Aggregate::Count | Aggregate::CountDistinct);
        let plain = prepared.fill == Fill::None || prepared.fill == Fill::Null && !counts;
        let windows = prepared.windows.as_ref().is_some_and(|w| w.over.is_none());
        if !plain || !windows || function.gives_many() || !setup.beside.is_empty() {
            return None;
        }
        match *transform {
            Transform::Derivative { unit, non_negative } => Some(Self {
                unit: Some(unit),
                non_negative,
            }),
            // Those of integers are integers, unless they do not fit.
            Transform::Difference { non_negative }
                if set.field_type == Some(FieldType::Float)
                    || matches!(function, Aggregate::Mean | Aggregate::Median | Aggregate::Stddev) =>
            {
                Some(Self {
                    unit: None,
                    non_negative,
                })
            }
            _ => None,
        }
    }

    /// The changes from `first` on between windows with a value, and the starts of those they lead to.
    pub fn between(&self, starts: &[i64], folded: &Folded, first: i64) -> (Vec<i64>, Vec<f64>) {
        match &folded.values.values {
            Values::Float(v) => self.of_numbers(starts, v, |v| v, folded, first),
            Values::Integer(v) => self.of_numbers(starts, v, |v| v as f64, folded, first),
            Values::Unsigned(v) => self.of_numbers(starts, v, |v| v as f64, folded, first),
            Values::Boolean(_) | Values::String(_) => (Vec::new(), Vec::new()),
        }
    }

    fn of_numbers<T: Copy>(
        &self,
        starts: &[i64],
        values: &[T],
        float: impl Fn(T) -> f64,
        folded: &Folded,
        first: i64,
    ) -> (Vec<i64>, Vec<f64>) {
        let (mut times, mut changes) = (Vec::with_capacity(starts.len()), Vec::with_capacity(starts.len()));
        let is_row = |at: usize| {
            let is_row = folded.rows.as_ref().is_none_or(|rows| rows.get(at));
            is_row && folded.values.has(at)
        };
        let mut before: Option<(i64, f64)> = None;
        for (at, (&time, &value)) in starts.iter().zip(values).enumerate() {
            if !is_row(at) {
                continue;
            }
            let value = float(value);
            if let Some((earlier, other)) = before.replace((time, value)) {
                let change = value - other;
                if self.non_negative && !self.takes(change) || time < first {
                    continue;
                }
                times.push(time);
                changes.push(match self.unit {
                    Some(unit) => change / (time.wrapping_sub(earlier) as f64 / unit as f64),
                    None => change,
                });
            }
        }
        (times, changes)
    }

    /// What is no number is no negative difference, and no rate of at least nought either.
    fn takes(&self, change: f64) -> bool {
        match self.unit {
            Some(_) => change >= 0.0,
            None => change >= 0.0 || change.is_nan(),
        }
    }
}
