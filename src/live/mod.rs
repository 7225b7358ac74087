//! Live subscriptions: windowed answers that are pushed as data is committed.
//!
//! A subscription is a SELECT with GROUP BY time(..). Its answer comes from the same engine as every ad-hoc query: the hub
//! notes which windows a committed batch touched, asks the engine for just those, and sends what changed. So a
//! pushed value is always what `/query` would have answered at that sequence, fill, overwrites and all.
//!
//! Read in this order: [`message`] what goes over the wire, [`windows`] what a client has been told and what is new (pure), [`outbox`] the
//! bounded queue of one client, [`subscription`] one SELECT, [`hub`] the thread that drives them.
//!
//! **Invariant:** nothing here can slow ingestion: the hub learns of commits through a bounded channel that overflows into
//! "look at everything again", and a slow client's queue coalesces.

pub mod hub;
pub mod message;
pub mod outbox;
pub mod subscription;
pub mod windows;
