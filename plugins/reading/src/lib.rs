//! What several formats read, borrowed from the input and without allocating: [`number`]s and [`time`]s in text, [`json`],
//! and the wire format of [`protobuf`]; [`scan`] is what those look for bytes with. A format need not use any of it.
//!
//! Own code where a crate would build trees and strings first: these are on the way of every row. Each is tested against an
//! independent implementation.

pub mod json;
pub mod number;
pub mod protobuf;
pub mod scan;
pub mod time;
