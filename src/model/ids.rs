//! Small dense numbers that stand for names. Assigned by the catalog, durable once their batch is committed.
//!
//! **Invariant:** an id is never given to something else later, even after its database or measurement was
//! dropped. So dropping is a matter of forgetting the id; old blocks that carry it are dead (docs/adr/0003).

/// A database.
pub type DatabaseId = u32;
/// A retention policy of a database; the scope in which measurements live.
pub type PolicyId = u32;
/// A measurement of one retention policy.
pub type MeasurementId = u32;
/// A series of one measurement: 0, 1, 2, .. in order of creation, so that per-series facts are array look-ups.
pub type SeriesId = u32;
/// A field of one measurement: 0, 1, 2, .. in order of creation.
pub type FieldId = u16;
