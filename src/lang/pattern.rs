//! Regular expressions as InfluxDB writes them (Go's RE2 syntax), made fit for the `regex` crate.
//!
//! Owns the few places where the two differ: a brace that repeats nothing is a plain character, `\Q..\E` quotes,
//! classes hold no classes, and `\d \w \s \b` are ASCII.

use regex::Regex;

/// Compiles a pattern in Go's syntax.
pub fn compile_regex(pattern: &str) -> Result<Regex, regex::Error> {
    Regex::new(&translate(pattern))
}

/// What is wrong with a pattern, in one line.
pub(super) fn regex_error(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.rsplit("error: ").next().unwrap_or(&text).trim();
    format!("error parsing regexp: {}", last.replace('\n', " "))
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        rest = match c {
            '\\' => escape(tail, false, &mut out),
            '[' => class(tail, &mut out),
            '{' if !is_repetition(tail) => {
                out.push_str("\\{");
                tail
            }
            '{' => {
                let end = tail.find('}').map_or(tail.len(), |at| at + 1);
                out.push('{');
                out.push_str(&tail[..end]);
                &tail[end..]
            }
            '}' => {
                out.push_str("\\}");
                tail
            }
            _ => {
                out.push(c);
                tail
            }
        };
    }
    out
}

/// What follows a backslash; gives back what follows the escape.
fn escape<'a>(tail: &'a str, in_class: bool, out: &mut String) -> &'a str {
    let Some(c) = tail.chars().next() else {
        out.push('\\');
        return tail;
    };
    let rest = &tail[c.len_utf8()..];
    match (c, in_class) {
        ('Q', false) => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return rest;
        }
        ('d', false) => out.push_str("[0-9]"),
        ('D', false) => out.push_str("[^0-9]"),
        ('w', false) => out.push_str("[0-9A-Za-z_]"),
        ('W', false) => out.push_str("[^0-9A-Za-z_]"),
        ('s', false) => out.push_str("[\\t\\n\\x0c\\r ]"),
        ('S', false) => out.push_str("[^\\t\\n\\x0c\\r ]"),
        ('b', false) => out.push_str("(?-u:\\b)"),
        ('d', true) => out.push_str("0-9"),
        ('w', true) => out.push_str("0-9A-Za-z_"),
        ('s', true) => out.push_str("\\t\\n\\x0c\\r "),
        // `\p{..}` and `\x{..}` keep their braces.
        ('p' | 'P' | 'x', _) if rest.starts_with('{') => {
            let end = rest.find('}').map_or(rest.len(), |at| at + 1);
            out.push('\\');
            out.push(c);
            out.push_str(&rest[..end]);
            return &rest[end..];
        }
        _ => {
            out.push('\\');
            out.push(c);
        }
    }
    rest
}

/// What follows the `[` of a class; gives back what follows its `]`.
fn class<'a>(tail: &'a str, out: &mut String) -> &'a str {
    out.push('[');
    let mut rest = tail;
    if let Some(after) = rest.strip_prefix('^') {
        out.push('^');
        rest = after;
    }
    // A `]` right at the start is a member.
    if let Some(after) = rest.strip_prefix(']') {
        out.push_str("\\]");
        rest = after;
    }
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        rest = match c {
            ']' => {
                out.push(']');
                return after;
            }
            '\\' => escape(after, true, out),
            '[' if after.starts_with(':') && after.contains(":]") => {
                let end = after.find(":]").map_or(after.len(), |at| at + 2);
                out.push('[');
                out.push_str(&after[..end]);
                &after[end..]
            }
            '[' | '&' | '~' => {
                out.push('\\');
                out.push(c);
                after
            }
            _ => {
                out.push(c);
                after
            }
        };
    }
    rest
}

/// Whether what follows a `{` is `n}`, `n,}` or `n,m}`.
fn is_repetition(tail: &str) -> bool {
    let Some((inside, _)) = tail.split_once('}') else {
        return false;
    };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    !low.is_empty() && digits(low) && digits(high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_syntax() {
        let cases = [
            (r"^{host}$", "{host}", true),
            (r"a{2,3}", "aaa", true),
            (r"a{,3}", "a{,3}", true),
            (r"\Qa.b\E+", "a.b", true),
            (r"\Qa.b\E", "axb", false),
            (r"[[]x", "[x", true),
            (r"[]a]", "]", true),
            (r"[[:digit:]]", "7", true),
            (r"\d", "٣", false),
            (r"[\w.]+", "a.b", true),
            (r"\p{Greek}", "α", true),
            (r"[a&&b]", "&", true),
            (r"\bcpu\b", "a cpu b", true),
        ];
        for (pattern, text, expected) in cases {
            let regex = compile_regex(pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
            assert_eq!(regex.is_match(text), expected, "{pattern} on {text}");
        }
        for bad in ["[", "(", "*a", "a**b(", "\\"] {
            assert!(compile_regex(bad).is_err(), "{bad}");
        }
    }
}
