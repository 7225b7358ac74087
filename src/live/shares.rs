//! What of the budget of live subscriptions (`live_bytes`) each part may hold.

/// At most, of the batches that are kept and of one evaluation: more would not be used.
const ENOUGH: usize = 64 << 20;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shares {
    /// The last committed batches, packed, unpacked and put together.
    pub recent: usize,
    /// One evaluation; there is one at a time.
    pub evaluation: usize,
    /// What the windows of all computations were folded to.
    pub folded: usize,
    /// What waits for all clients.
    pub waiting: usize,
    /// The rows and groups that all computations remember.
    pub remembered: usize,
}

impl Shares {
    /// Of so many bytes.
    pub fn of(bytes: usize) -> Self {
        let quarter = bytes / 4;
        let (recent, evaluation) = (quarter.min(ENOUGH), quarter.min(ENOUGH));
        let third = (bytes - recent - evaluation) / 3;
        Self {
            recent,
            evaluation,
            folded: third,
            waiting: third,
            remembered: third,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_all_of_it() {
        for (bytes, recent, waiting) in [(24 << 20, 6 << 20, 4 << 20), (896 << 20, ENOUGH, 256 << 20)] {
            let shares = Shares::of(bytes);
            assert_eq!((shares.recent, shares.waiting), (recent, waiting));
            let all = shares.recent + shares.evaluation + shares.folded + shares.waiting + shares.remembered;
            assert_eq!(all, bytes);
        }
    }
}
