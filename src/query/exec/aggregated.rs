//! SELECT with calls: workers fold the tasks of all inputs by group and window (`folding`), are put together, and their folds
//! become rows (`finishing`). What all of them know of the statement is in `setup`.

use super::Prepared;
use super::early;
use super::finishing::Finish;
use super::folding::fold;
use super::reading::Reading;
use super::setup::Setup;
use crate::model::TimeRange;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::input::Input;
use crate::query::result::Give;
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
    let readings = Reading::open(ctx, inputs, prepared, prepared.read)?;
    for time in early::ranges(prepared, inputs, &readings) {
        let narrow = narrowed(prepared, time);
        let setup = Setup::of(&narrow, &readings)?;
        let few = Reading::open(ctx, inputs, &narrow, narrow.read)?;
        let finish = Finish::new(ctx, &setup, inputs, fold(ctx, &setup, &few)?)?;
        if early::is_enough(prepared, &readings, &finish)? {
            return finish.give(name, give);
        }
    }
    let setup = Setup::of(prepared, &readings)?;
    Finish::new(ctx, &setup, inputs, fold(ctx, &setup, &readings)?)?.give(name, give)
}

/// The statement over another range of time.
fn narrowed(prepared: &Prepared, time: TimeRange) -> Prepared {
    Prepared {
        time,
        read: time,
        ..prepared.clone()
    }
}
