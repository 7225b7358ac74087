//! OFFSET and LIMIT over the pieces of one series, as they come, and which of them is the last: a piece waits until it is known
//! whether another follows.

use super::Prepared;
use crate::query::result::{Give, Piece, Series};
use std::ops::ControlFlow;

/// See the module.
pub struct Paged {
    /// Rows that are still left out.
    skip: u64,
    /// Rows that are still wanted.
    left: u64,
    /// Until it is known whether more follow.
    waiting: Option<Piece>,
    /// Whoever takes them wants no more.
    stopped: bool,
}

impl Paged {
    /// As a statement says.
    pub fn new(prepared: &Prepared) -> Self {
        Self {
            skip: prepared.offset,
            left: match prepared.limit {
                0 => u64::MAX,
                limit => limit,
            },
            waiting: None,
            stopped: false,
        }
    }

    /// Takes the next rows, and gives the ones before them away. Breaks when no more are wanted, as LIMIT or whoever takes them says.
    pub fn take(&mut self, mut series: Series, give: &mut Give<'_>) -> ControlFlow<()> {
        let rows = series.rows() as u64;
        let skipped = self.skip.min(rows);
        let taken = self.left.min(rows - skipped);
        self.skip -= skipped;
        if taken == 0 {
            return ControlFlow::Continue(());
        }
        series.limit(taken, skipped);
        self.left -= taken;
        if let Some(mut before) = self.waiting.replace(Piece::whole(series)) {
            before.goes_on = true;
            self.stopped = give(before).is_break();
        }
        match self.stopped || self.left == 0 {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    /// No more follow: gives what waited away. Breaks only if whoever takes the rows wants no more.
    pub fn last(self, give: &mut Give<'_>) -> ControlFlow<()> {
        match self.waiting {
            _ if self.stopped => ControlFlow::Break(()),
            Some(piece) => give(piece),
            None => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paged(skip: u64, left: u64) -> Paged {
        Paged {
            skip,
            left,
            waiting: None,
            stopped: false,
        }
    }

    fn rows(times: std::ops::Range<i64>) -> Series {
        Series {
            times: times.collect(),
            ..Series::default()
        }
    }

    #[test]
    fn offset_and_limit_count_over_pieces_and_the_last_is_known() {
        for (skip, left, breaks, expected) in [
            (
                0,
                u64::MAX,
                false,
                vec![(vec![0, 1, 2], true), (vec![3], true), (vec![4, 5], false)],
            ),
            (2, 2, true, vec![(vec![2], true), (vec![3], false)]),
            (3, 1, true, vec![(vec![3], false)]),
            (5, 9, false, vec![(vec![5], false)]),
            (6, 1, false, vec![]),
        ] {
            let mut paged = paged(skip, left);
            let mut given = Vec::new();
            let mut give = |piece: Piece| {
                given.push((piece.series.times, piece.goes_on));
                ControlFlow::Continue(())
            };
            let pieces = [rows(0..3), rows(3..4), rows(4..6)];
            let broke = pieces
                .into_iter()
                .any(|series| paged.take(series, &mut give).is_break());
            assert_eq!(broke, breaks, "offset {skip} limit {left}");
            assert!(paged.last(&mut give).is_continue());
            assert_eq!(given, expected, "offset {skip} limit {left}");
        }
    }

    #[test]
    fn whoever_stops_gets_nothing_more() {
        let mut paged = paged(0, 3);
        let mut given = 0;
        let mut give = |_: Piece| {
            given += 1;
            ControlFlow::Break(())
        };
        assert!(paged.take(rows(0..1), &mut give).is_continue());
        assert!(paged.take(rows(1..3), &mut give).is_break());
        assert!(paged.last(&mut give).is_break());
        assert_eq!(given, 1);
    }
}
