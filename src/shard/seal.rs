//! From a frozen head to sorted tables, one a (partition, measurement), in the order the store writes them. Pure.

use super::head::PartMap;
use super::publish::parts_of;
use crate::model::{MeasurementId, SortedRows, TimeRange, concat_sorted};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Tables of a frozen head: ascending partition, then measurement. Each is made when it is asked for, so that only one
/// measurement at a time is in memory twice.
pub fn sealed_tables<'a>(
    frozen: &'a [Arc<PartMap>],
    partition_of: impl Fn(i64) -> i64 + Copy + 'a,
    alive: impl Fn(MeasurementId) -> bool + 'a,
) -> impl Iterator<Item = (i64, SortedRows)> + 'a {
    let mut wanted: BTreeMap<i64, Vec<MeasurementId>> = BTreeMap::new();
    let mut measurements: Vec<MeasurementId> = frozen.iter().flat_map(|map| map.keys().copied()).collect();
    measurements.sort_unstable();
    measurements.dedup();
    for measurement in measurements.into_iter().filter(|&m| alive(m)) {
        for partition in partitions(frozen, measurement, partition_of) {
            wanted.entry(partition).or_default().push(measurement);
        }
    }
    wanted.into_iter().flat_map(move |(partition, measurements)| {
        measurements
            .into_iter()
            .map(move |m| (partition, table(frozen, m, partition, partition_of)))
    })
}

fn partitions(
    frozen: &[Arc<PartMap>],
    measurement: MeasurementId,
    partition_of: impl Fn(i64) -> i64,
) -> Vec<i64> {
    let mut found = Vec::new();
    for part in parts_of(frozen, measurement) {
        let TimeRange { min, max } = part.time_range();
        let (first, last) = (partition_of(min), partition_of(max));
        if first == last {
            found.push(first);
        } else {
            found.extend(part.times.iter().map(|&time| partition_of(time)));
        }
        found.sort_unstable();
        found.dedup();
    }
    found
}

fn table(
    frozen: &[Arc<PartMap>],
    measurement: MeasurementId,
    partition: i64,
    partition_of: impl Fn(i64) -> i64,
) -> SortedRows {
    let parts = parts_of(frozen, measurement);
    let chosen = parts.iter().filter_map(|part| {
        if within(part, partition, &partition_of) {
            Some(Cow::Borrowed(part.as_ref()))
        } else {
            slice(part, partition, &partition_of).map(Cow::Owned)
        }
    });
    let chosen: Vec<Cow<'_, SortedRows>> = chosen.collect();
    concat_sorted(measurement, &chosen.iter().map(Cow::as_ref).collect::<Vec<_>>())
}

fn within(part: &SortedRows, partition: i64, partition_of: &impl Fn(i64) -> i64) -> bool {
    let range = part.time_range();
    partition_of(range.min) == partition && partition_of(range.max) == partition
}

/// The rows of a part that lie in a partition, if any do.
fn slice(part: &SortedRows, partition: i64, partition_of: &impl Fn(i64) -> i64) -> Option<SortedRows> {
    let mut out = SortedRows::empty(part.measurement);
    let mut row = 0;
    while row < part.len() {
        let start = row;
        while row < part.len() && partition_of(part.times[row]) == partition {
            row += 1;
        }
        out.extend_from(part, start..row);
        row += usize::from(row == start);
    }
    (!out.is_empty()).then_some(out)
}
