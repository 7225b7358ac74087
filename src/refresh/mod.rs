//! Keeps rollups up to date: `kymo-rollup` makes the states of intervals that wait, the latest first, a stretch at a time.
//!
//! States are committed like any rows, the last of them in one batch with the word that the stretch was made of everything up to a
//! sequence ([`crate::rollup::covers::Built`]). Killed before that batch, the stretch waits still, and making it again replaces the
//! same rows; after it, it is done. What is written meanwhile makes its interval wait again.

#[cfg(test)]
mod property;
mod stretch;

use crate::budget::niceness;
use crate::engine::Engine;
use crate::live::background::Background;
use crate::query::Cancel;
use crate::rollup::Due;
use crossbeam_channel::Receiver;
use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stretch::Outcome;

/// How often it looks for intervals that wait.
const TICK: Duration = Duration::from_secs(1);
/// An interval is made when nothing was written into it for so long ..
const SETTLE: Duration = Duration::from_secs(3);
/// .. or when it has waited for so long. Late points that keep coming cost one making in this time, not one each.
const PATIENCE: Duration = Duration::from_secs(60);
/// An interval is over so long after its end, nanoseconds: what is on its way is not late.
const GRACE: i64 = 5_000_000_000;
/// What failed is tried again after this time.
const RETRY: Duration = Duration::from_secs(10);

/// The thread. Shared.
pub struct Refresh(Background);

impl Refresh {
    /// Starts it.
    ///
    /// # Errors
    /// It could not be started.
    pub fn start(engine: Arc<Engine>, clock: impl Fn() -> i64 + Send + 'static) -> io::Result<Self> {
        let cancel = Arc::new(Cancel::default());
        let mut keeper = Keeper {
            engine,
            cancel: cancel.clone(),
            settle: SETTLE,
            failed: BTreeMap::new(),
        };
        let run = move |stopped: &Receiver<()>| {
            // As merges: behind everything that somebody waits for.
            niceness::set(niceness::LATER);
            keeper.run(stopped, &clock);
        };
        Background::start("kymo-rollup", cancel, run).map(Self)
    }

    /// Ends the thread; what it was making waits.
    pub fn stop(&self) {
        self.0.stop();
    }
}

struct Keeper {
    engine: Arc<Engine>,
    cancel: Arc<Cancel>,
    settle: Duration,
    /// What failed, and when it is tried again.
    failed: BTreeMap<(String, i64, u32), Instant>,
}

impl Keeper {
    fn run(&mut self, stopped: &Receiver<()>, clock: &dyn Fn() -> i64) {
        loop {
            if stopped.recv_timeout(TICK) != Err(crossbeam_channel::RecvTimeoutError::Timeout) {
                return;
            }
            let databases = self.engine.catalog().databases();
            if self.engine.rollups().is_empty() && databases.iter().all(|d| d.hidden.is_empty()) {
                continue;
            }
            self.follow();
            // One stretch of each measurement and length in turn, until nothing waits.
            while self.turn(clock(), stopped) {}
            if !stopped.is_empty() {
                return;
            }
        }
    }

    /// Makes one stretch of all that can be made. False: nothing was made.
    fn turn(&mut self, now: i64, stopped: &Receiver<()>) -> bool {
        let before = now.saturating_sub(GRACE);
        let mut made = false;
        for due in self.engine.rollups().due(before, self.settle, PATIENCE) {
            if !stopped.is_empty() {
                return false;
            }
            let name = (due.definition.key(), due.every, due.source);
            if self
                .failed
                .get(&name)
                .is_some_and(|until| Instant::now() < *until)
            {
                continue;
            }
            match stretch::make(&self.engine, &due, now, &self.cancel) {
                Ok(Outcome::Made) => {
                    self.failed.remove(&name);
                    made = true;
                }
                Ok(Outcome::Gone) => {}
                Err(error) => self.tell(&due, name, &error),
            }
        }
        made
    }

    fn tell(&mut self, due: &Due, name: (String, i64, u32), error: &str) {
        let again = self.failed.insert(name, Instant::now() + RETRY).is_some();
        if !again && !self.cancel.is_cancelled() {
            tracing::warn!(
                rollup = due.definition.statement.name,
                database = due.definition.statement.database,
                error,
                "states of a rollup could not be made; queries read the points; it is tried again"
            );
        }
    }

    /// States expire with their points, and go with their measurement.
    fn follow(&self) {
        for commands in stretch::follow(&self.engine) {
            if let Err(error) = stretch::commit(&self.engine, commands) {
                tracing::warn!(
                    error,
                    "the states of a rollup were not cleaned up; it is tried again"
                );
            }
        }
    }
}
