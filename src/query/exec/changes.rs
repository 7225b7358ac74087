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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Bitmap, Column};
    use crate::query::value::Value;
    use crate::query::windows::Windows;
    use proptest::prelude::*;

    const STEP: i64 = 10_000_000_000;

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => -50.0..50.0,
            1 => Just(0.0),
            1 => Just(-0.0),
            1 => prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -f64::MAX]),
        ]
    }

    /// What changes are by way of points: all windows that have a value, from `first` on.
    fn by_points(
        transform: Transform,
        starts: &[i64],
        folded: &Folded,
        first: i64,
    ) -> (Vec<i64>, Vec<Option<u64>>) {
        let is_row = |at: &usize| folded.rows.as_ref().is_none_or(|rows| rows.get(*at));
        let point = |at: usize| (starts[at], Value::of_column(&folded.values, at));
        let points: Vec<_> = (0..starts.len()).filter(is_row).map(point).collect();
        let windows = Windows::fixed(STEP, 0);
        let made = transform.apply(&points, Some(&windows), &|| Ok(()));
        let made = made.expect("nothing stops it").into_iter();
        made.filter(|(time, _)| *time >= first)
            .map(|(time, value)| (time, value.as_f64().map(f64::to_bits)))
            .unzip()
    }

    proptest! {
        #[test]
        fn slices_give_what_points_give(
            cells in prop::collection::vec((number(), -60i64..60, 1i64..4, any::<bool>(), any::<bool>()), 0..40),
            gaps in 0u8..3, integers in 0u8..3, from in 0usize..6, non_negative in any::<bool>(), rate in any::<bool>(),
        ) {
            let mut time = 0;
            let starts: Vec<i64> = cells.iter().map(|cell| { time += cell.2 * STEP; time }).collect();
            // Differences of integers go by way of points.
            let rate = rate || integers > 0;
            let values = match integers {
                0 => Values::Float(cells.iter().map(|cell| cell.0).collect()),
                1 => Values::Integer(cells.iter().map(|cell| cell.1 << (cell.1 & 31)).collect()),
                _ => Values::Unsigned(cells.iter().map(|cell| cell.1.unsigned_abs() << 50).collect()),
            };
            let bits = |bit: &dyn Fn(&(f64, i64, i64, bool, bool)) -> bool| {
                let mut bits = Bitmap::new();
                cells.iter().for_each(|cell| bits.push(bit(cell)));
                bits
            };
            let folded = Folded {
                values: Column { values, present: (gaps > 0).then(|| bits(&|cell| cell.3)) },
                times: None,
                rows: (gaps > 1).then(|| bits(&|cell| cell.4)),
            };
            let first = starts.get(from).copied().unwrap_or(i64::MIN);
            let (changes, transform) = match rate {
                true => {
                    let unit = 1_000_000_000;
                    (Changes { unit: Some(unit), non_negative }, Transform::Derivative { unit, non_negative })
                }
                false => (Changes { unit: None, non_negative }, Transform::Difference { non_negative }),
            };
            let (times, found) = changes.between(&starts, &folded, first);
            // NaN is NaN, whatever its bits.
            let bits = |v: f64| Some(if v.is_nan() { f64::NAN.to_bits() } else { v.to_bits() });
            let found: Vec<Option<u64>> = found.into_iter().map(bits).collect();
            let (want_times, want) = by_points(transform, &starts, &folded, first);
            let want: Vec<Option<u64>> = want.into_iter().map(|v| v.and_then(|v| bits(f64::from_bits(v)))).collect();
            prop_assert_eq!((times, found), (want_times, want));
        }
    }
}
