//! Two states of the same function as one: what was gathered in two parts of a window.

use super::aggregate::{Aggregate, State};
use std::cmp::Ordering;

impl State {
    /// Adds what another state of the same function has gathered.
    pub fn merge(&mut self, function: &Aggregate, other: &Self) {
        match (&mut *self, other) {
            (_, Self::Empty) => {}
            (Self::Empty, other) => *self = other.clone(),
            (Self::Count(a), Self::Count(b)) => *a += b,
            (Self::Sum(a), Self::Sum(b)) => a.add(b),
            (Self::Mean { sum, count }, Self::Mean { sum: s, count: c }) => {
                sum.add(s);
                *count += c;
            }
            (Self::Pick(a), Self::Pick(b)) => {
                let order = b.value.total_order(&a.value);
                let wins = match function {
                    Aggregate::Min => {
                        order == Ordering::Less || (order == Ordering::Equal && b.time < a.time)
                    }
                    Aggregate::Max => {
                        order == Ordering::Greater || (order == Ordering::Equal && b.time < a.time)
                    }
                    Aggregate::First => b.time < a.time || (b.time == a.time && order == Ordering::Greater),
                    _ => b.time > a.time || (b.time == a.time && order == Ordering::Greater),
                };
                if wins {
                    *a = b.clone();
                }
            }
            (Self::Spread(min, max), Self::Spread(low, high)) => {
                if low.total_order(min) == Ordering::Less {
                    *min = low.clone();
                }
                if high.total_order(max) == Ordering::Greater {
                    *max = high.clone();
                }
            }
            (Self::Floats(a), Self::Floats(b)) => a.extend_from_slice(b),
            (Self::Integers(a), Self::Integers(b)) => a.extend_from_slice(b),
            (Self::Unsigned(a), Self::Unsigned(b)) => a.extend_from_slice(b),
            (
                Self::Floats(_) | Self::Integers(_) | Self::Unsigned(_),
                Self::Floats(_) | Self::Integers(_) | Self::Unsigned(_),
            ) => {
                let mut all = self.floats();
                all.extend(other.floats());
                *self = Self::Floats(all);
            }
            (Self::Points(a), Self::Points(b)) => {
                a.extend_from_slice(b);
                self.prune(function);
            }
            // States of one function are of one kind.
            _ => debug_assert!(false, "{function:?}: states of two kinds"),
        }
    }
}
