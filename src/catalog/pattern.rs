//! What a regular expression says about the values it can match, so that not all of them have to be tried. Pure.

use regex::Regex;
use regex_syntax::hir::literal::Extractor;
use regex_syntax::hir::{Hir, Look};

/// Values that are looked up one by one; more are cheaper to find by going through them all.
const EXACT_MAX: usize = 1000;

/// See the module.
#[derive(Debug, PartialEq, Eq)]
pub enum Shape {
    /// It matches these values and no others: dashboards ask for `^(a|b|c)$`.
    Exact(Vec<String>),
    /// What it matches begins with this, which may be empty.
    Prefix(String),
}

impl Shape {
    /// Takes a look at a pattern.
    pub fn of(regex: &Regex) -> Self {
        let Ok(hir) = regex_syntax::parse(regex.as_str()) else {
            return Self::Prefix(String::new());
        };
        Self::exact(&hir, regex)
            .map(Self::Exact)
            .unwrap_or_else(|| Self::Prefix(prefix(&hir)))
    }

    fn exact(hir: &Hir, regex: &Regex) -> Option<Vec<String>> {
        let properties = hir.properties();
        let whole = properties.look_set_prefix().contains(Look::Start)
            && properties.look_set_suffix().contains(Look::End);
        let literals = Extractor::new().limit_total(EXACT_MAX).extract(hir);
        if !whole || !literals.is_exact() {
            return None;
        }
        let mut values = Vec::new();
        for literal in literals.literals()? {
            let value = std::str::from_utf8(literal.as_bytes()).ok()?;
            // Looks inside the pattern were not considered.
            if regex.is_match(value) {
                values.push(value.to_string());
            }
        }
        values.sort_unstable();
        values.dedup();
        Some(values)
    }
}

fn prefix(hir: &Hir) -> String {
    if !hir.properties().look_set_prefix().contains(Look::Start) {
        return String::new();
    }
    let literals = Extractor::new().extract(hir);
    let common = literals.longest_common_prefix().unwrap_or_default();
    // A part of a character is no part of a text.
    let sound = match std::str::from_utf8(common) {
        Ok(_) => common.len(),
        Err(error) => error.valid_up_to(),
    };
    String::from_utf8_lossy(&common[..sound]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_tell_what_they_can_match() {
        let exact = |list: &[&str]| Shape::Exact(list.iter().map(|v| v.to_string()).collect());
        let prefix = |text: &str| Shape::Prefix(text.to_string());
        let cases = [
            ("^(b|a|c)$", exact(&["a", "b", "c"])),
            ("^a$", exact(&["a"])),
            ("^$", exact(&[""])),
            ("^(?:host_1|host_23)$", exact(&["host_1", "host_23"])),
            ("^ab?$", exact(&["a", "ab"])),
            ("^[xy]1$", exact(&["x1", "y1"])),
            ("^(?i)a$", exact(&["A", "a"])),
            ("^a(^b)?$", exact(&["a"])),
            ("^é$", exact(&["é"])),
            ("^web-", prefix("web-")),
            ("^web-.*", prefix("web-")),
            ("^(web1|web2).*$", prefix("web")),
            ("^a|b", prefix("")),
            ("^a|b$", prefix("")),
            ("a$", prefix("")),
            ("web", prefix("")),
            ("", prefix("")),
            (".*", prefix("")),
            ("(?m)^a$", prefix("")),
            ("^[éè]+", prefix("")),
            ("^.{0,3}$", prefix("")),
        ];
        for (pattern, want) in cases {
            let regex = Regex::new(pattern).expect("a test's own pattern");
            assert_eq!(Shape::of(&regex), want, "{pattern}");
        }
    }
}
