//! The words everything else is written in: field types and values, columns, ids, series keys, time ranges.
//!
//! Owns no behaviour beyond its own values; imports nothing from the rest of the crate.

pub mod bitmap;
pub mod by_series;
pub mod column;
pub mod ids;
pub mod rows;
pub mod series_key;
pub mod time;
pub mod value;

pub use bitmap::Bitmap;
pub use by_series::SeriesRuns;
pub use column::{Column, StringColumn, Values};
pub use ids::{DatabaseId, FieldId, MeasurementId, PolicyId, SeriesId};
pub use rows::{SortedRows, concat_ranges, concat_sorted, merge_sorted};
pub use series_key::SeriesKey;
pub use time::{Precision, TimeRange};
pub use value::{FieldType, FieldValue};
