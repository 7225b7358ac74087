//! Runs a compiled SELECT over the inputs of one name. `raw` gives rows as they are, `aggregated` folds them by group and
//! window.
//!
//! Read in this order: `reading` (an input opened: what is read of it, in which tasks), `labels` and `groups` (tags and
//! GROUP BY), `vector` and `filter` (expressions and WHERE on columns), `windows` (rows to segments), `fold`
//! (aggregates of segments), `setup`, `folding` and `finishing` (a SELECT with calls: what it is made of, its rows folded by
//! workers, folds turned into series), `early` (LIMIT: the wanted windows first), `rows` (from folded values to rows), `changes` (`derivative` and `difference` between windows, without a point a window); for raw rows `latest` and `tails` (LIMIT), `order`, `slices` (more rows than
//! are held at once) and `paged` (OFFSET and LIMIT).
//! `kept` is for live queries, which fold only what came since they were asked last. `work` is what both share; `explained` runs the same for EXPLAIN. `merged` gives rows series by series, for functions that need them so.

mod aggregated;
mod changes;
mod compact;
mod early;
mod explained;
mod filter;
mod finishing;
mod fold;
mod folding;
mod groups;
mod kept;
mod labels;
mod latest;
mod merged;
mod order;
mod paged;
mod raw;
mod reading;
pub mod rolled;
mod rows;
mod setup;
mod slices;
mod tails;
mod vector;
mod windows;
mod work;

use super::context::Context;
use super::error::QueryError;
use super::extension::Fold;
use super::functions::aggregate::Aggregate;
use super::functions::transform::Transform;
use super::input::Input;
use super::node::{Node, Refs};
use super::result::Give;
use super::rolling;
use super::windows::Windows;
use crate::lang::{Expr, Fill};
use crate::model::TimeRange;
use crate::model::time::TIME_MIN;
use std::ops::ControlFlow;
use std::sync::Arc;

pub use groups::Groups;
pub use kept::Kept;
pub use labels::Labels;
pub use merged::{Merged, each_series};
pub use reading::Reading;
pub use rows::Found;

/// A SELECT ready to run.
#[derive(Clone)]
pub struct Prepared {
    /// Names and what they compute.
    pub columns: Vec<(String, Node)>,
    /// What the first column is called.
    pub time_name: String,
    /// Calls; those inside others come first.
    pub calls: Vec<Call>,
    /// For each call, how many windows before the first it gives, for the functions built on it.
    pub leads: Vec<i64>,
    /// References to fields and tags.
    pub refs: Refs,
    /// WHERE without time.
    pub condition: Option<Expr>,
    /// Tags of GROUP BY, sorted.
    pub dimensions: Vec<String>,
    /// Which times.
    pub time: TimeRange,
    /// Which times are read: also what the first windows of some functions need from before.
    pub read: TimeRange,
    /// `GROUP BY time(..)`.
    pub windows: Option<Windows>,
    /// What stands in empty windows.
    pub fill: Fill,
    /// Small times first.
    pub ascending: bool,
    /// Rows of a series; 0 for all.
    pub limit: u64,
    /// Rows left out before them.
    pub offset: u64,
}

/// A call.
#[derive(Clone, Debug)]
pub enum Call {
    /// A function of a set of points.
    Aggregate {
        /// Which.
        function: Aggregate,
        /// Of what.
        argument: Node,
    },
    /// `top(field, tag, .., n)`.
    Ranked {
        /// `top` or `bottom`.
        function: Aggregate,
        /// Of what.
        argument: Node,
        /// References whose values stand beside the result, one row for each combination.
        beside: Vec<usize>,
    },
    /// A function of the points another call gives.
    Transform {
        /// Which.
        transform: Transform,
        /// Number of the call.
        inner: usize,
    },
    /// A function of several fields, or of each series: see `super::folds`.
    Fold {
        /// Which.
        fold: Fold,
        /// Of what.
        arguments: Vec<Node>,
    },
}

impl Call {
    /// The function, if it is one of sets.
    pub fn function(&self) -> Option<&Aggregate> {
        match self {
            Self::Aggregate { function, .. } | Self::Ranked { function, .. } => Some(function),
            Self::Transform { .. } | Self::Fold { .. } => None,
        }
    }

    fn argument(&self) -> Option<&Node> {
        match self {
            Self::Aggregate { argument, .. } | Self::Ranked { argument, .. } => Some(argument),
            Self::Transform { .. } | Self::Fold { .. } => None,
        }
    }
}

impl Prepared {
    /// The first time that a call looks at.
    pub fn since(&self, call: usize) -> i64 {
        let lead = self.leads[call];
        read_from(self.time.min, self.windows.as_ref(), lead)
    }

    /// The names of all columns of the result.
    fn names(&self) -> Arc<[String]> {
        let mut names = vec![self.time_name.clone()];
        names.extend(self.columns.iter().map(|(name, _)| name.clone()));
        names.into()
    }

    /// Rows of a series that can be wanted: the first ones in the order of the result; `None` for all.
    fn rows_max(&self) -> Option<usize> {
        match self.limit {
            0 => None,
            limit => usize::try_from(limit.saturating_add(self.offset)).ok(),
        }
    }
}

/// The first time that has to be read for the windows from `min` on and so many before them.
pub fn read_from(min: i64, windows: Option<&Windows>, lead: i64) -> i64 {
    let Some(windows) = windows.filter(|_| min > TIME_MIN) else {
        return min;
    };
    let min = match lead {
        0 => min,
        _ if windows.months > 0 => windows.back(windows.start(min), lead),
        _ => min.saturating_sub(windows.step.saturating_mul(lead)),
    };
    match windows.over {
        Some(_) => rolling::reach(windows, windows.start(min)),
        None => min,
    }
}

/// Runs it over the inputs of one name and gives its series away, sorted by tags.
///
/// # Errors
/// A limit, cancelled, damage, types that do not fit. What was given away before is then not the answer.
pub fn run(
    ctx: &Context<'_>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    match &ctx.resources.trace {
        None => run_over(ctx, name, inputs, prepared, give),
        Some(trace) => explained::run(ctx, trace, name, inputs, prepared, give),
    }
}

fn run_over(
    ctx: &Context<'_>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    if prepared.calls.is_empty() {
        raw::run(ctx, name, inputs, prepared, give)
    } else if let Some(kept) = &ctx.resources.kept {
        kept::run(ctx, kept, name, inputs, prepared, give)
    } else {
        aggregated::run(ctx, name, inputs, prepared, give)
    }
}
