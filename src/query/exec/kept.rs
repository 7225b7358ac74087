//! Folds that outlive a query: those of one window of a SELECT that is asked again and again, each time over the rows that
//! came since. Live queries do that. What was folded before and what is folded now are put together as workers of one query
//! put theirs together, so the rows are those of a query over all of it.
//!
//! Not every SELECT can be: [`Kept::is_refused`] says so, and then its answer is that of an ordinary run. The caller sees to it that
//! no point comes twice: what replaces a point that was folded makes the fold useless.

use super::finishing::Finish;
use super::folding::{Folds, fold};
use super::reading::Reading;
use super::setup::{Folder, Setup};
use super::work;
use super::{Call, Prepared, aggregated};
use crate::lang::Fill;
use crate::model::FieldType;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::functions::aggregate::Aggregate;
use crate::query::input::Input;
use crate::query::result::Give;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::{Mutex, PoisonError};

/// Values of one `percentile` or `median` in a window, of all groups, up to which it is exact; beyond it they are in
/// t-digests, a group each.
pub const EXACT_VALUES_MAX: usize = 128 << 10;

/// See the module.
#[derive(Default)]
pub struct Kept {
    names: BTreeMap<String, Window>,
    /// Rows were folded before: what is read now is new.
    begun: bool,
    refused: bool,
}

/// What was folded of the measurements of one name.
struct Window {
    shape: Vec<(Aggregate, Option<FieldType>)>,
    folds: Folds<'static>,
}

impl Kept {
    /// The run was an ordinary one: nothing is kept.
    pub fn is_refused(&self) -> bool {
        self.refused
    }

    /// The next run reads only rows that came since the last.
    pub fn goes_on(&mut self) {
        self.begun = true;
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        let of = |folds: &Folds<'_>| {
            let folders: usize = folds.folders.iter().map(Folder::bytes).sum();
            folds.groups.bytes() + folds.slots.bytes() + folders + 512
        };
        self.names.iter().map(|(name, w)| name.len() + of(&w.folds)).sum()
    }

    /// The window of a name, if what was folded of it goes with the statement as it is now.
    fn take(&mut self, name: &str, setup: &Setup<'_>) -> Result<Option<Folds<'static>>, QueryError> {
        match self.names.remove(name) {
            Some(window) if window.shape == shape(setup) => Ok(Some(window.folds)),
            Some(_) => Err(QueryError::statement("its fields have other types now")),
            None => Ok(None),
        }
    }
}

fn shape(setup: &Setup<'_>) -> Vec<(Aggregate, Option<FieldType>)> {
    setup
        .sets
        .iter()
        .map(|set| (set.function, set.field_type))
        .collect()
}

/// One window, whose functions do not look beyond it, and rows only where there are points.
fn can_be_kept(prepared: &Prepared, inputs: &[Input]) -> bool {
    let Some(windows) = prepared.windows.as_ref().filter(|w| w.over.is_none()) else {
        return false;
    };
    let folds = |call: &Call| matches!(call, Call::Aggregate { .. });
    prepared.fill == Fill::None
        && (prepared.limit, prepared.offset) == (0, 0)
        && windows.start(prepared.time.min) == windows.start(prepared.time.max)
        && prepared.leads.iter().all(|lead| *lead == 0)
        && prepared.calls.iter().all(folds)
        && inputs.iter().all(|input| matches!(input, Input::Stored(_)))
}

/// Runs it over the inputs of one name: gives the rows of the groups that have new points.
///
/// # Errors
/// A limit, cancelled, damage, types that do not fit. What is kept is of no use then.
pub fn run(
    ctx: &Context<'_>,
    kept: &Mutex<Kept>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
    if kept.refused || !can_be_kept(prepared, inputs) {
        kept.refused = true;
        return aggregated::run(ctx, name, inputs, prepared, give);
    }
    let readings = Reading::open(ctx, inputs, prepared, prepared.read)?;
    if work::rows(&readings) == 0 {
        return Ok(ControlFlow::Continue(()));
    }
    let setup = Setup::of(prepared, &readings)?;
    if !setup.is_shared() {
        kept.refused = true;
        return aggregated::run(ctx, name, inputs, prepared, give);
    }
    let new = fold(ctx, &setup, &readings)?.unheld();
    if new.slots.count() != Some(1) {
        return Ok(ControlFlow::Continue(()));
    }
    let known = if kept.begun {
        kept.take(name, &setup)?
    } else {
        None
    };
    let (mut folds, touched) = match known {
        Some(mut known) => {
            let touched = known.absorb(new)?;
            (known, Some(touched))
        }
        None => (new, None),
    };
    for folder in &mut folds.folders {
        folder.bound(EXACT_VALUES_MAX);
    }
    let mut finish = Finish::of(ctx, &setup, folds);
    let flow = finish.give_some(name, touched, give)?;
    let window = Window {
        shape: shape(&setup),
        folds: finish.into_folds(),
    };
    kept.names.insert(name.to_string(), window);
    Ok(flow)
}
