//! The parser: recursive descent over tokens, one token of look-ahead. Depth and length are bounded.
//!
//! [`select`] has SELECT and its sources, [`create`] CREATE and ALTER, [`show`] SHOW, [`statements`] the others, [`expr`] has expressions.

mod create;
mod expr;
mod select;
mod show;
mod statements;

use super::ast::{Query, Statement};
use super::error::ParseError;
use super::expr::{Expr, Position};
use super::hints;
use super::params::{BindValue, Params};
use super::tokens::{Keyword, Token, TokenKind, regex_at, token_at};
use std::cell::Cell;

/// Bytes of a query text.
pub const TEXT_BYTES_MAX: usize = 1 << 20;
/// Parentheses, calls and subqueries within each other.
pub const DEPTH_MAX: usize = 100;
/// Operators that stand on what another operator of the same row made, as the second `+` in `a + b + c` does; AND and OR
/// are not counted. Together with [`DEPTH_MAX`] it bounds how deep a tree is, and with it every recursion over one.
pub const CHAIN_MAX: usize = 1000;

type Result<T> = std::result::Result<T, ParseError>;

/// Reads a query text: statements with `;` between them.
///
/// # Errors
/// InfluxDB's text for what is wrong first.
pub fn parse(text: &str, params: &Params) -> Result<Query> {
    let mut parser = Parser::new(text, params)?;
    let mut query = Query::default();
    loop {
        while parser.take(TokenKind::Semicolon)? {}
        if parser.peek()?.kind == TokenKind::Eof && !query.statements.is_empty() {
            return Ok(query);
        }
        query.statements.push(parser.statement()?);
        let next = parser.next()?;
        match next.kind {
            TokenKind::Semicolon => {}
            TokenKind::Eof => return Ok(query),
            _ => return Err(parser.unexpected(&next, &[";"])),
        }
    }
}

/// Reads exactly one statement.
///
/// # Errors
/// As [`parse`]; more text behind it.
pub fn parse_statement(text: &str) -> Result<Statement> {
    let mut query = parse(text, &Params::new())?;
    match (query.statements.pop(), query.statements.is_empty()) {
        (Some(statement), true) => Ok(statement),
        _ => Err(ParseError::plain("expected one statement")),
    }
}

/// Reads an expression, as in WHERE.
///
/// # Errors
/// As [`parse`]; more text behind it.
pub fn parse_expr(text: &str) -> Result<Expr> {
    let params = Params::new();
    let mut parser = Parser::new(text, &params)?;
    let expr = parser.expr()?;
    let end = parser.next()?;
    match end.kind {
        TokenKind::Eof => Ok(expr),
        _ => Err(parser.unexpected(&end, &["EOF"])),
    }
}

const START: Position = Position {
    offset: 0,
    line: 1,
    char: 1,
};

struct Parser<'a> {
    text: &'a str,
    params: &'a Params,
    at: usize,
    depth: usize,
    /// See [`CHAIN_MAX`].
    chained: usize,
    peeked: Option<Token>,
    /// The last position that was asked for: the next one is usually a little behind it.
    known: Cell<Position>,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str, params: &'a Params) -> Result<Self> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(ParseError::plain(format!(
                "query text is too long: {} bytes (query_text_bytes_max {TEXT_BYTES_MAX})",
                text.len()
            )));
        }
        Ok(Self {
            text,
            params,
            at: 0,
            depth: 0,
            chained: 0,
            peeked: None,
            known: Cell::new(START),
        })
    }

    fn read(&self) -> Result<Token> {
        self.read_at(self.at)
    }

    /// The token behind the next one.
    fn peek_second(&mut self) -> Result<Token> {
        let end = self.peek()?.end;
        self.read_at(end)
    }

    fn read_at(&self, mut at: usize) -> Result<Token> {
        loop {
            let token = token_at(self.text, at);
            match token.kind {
                TokenKind::Whitespace | TokenKind::Comment => at = token.end,
                TokenKind::Param => {
                    let name = &token.text[1..];
                    if name.is_empty() {
                        return Err(ParseError::plain("empty bound parameter"));
                    }
                    return match self.params.get(name) {
                        Some(BindValue::Error(text)) => Err(ParseError::plain(text.clone())),
                        Some(value) => Ok(value.substitute(token)),
                        None => Ok(token),
                    };
                }
                _ => return Ok(token),
            }
        }
    }

    fn peek(&mut self) -> Result<&Token> {
        if self.peeked.is_none() {
            self.peeked = Some(self.read()?);
        }
        Ok(self.peeked.as_ref().expect("it was just read"))
    }

    fn next(&mut self) -> Result<Token> {
        let token = match self.peeked.take() {
            Some(token) => token,
            None => self.read()?,
        };
        self.at = token.end;
        Ok(token)
    }

    /// Reads a regular expression if one begins here.
    fn regex(&mut self) -> Result<Option<Token>> {
        let token = self.peek()?.clone();
        if token.kind == TokenKind::Regex {
            return self.next().map(Some);
        }
        if token.kind != TokenKind::Operator(super::expr::BinaryOp::Div) {
            return Ok(None);
        }
        let regex = regex_at(self.text, token.start);
        if regex.kind == TokenKind::BadRegex {
            return Ok(None);
        }
        self.peeked = None;
        self.at = regex.end;
        Ok(Some(regex))
    }

    fn take(&mut self, kind: TokenKind) -> Result<bool> {
        let found = self.peek()?.kind == kind;
        if found {
            self.next()?;
        }
        Ok(found)
    }

    fn take_keyword(&mut self, keyword: Keyword) -> Result<bool> {
        self.take(TokenKind::Keyword(keyword))
    }

    /// The next token must be one of these words.
    fn keyword(&mut self, keyword: Keyword) -> Result<()> {
        self.expect(TokenKind::Keyword(keyword), &[keyword.as_str()])
            .map(drop)
    }

    fn keywords(&mut self, keywords: &[Keyword]) -> Result<()> {
        keywords.iter().try_for_each(|keyword| self.keyword(*keyword))
    }

    fn expect(&mut self, kind: TokenKind, expected: &[&str]) -> Result<Token> {
        let token = self.next()?;
        if token.kind == kind {
            Ok(token)
        } else {
            Err(self.unexpected(&token, expected))
        }
    }

    fn ident(&mut self) -> Result<String> {
        Ok(self.expect(TokenKind::Ident, &["identifier"])?.text)
    }

    fn string(&mut self) -> Result<String> {
        Ok(self.expect(TokenKind::String, &["string"])?.text)
    }

    /// Line and character of a byte, as InfluxDB counts.
    fn position(&self, offset: usize) -> Position {
        let offset = offset.min(self.text.len());
        let mut at = self.known.get();
        if at.offset > offset {
            at = START;
        }
        for c in self.text[at.offset..offset].chars() {
            if c == '\n' {
                (at.line, at.char) = (at.line + 1, 1);
            } else {
                at.char += 1;
            }
        }
        at.offset = offset;
        self.known.set(at);
        at
    }

    fn error_at(&self, offset: usize, text: impl std::fmt::Display) -> ParseError {
        let at = self.position(offset);
        ParseError {
            text: format!("{text} at line {}, char {}", at.line, at.char),
            offset: Some(offset),
            hint: None,
        }
    }

    fn unexpected(&self, token: &Token, expected: &[&str]) -> ParseError {
        let at = self.position(token.at);
        // InfluxDB reads one character too far behind a bare word or a space that ends the text.
        let bytes = self.text.as_bytes();
        let after_word = token.kind == TokenKind::Eof && self.ends_in_word(bytes);
        ParseError {
            text: format!(
                "found {}, expected {} at line {}, char {}",
                token.found(),
                expected.join(", "),
                at.line,
                at.char + u32::from(after_word)
            ),
            offset: Some(token.at),
            hint: hints::unexpected(token, expected),
        }
    }

    fn ends_in_word(&self, bytes: &[u8]) -> bool {
        if bytes.last().is_some_and(u8::is_ascii_whitespace) {
            return true;
        }
        let word = bytes
            .iter()
            .rev()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
            .count();
        let first = bytes.get(bytes.len() - word);
        word > 0 && first.is_some_and(|b| !b.is_ascii_digit())
    }

    fn deeper<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= DEPTH_MAX {
            return Err(ParseError::plain(format!(
                "query is nested too deeply (query_depth_max {DEPTH_MAX})"
            )));
        }
        self.depth += 1;
        let result = run(self);
        self.depth -= 1;
        result
    }
}

#[cfg(test)]
mod tests;
