//! Conditions on tags. A tag that a series does not have counts as the empty text, as in InfluxQL.

use regex::Regex;

/// Which series are wanted.
#[derive(Clone, Debug)]
pub enum TagPredicate {
    /// Every one.
    All,
    /// The tag has this value.
    Equals {
        /// The tag.
        key: String,
        /// The value.
        value: String,
    },
    /// The tag has another value, or none.
    NotEquals {
        /// The tag.
        key: String,
        /// The value.
        value: String,
    },
    /// The tag's value matches somewhere.
    Matches {
        /// The tag.
        key: String,
        /// The pattern.
        regex: Regex,
    },
    /// The tag's value matches nowhere.
    NotMatches {
        /// The tag.
        key: String,
        /// The pattern.
        regex: Regex,
    },
    /// All of these; all series when empty.
    And(Vec<TagPredicate>),
    /// Any of these; none when empty.
    Or(Vec<TagPredicate>),
    /// Not this.
    Not(Box<TagPredicate>),
}
