//! Conditions on tags, over pages and over the terms of large parts: each distinct value is looked at once, not each series.

use super::pattern::Shape;
use super::predicate::TagPredicate;
use crate::store::StoreError;
use crate::store::index::part::pages_of;
use crate::store::index::walk::BlockTerms;
use crate::store::index::{Gathered, IdSet, Page, Slots, Stored};
use regex::Regex;
use roaring::RoaringBitmap;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The series of a page that satisfy a predicate.
pub fn select(page: &Page, predicate: &TagPredicate) -> Slots {
    match predicate {
        TagPredicate::All => page.present().clone(),
        TagPredicate::And(all) => {
            let mut slots = page.present().clone();
            for one in all {
                if slots.is_empty() {
                    break;
                }
                slots.keep(&select(page, one));
            }
            slots
        }
        TagPredicate::Or(any) => {
            let mut slots = Slots::default();
            any.iter().for_each(|one| slots.add(&select(page, one)));
            slots
        }
        TagPredicate::Not(inner) => but(page, &select(page, inner)),
        TagPredicate::Equals { key, value } => with_value(page, key, value),
        TagPredicate::NotEquals { key, value } => but(page, &with_value(page, key, value)),
        TagPredicate::Matches { key, regex } => with_values(page, key, &|value| regex.is_match(value)),
        TagPredicate::NotMatches { key, regex } => with_values(page, key, &|value| !regex.is_match(value)),
    }
}

/// The other series of a page.
fn but(page: &Page, slots: &Slots) -> Slots {
    let mut others = page.present().clone();
    others.subtract(slots);
    others
}

fn with_value(page: &Page, key: &str, value: &str) -> Slots {
    match page.column(key) {
        None if value.is_empty() => page.present().clone(),
        None => Slots::default(),
        Some(column) if value.is_empty() => but(page, &column.present()),
        Some(column) => match column.values().position(|known| known == value) {
            Some(at) => column.with_code(at as u16 + 1),
            None => Slots::default(),
        },
    }
}

fn with_values(page: &Page, key: &str, wanted: &dyn Fn(&str) -> bool) -> Slots {
    let Some(column) = page.column(key) else {
        return if wanted("") {
            page.present().clone()
        } else {
            Slots::default()
        };
    };
    let verdicts: Vec<bool> = std::iter::once("").chain(column.values()).map(wanted).collect();
    let mut slots = column.with_codes(&verdicts);
    slots.keep(page.present());
    slots
}

/// The series of a large part that satisfy a predicate. Values are found by way of the terms, not the series; where few series
/// are left, by way of their pages.
///
/// # Errors
/// Damage, input/output.
pub fn matching_stored(stored: &Stored, predicate: &TagPredicate) -> Result<RoaringBitmap, StoreError> {
    let ids = &stored.large().ids;
    Ok(match predicate {
        TagPredicate::All => ids.clone(),
        TagPredicate::And(all) => return matching_all(stored, all),
        TagPredicate::Or(any) => {
            let mut found = RoaringBitmap::new();
            for one in any {
                found |= matching_stored(stored, one)?;
            }
            found
        }
        TagPredicate::Not(inner) => ids - matching_stored(stored, inner)?,
        TagPredicate::Equals { key, value } => stored_with_value(stored, key, value)?,
        TagPredicate::NotEquals { key, value } => ids - stored_with_value(stored, key, value)?,
        TagPredicate::Matches { key, regex } => stored_with_values(stored, key, regex)?,
        TagPredicate::NotMatches { key, regex } => ids - stored_with_values(stored, key, regex)?,
    })
}

/// Pages are read instead of terms where there are at most so many.
const FEW_PAGES: usize = 2;

fn matching_all(stored: &Stored, all: &[TagPredicate]) -> Result<RoaringBitmap, StoreError> {
    let mut ordered: Vec<(u64, &TagPredicate)> = all.iter().map(|one| (cost(stored, one), one)).collect();
    ordered.sort_by_key(|(cost, _)| *cost);
    let mut found: Option<RoaringBitmap> = None;
    for (cost, one) in ordered {
        found = Some(match found {
            None => matching_stored(stored, one)?,
            Some(so_far) if so_far.is_empty() => return Ok(so_far),
            Some(so_far) => {
                let pages = pages_of(&so_far);
                if pages.len() <= FEW_PAGES || (pages.len() as u64) < cost {
                    narrowed(stored, &so_far, &pages, one)?
                } else {
                    so_far & matching_stored(stored, one)?
                }
            }
        });
    }
    Ok(found.unwrap_or_else(|| stored.large().ids.clone()))
}

/// About how many blocks of terms have to be read.
fn cost(stored: &Stored, predicate: &TagPredicate) -> u64 {
    let blocks = |key: &str| {
        stored
            .large()
            .tag(key)
            .map_or(0, |(_, tag)| u64::from(tag.blocks()))
    };
    match predicate {
        TagPredicate::All => 0,
        TagPredicate::Equals { .. } => 1,
        TagPredicate::NotEquals { .. } => 2,
        TagPredicate::Matches { key, regex } => match Shape::of(regex) {
            Shape::Exact(values) => 1 + (values.len() as u64).min(blocks(key)),
            Shape::Prefix(prefix) if prefix.is_empty() => 3 + blocks(key),
            Shape::Prefix(_) => 3 + blocks(key) / 16,
        },
        TagPredicate::NotMatches { key, .. } => 3 + blocks(key),
        TagPredicate::And(list) | TagPredicate::Or(list) => list.iter().map(|one| cost(stored, one)).sum(),
        TagPredicate::Not(inner) => cost(stored, inner),
    }
}

/// Those of some series that satisfy a predicate, by way of the pages they are on.
fn narrowed(
    stored: &Stored,
    series: &RoaringBitmap,
    pages: &[u32],
    predicate: &TagPredicate,
) -> Result<RoaringBitmap, StoreError> {
    let mut keys = BTreeSet::new();
    tags_of(predicate, &mut keys);
    let mut found = IdSet::default();
    for &number in pages {
        let mut columns = Vec::with_capacity(keys.len());
        for key in &keys {
            if let Some(column) = stored.column(number, key)? {
                columns.push((Arc::from(*key), column));
            }
        }
        let page = Page::from_columns(number, Slots::of_ids(series, number), columns);
        let mut slots = select(&page, predicate);
        // IMPORTANT: the columns tell of all series of the page, also of those that were ruled out before.
        slots.keep(page.present());
        found.push(number, &slots);
    }
    Ok(found.finish())
}

fn tags_of<'a>(predicate: &'a TagPredicate, keys: &mut BTreeSet<&'a str>) {
    match predicate {
        TagPredicate::All => {}
        TagPredicate::And(list) | TagPredicate::Or(list) => list.iter().for_each(|one| tags_of(one, keys)),
        TagPredicate::Not(inner) => tags_of(inner, keys),
        TagPredicate::Equals { key, .. }
        | TagPredicate::NotEquals { key, .. }
        | TagPredicate::Matches { key, .. }
        | TagPredicate::NotMatches { key, .. } => {
            keys.insert(key);
        }
    }
}

fn stored_with_value(stored: &Stored, key: &str, value: &str) -> Result<RoaringBitmap, StoreError> {
    let large = stored.large();
    if value.is_empty() {
        return Ok(&large.ids - large.having(key));
    }
    let mut found = Gathered::default();
    add_value(stored, key, value, &mut found)?;
    Ok(found.take())
}

fn add_value(stored: &Stored, key: &str, value: &str, found: &mut Gathered) -> Result<(), StoreError> {
    let Some((_, tag)) = stored.large().tag(key) else {
        return Ok(());
    };
    let number = tag.block + tag.block_of(value);
    let terms = stored.terms(number)?;
    let at = terms.lower_bound(value);
    if at < terms.count() && terms.value(at) == value {
        stored.add_series(&terms, number, at, found)?;
    }
    Ok(())
}

fn stored_with_values(stored: &Stored, key: &str, regex: &Regex) -> Result<RoaringBitmap, StoreError> {
    let large = stored.large();
    let mut found = Gathered::default();
    match Shape::of(regex) {
        Shape::Exact(values) => {
            for value in values.iter().filter(|value| !value.is_empty()) {
                add_value(stored, key, value, &mut found)?;
            }
        }
        Shape::Prefix(prefix) => {
            let mut terms = BlockTerms::new(stored, key, &prefix, true)?;
            while let Some(value) = terms.value().filter(|value| value.starts_with(&prefix)) {
                let wanted = regex.is_match(value);
                terms.advance(wanted.then_some(&mut found))?;
            }
        }
    }
    let mut found = found.take();
    if regex.is_match("") {
        found |= &large.ids - large.having(key);
    }
    Ok(found)
}
