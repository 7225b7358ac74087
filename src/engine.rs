//! The database itself: catalog, journal, head and store behind one door. No sockets, no HTTP, no actors above here.
//!
//! A batch goes in by [`Engine::submit`] and its [`Ack`](crate::shard::Ack) is called when it is durable and visible. A query takes a
//! [`Engine::snapshot`]. [`Engine::stop`] drains, seals and syncs.
