//! The bytes of a batch: a 16-byte header, names and commands as rkyv, then the tables. Only this folder imports rkyv.
//!
//! Names are squeezed by lz4 when there are many: the keys of new series look alike. Rows are sorted by (series, time) and packed with the codecs of blocks before they are encoded ([`super::packed`]): a tenth of the
//! bytes has to be checksummed, written, and synced, for less than it costs to copy the others. What is packed lies end to end in one
//! string of bytes: a request may have hundreds of small tables.
//!
//! Bytes from the journal are validated once, when they come in ([`EncodedBatch::from_bytes`]): structure by rkyv's own checks,
//! meaning (equal lengths, order, ids, shards) by ours. Drawn in docs/formats/batch.md.

mod check;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use table::TableView;

use super::directory::Directory;
use super::packed::Packed;
use super::{Batch, Command, Definitions, Table};
use crate::model::{MeasurementId, SeriesId};
use check::check;
use rkyv::rancor;
use rkyv::util::AlignedVec;
use std::ops::Range;
use wire::{ArchivedWireBatch, from_wire_command, from_wire_definitions, names_from_wire, to_wire};

/// The version of the format, in the first byte.
pub const BATCH_VERSION: u8 = 4;

/// Bytes before the archive: the version, three zeros, the lengths of archive and directory, and of the archive before it was squeezed,
/// 0 if it was not (u32, little endian). Keeps the archive aligned.
const HEADER_BYTES: usize = 16;
/// Smaller archives are not squeezed: those of batches that name nothing new.
const SQUEEZED_MIN: usize = 1 << 10;
/// lz4 makes nothing shorter than by so much.
const SQUEEZED_SHARE_MAX: usize = 256;

/// Rows a batch may have.
pub const BATCH_ROWS_MAX: usize = 50_000_000;

/// Why bytes are no batch.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// A version this program does not know.
    #[error("batch version {0} is unknown")]
    Version(u8),
    /// Not a well-formed archive.
    #[error("batch is malformed: {0}")]
    Malformed(String),
    /// Well-formed, but it makes no sense.
    #[error("batch is inconsistent: {0}")]
    Inconsistent(&'static str),
}

/// A batch as bytes that have been validated, with a directory of them, so that nobody has to look at the archive again to
/// find a chunk.
pub struct EncodedBatch {
    bytes: AlignedVec,
    shards: u16,
    rows: u64,
    has_definitions: bool,
    has_commands: bool,
    /// Where in the bytes the archive is.
    archive: Range<usize>,
    /// Its bytes before it was squeezed; 0 if it was not.
    unsqueezed: usize,
    directory: Directory,
    /// Where in the bytes the data begins.
    data: usize,
}

impl AsRef<[u8]> for EncodedBatch {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl EncodedBatch {
    /// Encodes a batch. Of two rows of a table with the same series and time the later one is kept, field by field.
    pub fn encode(batch: Batch) -> Self {
        let has_definitions = !batch.definitions.is_empty();
        let (wire, packed) = to_wire(batch);
        let Packed { directory, data, .. } = packed;
        let directory_bytes = directory.encode();
        let room = HEADER_BYTES + data.len() + directory_bytes.len() + 256;
        let mut bytes = AlignedVec::with_capacity(room);
        bytes.extend_from_slice(&[0; HEADER_BYTES]);
        let mut bytes = rkyv::api::high::to_bytes_in::<_, rancor::Error>(&wire, bytes)
            .expect("writing to memory fails only when memory is out");
        let mut unsqueezed = 0;
        if bytes.len() - HEADER_BYTES >= SQUEEZED_MIN {
            let squeezed = lz4_flex::block::compress(&bytes[HEADER_BYTES..]);
            if squeezed.len() < bytes.len() - HEADER_BYTES {
                unsqueezed = bytes.len() - HEADER_BYTES;
                let room = HEADER_BYTES + squeezed.len() + directory_bytes.len() + data.len();
                bytes = AlignedVec::with_capacity(room);
                bytes.extend_from_slice(&[0; HEADER_BYTES]);
                bytes.extend_from_slice(&squeezed);
            }
        }
        let archive = bytes.len() - HEADER_BYTES;
        bytes[0] = BATCH_VERSION;
        for (at, len) in [(4, archive), (8, directory_bytes.len()), (12, unsqueezed)] {
            let len = u32::try_from(len).expect("limits on requests keep names far below 4 GiB");
            bytes[at..at + 4].copy_from_slice(&len.to_le_bytes());
        }
        bytes.extend_from_slice(&directory_bytes);
        bytes.extend_from_slice(&data);
        Self {
            shards: wire.shards,
            rows: wire.rows,
            has_definitions,
            has_commands: !wire.commands.is_empty(),
            archive: HEADER_BYTES..HEADER_BYTES + archive,
            unsqueezed,
            data: HEADER_BYTES + archive + directory_bytes.len(),
            directory,
            bytes,
        }
    }

    /// Validates bytes that come from disk.
    ///
    /// # Errors
    /// They are no batch, or one that makes no sense.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BatchError> {
        let version = *bytes.first().ok_or(BatchError::Inconsistent("it is empty"))?;
        if version != BATCH_VERSION {
            return Err(BatchError::Version(version));
        }
        let mut aligned = AlignedVec::with_capacity(bytes.len());
        aligned.extend_from_slice(bytes);
        let cut = || BatchError::Inconsistent("it is too short");
        let (header, rest) = aligned.split_at_checked(HEADER_BYTES).ok_or_else(cut)?;
        let length = |at: usize| {
            let bytes = header[at..at + 4].try_into().expect("four bytes");
            u32::from_le_bytes(bytes) as usize
        };
        let (archive, directory, unsqueezed) = (length(4), length(8), length(12));
        let (names, rest) = rest.split_at_checked(archive).ok_or_else(cut)?;
        let (entries, data) = rest.split_at_checked(directory).ok_or_else(cut)?;
        let names =
            Names::read(names, unsqueezed).ok_or(BatchError::Inconsistent("its names do not unpack"))?;
        let wire = rkyv::access::<ArchivedWireBatch, rancor::Error>(names.bytes())
            .map_err(|error| BatchError::Malformed(error.to_string()))?;
        let entries = check(wire, entries, data)?;
        let (shards, rows) = (wire.shards.to_native(), wire.rows.to_native());
        let has_definitions = !wire.definitions.is_empty();
        let has_commands = !wire.commands.is_empty();
        drop(names);
        Ok(Self {
            shards,
            rows,
            has_definitions,
            has_commands,
            directory: entries,
            archive: HEADER_BYTES..HEADER_BYTES + archive,
            unsqueezed,
            data: HEADER_BYTES + archive + directory,
            bytes: aligned,
        })
    }

    fn names(&self) -> Names<'_> {
        Names::read(&self.bytes[self.archive.clone()], self.unsqueezed)
            .expect("made by encode or validated by from_bytes")
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Rows in all tables.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Shards it is split for.
    pub fn shards(&self) -> u16 {
        self.shards
    }

    /// Its tables.
    pub fn tables(&self) -> impl Iterator<Item = TableView<'_>> {
        (0..self.directory.tables.len()).map(|at| self.table(at))
    }

    /// The table that [`TableView::at`] says.
    ///
    /// # Panics
    /// There is none.
    pub fn table(&self, at: usize) -> TableView<'_> {
        let entry = &self.directory.tables[at];
        TableView {
            data: &self.bytes[self.data..],
            columns: &self.directory.columns[entry.columns.clone()],
            entry,
            at,
        }
    }

    /// A copy of its definitions.
    pub fn definitions(&self) -> Definitions {
        from_wire_definitions(&self.names().wire().definitions)
    }

    /// A copy of its definitions but for those of series, of which there may be many: see [`defined_series`](Self::defined_series).
    pub fn defined_names(&self) -> Definitions {
        names_from_wire(&self.names().wire().definitions)
    }

    /// The series that it defines, without their keys.
    pub fn defined_series(&self) -> Vec<(MeasurementId, SeriesId)> {
        let names = self.names();
        let series = names.wire().definitions.series.iter();
        series
            .map(|series| (series.0.to_native(), series.1.to_native()))
            .collect()
    }

    /// Does it define anything?
    pub fn has_definitions(&self) -> bool {
        self.has_definitions
    }

    /// Has it commands?
    pub fn has_commands(&self) -> bool {
        self.has_commands
    }

    /// A copy of its commands.
    pub fn commands(&self) -> Vec<Command> {
        if !self.has_commands {
            return Vec::new();
        }
        let names = self.names();
        names.wire().commands.iter().map(from_wire_command).collect()
    }

    /// The whole batch, decoded.
    pub fn decode(&self) -> Batch {
        let table = |view: TableView<'_>| {
            let rows = view.read();
            Table {
                shard: view.shard(),
                measurement: rows.measurement,
                series: rows.series,
                times: rows.times,
                columns: rows.columns,
            }
        };
        Batch {
            shards: self.shards(),
            definitions: self.definitions(),
            tables: self.tables().map(table).collect(),
            packed: Packed::default(),
            commands: self.commands(),
        }
    }
}

/// Names and commands of a batch, unpacked for as long as somebody reads them.
enum Names<'a> {
    Plain(&'a [u8]),
    Unsqueezed(AlignedVec),
}

impl<'a> Names<'a> {
    /// `unsqueezed`: how long it is, if it was squeezed.
    fn read(bytes: &'a [u8], unsqueezed: usize) -> Option<Self> {
        if unsqueezed == 0 {
            return Some(Self::Plain(bytes));
        }
        if unsqueezed / SQUEEZED_SHARE_MAX > bytes.len() {
            return None;
        }
        let mut plain = AlignedVec::with_capacity(unsqueezed);
        plain.resize(unsqueezed, 0);
        let len = lz4_flex::block::decompress_into(bytes, &mut plain).ok()?;
        (len == unsqueezed).then_some(Self::Unsqueezed(plain))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Plain(bytes) => bytes,
            Self::Unsqueezed(bytes) => bytes,
        }
    }

    fn wire(&self) -> &ArchivedWireBatch {
        rkyv::access::<ArchivedWireBatch, rancor::Error>(self.bytes())
            .expect("made by encode or validated by from_bytes")
    }
}
