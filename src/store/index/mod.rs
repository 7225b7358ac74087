//! The series index: which series a measurement has, by tags, by key and by id.
//!
//! Series ids are dense, so the tags of 2048 series in a row make a [`page`]: one column a tag key, page-local codes. Pages are
//! the one form that tags have, in memory before the seal and on disk after it.

pub mod column;
pub mod page;
pub mod slots;

pub use column::Column;
pub use page::{PAGE_SERIES, Page, key_hash, page_of, slot_of};
pub use slots::{IdSet, Slots};
