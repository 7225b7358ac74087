//! Timestamps are i64 nanoseconds since 1970-01-01T00:00:00Z, everywhere inside the server.

/// The smallest timestamp InfluxDB takes; the one below it is reserved.
pub const TIME_MIN: i64 = i64::MIN + 2;
/// The largest timestamp InfluxDB takes.
pub const TIME_MAX: i64 = i64::MAX - 1;

/// Timestamps from `min` to `max`, both included. Empty when `min > max`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TimeRange {
    /// First nanosecond inside.
    pub min: i64,
    /// Last nanosecond inside.
    pub max: i64,
}

impl TimeRange {
    /// Everything.
    pub const ALL: Self = Self {
        min: TIME_MIN,
        max: TIME_MAX,
    };

    /// Is `time` inside?
    #[inline]
    pub fn contains(&self, time: i64) -> bool {
        self.min <= time && time <= self.max
    }

    /// Do the two share a nanosecond?
    pub fn overlaps(&self, other: &TimeRange) -> bool {
        self.min <= other.max && other.min <= self.max
    }

    /// What both have.
    pub fn intersect(&self, other: &TimeRange) -> Self {
        Self {
            min: self.min.max(other.min),
            max: self.max.min(other.max),
        }
    }

    /// Nothing inside.
    pub fn is_empty(&self) -> bool {
        self.min > self.max
    }
}

/// The unit of timestamps in what a client sends.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// `n`, `ns`
    #[default]
    Nanosecond,
    /// `u`, `us`
    Microsecond,
    /// `ms`
    Millisecond,
    /// `s`
    Second,
    /// `m`
    Minute,
    /// `h`
    Hour,
}

impl Precision {
    /// Reads InfluxDB's names; the empty name is nanoseconds.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "" | "n" | "ns" => Self::Nanosecond,
            "u" | "us" | "µ" | "µs" => Self::Microsecond,
            "ms" => Self::Millisecond,
            "s" => Self::Second,
            "m" => Self::Minute,
            "h" => Self::Hour,
            _ => return None,
        })
    }

    /// Nanoseconds in one unit.
    pub fn nanoseconds(self) -> i64 {
        match self {
            Self::Nanosecond => 1,
            Self::Microsecond => 1_000,
            Self::Millisecond => 1_000_000,
            Self::Second => 1_000_000_000,
            Self::Minute => 60_000_000_000,
            Self::Hour => 3_600_000_000_000,
        }
    }
}
