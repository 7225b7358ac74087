//! Zones of several sources may hold the same point: then the newer source's values win, field by field. Everything else
//! stays where it is.

use super::batch::{Cells, Held, SeriesRun};
use super::read::{Times, ZoneCells, ZoneRows};
use super::{ScanError, ScanRequest};
use crate::model::{Column, FieldId, SeriesId, SortedRows, merge_sorted};

/// A run of one of the zones.
#[derive(Clone, Copy)]
struct Piece {
    series: SeriesId,
    zone: u32,
    run: u32,
}

/// Takes runs that have points in common out of the zones, and gives them back as rows of their own, folded.
pub(super) fn resolve<'a>(
    zones: &mut [ZoneRows<'a>],
    request: &ScanRequest,
) -> Result<Option<ZoneRows<'a>>, ScanError> {
    let mut pieces: Vec<Piece> = Vec::new();
    for (zone, rows) in zones.iter().enumerate() {
        pieces.extend(rows.runs.iter().enumerate().map(|(run, r)| Piece {
            series: r.series,
            zone: zone as u32,
            run: run as u32,
        }));
    }
    // By series, and of one series in the order of the zones: oldest first.
    pieces.sort_unstable_by_key(|p| (u64::from(p.series) << 32) | u64::from(p.zone));
    let mut taken: Vec<Piece> = Vec::new();
    let mut folded: Option<SortedRows> = None;
    for of_series in pieces.chunk_by(|a, b| a.series == b.series) {
        if of_series.len() > 1 && share_points(zones, of_series) {
            fold(zones, of_series, request, &mut folded)?;
            taken.extend_from_slice(of_series);
        }
    }
    let Some(rows) = folded else { return Ok(None) };
    for piece in taken {
        let run = &mut zones[piece.zone as usize].runs[piece.run as usize];
        run.end = run.start;
    }
    zones
        .iter_mut()
        .for_each(|zone| zone.runs.retain(|run| !run.is_empty()));
    Ok(Some(held(rows, request)))
}

/// The times of a piece.
fn times<'z>(zones: &'z [ZoneRows<'_>], piece: &Piece) -> &'z [i64] {
    let zone = &zones[piece.zone as usize];
    &zone.times[zone.runs[piece.run as usize].rows()]
}

/// Is there a time that two of the pieces have?
fn share_points(zones: &[ZoneRows<'_>], pieces: &[Piece]) -> bool {
    let mut lists: Vec<&[i64]> = pieces.iter().map(|piece| times(zones, piece)).collect();
    lists.sort_unstable_by_key(|list| list[0]);
    let apart = |pair: &[&[i64]]| pair[0][pair[0].len() - 1] < pair[1][0];
    if lists.windows(2).all(apart) {
        return false;
    }
    if let [a, b] = lists[..] {
        return two_share(a, b);
    }
    let mut all: Vec<i64> = lists.concat();
    all.sort_unstable();
    all.windows(2).any(|pair| pair[0] == pair[1])
}

fn two_share<'t>(mut a: &'t [i64], mut b: &'t [i64]) -> bool {
    // Skips to where the lists meet; each step of the loop passes over at least one time.
    while let (Some(&first), Some(&other)) = (a.first(), b.first()) {
        if first == other {
            return true;
        }
        if first > other {
            (a, b) = (b, a);
        }
        let target = b[0];
        let skip = if a.len() > 8 && a[8] < target {
            a.partition_point(|&t| t < target)
        } else {
            a.iter().take_while(|&&t| t < target).count()
        };
        a = &a[skip..];
    }
    false
}

/// Copies the pieces of a series into one and appends it. Field ids are places in the request here.
fn fold(
    zones: &[ZoneRows<'_>],
    pieces: &[Piece],
    request: &ScanRequest,
    folded: &mut Option<SortedRows>,
) -> Result<(), ScanError> {
    let mut ordered: Vec<&Piece> = pieces.iter().collect();
    ordered.sort_by_key(|piece| zones[piece.zone as usize].rank);
    let mut copies = Vec::with_capacity(ordered.len());
    for piece in ordered {
        let zone = &zones[piece.zone as usize];
        let rows = zone.runs[piece.run as usize].rows();
        let mut copy = SortedRows::empty(request.measurement);
        copy.times = zone.times[rows.clone()].to_vec();
        copy.series = vec![piece.series; copy.times.len()];
        for i in 0..request.fields.len() {
            if let Some(column) = zone.cells.column(i)? {
                let mut to = Column::new(column.values.field_type());
                to.extend_from(column, rows.clone());
                copy.columns.push((i as FieldId, to));
            }
        }
        copies.push(copy);
    }
    let merged = merge_sorted(request.measurement, &copies.iter().collect::<Vec<_>>());
    match folded {
        None => *folded = Some(merged),
        Some(rows) => rows.extend_from(&merged, 0..merged.len()),
    }
    Ok(())
}

fn held<'a>(mut rows: SortedRows, request: &ScanRequest) -> ZoneRows<'a> {
    let mut runs: Vec<SeriesRun> = Vec::new();
    for (row, &series) in rows.series.iter().enumerate() {
        match runs.last_mut() {
            Some(run) if run.series == series => run.end += 1,
            _ => runs.push(SeriesRun {
                series,
                start: row as u32,
                end: row as u32 + 1,
            }),
        }
    }
    let mut columns: Vec<Option<Column>> = request.fields.iter().map(|_| None).collect();
    for (i, column) in std::mem::take(&mut rows.columns) {
        columns[usize::from(i)] = Some(column);
    }
    ZoneRows {
        rank: 0,
        runs,
        times: Times::Owned(rows.times),
        cells: ZoneCells::Held(Held(columns)),
    }
}
