//! Conditions on tags over one page: each distinct value is looked at once, not each series. Pure.

use super::predicate::TagPredicate;
use crate::store::index::{Page, Slots};

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
