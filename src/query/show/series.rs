//! SHOW SERIES. Sorted, however many there are: as many as memory has room for are sorted at once, and those behind them in another walk.
//! Where few are wanted of many, they are looked for by the values of their tags, smallest first, until what is left begins behind them.

use super::rows::{Rows, Smallest};
use super::{matching, sources, split};
use crate::catalog::{SeriesView, TagPredicate};
use crate::lang::ShowSeries;
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::result::Give;
use roaring::RoaringBitmap;
use std::ops::ControlFlow;

/// Series between two looks at whether the query was stopped.
const CHECK_SERIES: u32 = 4096;
/// Fewer series are looked at one by one ..
const DIVIDED_MIN: u64 = if cfg!(test) { 4 } else { 1 << 16 };
/// .. and so are fewer than so many for each that is wanted.
const DIVIDED_SHARE: u64 = if cfg!(test) { 2 } else { 64 };

/// SHOW SERIES.
pub fn series(ctx: &Context<'_>, show: &ShowSeries, give: &mut Give<'_>) -> Result<(), QueryError> {
    let (_, condition) = split(ctx, show.condition.as_ref())?;
    let sources = sources(ctx, show.database.as_deref(), &show.sources)?;
    let mut rows = Rows::new("", &["key"], (show.limit, show.offset), give);
    let mut after = None;
    loop {
        let mut smallest = Smallest::new(&ctx.resources.memory, after, rows.wanted());
        for (name, all) in &sources {
            for m in all {
                ctx.check()?;
                let view = m.view();
                let wanted = matching(m, condition.as_ref())?;
                let mut walk = Walk {
                    check: &|| ctx.check(),
                    view: &view,
                    name,
                    smallest: &mut smallest,
                    seen: 0,
                };
                walk.all_of(wanted)?;
            }
        }
        let (keys, more) = smallest.finish();
        let full = keys.iter().any(|key| rows.push([key]).is_break());
        after = keys.into_iter().next_back();
        if full || !more {
            let _ = rows.finish();
            return Ok(());
        }
    }
}

/// The series of one measurement, on their way to the smallest.
struct Walk<'a, 'm> {
    check: &'a dyn Fn() -> Result<(), QueryError>,
    view: &'a SeriesView,
    name: &'a str,
    smallest: &'a mut Smallest<'m>,
    /// Series that were looked at.
    seen: u64,
}

impl Walk<'_, '_> {
    fn all_of(&mut self, wanted: RoaringBitmap) -> Result<(), QueryError> {
        match self.is_divided(&wanted) {
            true => {
                let keys = self.view.tag_keys(None)?;
                let mut prefix = String::new();
                escape(&mut prefix, self.name, ", ");
                self.divide(wanted, &prefix, &keys)
            }
            false => self.one_by_one(&wanted),
        }
    }

    fn is_divided(&self, series: &RoaringBitmap) -> bool {
        let few = (self.smallest.count_max() as u64).saturating_mul(DIVIDED_SHARE);
        series.len() > few.max(DIVIDED_MIN)
    }

    /// Series whose keys all begin with `prefix`, behind which come tags of `keys`, which are sorted.
    fn divide(&mut self, series: RoaringBitmap, prefix: &str, keys: &[String]) -> Result<(), QueryError> {
        let mut left = series;
        // Those with no other tag come first: theirs is the prefix itself.
        let lacks = |key: &String| TagPredicate::Equals {
            key: key.clone(),
            value: String::new(),
        };
        let bare = TagPredicate::And(keys.iter().map(lacks).collect());
        let bare = self.view.matching(&bare)? & &left;
        left -= &bare;
        self.one_by_one(&bare)?;
        for (at, key) in keys.iter().enumerate() {
            if left.is_empty() || self.smallest.is_before(&format!("{prefix},{}", plain(key))) {
                return Ok(());
            }
            let mut with_key = format!("{prefix},");
            escape(&mut with_key, key, ",= ");
            with_key.push('=');
            // To look only at values that are left takes longer for each, and pays where they are few.
            let within = (left.len() < self.view.live_count() / 2).then(|| left.clone());
            let mut result = Ok(());
            let view = self.view;
            view.walk_values(key, within.as_ref(), &mut |value| {
                if self.smallest.is_before(&format!("{with_key}{}", plain(value))) {
                    return ControlFlow::Break(());
                }
                result = self.of_value(&mut left, &with_key, (key, value), &keys[at + 1..]);
                match result {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(_) => ControlFlow::Break(()),
                }
            })?;
            result?;
        }
        Ok(())
    }

    /// Takes those of a value out of the series that are left, and looks at them.
    fn of_value(
        &mut self,
        left: &mut RoaringBitmap,
        with_key: &str,
        (key, value): (&str, &str),
        keys: &[String],
    ) -> Result<(), QueryError> {
        (self.check)()?;
        let (key, value) = (key.to_string(), value.to_string());
        let mut prefix = with_key.to_string();
        escape(&mut prefix, &value, ",= ");
        let group = self.view.matching(&TagPredicate::Equals { key, value })? & &*left;
        *left -= &group;
        match self.is_divided(&group) {
            true => self.divide(group, &prefix, keys),
            false => self.one_by_one(&group),
        }
    }

    fn one_by_one(&mut self, series: &RoaringBitmap) -> Result<(), QueryError> {
        let mut result = Ok(());
        let (view, name) = (self.view, self.name);
        view.walk_keys(name, series, &mut |id, key| {
            self.seen += 1;
            result = self.smallest.push(key.canonical());
            if result.is_ok() && id % CHECK_SERIES == 0 {
                result = (self.check)();
            }
            match result {
                Ok(()) => ControlFlow::Continue(()),
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        result
    }
}

/// As in the canonical key.
fn escape(out: &mut String, text: &str, special: &str) {
    for c in text.chars() {
        if special.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
}

/// The part of a name or value that stands in a key as it is. Of sorted texts, what comes behind one of them stands in its key behind this
/// part: where an escape comes first, a backslash is greater than what it escapes.
fn plain(text: &str) -> &str {
    text.split([',', '=', ' ']).next().unwrap_or("")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::query::resources::Memory;
    use proptest::prelude::*;

    type Tags = Vec<(String, String)>;

    /// Tags whose keys and values are beginnings of others, or have what is escaped in them.
    fn series() -> impl Strategy<Value = Tags> {
        let value = prop_oneof!["[a-c]{1,3}", "[a !,=Z]{1,3}", "h[0-9]{1,2}"];
        prop::collection::btree_map(prop_oneof!["[ab]{1,2}", "a[ =!0]b?"], value, 0..4)
            .prop_map(|tags| tags.into_iter().collect())
    }

    /// The smallest keys, and how many series were looked at.
    fn smallest(all: &[Tags], count: usize) -> (Vec<String>, Vec<String>, u64) {
        let catalog = Catalog::new();
        catalog.create_database("d", None).expect("a good name");
        let policy = catalog
            .database("d")
            .expect("just made")
            .policy(None)
            .expect("made with it")
            .id;
        let measurement = catalog
            .measurement_or_create(policy, "m,x")
            .expect("a measurement");
        let mut keys: Vec<String> = Vec::new();
        for tags in all {
            measurement.series_or_create(tags).expect("in memory");
            let tags = tags.iter().map(|(k, v)| (k.as_str(), v.as_str()));
            keys.push(crate::model::SeriesKey::canonical_of("m,x", tags));
        }
        keys.sort_unstable();
        keys.dedup();
        keys.truncate(count);
        let memory = Memory::new(4 << 20);
        let mut smallest = Smallest::new(&memory, None, count);
        let view = measurement.view();
        let mut walk = Walk {
            check: &|| Ok(()),
            view: &view,
            name: "m,x",
            smallest: &mut smallest,
            seen: 0,
        };
        walk.all_of(view.live().expect("in memory")).expect("in memory");
        let seen = walk.seen;
        (keys, smallest.finish().0, seen)
    }

    proptest! {
        #[test]
        fn the_smallest_are_found_without_seeing_all(all in prop::collection::vec(series(), 1..200), count in 1..20usize) {
            let (expected, found, _) = smallest(&all, count);
            prop_assert_eq!(found, expected);
        }
    }

    #[test]
    fn few_of_many_take_few_looks() {
        let tags = |i: u32| {
            vec![
                ("host".to_string(), format!("h{}", i % 97)),
                ("id".to_string(), i.to_string()),
            ]
        };
        let all: Vec<Tags> = (0..5000).map(tags).collect();
        let (expected, found, seen) = smallest(&all, 3);
        assert_eq!(found, expected);
        assert!(seen <= 60, "{seen} series were looked at for 3 of 5,000");
    }
}
