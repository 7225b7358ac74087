//! The series index: which series a measurement has, by tags, by key and by id.
//!
//! Series ids are dense, so the tags of 2048 series in a row make a [`page`]: one column a tag key, page-local codes. Pages are
//! the one form that tags have, in memory before the seal and on disk after it.

pub mod cache;
pub mod column;
pub mod generation;
pub mod header;
pub mod page;
pub mod page_codec;
pub mod part;
pub mod place;
pub mod postings;
pub mod sealed;
pub mod series_index;
pub mod slots;
mod squeeze;
pub mod table;
pub mod terms;
pub mod verify;
pub mod walk;
mod writer;

pub use column::Column;
pub use generation::{Gathered, Stored};
pub use page::{PAGE_SERIES, Page, join_pages, key_hash, page_of, slot_of};
pub use sealed::{Sealed, Share, Totals};
pub use series_index::{GenerationSet, NewSeries, SeriesIndex};
pub use slots::{IdSet, Slots};
