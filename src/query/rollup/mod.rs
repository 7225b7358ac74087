//! States of rollups ([`crate::rollup`]): made of points, and answered from. `making` turns rows into states, `states` reads them as if they
//! were the steps of a block, `planning` says which intervals of a query can be read as states and which as points.
//!
//! An answer from states is the answer from the points: counts, ends, edges and sums of integers exactly; sums of floats are rounded once
//! an interval, as they are once a step elsewhere (ADR 0016). Where a state cannot say it (a NaN, a sum beyond 64 bits), the query is
//! answered from points after all. `approx_percentile` is within its bound (`functions/digest.rs`).

pub mod making;
pub mod planning;
pub mod states;

/// Does a query read states?
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RollupUse {
    /// Where they are exact and fewer than the points by enough.
    #[default]
    Auto,
    /// Never.
    Off,
    /// Wherever they are exact.
    Always,
}
