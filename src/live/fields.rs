//! Which fields the SELECTs name that are kept up to date: others are not unpacked for them. Pure.

use crate::catalog::Measurement;
use crate::lang::{Expr, SelectStatement, Source};
use crate::model::FieldId;
use std::collections::BTreeSet;

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fields {
    /// Any field may be read: a wildcard, say.
    All,
    /// Those of these names; some may be tags.
    Named(BTreeSet<String>),
}

impl Default for Fields {
    fn default() -> Self {
        Self::Named(BTreeSet::new())
    }
}

impl Fields {
    /// Of a SELECT from measurements; anything else may read whatever there is.
    pub fn of(statement: &SelectStatement) -> Self {
        let mut names = BTreeSet::new();
        let mut all = !statement
            .sources
            .iter()
            .all(|s| matches!(s, Source::Measurement(_)));
        for field in &statement.fields {
            field
                .expr
                .walk(&mut |expr| all |= matches!(expr, Expr::Wildcard(_) | Expr::Regex(_)));
        }
        let columns = statement.fields.iter().map(|field| &field.expr);
        for expr in columns.chain(&statement.condition) {
            expr.visit_vars(&mut |var| {
                names.insert(var.name.clone());
                names.extend(var.segments.iter().cloned());
            });
        }
        if all { Self::All } else { Self::Named(names) }
    }

    /// Those of another one, too.
    pub fn add(&mut self, other: &Self) {
        match (self, other) {
            (Self::All, _) => {}
            (this, Self::All) => *this = Self::All,
            (Self::Named(names), Self::Named(more)) => {
                let new: Vec<String> = more.difference(names).cloned().collect();
                names.extend(new);
            }
        }
    }

    /// Are those of another one among them?
    pub fn cover(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::All, _) => true,
            (Self::Named(_), Self::All) => false,
            (Self::Named(names), Self::Named(more)) => more.is_subset(names),
        }
    }

    /// What they are in a measurement; `None`: any field.
    pub fn ids(&self, measurement: &Measurement) -> Option<Vec<FieldId>> {
        match self {
            Self::All => None,
            Self::Named(names) => {
                let fields = measurement.fields();
                let ids = names.iter().filter_map(|name| fields.by_name(name));
                Some(ids.map(|(id, _)| id).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::{Statement, parse_statement};

    fn fields(q: &str) -> Fields {
        match parse_statement(q) {
            Ok(Statement::Select(select)) => Fields::of(&select),
            other => panic!("{q}: {other:?}"),
        }
    }

    #[test]
    fn what_a_select_names_is_found() {
        for (q, wanted) in [
            ("SELECT mean(v) FROM m GROUP BY time(1s), host", Some(&["v"][..])),
            (
                "SELECT sum(a * b) / max(c) FROM m WHERE d > 1 AND host =~ /x/ GROUP BY time(1s)",
                Some(&["a", "b", "c", "d", "host"]),
            ),
            (
                "SELECT count(distinct(s)), top(v, host, 2) FROM m GROUP BY time(1s)",
                Some(&["host", "s", "v"]),
            ),
            ("SELECT distinct v FROM m GROUP BY time(1s)", Some(&["v"])),
            ("SELECT * FROM m", None),
            ("SELECT mean(*) FROM m GROUP BY time(1s)", None),
            ("SELECT mean(/v/) FROM m GROUP BY time(1s)", None),
            (
                "SELECT max(x) FROM (SELECT sum(v) AS x FROM m GROUP BY time(1s)) GROUP BY time(1s)",
                None,
            ),
        ] {
            let wanted = wanted.map(|names| names.iter().map(|name| name.to_string()).collect());
            assert_eq!(fields(q), wanted.map_or(Fields::All, Fields::Named), "{q}");
        }
    }

    #[test]
    fn they_are_put_together() {
        let mut some = fields("SELECT v FROM m");
        let other = fields("SELECT w FROM m");
        assert!(!some.cover(&other));
        some.add(&other);
        assert!(some.cover(&other) && some == fields("SELECT v, w FROM m"));
        some.add(&Fields::All);
        assert!(some == Fields::All && some.cover(&other) && !other.cover(&some));
    }
}
