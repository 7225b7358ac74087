//! The columnar format of a block: chunks of series ids, timestamps and field values as bytes, and statistics of them.
//! Pure: knows no files, no keys, no clock. Drawn in docs/formats/block.md.
//!
//! A chunk carries no checksum of its own: the value that holds it has one (store/frame.rs), and is checked at every read
//! from disk. Decoders still take any bytes: they return `None`, they never panic and never allocate more than the
//! rows they were asked for.

pub mod bitpack;
pub mod bits;
pub mod bytes;
pub mod coded;
pub mod column;
pub mod contexts;
mod few;
pub mod floats;
pub mod frames;
pub mod ints;
pub mod rows;
mod series_runs;
pub mod stats;
pub mod steps;
pub mod strings;
pub mod tans;

pub use column::{decode_column, decode_series_column, encode_column, encode_series_chunk};
pub use rows::{RowKeys, decode_row_keys, decode_rows, encode_rows, series_range};
pub use stats::ChunkStats;

/// How hard to encode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Bit packing: written and read at memory speed. What seals write.
    #[default]
    Fast,
    /// Also tries an entropy coder and takes it where it is clearly smaller. What merges write.
    Small,
}

/// Rows a chunk may have; a decoder refuses more.
pub const CHUNK_ROWS_MAX: usize = 1 << 20;
