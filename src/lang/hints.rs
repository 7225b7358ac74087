//! Hints: what would be right, below an error in InfluxDB's words. They never change the error's text.

use super::tokens::{Keyword, Token, TokenKind};

/// The candidate nearest to a word: at most a third of its letters (and never more than three) are wrong. The first of equals.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    let near = |candidate: &'a str| {
        let far = distance(&word, &candidate.to_lowercase(), allowed);
        (far <= allowed && far < word.chars().count() && candidate != word).then_some((far, candidate))
    };
    candidates
        .into_iter()
        .filter_map(near)
        .min_by_key(|(far, _)| *far)
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, remove, replace or swap with their neighbour to get from one word to the other; some number beyond
/// `max` when that is more than `max`.
fn distance(from: &str, to: &str, max: usize) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    if from.len().abs_diff(to.len()) > max || from.len() > 100 {
        return max + 1;
    }
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in to.iter().enumerate() {
            let mut least = (last[j] + usize::from(a != b))
                .min(last[j + 1] + 1)
                .min(row[j] + 1);
            if i > 0 && j > 0 && *a == to[j - 1] && from[i - 1] == *b {
                least = least.min(before_last[j - 1] + 1);
            }
            row.push(least);
        }
        before_last = std::mem::replace(&mut last, row);
    }
    last[to.len()]
}

/// A hint for a token that stands where others were expected.
pub(super) fn unexpected(token: &Token, expected: &[&str]) -> Option<String> {
    let names = expected.contains(&"identifier");
    match token.kind {
        TokenKind::Keyword(Keyword::With) if names => None,
        // Here a name was forgotten, and the word is what it seems to be.
        TokenKind::Keyword(
            keyword @ (Keyword::From
            | Keyword::Where
            | Keyword::Group
            | Keyword::Order
            | Keyword::On
            | Keyword::To),
        ) if names => Some(format!("a name is missing before {}", keyword.as_str())),
        TokenKind::Keyword(keyword) if names => Some(format!(
            "{} is a reserved word; as a name write it in double quotes: \"{}\"",
            keyword.as_str(),
            keyword.as_str().to_lowercase()
        )),
        TokenKind::String if names => Some(format!(
            "names stand in double quotes, texts in single ones: \"{}\"",
            token.text
        )),
        TokenKind::Ident if token.quoted && expected.contains(&"string") => {
            Some(format!("texts stand in single quotes: '{}'", token.text))
        }
        TokenKind::Ident if token.quoted && expected.contains(&"regex") => {
            Some("a regular expression stands between slashes: =~ /re/".into())
        }
        TokenKind::String if expected.contains(&"regex") => Some(format!(
            "a regular expression stands between slashes: =~ /{}/",
            token.text.replace('/', "\\/")
        )),
        TokenKind::Ident if !token.quoted => {
            let found = nearest(&token.text, expected.iter().copied().filter(|e| e.len() > 1))?;
            Some(format!("did you mean {found}?"))
        }
        TokenKind::Operator(super::BinaryOp::Eq) if expected.contains(&"number") => {
            Some("a comparison has one =".into())
        }
        TokenKind::BadString => Some("the quote is not closed".into()),
        TokenKind::BadEscape => Some("behind a backslash stands \\, a quote or n".into()),
        TokenKind::Param => Some(format!(
            "no value is bound to {}: give it in the parameter params",
            token.text
        )),
        TokenKind::Keyword(keyword) => misplaced(keyword).map(Into::into),
        _ => None,
    }
}

/// Clauses that come too late.
fn misplaced(keyword: Keyword) -> Option<&'static str> {
    let order = "the clauses of SELECT stand in this order: INTO, FROM, WHERE, GROUP BY, fill(), ORDER BY, LIMIT, OFFSET, SLIMIT, SOFFSET, tz()";
    match keyword {
        Keyword::Into
        | Keyword::From
        | Keyword::Where
        | Keyword::Group
        | Keyword::Order
        | Keyword::Limit
        | Keyword::Offset
        | Keyword::Slimit
        | Keyword::Soffset => Some(order),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::nearest;
    use crate::lang::{Params, parse};

    #[test]
    fn nearest_names() {
        let names = ["mean", "median", "max", "min", "moving_average", "percentile"];
        let cases = [
            ("men", Some("mean")),
            ("maen", Some("mean")),
            ("medain", Some("median")),
            ("percentil", Some("percentile")),
            ("movingaverage", Some("moving_average")),
            ("avg", None),
            ("x", None),
            ("y", None),
            ("", None),
        ];
        for (word, want) in cases {
            assert_eq!(nearest(word, names), want, "{word}");
        }
    }

    #[test]
    fn hints_beside_errors() {
        let cases = [
            ("SELEC v FROM m", "did you mean SELECT?"),
            ("SELECT v FORM m", "did you mean FROM?"),
            ("SELECT v FROM m WHERE a == 1", "a comparison has one ="),
            ("SELECT v FROM 'm'", "\"m\""),
            ("SELECT v FROM duration", "reserved"),
            ("SELECT FROM m", "missing before FROM"),
            ("SELECT v FROM WHERE v > 1", "missing before WHERE"),
            ("SELECT v FROM m WHERE a =~ 'x'", "=~ /x/"),
            ("SELECT v FROM m LIMIT 3 ORDER BY time", "order"),
            ("SELECT v FROM m WHERE a = 'x", "not closed"),
            ("SELECT v FROM $m", "$m"),
        ];
        for (text, want) in cases {
            let hint = parse(text, &Params::new())
                .err()
                .and_then(|e| e.hint)
                .unwrap_or_default();
            assert!(hint.contains(want), "{text}: {hint:?}");
        }
    }
}
