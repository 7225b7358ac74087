//! Live subscriptions: answers that are pushed as data is committed; and continuous queries, which write theirs.
//!
//! A windowed subscription's answer comes from the same engine as every ad-hoc query: the hub notes which windows a committed
//! batch touched, folds what is new into what was folded of them before, or asks the engine for just those, and sends what
//! changed. So a pushed value is always what `/query` would have answered at that sequence, fill, overwrites and all. Equal
//! subscriptions are one computation.
//!
//! Read in this order: [`message`] what goes over the wire ([`flat`]: as FlatBuffers), [`row`] what it is made of, [`plan`] what a client wants, [`windows`] what is known of each window and
//! what of an answer is news (pure), `fresh` which rows are new points (pure), `folded` what is kept of windows, `recent` the last batches (`spare`: memory for them),
//! [`computation`] one windowed SELECT, [`tail`] one of points, [`pace`] how often each is brought up to date (pure), [`outbox`] the
//! bounded queue of one client, [`hub`] and `keeper` the thread that drives them. Apart from these: [`continuous`] queries,
//! `progress`, how far they are, and [`background`], the shell of their thread.
//!
//! **Invariant:** nothing here can slow ingestion: the hub learns of commits through a bounded channel that overflows into
//! "look at this range of time again", and a slow client's queue coalesces.

pub mod background;
pub mod computation;
pub mod continuous;
pub mod evaluate;
mod fields;
pub mod flat;
mod folded;
mod fresh;
pub mod hub;
mod interest;
mod keeper;
pub mod message;
pub mod outbox;
pub mod pace;
pub mod plan;
mod progress;
mod recent;
pub mod row;
pub mod shares;
mod spare;
pub mod tail;
pub mod watch;
pub mod windows;
