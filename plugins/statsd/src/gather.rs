//! What was sent since the last flush, by series, inside [`Limits`]. Series are known by their spelling, which has
//! `metric_type` among its tags, so each belongs to one kind only.
//!
//! **Invariant:** a change is made whole or, with an error, not at all.

use crate::limits::Limits;
use crate::line::Amount;
use crate::number::nearest;
use crate::timing::{Percentile, Random, Timing};
use kymo_plugin_api::series::PlainSpelling;
use kymo_plugin_api::{Field, Origin, Row, RowSink, SeriesRef, Value};
use std::collections::{HashMap, HashSet};

type Series<T> = HashMap<Box<[u8]>, T>;

/// See the module.
pub struct Gathered {
    limits: Limits,
    /// Sums since the last flush, scaled; rounded when they are told.
    counters: Series<f64>,
    gauges: Series<Gauge>,
    sets: Series<HashSet<Box<str>>>,
    timings: Series<Timing>,
    random: Random,
    /// About what all of them take.
    state_bytes: usize,
}

struct Gauge {
    value: f64,
    /// Flushes since the last update.
    flushes: u64,
}

/// What a series takes besides its spelling: map entry, allocation, value.
const SERIES_BYTES: usize = 192;
/// A vector that grew may be half empty.
const SAMPLE_BYTES: usize = 2 * size_of::<f64>();
/// What a member of a set takes besides its text.
const MEMBER_BYTES: usize = 64;

impl Gathered {
    /// Nothing yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            counters: Series::new(),
            gauges: Series::new(),
            sets: Series::new(),
            timings: Series::new(),
            random: Random::new(),
            state_bytes: 0,
        }
    }

    /// Adds to a counter.
    pub fn count(&mut self, series: &[u8], by: f64) -> Result<(), String> {
        let known = self.counters.get(series);
        let sum = known.unwrap_or(&0.0) + by;
        nearest(sum).ok_or_else(counter_out_of_range)?;
        if known.is_none() {
            self.admit_series(series, 0)?;
        }
        set(&mut self.counters, series, sum);
        Ok(())
    }

    /// Sets and changes a gauge; one that is not known is 0.
    pub fn gauge(&mut self, series: &[u8], amounts: &[Amount]) -> Result<(), String> {
        let known = self.gauges.get(series).map(|gauge| gauge.value);
        let value = amounts.iter().fold(known.unwrap_or(0.0), |value, amount| {
            amount.number + if amount.signed { value } else { 0.0 }
        });
        if !value.is_finite() {
            return Err("gauge out of range".into());
        }
        if known.is_none() {
            self.admit_series(series, 0)?;
        }
        set(&mut self.gauges, series, Gauge { value, flushes: 0 });
        Ok(())
    }

    /// Adds to a timing values that stand for `weight` each. They are within `TIMING_ABS_MAX`.
    pub fn time(&mut self, series: &[u8], amounts: &[Amount], weight: f64) -> Result<(), String> {
        if !self.timings.contains_key(series) {
            self.admit_series(series, SAMPLE_BYTES)?;
            self.timings.insert(series.into(), Timing::new());
        }
        let Some(timing) = self.timings.get_mut(series) else {
            return Ok(());
        };
        for amount in amounts {
            let is_first = timing.kept() == 0;
            let fits = timing.kept() < self.limits.timing_samples_max
                && self.state_bytes + SAMPLE_BYTES <= self.limits.state_bytes_max;
            if fits && !is_first {
                self.state_bytes += SAMPLE_BYTES;
            }
            timing.add(amount.number, weight, is_first || fits, &mut self.random);
        }
        Ok(())
    }

    /// Adds a member to a set.
    pub fn member(&mut self, series: &[u8], member: &str) -> Result<(), String> {
        let bytes = MEMBER_BYTES + member.len();
        match self.sets.get(series) {
            Some(members) if members.contains(member) => return Ok(()),
            Some(members) if members.len() >= self.limits.set_members_max => {
                return Err(format!(
                    "too many members of a set (set_members_max {})",
                    self.limits.set_members_max
                ));
            }
            Some(_) => self.admit_bytes(bytes)?,
            None => self.admit_series(series, bytes)?,
        }
        match self.sets.get_mut(series) {
            Some(members) => drop(members.insert(member.into())),
            None => drop(self.sets.insert(series.into(), HashSet::from([member.into()]))),
        }
        Ok(())
    }

    fn admit_series(&mut self, series: &[u8], more_bytes: usize) -> Result<(), String> {
        let known = self.counters.len() + self.gauges.len() + self.sets.len() + self.timings.len();
        if known >= self.limits.series_max {
            return Err(format!("too many series (series_max {})", self.limits.series_max));
        }
        self.admit_bytes(SERIES_BYTES + series.len() + more_bytes)
    }

    fn admit_bytes(&mut self, bytes: usize) -> Result<(), String> {
        let max = self.limits.state_bytes_max;
        if self.state_bytes + bytes > max {
            return Err(format!("too much held between flushes (state_bytes_max {max})"));
        }
        self.state_bytes += bytes;
        Ok(())
    }

    /// Tells everything, stamped `now`: counters, gauges, sets, timings, each by series in order. Forgets all but the gauges, and of
    /// them those without an update in more than `gauge_expiry` flushes.
    pub fn flush(
        &mut self,
        now: i64,
        percentiles: &[Percentile],
        gauge_expiry: Option<u64>,
        sink: &mut dyn RowSink,
    ) {
        for (series, sum) in in_order(self.counters.drain()) {
            // In range: `count` saw to it.
            let value = Value::Integer(nearest(sum).unwrap_or_default());
            tell(&series, now, &[Field { key: "value", value }], sink);
        }
        for (series, gauge) in in_order(self.gauges.iter_mut()) {
            let value = Value::Float(gauge.value);
            tell(series, now, &[Field { key: "value", value }], sink);
            gauge.flushes += 1;
        }
        for (series, members) in in_order(self.sets.drain()) {
            let value = Value::Integer(members.len() as i64);
            tell(&series, now, &[Field { key: "value", value }], sink);
        }
        let mut fields = Vec::new();
        for (series, mut timing) in in_order(self.timings.drain()) {
            fields.clear();
            timing.fields(percentiles, &mut fields);
            tell(&series, now, &fields, sink);
        }
        if let Some(expiry) = gauge_expiry {
            self.gauges.retain(|_, gauge| gauge.flushes <= expiry);
        }
        self.state_bytes = self.gauges.keys().map(|series| SERIES_BYTES + series.len()).sum();
    }
}

/// A counter beyond 64 bits.
pub fn counter_out_of_range() -> String {
    "counter out of range of 64-bit integers".into()
}

/// Allocates only for a new series.
fn set<T>(map: &mut Series<T>, series: &[u8], value: T) {
    match map.get_mut(series) {
        Some(place) => *place = value,
        None => drop(map.insert(series.into(), value)),
    }
}

fn in_order<K: AsRef<[u8]>, T>(series: impl Iterator<Item = (K, T)>) -> Vec<(K, T)> {
    let mut series: Vec<(K, T)> = series.collect();
    series.sort_unstable_by(|(a, _), (b, _)| texts(a.as_ref()).cmp(texts(b.as_ref())));
    series
}

/// The texts of a spelling, as `SeriesParts::spell` wrote them: the measurement first.
fn texts(spelling: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = spelling;
    std::iter::from_fn(move || {
        let (len, after) = rest.split_first_chunk::<4>()?;
        let (text, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        rest = after;
        Some(text)
    })
}

fn tell(series: &[u8], now: i64, fields: &[Field<'_>], sink: &mut dyn RowSink) {
    // Many lines made this row; for messages, its measurement stands for them.
    let text = texts(series).next().unwrap_or_default();
    sink.row(&Row {
        series: SeriesRef {
            spelling: series,
            reader: &PlainSpelling,
        },
        time: Some(now),
        fields,
        origin: Origin { line: 1, text },
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use kymo_plugin_api::SeriesParts;
    use kymo_plugin_api::kit::Collector;

    const LIMITS: Limits = Limits {
        series_max: 3,
        timing_samples_max: 2,
        set_members_max: 2,
        state_bytes_max: 10_000,
    };

    fn series(name: &str) -> Vec<u8> {
        let mut spelling = Vec::new();
        SeriesParts::spell(name, &[], &mut spelling);
        spelling
    }

    fn amounts(numbers: &[f64]) -> Vec<Amount> {
        let unsigned = |number: &f64| Amount {
            number: *number,
            signed: false,
        };
        numbers.iter().map(unsigned).collect()
    }

    fn flush(gathered: &mut Gathered) -> Vec<String> {
        let mut collector = Collector::default();
        gathered.flush(7, &[], Some(0), &mut collector);
        collector.rows
    }

    #[test]
    fn a_series_too_many_is_refused_until_the_flush_and_known_ones_are_not() {
        let mut gathered = Gathered::new(LIMITS);
        gathered.count(&series("a"), 1.0).expect("first");
        gathered.gauge(&series("b"), &amounts(&[1.0])).expect("second");
        gathered.member(&series("c"), "x").expect("third");
        let refused = Err("too many series (series_max 3)".to_string());
        assert_eq!(gathered.count(&series("d"), 1.0), refused);
        assert_eq!(gathered.gauge(&series("d"), &amounts(&[1.0])), refused);
        assert_eq!(gathered.time(&series("d"), &amounts(&[1.0]), 1.0), refused);
        assert_eq!(gathered.member(&series("d"), "x"), refused);
        assert_eq!(gathered.count(&series("a"), 1.0), Ok(()));
        assert_eq!(
            flush(&mut gathered),
            ["a value=2i 7", "b value=1 7", "c value=1i 7"]
        );
        assert_eq!(gathered.count(&series("d"), 1.0), Ok(()));
        assert_eq!(flush(&mut gathered), ["d value=1i 7"]);
    }

    #[test]
    fn a_member_too_many_is_refused_and_a_known_one_is_not() {
        let mut gathered = Gathered::new(LIMITS);
        assert_eq!(gathered.member(&series("s"), "a"), Ok(()));
        assert_eq!(gathered.member(&series("s"), "b"), Ok(()));
        let refused = Err("too many members of a set (set_members_max 2)".to_string());
        assert_eq!(gathered.member(&series("s"), "c"), refused);
        assert_eq!(gathered.member(&series("s"), "a"), Ok(()));
        assert_eq!(flush(&mut gathered), ["s value=2i 7"]);
    }

    #[test]
    fn bytes_are_bounded_and_given_back() {
        let limits = Limits {
            set_members_max: 1000,
            timing_samples_max: 1000,
            ..LIMITS
        };
        let mut gathered = Gathered::new(limits);
        let refused = Err("too much held between flushes (state_bytes_max 10000)".to_string());
        for _ in 0..3 {
            assert_eq!(gathered.time(&series("t"), &amounts(&[1.0]), 1.0), Ok(()));
            let refusals = (0..200)
                .filter(|i| gathered.member(&series("s"), &i.to_string()) == refused)
                .count();
            assert!((40..100).contains(&refusals), "{refusals} of 200");
            assert_eq!(gathered.count(&series("c"), 1.0), refused);
            // Timings that are known go on with what they have.
            assert_eq!(gathered.time(&series("t"), &amounts(&[3.0; 999]), 1.0), Ok(()));
            assert!(gathered.state_bytes <= 10_000);
            let rows = flush(&mut gathered);
            assert!(
                rows[1].starts_with("t count=1000i,sum=2998,mean=2.998,lower=1,upper=3"),
                "{rows:?}"
            );
            assert_eq!(gathered.state_bytes, 0);
        }
    }

    #[test]
    fn what_is_out_of_range_changes_nothing() {
        let mut gathered = Gathered::new(LIMITS);
        assert_eq!(gathered.count(&series("c"), 1e19), Err(counter_out_of_range()));
        assert_eq!(flush(&mut gathered), [] as [String; 0]);
        assert_eq!(gathered.count(&series("c"), 9e18), Ok(()));
        assert_eq!(gathered.count(&series("c"), 9e18), Err(counter_out_of_range()));
        assert_eq!(gathered.gauge(&series("g"), &amounts(&[1.7e308])), Ok(()));
        let more = [Amount {
            number: 1.7e308,
            signed: true,
        }];
        assert_eq!(
            gathered.gauge(&series("g"), &more),
            Err("gauge out of range".into())
        );
        assert_eq!(flush(&mut gathered)[0], "c value=9000000000000000000i 7");
    }
}
