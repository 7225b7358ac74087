//! `corr_lag`: by how much one series follows another. Points are put on a grid of their usual distance; every shift of up
//! to the largest lag is tried.

use super::moments::Moments;
use crate::query::error::QueryError;

/// Shifts times points that one call may try.
pub const WORK_MAX: u64 = 500_000_000;

/// Places of the grid that a call may have for each point, beyond a million.
const SLOTS_PER_POINT_MAX: u64 = 16;

/// The best shift.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lag {
    /// Nanoseconds: the second series shows what the first showed so long before.
    pub lag: i64,
    /// Pearson's coefficient at that shift.
    pub coefficient: f64,
}

/// The shift of y, at most `max` nanoseconds either way, with the largest coefficient (by its size); the smallest of equals.
/// `check` is asked between shifts whether to go on.
///
/// # Errors
/// Too much work; what `check` gives.
pub fn best_lag(
    points: &[(i64, Option<f64>, Option<f64>)],
    max: i64,
    check: &dyn Fn() -> Result<(), QueryError>,
) -> Result<Option<Lag>, QueryError> {
    let mut points = points.to_vec();
    points.sort_by_key(|p| p.0);
    let Some(step) = usual_distance(&points) else {
        return Ok(None);
    };
    let start = points[0].0;
    let slots = points[points.len() - 1].0.saturating_sub(start) / step;
    let slots = slots.saturating_add(1);
    let shifts = max / step;
    let work = (slots as u64).saturating_mul(2 * shifts as u64 + 1);
    let slots_max = 1_000_000 + SLOTS_PER_POINT_MAX * points.len() as u64;
    if work > WORK_MAX || slots as u64 > slots_max {
        return Err(QueryError::Limit(format!(
            "corr_lag would compare too many points (corr_lag_work_max {WORK_MAX}); take a shorter lag, a shorter time or longer windows"
        )));
    }
    let (mut x, mut y) = (vec![f64::NAN; slots as usize], vec![f64::NAN; slots as usize]);
    for (time, a, b) in &points {
        let slot = (time.saturating_sub(start).saturating_add(step / 2) / step) as usize;
        if let Some(to) = x.get_mut(slot).filter(|_| a.is_some()) {
            *to = a.unwrap_or(f64::NAN);
        }
        if let Some(to) = y.get_mut(slot).filter(|_| b.is_some()) {
            *to = b.unwrap_or(f64::NAN);
        }
    }
    let mut best: Option<Lag> = None;
    for shift in (0..=shifts).flat_map(|n| if n == 0 { vec![0] } else { vec![n, -n] }) {
        check()?;
        let ahead = shift.unsigned_abs() as usize;
        if ahead >= x.len() {
            break;
        }
        let (from_x, from_y) = if shift >= 0 {
            (&x[..], &y[ahead..])
        } else {
            (&x[ahead..], &y[..])
        };
        let mut moments = Moments::default();
        for (a, b) in from_x.iter().zip(from_y) {
            moments.push(*a, *b);
        }
        // Two points always lie on a line.
        let found = moments.correlation().filter(|_| moments.count() > 2.0);
        if let Some(coefficient) = found
            && best.is_none_or(|best| coefficient.abs() > best.coefficient.abs() + 1e-12)
        {
            best = Some(Lag {
                lag: shift * step,
                coefficient,
            });
        }
    }
    Ok(best)
}

/// The median distance of points that follow each other.
fn usual_distance(points: &[(i64, Option<f64>, Option<f64>)]) -> Option<i64> {
    let mut distances: Vec<i64> = points
        .windows(2)
        .map(|p| p[1].0.saturating_sub(p[0].0))
        .filter(|d| *d > 0)
        .collect();
    if distances.is_empty() {
        return None;
    }
    let middle = distances.len() / 2;
    Some(*distances.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(t: i64) -> f64 {
        (t as f64 / 7.0).sin() + (t as f64 / 3.1).cos()
    }

    fn find(points: &[(i64, Option<f64>, Option<f64>)], max: i64) -> Option<Lag> {
        best_lag(points, max, &|| Ok(())).expect("little work")
    }

    #[test]
    fn a_follower_is_found_with_its_distance() {
        for lag in [-50i64, 0, 30, 80] {
            let points: Vec<_> = (0..500)
                .map(|i| (i * 10, Some(wave(i)), Some(wave(i - lag / 10) * -3.0 + 5.0)))
                .filter(|p| p.0 % 170 != 0)
                .collect();
            let found = find(&points, 100).expect("it varies");
            assert_eq!(found.lag, lag);
            assert!((found.coefficient + 1.0).abs() < 1e-9, "{found:?}");
        }
    }

    #[test]
    fn nothing_to_compare() {
        assert_eq!(find(&[], 10), None);
        assert_eq!(find(&[(0, Some(1.0), Some(1.0))], 10), None);
        assert_eq!(
            find(
                &[(0, Some(1.0), None), (10, None, Some(2.0)), (20, Some(1.0), None)],
                100
            ),
            None
        );
        // Points at both ends of time would need a grid without an end.
        let near = (0..9).map(|i| (i * 10, Some(i as f64), Some(1.0)));
        let mut far: Vec<_> = near.collect();
        far.push((i64::MIN, Some(1.0), Some(2.0)));
        far.push((i64::MAX, Some(1.0), Some(2.0)));
        assert!(best_lag(&far, 5, &|| Ok(())).is_err());
        let many: Vec<_> = (0..100_000).map(|i| (i, Some(1.0), Some(1.0))).collect();
        assert!(best_lag(&many, 100_000, &|| Ok(())).is_err());
    }
}
