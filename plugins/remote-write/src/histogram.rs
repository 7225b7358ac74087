//! Native histograms, as the series of a classic one: `name_count`, `name_sum`, and `name_bucket` with the label `le`, cumulative.

use crate::request::Fault;
use kymo_plugin_reading::protobuf::{Message, Wire, zigzag};

/// Buckets with bounds of their own.
const SCHEMA_CUSTOM: i64 = -53;
/// Bounds are powers of 2^(2^-schema).
const SCHEMAS: std::ops::RangeInclusive<i64> = -4..=8;

/// A histogram of a message.
#[derive(Default)]
pub struct Histogram<'a> {
    count: f64,
    sum: f64,
    schema: i64,
    zero_threshold: f64,
    zero_count: f64,
    negative: Buckets<'a>,
    positive: Buckets<'a>,
    custom_bounds: Vec<f64>,
    /// Milliseconds.
    pub time: i64,
}

/// The buckets of one side.
#[derive(Default)]
struct Buckets<'a> {
    spans: Vec<(i64, u64)>,
    /// Each count but the first as its distance from the one before; packed or not, so maybe several.
    deltas: Vec<Wire<'a>>,
    /// Counts as they are, where they are floats.
    counts: Vec<Wire<'a>>,
}

/// One value of the classic series.
pub enum Part {
    Count(f64),
    Sum(f64),
    /// Upper bound, and how many values do not exceed it.
    Bucket(f64, f64),
}

impl<'a> Histogram<'a> {
    /// Reads a message.
    pub fn read(bytes: &'a [u8]) -> Result<Self, Fault> {
        let mut message = Message::new(bytes);
        let mut out = Self::default();
        while let Some((number, wire)) = message.next_field()? {
            let integer = || wire.integer().ok_or(Fault::BROKEN);
            let double = || wire.double().ok_or(Fault::BROKEN);
            match number {
                1 => out.count = integer()? as f64,
                2 => out.count = double()?,
                3 => out.sum = double()?,
                4 => out.schema = zigzag(integer()?),
                5 => out.zero_threshold = double()?,
                6 => out.zero_count = integer()? as f64,
                7 => out.zero_count = double()?,
                8 => out.negative.spans.push(span(wire)?),
                9 => out.negative.deltas.push(wire),
                10 => out.negative.counts.push(wire),
                11 => out.positive.spans.push(span(wire)?),
                12 => out.positive.deltas.push(wire),
                13 => out.positive.counts.push(wire),
                15 => out.time = integer()? as i64,
                16 => {
                    for bits in wire.fixed64s() {
                        out.custom_bounds.push(f64::from_bits(bits?));
                    }
                }
                _ => {}
            }
        }
        if out.schema != SCHEMA_CUSTOM && !SCHEMAS.contains(&out.schema) {
            return Err(Fault("unknown histogram schema"));
        }
        Ok(out)
    }

    /// A stale marker, or what cannot be stored.
    pub fn is_finite(&self) -> bool {
        self.sum.is_finite() && self.count.is_finite()
    }

    /// The values of the classic series, buckets from below.
    pub fn parts(&self) -> Result<Vec<Part>, Fault> {
        let mut parts = vec![Part::Count(self.count), Part::Sum(self.sum)];
        let mut below = 0.0;
        for (index, count) in self.negative.counts()?.into_iter().rev() {
            below += count;
            // From -base^index to -base^(index-1).
            parts.push(Part::Bucket(-self.bound(index - 1), below));
        }
        if self.schema != SCHEMA_CUSTOM {
            below += self.zero_count;
            parts.push(Part::Bucket(self.zero_threshold, below));
        }
        for (index, count) in self.positive.counts()? {
            below += count;
            parts.push(Part::Bucket(self.bound(index), below));
        }
        parts.retain(|part| !matches!(part, Part::Bucket(bound, _) if bound.is_infinite()));
        parts.push(Part::Bucket(f64::INFINITY, self.count));
        Ok(parts)
    }

    /// The upper bound of a positive bucket.
    fn bound(&self, index: i64) -> f64 {
        if self.schema == SCHEMA_CUSTOM {
            let bound = usize::try_from(index)
                .ok()
                .and_then(|at| self.custom_bounds.get(at));
            return bound.copied().unwrap_or(f64::INFINITY);
        }
        // 2^(index * 2^-schema): the division by a power of two is exact.
        (index as f64 * 2f64.powi(-(self.schema as i32))).exp2()
    }
}

impl Buckets<'_> {
    /// Index and count of each bucket, from the lowest index.
    fn counts(&self) -> Result<Vec<(i64, f64)>, Fault> {
        let mut counts = Vec::new();
        for wire in &self.counts {
            for bits in wire.fixed64s() {
                counts.push(f64::from_bits(bits?));
            }
        }
        if counts.is_empty() {
            let mut count = 0i64;
            for wire in &self.deltas {
                for delta in wire.varints() {
                    count = count.wrapping_add(zigzag(delta?));
                    counts.push(count as f64);
                }
            }
        }
        if counts.iter().any(|count| !count.is_finite() || *count < 0.0) {
            return Err(Fault("impossible count in a histogram"));
        }
        let mut out = Vec::with_capacity(counts.len());
        let mut counts = counts.into_iter();
        let mut index = 0i64;
        for (at, &(offset, len)) in self.spans.iter().enumerate() {
            // Later offsets are the empty buckets between.
            if at > 0 && offset < 0 {
                return Err(Fault("histogram spans overlap"));
            }
            index = index.saturating_add(offset);
            for _ in 0..len {
                let count = counts
                    .next()
                    .ok_or(Fault("histogram spans are longer than its buckets"))?;
                out.push((index, count));
                index = index.saturating_add(1);
            }
        }
        if counts.next().is_some() {
            return Err(Fault("histogram has buckets outside of its spans"));
        }
        Ok(out)
    }
}

fn span(wire: Wire<'_>) -> Result<(i64, u64), Fault> {
    let mut message = Message::new(wire.bytes().ok_or(Fault::BROKEN)?);
    let (mut offset, mut len) = (0, 0);
    while let Some((number, wire)) = message.next_field()? {
        let integer = wire.integer().ok_or(Fault::BROKEN)?;
        match number {
            1 => offset = zigzag(integer),
            2 => len = integer,
            _ => {}
        }
    }
    Ok((offset, len))
}
