//! Trees as text: the canonical form of a statement, which is what SHOW CONTINUOUS QUERIES, SHOW QUERIES and EXPLAIN show
//! and what is stored. `parse(display(tree)) == tree` for every tree the parser makes.
//!
//! Words are as InfluxDB writes them (`fill(none)`, `ORDER BY time DESC`); numbers keep every digit; a name stands in
//! quotes only where it must.

mod expr;
mod select;
mod statements;

use super::expr::RegexLiteral;
use super::tokens::Keyword;
use std::fmt::{self, Display, Write};

/// Words that begin something in an extension: as names they stand in quotes, so that nobody has to know where they would
/// be misread.
const EXTENSION_WORDS: &[&str] = &["case", "when", "then", "else", "over", "fill", "tz"];

/// A name, in quotes where it must be.
struct Name<'a>(&'a str);

impl Display for Name<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plain = !needs_quotes(self.0) && !EXTENSION_WORDS.iter().any(|w| w.eq_ignore_ascii_case(self.0));
        if plain {
            f.write_str(self.0)
        } else {
            quoted(f, self.0, '"')
        }
    }
}

/// Whether a name is no bare word.
fn needs_quotes(name: &str) -> bool {
    let mut chars = name.chars();
    let first = chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    let bare = first && chars.all(|c| c.is_ascii_alphanumeric() || c == '_');
    let reserved = ["and", "or", "true", "false"];
    !bare || Keyword::from_word(name).is_some() || reserved.iter().any(|w| w.eq_ignore_ascii_case(name))
}

/// A text literal.
struct Text<'a>(&'a str);

impl Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        quoted(f, self.0, '\'')
    }
}

fn quoted(f: &mut fmt::Formatter<'_>, text: &str, quote: char) -> fmt::Result {
    f.write_char(quote)?;
    for c in text.chars() {
        match c {
            '\n' => f.write_str("\\n")?,
            '\\' => f.write_str("\\\\")?,
            c if c == quote => write!(f, "\\{c}")?,
            c => f.write_char(c)?,
        }
    }
    f.write_char(quote)
}

impl Display for RegexLiteral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.pattern.replace('/', "\\/"))
    }
}

/// Things with commas between them.
fn list<T: Display>(f: &mut fmt::Formatter<'_>, items: impl IntoIterator<Item = T>) -> fmt::Result {
    for (i, item) in items.into_iter().enumerate() {
        if i > 0 {
            f.write_str(", ")?;
        }
        write!(f, "{item}")?;
    }
    Ok(())
}

/// ` KEYWORD n`, unless `n` is 0.
fn count(f: &mut fmt::Formatter<'_>, keyword: &str, n: u64) -> fmt::Result {
    match n {
        0 => Ok(()),
        n => write!(f, " {keyword} {n}"),
    }
}

#[cfg(test)]
mod tests;
