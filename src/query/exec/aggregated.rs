//! SELECT with calls: workers fold the tasks of all inputs by group and window (`folding`), are put together, and their folds
//! become rows (`finishing`). What all of them know of the statement is in `setup`.

use super::Prepared;
use super::early;
use super::finishing::Finish;
use super::folding::fold;
use super::reading::Reading;
use super::rolled;
use super::setup::Setup;
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::Input;
use crate::query::result::Give;
use crate::query::trace::Stage;
use std::ops::ControlFlow;

/// Runs it.
///
/// # Errors
/// A limit, cancelled, damage, types that do not fit.
pub fn run(
    ctx: &Context<'_>,
    name: &str,
    inputs: &[Input],
    prepared: &Prepared,
    give: &mut Give<'_>,
) -> Result<ControlFlow<()>, QueryError> {
    let resources = ctx.resources;
    let readings = resources.stage(Stage::Open, || {
        Reading::open(ctx, inputs, prepared, prepared.read)
    })?;
    let setup = Setup::of(prepared, &readings)?;
    if let Some(rolled) = resources.stage(Stage::Open, || rolled::of_sets(ctx, &setup, &readings))? {
        let setup = Setup::of(prepared, &rolled.readings)?;
        let folds = resources.stage(Stage::Read, || fold(ctx, &setup, &rolled.readings))?;
        let usable = rolled.is_usable();
        if let Some(trace) = &resources.trace {
            let verdict = if usable {
                ""
            } else {
                ": not enough, points are read"
            };
            trace.note(format!("{}{verdict}", rolled.note));
        }
        if usable {
            return resources.stage(Stage::Give, || {
                Finish::new(ctx, &setup, inputs, folds)?.give(name, give)
            });
        }
    }
    for time in early::ranges(prepared, inputs, &readings) {
        let narrow = narrowed(prepared, time);
        let setup = Setup::of(&narrow, &readings)?;
        let few = resources.stage(Stage::Open, || Reading::open(ctx, inputs, &narrow, narrow.read))?;
        let folds = resources.stage(Stage::Read, || fold(ctx, &setup, &few))?;
        let finish = Finish::new(ctx, &setup, inputs, folds)?;
        let enough = early::is_enough(prepared, &readings, &finish)?;
        if let Some(trace) = &resources.trace {
            let verdict = if enough { "enough" } else { "not enough" };
            trace.note(format!(
                "LIMIT: the windows that come first were looked at alone: {verdict}"
            ));
        }
        if enough {
            return resources.stage(Stage::Give, || finish.give(name, give));
        }
    }
    let setup = Setup::of(prepared, &readings)?;
    let folds = resources.stage(Stage::Read, || fold(ctx, &setup, &readings))?;
    resources.stage(Stage::Give, || {
        Finish::new(ctx, &setup, inputs, folds)?.give(name, give)
    })
}

/// The statement over another range of time.
fn narrowed(prepared: &Prepared, time: TimeRange) -> Prepared {
    Prepared {
        time,
        read: time,
        ..prepared.clone()
    }
}
