//! Histograms: bounds, and how many values do not exceed each.

use kymo_plugin_reading::protobuf::{Broken, Message, Wire, zigzag};

/// Buckets one exponential histogram may have on either side.
const BUCKETS_MAX: usize = 10_000;

/// An upper bound, and how many values do not exceed it.
pub type Bucket = (f64, f64);

/// Of a histogram with bounds of its own.
#[derive(Default)]
pub struct Explicit<'a> {
    pub counts: Vec<Wire<'a>>,
    pub bounds: Vec<Wire<'a>>,
}

impl Explicit<'_> {
    /// The buckets, from below.
    pub fn cumulate(&self) -> Result<Vec<Bucket>, &'static str> {
        let numbers = |wires: &[Wire<'_>]| -> Result<Vec<u64>, &'static str> {
            let all = wires.iter().flat_map(|wire| wire.fixed64s());
            all.collect::<Result<_, Broken>>().map_err(|_| "broken message")
        };
        let counts = numbers(&self.counts)?;
        let bounds: Vec<f64> = numbers(&self.bounds)?.into_iter().map(f64::from_bits).collect();
        if counts.is_empty() && bounds.is_empty() {
            return Ok(Vec::new());
        }
        if counts.len() != bounds.len() + 1 {
            return Err("histogram has not one count more than bounds");
        }
        if bounds.iter().any(|bound| !bound.is_finite()) || !bounds.is_sorted() {
            return Err("histogram bounds are not in order");
        }
        let mut below = 0u64;
        let bounds = bounds.into_iter().chain([f64::INFINITY]);
        let bucket = |(count, bound): (u64, f64)| {
            below = below.saturating_add(count);
            (bound, below as f64)
        };
        Ok(counts.into_iter().zip(bounds).map(bucket).collect())
    }
}

/// Of an exponential histogram.
#[derive(Default)]
pub struct Exponential<'a> {
    pub scale: i64,
    pub zero_count: u64,
    pub zero_threshold: f64,
    pub positive: Option<Wire<'a>>,
    pub negative: Option<Wire<'a>>,
}

impl Exponential<'_> {
    /// The buckets, from below; `count` is that of all values. Bucket `i` of the positive ones holds what is above base^i, up to
    /// base^(i+1).
    pub fn cumulate(&self, count: u64) -> Result<Vec<Bucket>, &'static str> {
        if !(-10..=20).contains(&self.scale) {
            return Err("unknown scale of an exponential histogram");
        }
        let bound = |index: i64| (index as f64 * 2f64.powi(-(self.scale as i32))).exp2();
        let (positive, negative) = (side(self.positive)?, side(self.negative)?);
        let mut out = Vec::with_capacity(positive.len() + negative.len() + 2);
        let mut below = 0u64;
        for (index, count) in negative.into_iter().rev() {
            below = below.saturating_add(count);
            out.push((-bound(index), below as f64));
        }
        below = below.saturating_add(self.zero_count);
        if self.zero_count > 0 || self.zero_threshold > 0.0 {
            out.push((self.zero_threshold, below as f64));
        }
        for (index, count) in positive {
            below = below.saturating_add(count);
            out.push((bound(index.saturating_add(1)), below as f64));
        }
        out.retain(|(bound, _)| bound.is_finite());
        out.push((f64::INFINITY, count as f64));
        Ok(out)
    }
}

/// Index and count of each bucket of a side.
fn side(wire: Option<Wire<'_>>) -> Result<Vec<(i64, u64)>, &'static str> {
    let Some(wire) = wire else {
        return Ok(Vec::new());
    };
    let broken = |_: Broken| "broken message";
    let mut message = Message::new(wire.bytes().ok_or("broken message")?);
    let (mut offset, mut counts) = (0, Vec::new());
    while let Some((number, wire)) = message.next_field().map_err(broken)? {
        match number {
            1 => offset = zigzag(wire.integer().ok_or("broken message")?),
            2 => {
                for count in wire.varints() {
                    counts.push(count.map_err(broken)?);
                }
            }
            _ => {}
        }
    }
    if counts.len() > BUCKETS_MAX {
        return Err("too many buckets (buckets_max 10000)");
    }
    Ok((offset..).zip(counts).filter(|(_, count)| *count > 0).collect())
}
