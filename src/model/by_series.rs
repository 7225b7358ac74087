//! Tables of one measurement put end to end, series by series, where each series goes on in the next table: stretches of rows
//! are copied whole, and no row is compared with another. For those who put the last batches together (live queries).

use super::column::Piece;
use super::{Column, FieldId, FieldType, MeasurementId, SeriesId, SortedRows};
use std::collections::BTreeMap;
use std::ops::Range;

/// The rows of each series in sorted rows, ascending.
pub type SeriesRuns = Vec<(SeriesId, Range<usize>)>;

/// Sorted rows of one measurement, whose columns are read one by one.
pub struct Table<'a> {
    /// Which rows are of which series.
    pub runs: &'a [(SeriesId, Range<usize>)],
    /// One a row.
    pub times: &'a [i64],
    /// Its fields, ascending.
    pub fields: Vec<(FieldId, FieldType)>,
}

/// Puts tables together that came in this order, in memory that was used before. `read` gives a column of one of the tables, by its place, which has
/// an entry for each of its rows. `None`: in some series a row is not later than one of a table before, or a field has several types;
/// then rows must be compared ([`merge_sorted`](super::merge_sorted)).
pub fn append_by_series(
    measurement: MeasurementId,
    tables: &[Table<'_>],
    read: &dyn Fn(usize, FieldId) -> Option<Column>,
    mut used: SortedRows,
) -> Option<(SortedRows, SeriesRuns)> {
    let mut fields: BTreeMap<FieldId, FieldType> = BTreeMap::new();
    for (field, field_type) in tables.iter().flat_map(|table| &table.fields) {
        if *fields.entry(*field).or_insert(*field_type) != *field_type {
            return None;
        }
    }
    let rows = tables.iter().map(|table| table.times.len()).sum();
    let order = order(tables);
    let room = |table: &Table<'_>| Vec::with_capacity(table.runs.len());
    let mut pieces: Vec<Vec<Piece>> = tables.iter().map(room).collect();
    let mut runs = SeriesRuns::new();
    let mut times = std::mem::take(&mut used.times);
    times.clear();
    times.reserve_exact(rows);
    for (table, run) in order {
        let of = &tables[table as usize];
        let (series, piece) = &of.runs[run as usize];
        let of_run = &of.times[piece.clone()];
        let to = times.len();
        let end = to + of_run.len();
        match runs.last_mut() {
            Some((last, known)) if last == series => {
                if times.last() >= of_run.first() {
                    return None;
                }
                known.end = end;
            }
            _ => runs.push((*series, to..end)),
        }
        times.extend_from_slice(of_run);
        let rows = piece.clone();
        pieces[table as usize].push(Piece { rows, to });
    }
    let columns = fields.into_iter().map(|(field, field_type)| {
        let at = used
            .columns
            .iter()
            .position(|(_, column)| column.values.field_type() == field_type);
        let used = at.map(|at| used.columns.swap_remove(at).1);
        let read = |table: usize| read(table, field);
        (field, Column::of_columns(field_type, &read, &pieces, rows, used))
    });
    let columns = columns.collect();
    let mut series = used.series;
    series.clear();
    series.reserve_exact(rows);
    runs.iter().for_each(|(id, range)| series.resize(range.end, *id));
    let rows = SortedRows {
        measurement,
        series,
        times,
        columns,
    };
    Some((rows, runs))
}

/// The series of each row.
pub fn each_row(runs: &[(SeriesId, Range<usize>)], rows: usize) -> Vec<SeriesId> {
    let mut series = Vec::with_capacity(rows);
    runs.iter().for_each(|(id, range)| series.resize(range.end, *id));
    series
}

/// All runs, by series and then in the order of the tables: (table, run).
fn order(tables: &[Table<'_>]) -> Vec<(u32, u32)> {
    let ids = || tables.iter().flat_map(|table| table.runs).map(|(id, _)| *id);
    let all = || {
        let each =
            |(at, table): (usize, &Table<'_>)| (0..table.runs.len() as u32).map(move |run| (at as u32, run));
        tables.iter().enumerate().flat_map(each)
    };
    let first = ids().min().unwrap_or(0);
    let span = (ids().max().unwrap_or(0) - first) as usize + 1;
    let count = tables.iter().map(|table| table.runs.len()).sum::<usize>();
    if span > 4 * count {
        // Ids far from each other. Stable: tables stay in their order.
        let mut order: Vec<(u32, u32)> = all().collect();
        order.sort_by_key(|(table, run)| tables[*table as usize].runs[*run as usize].0);
        return order;
    }
    // Where the runs of each series begin, then where its next one goes.
    let mut next = vec![0u32; span + 1];
    ids().for_each(|id| next[(id - first) as usize + 1] += 1);
    for at in 1..next.len() {
        next[at] += next[at - 1];
    }
    let mut order = vec![(0, 0); count];
    for ((table, run), id) in all().zip(ids()) {
        let place = &mut next[(id - first) as usize];
        order[*place as usize] = (table, run);
        *place += 1;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldValue, Values, merge_sorted};
    use proptest::prelude::*;

    fn runs_of(rows: &SortedRows) -> SeriesRuns {
        let mut runs = SeriesRuns::new();
        for (row, id) in rows.series.iter().enumerate() {
            match runs.last_mut() {
                Some((last, range)) if last == id => range.end += 1,
                _ => runs.push((*id, row..row + 1)),
            }
        }
        runs
    }

    /// A point of a series: its time, and a value of a second field that only some have.
    type Point = (SeriesId, i64, Option<i64>);

    fn table(points: &[Point]) -> SortedRows {
        let (series, times): (Vec<SeriesId>, Vec<i64>) = points.iter().map(|(s, t, _)| (*s, *t)).unzip();
        let first = times
            .iter()
            .zip(&series)
            .map(|(t, s)| *t as f64 + f64::from(*s) / 8.0);
        let first = Values::Float(first.collect());
        let second = Values::Integer(points.iter().map(|(.., v)| v.unwrap_or(0)).collect());
        let present = points.iter().map(|(.., v)| v.is_some());
        let mut columns = vec![(
            1,
            Column {
                values: first,
                present: None,
            },
        )];
        if points.iter().any(|(.., v)| v.is_some()) {
            let mut bits = crate::model::Bitmap::new();
            present.for_each(|bit| bits.push(bit));
            columns.push((
                2,
                Column {
                    values: second,
                    present: Some(bits),
                },
            ));
        }
        SortedRows::from_unsorted(7, series, times, columns)
    }

    fn together(tables: &[SortedRows]) -> Option<(SortedRows, SeriesRuns)> {
        together_in(tables, SortedRows::empty(3))
    }

    fn together_in(tables: &[SortedRows], used: SortedRows) -> Option<(SortedRows, SeriesRuns)> {
        let runs: Vec<SeriesRuns> = tables.iter().map(runs_of).collect();
        let fields = |rows: &SortedRows| {
            let columns = rows.columns.iter();
            columns
                .map(|(id, column)| (*id, column.values.field_type()))
                .collect()
        };
        let views = tables.iter().zip(&runs).map(|(rows, runs)| Table {
            runs,
            times: &rows.times,
            fields: fields(rows),
        });
        let read = |table: usize, field: FieldId| {
            let columns = &tables[table].columns;
            let at = columns.binary_search_by_key(&field, |(known, _)| *known);
            at.ok().map(|at| columns[at].1.clone())
        };
        append_by_series(7, &views.collect::<Vec<_>>(), &read, used)
    }

    /// Each row as it would be answered.
    fn read(rows: &SortedRows) -> Vec<(SeriesId, i64, Vec<(FieldId, FieldValue)>)> {
        let cells = |row: usize| {
            let columns = rows.columns.iter();
            columns
                .filter_map(|(id, column)| Some((*id, column.get(row)?)))
                .collect()
        };
        (0..rows.len())
            .map(|row| (rows.series[row], rows.times[row], cells(row)))
            .collect()
    }

    #[test]
    fn what_must_be_compared_is_left_to_others() {
        let one = table(&[(3, 10, None), (3, 11, Some(1)), (9, 5, None)]);
        for (later, fits) in [
            ((3, 12), true),
            ((3, 11), false),
            ((3, 1), false),
            ((9, 6), true),
            ((4, 0), true),
        ] {
            let found = together(&[one.clone(), table(&[(later.0, later.1, None)])]);
            assert_eq!(found.is_some(), fits, "{later:?}");
        }
        let mut other = table(&[(3, 12, None)]);
        other.columns[0].1 = Column {
            values: Values::Integer(vec![1]),
            present: None,
        };
        assert!(
            together(&[one.clone(), other]).is_none(),
            "a field of another type"
        );
        assert_eq!(
            read(&together(std::slice::from_ref(&one)).expect("one table").0),
            read(&one)
        );
        assert!(together(&[]).expect("nothing").0.is_empty());
    }

    #[test]
    fn what_memory_held_before_is_not_seen() {
        let some = table(&[(1, 1, Some(5)), (1, 2, None), (2, 1, Some(6))]);
        let mut all = [
            table(&[(1, 3, Some(7))]),
            table(&[(1, 4, Some(8)), (2, 4, Some(9))]),
        ];
        all.iter_mut().for_each(|table| table.columns[1].1.present = None);
        let fresh = together(&all).expect("they go on").0;
        for used in [some.clone(), together(&[some]).expect("one table").0] {
            assert!(together_in(&all, used).expect("they go on").0 == fresh);
        }
    }

    proptest! {
        #[test]
        fn tables_that_go_on_are_put_together_as_by_comparing(
            tables in prop::collection::vec(prop::collection::vec((0u32..6, 0i64..8, prop::option::of(any::<i64>())), 1..12), 1..6),
            far in any::<bool>(),
        ) {
            // Ids close to each other are counted, others sorted.
            let id = |series: SeriesId| if far { series * 1_000_000 } else { series };
            let tables: Vec<SortedRows> = (0i64..).zip(&tables).map(|(at, points)| {
                let later = |(s, t, v): &Point| (id(*s), 100 * at + t, *v);
                table(&points.iter().map(later).collect::<Vec<_>>())
            }).collect();
            let (rows, runs) = together(&tables).expect("each is later than the one before");
            let merged = merge_sorted(7, &tables.iter().collect::<Vec<_>>());
            prop_assert_eq!(read(&rows), read(&merged));
            prop_assert_eq!(&rows.series, &merged.series);
            prop_assert_eq!(&runs, &runs_of(&merged));
            // In memory that held something else before: what was there is not seen.
            let used = together(&tables[..1]).expect("one table").0;
            for used in [used, rows.clone()] {
                let (again, runs_again) = together_in(&tables, used).expect("as before");
                prop_assert!(again == rows);
                prop_assert_eq!(&runs_again, &runs);
            }
        }
    }
}
