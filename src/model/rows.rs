//! Rows of one measurement sorted by (series, time), each (series, time) once: what the head keeps, what is sealed, and
//! what merging makes. And the one piece of code that resolves duplicates: [`merge_sorted`].

use super::{Column, FieldId, FieldType, MeasurementId, SeriesId, TimeRange};
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Range;

/// Rows that stay together, on average, for pieces of them to be copied as they are.
const PIECE_ROWS_MIN: usize = 8;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct SortedRows {
    /// Whose rows.
    pub measurement: MeasurementId,
    /// One a row, ascending.
    pub series: Vec<SeriesId>,
    /// One a row, ascending within a series, no two equal.
    pub times: Vec<i64>,
    /// By field, ascending; each with one entry a row. Fields without any value may be left out.
    pub columns: Vec<(FieldId, Column)>,
}

impl SortedRows {
    /// No rows.
    pub fn empty(measurement: MeasurementId) -> Self {
        Self {
            measurement,
            series: Vec::new(),
            times: Vec::new(),
            columns: Vec::new(),
        }
    }

    /// Rows.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// No rows at all.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Sorts rows that came in any order. Of two with the same series and time the later one wins field by field.
    ///
    /// `columns` has one entry a row in every column, in the order of `series` and `times`; no field twice.
    pub fn from_unsorted(
        measurement: MeasurementId,
        series: Vec<SeriesId>,
        times: Vec<i64>,
        mut columns: Vec<(FieldId, Column)>,
    ) -> Self {
        columns.sort_by_key(|(field, _)| *field);
        let borrowed: Vec<(FieldId, &Column)> = columns.iter().map(|(field, c)| (*field, c)).collect();
        Self::sort(measurement, &series, &times, &borrowed).unwrap_or(Self {
            measurement,
            series,
            times,
            columns,
        })
    }

    /// As [`from_unsorted`](Self::from_unsorted), by reference; fields ascend. `None` when the rows are in order as they are.
    pub fn sort(
        measurement: MeasurementId,
        series: &[SeriesId],
        times: &[i64],
        columns: &[(FieldId, &Column)],
    ) -> Option<Self> {
        if (1..times.len()).all(|i| (series[i - 1], times[i - 1]) < (series[i], times[i])) {
            return None;
        }
        let order = sort_order(series, times);
        let columns = columns.iter().map(|(field, c)| (*field, c.gather(&order)));
        let mut sorted = Self {
            measurement,
            series: order.iter().map(|&i| series[i as usize]).collect(),
            times: order.iter().map(|&i| times[i as usize]).collect(),
            columns: columns.collect(),
        };
        sorted.resolve_duplicates();
        Some(sorted)
    }

    /// Folds neighbouring rows of the same series and time into one; the later wins field by field.
    fn resolve_duplicates(&mut self) {
        let same = |i: usize| self.series[i] == self.series[i - 1] && self.times[i] == self.times[i - 1];
        if !(1..self.len()).any(same) {
            return;
        }
        // For each group of equal rows, its range; a column takes the last row of the group that has a value.
        let mut starts: Vec<usize> = (0..self.len()).filter(|&i| i == 0 || !same(i)).collect();
        let groups = starts.len();
        starts.push(self.len());
        for (_, column) in &mut self.columns {
            let mut folded = Column::new(column.values.field_type());
            for group in starts.windows(2) {
                let last = (group[0]..group[1])
                    .rev()
                    .find(|&i| column.has(i))
                    .unwrap_or(group[1] - 1);
                folded.push_from(column, last);
            }
            *column = folded;
        }
        starts.truncate(groups);
        self.series = starts.iter().map(|&i| self.series[i]).collect();
        self.times = starts.iter().map(|&i| self.times[i]).collect();
    }

    /// Some of the rows; positions ascend.
    pub fn gather(&self, positions: &[u32]) -> Self {
        Self {
            measurement: self.measurement,
            series: positions.iter().map(|&i| self.series[i as usize]).collect(),
            times: positions.iter().map(|&i| self.times[i as usize]).collect(),
            columns: self
                .columns
                .iter()
                .map(|(f, c)| (*f, c.gather(positions)))
                .collect(),
        }
    }

    /// The rows of one series: their positions.
    pub fn rows_of(&self, series: SeriesId) -> Range<usize> {
        let start = self.series.partition_point(|&s| s < series);
        let len = self.series[start..].partition_point(|&s| s == series);
        start..start + len
    }

    /// Smallest and largest timestamp; an empty range without rows.
    pub fn time_range(&self) -> TimeRange {
        TimeRange {
            min: self.times.iter().copied().min().unwrap_or(i64::MAX),
            max: self.times.iter().copied().max().unwrap_or(i64::MIN),
        }
    }

    /// Copies rows `range` of `from` to the end. The caller keeps the order.
    pub fn extend_from(&mut self, from: &SortedRows, range: Range<usize>) {
        let before = self.len();
        self.series.extend_from_slice(&from.series[range.clone()]);
        self.times.extend_from_slice(&from.times[range.clone()]);
        for (field, column) in &from.columns {
            self.column_mut(*field, column, before)
                .extend_from(column, range.clone());
        }
        self.fill_missing();
    }

    /// A field's column.
    pub fn column(&self, field: FieldId) -> Option<&Column> {
        let at = self.columns.binary_search_by_key(&field, |(f, _)| *f).ok()?;
        Some(&self.columns[at].1)
    }

    fn column_mut(&mut self, field: FieldId, like: &Column, rows: usize) -> &mut Column {
        let at = match self.columns.binary_search_by_key(&field, |(f, _)| *f) {
            Ok(at) => at,
            Err(at) => {
                let mut column = Column::new(like.values.field_type());
                column.push_missing(rows);
                self.columns.insert(at, (field, column));
                at
            }
        };
        &mut self.columns[at].1
    }

    /// Columns that got nothing for the newest rows are brought to full length.
    fn fill_missing(&mut self) {
        let rows = self.times.len();
        for (_, column) in &mut self.columns {
            column.push_missing(rows - column.len());
        }
    }

    /// Bytes of memory the rows take.
    pub fn bytes(&self) -> usize {
        self.len() * 12 + self.columns.iter().map(|(_, c)| c.bytes() + 64).sum::<usize>()
    }
}

/// As [`merge_sorted`], for many inputs that interleave closely: puts them end to end and sorts once.
pub fn concat_sorted(measurement: MeasurementId, inputs: &[&SortedRows]) -> SortedRows {
    let whole: Vec<(&SortedRows, Range<usize>)> = inputs.iter().map(|rows| (*rows, 0..rows.len())).collect();
    concat_ranges(measurement, &whole)
}

/// As [`concat_sorted`], of some rows of each input.
pub fn concat_ranges(measurement: MeasurementId, inputs: &[(&SortedRows, Range<usize>)]) -> SortedRows {
    let rows = inputs.iter().map(|(_, rows)| rows.len()).sum();
    let (mut series, mut times) = (Vec::with_capacity(rows), Vec::with_capacity(rows));
    for (input, rows) in inputs {
        series.extend_from_slice(&input.series[rows.clone()]);
        times.extend_from_slice(&input.times[rows.clone()]);
    }
    let is_sorted = (1..rows).all(|i| (series[i - 1], times[i - 1]) < (series[i], times[i]));
    let order = (!is_sorted).then(|| sort_order(&series, &times));
    if let Some(order) = &order {
        series = order.iter().map(|&i| series[i as usize]).collect();
        times = order.iter().map(|&i| times[i as usize]).collect();
    }
    // Rows that stay together are copied once, from where they are to where they belong; where they scatter that costs more than
    // to put them end to end first.
    let scattered = order.as_deref().filter(|order| are_scattered(order));
    let pieces = match order.as_deref().filter(|_| scattered.is_none()) {
        Some(order) => pieces_of(order, inputs),
        None => inputs.iter().map(|(_, rows)| rows.clone()).enumerate().collect(),
    };
    let fields = inputs.iter().flat_map(|(input, _)| &input.columns);
    let fields: BTreeMap<FieldId, FieldType> = fields.map(|(id, c)| (*id, c.values.field_type())).collect();
    let columns = fields.into_iter().map(|(id, field_type)| {
        let columns: Vec<Option<&Column>> = inputs.iter().map(|(input, _)| input.column(id)).collect();
        let column = Column::of_pieces(field_type, &columns, &pieces, rows);
        let column = match scattered {
            Some(order) => column.gather(order),
            None => column,
        };
        (id, column)
    });
    let mut all = SortedRows {
        measurement,
        columns: columns.collect(),
        series,
        times,
    };
    all.resolve_duplicates();
    all
}

/// Do few rows of inputs that lie end to end stay together in this order?
fn are_scattered(order: &[u32]) -> bool {
    let breaks = order.windows(2).filter(|pair| pair[0] + 1 != pair[1]).count();
    breaks * PIECE_ROWS_MIN > order.len()
}

/// Which rows of which input stand together in the order of all, whose numbers go on from input to input.
fn pieces_of(order: &[u32], inputs: &[(&SortedRows, Range<usize>)]) -> Vec<(usize, Range<usize>)> {
    let mut begins = Vec::with_capacity(inputs.len());
    let mut rows = 0;
    for (_, range) in inputs {
        begins.push(rows);
        rows += range.len();
    }
    let mut pieces = Vec::new();
    for together in order.chunk_by(|a, b| a + 1 == *b) {
        let (mut at, end) = (together[0] as usize, together[0] as usize + together.len());
        // They may go on in the next inputs.
        while at < end {
            let input = begins.partition_point(|&begin| begin <= at) - 1;
            let (begin, range) = (begins[input], &inputs[input].1);
            let upto = end.min(begin + range.len());
            pieces.push((input, at - begin + range.start..upto - begin + range.start));
            at = upto;
        }
    }
    pieces
}

/// Positions in the order of (series, time); equal ones in the order they came.
fn sort_order(series: &[SeriesId], times: &[i64]) -> Vec<u32> {
    let first = series.iter().copied().min().unwrap_or(0);
    let span = (series.iter().copied().max().unwrap_or(0) - first) as usize + 1;
    if span <= 2 * series.len() {
        order_by_counting(series, times, first, span)
    } else {
        order_by_keys(series, times)
    }
}

/// Few series, or ids close to each other: each row is put behind those of its series that came before it. Most senders' times
/// ascend; the rows of a series whose times do not are sorted.
fn order_by_counting(series: &[SeriesId], times: &[i64], first: SeriesId, span: usize) -> Vec<u32> {
    let mut ends = vec![0u32; span + 1];
    for &id in series {
        ends[(id - first) as usize + 1] += 1;
    }
    for at in 1..ends.len() {
        ends[at] += ends[at - 1];
    }
    // `ends[s]` is now where series `s` begins, and moves to where it ends.
    let mut order = vec![0u32; series.len()];
    let mut newest = vec![i64::MIN; span];
    let mut unordered = Vec::new();
    for (row, (&id, &time)) in series.iter().zip(times).enumerate() {
        let at = (id - first) as usize;
        order[ends[at] as usize] = row as u32;
        ends[at] += 1;
        if time < newest[at] {
            unordered.push(at);
        } else {
            newest[at] = time;
        }
    }
    unordered.sort_unstable();
    unordered.dedup();
    for at in unordered {
        let begin = at.checked_sub(1).map_or(0, |before| ends[before] as usize);
        order[begin..ends[at] as usize].sort_by_key(|&row| times[row as usize]);
    }
    order
}

fn order_by_keys(series: &[SeriesId], times: &[i64]) -> Vec<u32> {
    let base = times.iter().copied().min().unwrap_or(0);
    let span = times.iter().copied().max().unwrap_or(0).wrapping_sub(base) as u64;
    // A key of series, time and position in one u128 sorts fastest; u64 does when the three fit.
    let position_bits = usize::BITS - times.len().leading_zeros();
    let time_bits = u64::BITS - span.leading_zeros();
    let series_bits = u32::BITS - series.iter().copied().max().unwrap_or(0).leading_zeros();
    let offset = |i: usize| times[i].wrapping_sub(base) as u64;
    if position_bits + time_bits + series_bits <= 64 {
        let mut keys: Vec<u64> = (0..times.len())
            .map(|i| {
                // A shift by 64 can only be asked for when what is shifted is 0.
                let high = u64::from(series[i])
                    .checked_shl(time_bits + position_bits)
                    .unwrap_or(0);
                high | offset(i).checked_shl(position_bits).unwrap_or(0) | i as u64
            })
            .collect();
        // Stable, for its merging: what comes here is mostly a few sorted stretches end to end.
        keys.sort();
        let mask = (1u64 << position_bits) - 1;
        keys.into_iter().map(|key| (key & mask) as u32).collect()
    } else {
        let mut keys: Vec<(SeriesId, u64, u32)> = (0..times.len())
            .map(|i| (series[i], offset(i), i as u32))
            .collect();
        keys.sort();
        keys.into_iter().map(|(_, _, i)| i).collect()
    }
}

/// Merges sorted rows of one measurement. Where several have the same series and time, the later in `inputs` wins, field by field.
pub fn merge_sorted(measurement: MeasurementId, inputs: &[&SortedRows]) -> SortedRows {
    match inputs {
        [] => return SortedRows::empty(measurement),
        [one] => return (*one).clone(),
        _ => {}
    }
    let mut out = SortedRows::empty(measurement);
    let rows = inputs.iter().map(|rows| rows.len()).sum();
    out.series.reserve(rows);
    out.times.reserve(rows);
    let mut at = vec![0usize; inputs.len()];
    let key = |input: usize, at: usize| {
        inputs[input]
            .series
            .get(at)
            .map(|&s| (s, inputs[input].times[at]))
    };
    loop {
        // The smallest next row, and the smallest row that another input has next: up to there it can be copied whole.
        let mut first: Option<((SeriesId, i64), usize)> = None;
        let mut second: Option<(SeriesId, i64)> = None;
        let mut equal = false;
        for (input, &position) in at.iter().enumerate() {
            let Some(next) = key(input, position) else {
                continue;
            };
            match first.map_or(Ordering::Less, |(smallest, _)| next.cmp(&smallest)) {
                Ordering::Less => {
                    second = first.map(|(smallest, _)| smallest);
                    first = Some((next, input));
                    equal = false;
                }
                Ordering::Equal => equal = true,
                Ordering::Greater => second = Some(second.map_or(next, |s| s.min(next))),
            }
        }
        let Some((smallest, input)) = first else { break };
        if equal {
            let same: Vec<usize> = (0..inputs.len())
                .filter(|&i| key(i, at[i]) == Some(smallest))
                .collect();
            fold_row(&mut out, inputs, &same, &at);
            same.into_iter().for_each(|i| at[i] += 1);
            continue;
        }
        let rows = inputs[input];
        let start = at[input];
        let end = match second {
            None => rows.len(),
            Some(limit) => start + gallop(rows, start, limit),
        };
        out.extend_from(rows, start..end);
        at[input] = end;
    }
    out
}

/// How many rows from `start` on come before `limit`: doubling steps, then bisection.
fn gallop(rows: &SortedRows, start: usize, limit: (SeriesId, i64)) -> usize {
    let before = |i: usize| (rows.series[i], rows.times[i]) < limit;
    let mut step = 1;
    let mut low = start;
    while low + step < rows.len() && before(low + step) {
        low += step;
        step *= 2;
    }
    let high = (low + step).min(rows.len());
    let (mut low, mut high) = (low, high);
    while low < high {
        let middle = low + (high - low) / 2;
        if before(middle) {
            low = middle + 1
        } else {
            high = middle
        }
    }
    low - start
}

/// Writes one row from the rows `at[i]` of the inputs `same`; later inputs win.
fn fold_row(out: &mut SortedRows, inputs: &[&SortedRows], same: &[usize], at: &[usize]) {
    let newest = *same.last().expect("called with the inputs that have the row");
    out.series.push(inputs[newest].series[at[newest]]);
    out.times.push(inputs[newest].times[at[newest]]);
    let rows = out.times.len();
    for &input in same.iter().rev() {
        for (field, column) in &inputs[input].columns {
            if column.has(at[input]) {
                let to = out.column_mut(*field, column, rows - 1);
                if to.len() < rows {
                    to.push_from(column, at[input]);
                }
            }
        }
    }
    out.fill_missing();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{FieldValue, Values};
    use proptest::prelude::*;

    type Model = BTreeMap<(SeriesId, i64), BTreeMap<FieldId, FieldValue>>;
    type Row = (SeriesId, i64, Vec<(FieldId, i64)>);

    fn unsorted(rows: &[Row]) -> SortedRows {
        let mut columns: BTreeMap<FieldId, Column> = BTreeMap::new();
        for (i, (_, _, fields)) in rows.iter().enumerate() {
            for (field, value) in fields {
                let column = columns
                    .entry(*field)
                    .or_insert_with(|| Column::new(FieldType::Integer));
                if column.len() > i {
                    continue; // a field twice in one row: the first stays, as in `model`
                }
                column.push_missing(i - column.len());
                let Values::Integer(values) = &mut column.values else {
                    unreachable!("made as integers above")
                };
                values.push(*value);
                if let Some(present) = &mut column.present {
                    present.push(true);
                }
            }
        }
        columns
            .values_mut()
            .for_each(|c| c.push_missing(rows.len() - c.len()));
        let (series, times) = rows.iter().map(|r| (r.0, r.1)).unzip();
        SortedRows::from_unsorted(7, series, times, columns.into_iter().collect())
    }

    fn model(rows: &[Row], into: &mut Model) {
        for (series, time, fields) in rows {
            let entry = into.entry((*series, *time)).or_default();
            let mut seen = Vec::new();
            for (field, value) in fields {
                if !seen.contains(field) {
                    seen.push(*field);
                    entry.insert(*field, FieldValue::Integer(*value));
                }
            }
        }
    }

    fn read(rows: &SortedRows) -> Model {
        let mut out = Model::new();
        for i in 0..rows.len() {
            let fields = rows
                .columns
                .iter()
                .filter_map(|(f, c)| Some((*f, c.get(i)?)))
                .collect();
            assert!(
                out.insert((rows.series[i], rows.times[i]), fields).is_none(),
                "row {i} comes twice"
            );
        }
        out
    }

    fn rows() -> impl Strategy<Value = Vec<Row>> {
        let time = prop_oneof![0i64..12, Just(i64::MIN + 2), Just(i64::MAX - 1)];
        let fields = prop::collection::vec((0u16..3, any::<i64>()), 0..3);
        prop::collection::vec((prop_oneof![0u32..4, Just(u32::MAX)], time, fields), 0..40)
    }

    /// Rows of a few series, some of them in stretches.
    fn stretches() -> impl Strategy<Value = Vec<Row>> {
        let fields = prop::collection::vec((1u16..4, any::<i64>()), 1..3);
        let stretch = (0u32..9, 0i64..60, prop_oneof![Just(1i64), 10..40i64], fields);
        let stretches = prop::collection::vec(stretch, 0..6);
        stretches.prop_map(|stretches| {
            let row = |(series, time, len, fields): (u32, i64, i64, Vec<(FieldId, i64)>)| {
                let fields: BTreeMap<FieldId, i64> = fields.into_iter().collect();
                let fields: Vec<(FieldId, i64)> = fields.into_iter().collect();
                (0..len).map(move |i| {
                    (
                        series,
                        time + i,
                        fields.iter().map(|&(f, v)| (f, v.wrapping_add(i))).collect(),
                    )
                })
            };
            stretches.into_iter().flat_map(row).collect()
        })
    }

    #[test]
    fn rows_that_stay_together_are_pieces() {
        let rows = |series: &[u32], times: Range<i64>| {
            let all = series
                .iter()
                .flat_map(|&s| times.clone().map(move |t| (s, t, vec![(1, t)])));
            unsorted(&all.collect::<Vec<Row>>())
        };
        let (a, b, none) = (rows(&[1, 3], 0..20), rows(&[2, 3], 20..40), rows(&[], 0..0));
        let inputs = [(&a, 5..40), (&none, 0..0), (&b, 0..40), (&none, 0..0)];
        // In order: 15 rows of series 1, 20 of 2, 20 of 3 and again 20.
        let order: Vec<u32> = (0..15).chain(35..55).chain(15..35).chain(55..75).collect();
        assert!(!are_scattered(&order));
        assert_eq!(
            pieces_of(&order, &inputs),
            [(0, 5..20), (2, 0..20), (0, 20..40), (2, 20..40)]
        );
        // From the end of one to the begin of the next.
        assert_eq!(pieces_of(&[33, 34, 35, 36], &inputs), [(0, 38..40), (2, 0..2)]);
        assert!(are_scattered(&[0, 35, 1, 36, 2, 37]));
    }

    proptest! {
        #[test]
        fn sorting_and_merging_equal_a_map(inputs in prop::collection::vec(rows(), 1..5)) {
            let mut expected = Model::new();
            let sorted: Vec<SortedRows> = inputs.iter().map(|rows| { model(rows, &mut expected); unsorted(rows) }).collect();
            let merged = merge_sorted(7, &sorted.iter().collect::<Vec<_>>());
            prop_assert!((1..merged.len()).all(|i| (merged.series[i - 1], merged.times[i - 1]) < (merged.series[i], merged.times[i])));
            prop_assert_eq!(&concat_sorted(7, &sorted.iter().collect::<Vec<_>>()).times, &merged.times);
            prop_assert_eq!(read(&concat_sorted(7, &sorted.iter().collect::<Vec<_>>())), read(&merged));
            prop_assert_eq!(read(&merged), expected);
        }

        /// Some rows of each, which come in long stretches, one by one, or both.
        #[test]
        fn ranges_are_put_together_in_order(
            inputs in prop::collection::vec((stretches(), any::<prop::sample::Index>(), any::<prop::sample::Index>()), 0..12),
        ) {
            let mut expected = Model::new();
            let mut ranges = Vec::new();
            let inputs: Vec<SortedRows> = inputs.iter().map(|(rows, from, to)| {
                let sorted = unsorted(rows);
                let (a, b) = (from.index(sorted.len() + 1), to.index(sorted.len() + 1));
                let range = a.min(b)..a.max(b);
                let own = read(&sorted).into_iter().skip(range.start).take(range.len());
                own.for_each(|(key, fields)| expected.entry(key).or_default().extend(fields));
                ranges.push(range);
                sorted
            }).collect();
            let inputs: Vec<(&SortedRows, Range<usize>)> = inputs.iter().zip(ranges).collect();
            let found = concat_ranges(7, &inputs);
            prop_assert!((1..found.len()).all(|i| (found.series[i - 1], found.times[i - 1]) < (found.series[i], found.times[i])));
            prop_assert_eq!(read(&found), expected);
        }

        #[test]
        fn rows_of_finds_each_series(input in rows()) {
            let sorted = unsorted(&input);
            for series in [0, 1, 2, 3, 4, u32::MAX] {
                let want: Vec<usize> = (0..sorted.len()).filter(|&i| sorted.series[i] == series).collect();
                prop_assert_eq!(sorted.rows_of(series).collect::<Vec<_>>(), want);
            }
        }
    }
}
