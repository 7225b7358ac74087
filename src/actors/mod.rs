//! Actors: what is started, runs, and is stopped. The only home of actix.
//!
//! They carry lifecycle and control, never bytes: each owns a socket loop of `net`, or a timer, and knows one message, [`Stop`].

pub mod host;
pub mod http;
pub mod live;
pub mod sockets;

use actix::Message;

/// Stop listening, take what has arrived, and answer when that is done.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Stop;
