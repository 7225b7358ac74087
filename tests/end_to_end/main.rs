//! The real binary, on real sockets, with real clients.
//!
//! What a test needs beyond Rust is installed by `.ci/run`. Where it is missing, a test says so on stderr and is left out;
//! with `CI=true` it fails instead (see [`support::program`]).

mod browser;
mod budgets;
mod cgroup;
mod cli;
mod clients;
mod continuous;
mod crash;
mod formats;
mod golden;
mod http;
mod live;
mod live_digest;
mod live_flat;
mod live_limits;
mod live_queries;
mod live_state;
mod live_terminal;
mod mappings;
mod memory;
mod niceness;
mod queries;
mod query_limits;
mod rejected;
mod retention;
mod rollups;
mod senders;
mod sockets;
mod stored;
mod support;
mod verify;
mod write;
