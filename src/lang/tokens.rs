//! The lexer: text to tokens, one at a time and from any offset.
//!
//! Owns what a word, a number, a string, a comment and a regular expression look like, and the list of reserved
//! words. The parser drives it, since only the parser knows whether a `/` divides or opens a regular expression.
//! It never fails: what it cannot read becomes a token of kind `Illegal`, `BadString`, `BadEscape` or `BadRegex`.

use logos::Logos;

use super::expr::BinaryOp;

/// What logos sees. Keywords are words here; [`TokenKind`] tells them apart.
#[derive(Logos, Debug, Clone, Copy, PartialEq, Eq)]
enum Raw {
    #[regex(r"[ \t\r\n]+")]
    Whitespace,
    #[regex(r"--[^\r\n]*", allow_greedy = true)]
    LineComment,
    #[regex(r"/\*([^*]|\*+[^*/])*\*+/")]
    BlockComment,
    #[regex(r"/\*([^*]|\*+[^*/])*\**", priority = 1)]
    OpenComment,
    #[regex(r"[A-Za-z_][A-Za-z0-9_]*")]
    Word,
    #[regex(r#""([^"\\\r\n]|\\[n\\"'])*""#)]
    QuotedIdent,
    #[regex(r"'([^'\\\r\n]|\\[n\\'\x22])*'")]
    String,
    #[regex(r#"\$?"([^"\\\r\n]|\\[n\\"'])*"#, priority = 1)]
    #[regex(r"'([^'\\\r\n]|\\[n\\'\x22])*", priority = 1)]
    OpenString,
    #[regex(r#"\$?"([^"\\\r\n]|\\[n\\"'])*\\[^n\\"']"#)]
    #[regex(r"'([^'\\\r\n]|\\[n\\'\x22])*\\[^n\\'\x22]")]
    BadEscape,
    #[regex(r"\$[A-Za-z0-9_]*")]
    Param,
    #[regex(r#"\$"([^"\\\r\n]|\\[n\\"'])*""#)]
    QuotedParam,
    #[regex(r"[0-9]+")]
    Integer,
    #[regex(r"[0-9]+\.[0-9]*|\.[0-9]+")]
    Number,
    #[regex(r"[0-9]+[A-Za-zµ][A-Za-z0-9µ]*")]
    Duration,
    #[token("+")]
    Plus,
    #[token("-")]
    Minus,
    #[token("*")]
    Star,
    #[token("/")]
    Slash,
    #[token("%")]
    Percent,
    #[token("&")]
    Ampersand,
    #[token("|")]
    Pipe,
    #[token("^")]
    Caret,
    #[token("=")]
    Eq,
    #[token("!=")]
    #[token("<>")]
    Neq,
    #[token("=~")]
    EqRegex,
    #[token("!~")]
    NeqRegex,
    #[token("<")]
    Lt,
    #[token("<=")]
    Lte,
    #[token(">")]
    Gt,
    #[token(">=")]
    Gte,
    #[token("(")]
    LeftParen,
    #[token(")")]
    RightParen,
    #[token(",")]
    Comma,
    #[token(":")]
    Colon,
    #[token("::")]
    DoubleColon,
    #[token(";")]
    Semicolon,
    #[token(".")]
    Dot,
}

/// A regular expression where the parser looks for one. A run of backslashes before `/` keeps it inside.
#[derive(Logos, Debug, Clone, Copy, PartialEq, Eq)]
enum RawRegex {
    #[regex(r"/([^/\\\r\n]|\\+[^\\\r\n])*/")]
    Closed,
}

/// What a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TokenKind {
    Eof,
    Whitespace,
    Comment,
    Illegal,
    /// A word that is not reserved, or anything in double quotes.
    Ident,
    /// `$name` without a value bound to it.
    Param,
    Number,
    Integer,
    Duration,
    String,
    BadString,
    BadEscape,
    True,
    False,
    Regex,
    BadRegex,
    Operator(BinaryOp),
    LeftParen,
    RightParen,
    Comma,
    Colon,
    DoubleColon,
    Semicolon,
    Dot,
    Keyword(Keyword),
}

/// One token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Token {
    pub kind: TokenKind,
    /// Its literal value, escapes resolved; empty where the kind says it all.
    pub text: String,
    /// Byte offset of its first byte.
    pub start: usize,
    /// Byte offset after its last byte.
    pub end: usize,
    /// The byte offset an error about it names. InfluxDB names the character before a string.
    pub at: usize,
    /// Whether it stood in quotes or came from a bound value: such a word is never an extension's keyword.
    pub quoted: bool,
}

impl Token {
    /// The token as an error names it.
    pub fn found(&self) -> &str {
        if self.text.is_empty() {
            self.kind.name()
        } else {
            &self.text
        }
    }

    /// Whether it is this unreserved word.
    pub fn is_word(&self, word: &str) -> bool {
        self.kind == TokenKind::Ident && !self.quoted && self.text.eq_ignore_ascii_case(word)
    }
}

impl TokenKind {
    /// The kind's name in an error.
    pub fn name(self) -> &'static str {
        match self {
            TokenKind::Eof => "EOF",
            TokenKind::Whitespace => "WS",
            TokenKind::Illegal => "ILLEGAL",
            TokenKind::Ident => "IDENT",
            TokenKind::Number => "NUMBER",
            TokenKind::Duration => "DURATIONVAL",
            TokenKind::String => "STRING",
            TokenKind::BadString => "BADSTRING",
            TokenKind::BadEscape => "BADESCAPE",
            TokenKind::True => "TRUE",
            TokenKind::False => "FALSE",
            TokenKind::Regex => "REGEX",
            TokenKind::Operator(op) => op.as_str(),
            TokenKind::LeftParen => "(",
            TokenKind::RightParen => ")",
            TokenKind::Comma => ",",
            TokenKind::Colon => ":",
            TokenKind::DoubleColon => "::",
            TokenKind::Semicolon => ";",
            TokenKind::Dot => ".",
            TokenKind::Keyword(keyword) => keyword.as_str(),
            TokenKind::Comment | TokenKind::Param | TokenKind::Integer | TokenKind::BadRegex => "",
        }
    }
}

/// The token that starts at byte `start`, which is a character boundary.
pub(super) fn token_at(text: &str, start: usize) -> Token {
    let mut lexer = Raw::lexer(&text[start..]);
    let Some(raw) = lexer.next() else {
        return Token {
            kind: TokenKind::Eof,
            text: String::new(),
            start,
            end: start,
            at: start,
            quoted: false,
        };
    };
    let slice = lexer.slice();
    let end = start + slice.len();
    let token = |kind, text: String| Token {
        kind,
        text,
        start,
        end,
        at: start,
        quoted: false,
    };
    let plain = |kind| token(kind, String::new());
    let Ok(raw) = raw else {
        let illegal = text[start..].chars().next().map(String::from).unwrap_or_default();
        return Token {
            end: start + illegal.len(),
            ..token(TokenKind::Illegal, illegal)
        };
    };
    match raw {
        Raw::Whitespace => token(TokenKind::Whitespace, slice.to_owned()),
        Raw::LineComment | Raw::BlockComment => plain(TokenKind::Comment),
        Raw::OpenComment => plain(TokenKind::Illegal),
        Raw::Word => word(slice, token),
        Raw::QuotedIdent => {
            let name = unescape(&slice[1..slice.len() - 1]);
            Token {
                quoted: true,
                ..token(TokenKind::Ident, name)
            }
        }
        Raw::String => {
            let value = unescape(&slice[1..slice.len() - 1]);
            Token {
                at: before(text, start),
                quoted: true,
                ..token(TokenKind::String, value)
            }
        }
        Raw::OpenString => {
            let value = unescape(slice.trim_start_matches('$').get(1..).unwrap_or_default());
            Token {
                at: before(text, start),
                ..token(TokenKind::BadString, value)
            }
        }
        Raw::BadEscape => {
            let escape = slice.rfind('\\').map_or("", |at| &slice[at..]);
            Token {
                at: before(text, end),
                ..token(TokenKind::BadEscape, escape.to_owned())
            }
        }
        Raw::Param => token(TokenKind::Param, slice.to_owned()),
        Raw::QuotedParam => token(
            TokenKind::Param,
            format!("${}", unescape(&slice[2..slice.len() - 1])),
        ),
        Raw::Integer => token(TokenKind::Integer, slice.to_owned()),
        Raw::Number => token(TokenKind::Number, slice.trim_end_matches('.').to_owned()),
        Raw::Duration => token(TokenKind::Duration, slice.to_owned()),
        Raw::Plus => plain(TokenKind::Operator(BinaryOp::Add)),
        Raw::Minus => plain(TokenKind::Operator(BinaryOp::Sub)),
        Raw::Star => plain(TokenKind::Operator(BinaryOp::Mul)),
        Raw::Slash => plain(TokenKind::Operator(BinaryOp::Div)),
        Raw::Percent => plain(TokenKind::Operator(BinaryOp::Mod)),
        Raw::Ampersand => plain(TokenKind::Operator(BinaryOp::BitAnd)),
        Raw::Pipe => plain(TokenKind::Operator(BinaryOp::BitOr)),
        Raw::Caret => plain(TokenKind::Operator(BinaryOp::BitXor)),
        Raw::Eq => plain(TokenKind::Operator(BinaryOp::Eq)),
        Raw::Neq => plain(TokenKind::Operator(BinaryOp::Neq)),
        Raw::EqRegex => plain(TokenKind::Operator(BinaryOp::EqRegex)),
        Raw::NeqRegex => plain(TokenKind::Operator(BinaryOp::NeqRegex)),
        Raw::Lt => plain(TokenKind::Operator(BinaryOp::Lt)),
        Raw::Lte => plain(TokenKind::Operator(BinaryOp::Lte)),
        Raw::Gt => plain(TokenKind::Operator(BinaryOp::Gt)),
        Raw::Gte => plain(TokenKind::Operator(BinaryOp::Gte)),
        Raw::LeftParen => plain(TokenKind::LeftParen),
        Raw::RightParen => plain(TokenKind::RightParen),
        Raw::Comma => plain(TokenKind::Comma),
        Raw::Colon => plain(TokenKind::Colon),
        Raw::DoubleColon => plain(TokenKind::DoubleColon),
        Raw::Semicolon => plain(TokenKind::Semicolon),
        Raw::Dot => plain(TokenKind::Dot),
    }
}

/// The regular expression that starts with the `/` at byte `start`.
pub(super) fn regex_at(text: &str, start: usize) -> Token {
    let mut lexer = RawRegex::lexer(&text[start..]);
    let closed = matches!(lexer.next(), Some(Ok(RawRegex::Closed)));
    let slice = if closed { lexer.slice() } else { "" };
    let (kind, pattern) = match closed {
        true => (TokenKind::Regex, slice[1..slice.len() - 1].replace("\\/", "/")),
        false => (TokenKind::BadRegex, String::new()),
    };
    Token {
        kind,
        text: pattern,
        start,
        end: start + slice.len(),
        at: before(text, start),
        quoted: true,
    }
}

fn word(slice: &str, token: impl Fn(TokenKind, String) -> Token) -> Token {
    if slice.eq_ignore_ascii_case("and") {
        return token(TokenKind::Operator(BinaryOp::And), String::new());
    }
    if slice.eq_ignore_ascii_case("or") {
        return token(TokenKind::Operator(BinaryOp::Or), String::new());
    }
    if slice.eq_ignore_ascii_case("true") {
        return token(TokenKind::True, String::new());
    }
    if slice.eq_ignore_ascii_case("false") {
        return token(TokenKind::False, String::new());
    }
    match Keyword::from_word(slice) {
        Some(keyword) => token(TokenKind::Keyword(keyword), String::new()),
        None => token(TokenKind::Ident, slice.to_owned()),
    }
}

/// The byte offset of the character before `at`, or 0.
fn before(text: &str, at: usize) -> usize {
    text[..at]
        .char_indices()
        .next_back()
        .map_or(0, |(offset, _)| offset)
}

fn unescape(quoted: &str) -> String {
    let mut plain = String::with_capacity(quoted.len());
    let mut chars = quoted.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('n') => plain.push('\n'),
                Some(escaped) => plain.push(escaped),
                None => {}
            },
            _ => plain.push(c),
        }
    }
    plain
}

macro_rules! keywords {
    ($($name:ident = $word:literal),+ $(,)?) => {
        /// The reserved words of InfluxQL. Kymo's extensions reserve none.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum Keyword { $($name),+ }

        impl Keyword {
            const ALL_WORDS: &'static [(&'static str, Keyword)] = &[$(($word, Keyword::$name)),+];

            /// The word in capitals.
            pub fn as_str(self) -> &'static str {
                match self { $(Keyword::$name => $word),+ }
            }
        }
    };
}

keywords! {
    All = "ALL", Alter = "ALTER", Analyze = "ANALYZE", Any = "ANY", As = "AS", Asc = "ASC", Begin = "BEGIN", By = "BY",
    Cardinality = "CARDINALITY", Continuous = "CONTINUOUS", Create = "CREATE", Database = "DATABASE",
    Databases = "DATABASES", Default = "DEFAULT", Delete = "DELETE", Desc = "DESC", Destinations = "DESTINATIONS",
    Diagnostics = "DIAGNOSTICS", Distinct = "DISTINCT", Drop = "DROP", Duration = "DURATION", End = "END",
    Every = "EVERY", Exact = "EXACT", Explain = "EXPLAIN", Field = "FIELD", For = "FOR", From = "FROM",
    Future = "FUTURE", Grant = "GRANT", Grants = "GRANTS", Group = "GROUP", Groups = "GROUPS", In = "IN", Inf = "INF",
    Insert = "INSERT", Into = "INTO", Key = "KEY", Keys = "KEYS", Kill = "KILL", Limit = "LIMIT",
    Measurement = "MEASUREMENT", Measurements = "MEASUREMENTS", Name = "NAME", Offset = "OFFSET", On = "ON",
    Order = "ORDER", Password = "PASSWORD", Past = "PAST", Policies = "POLICIES", Policy = "POLICY",
    Privileges = "PRIVILEGES", Queries = "QUERIES", Query = "QUERY", Read = "READ", Replication = "REPLICATION",
    Resample = "RESAMPLE", Retention = "RETENTION", Revoke = "REVOKE", Select = "SELECT", Series = "SERIES",
    Set = "SET", Shard = "SHARD", Shards = "SHARDS", Show = "SHOW", Slimit = "SLIMIT", Soffset = "SOFFSET",
    Stats = "STATS", Subscription = "SUBSCRIPTION", Subscriptions = "SUBSCRIPTIONS", Tag = "TAG", To = "TO",
    User = "USER", Users = "USERS", Values = "VALUES", Verbose = "VERBOSE", Where = "WHERE", With = "WITH",
    Write = "WRITE",
}

impl Keyword {
    /// The keyword a word is, in any case. The list is in order.
    pub fn from_word(word: &str) -> Option<Keyword> {
        if !word.is_ascii() || word.len() > 16 {
            return None;
        }
        let upper = word.to_ascii_uppercase();
        let found = Self::ALL_WORDS
            .binary_search_by(|(known, _)| (*known).cmp(upper.as_str()))
            .ok()?;
        Some(Self::ALL_WORDS[found].1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kinds and texts of all tokens but whitespace, as `kind:text` joined by spaces.
    fn check(text: &str, expected: &str) {
        let mut at = 0;
        let mut out = Vec::new();
        loop {
            let token = token_at(text, at);
            at = token.end;
            match token.kind {
                TokenKind::Eof => break,
                TokenKind::Whitespace => {}
                _ => out.push(format!("{}:{}", token.kind.name(), token.text)),
            }
        }
        assert_eq!(out.join(" "), expected, "{text}");
    }

    #[test]
    fn tokens() {
        let cases = [
            ("select Foo from", "SELECT: IDENT:Foo FROM:"),
            (r#""a\"b\n" 'it\'s'"#, "IDENT:a\"b\n STRING:it's"),
            (
                "1 1.5 .5 2. 3m 4µs 5d12h",
                ":1 NUMBER:1.5 NUMBER:.5 NUMBER:2 DURATIONVAL:3m DURATIONVAL:4µs DURATIONVAL:5d12h",
            ),
            ("a--b\nc", "IDENT:a : IDENT:c"),
            ("a/*x**/b/c", "IDENT:a : IDENT:b /: IDENT:c"),
            ("/* open *", "ILLEGAL:"),
            ("$p $\"q r\" $", ":$p :$q r :$"),
            ("= != <> =~ !~ < <= > >=", "=: !=: !=: =~: !~: <: <=: >: >=:"),
            ("x::float y:z", "IDENT:x ::: IDENT:float IDENT:y :: IDENT:z"),
            ("'open", "BADSTRING:open"),
            ("'a\nb", "BADSTRING:a IDENT:b"),
            (r"'a\qb'", r"BADESCAPE:\q IDENT:b BADSTRING:"),
            ("! é", "ILLEGAL:! ILLEGAL:é"),
        ];
        for (text, expected) in cases {
            check(text, expected);
        }
    }

    #[test]
    fn regular_expressions() {
        let cases = [
            ("/a.*/ b", TokenKind::Regex, "a.*"),
            (r"/a\/b/", TokenKind::Regex, "a/b"),
            (r"/a\d\\/b/", TokenKind::Regex, r"a\d\/b"),
            ("/open", TokenKind::BadRegex, ""),
            ("/a\nb/", TokenKind::BadRegex, ""),
        ];
        for (text, kind, pattern) in cases {
            let token = regex_at(text, 0);
            assert_eq!((token.kind, token.text.as_str()), (kind, pattern), "{text}");
        }
    }

    #[test]
    fn keywords_are_in_order() {
        assert!(Keyword::ALL_WORDS.is_sorted_by_key(|(word, _)| *word));
        assert_eq!(Keyword::from_word("sElEcT"), Some(Keyword::Select));
        assert_eq!(Keyword::from_word("join"), None);
    }
}
