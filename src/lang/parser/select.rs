//! SELECT, and what FROM may name.

use super::{CHAIN_MAX, Parser, Result};
use crate::lang::ast::{
    Dimension, Explain, Field, Fill, Join, JoinKind, Measurement, MeasurementName, SelectStatement,
    SortField, Source, Subquery, Target,
};
use crate::lang::error::ParseError;
use crate::lang::expr::{BinaryOp, Expr};
use crate::lang::tokens::{Keyword, TokenKind};

/// What INTO demands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Into {
    Allowed,
    Forbidden,
    Required,
}

impl Parser<'_> {
    /// SELECT, behind its keyword.
    pub(super) fn select(&mut self, into: Into) -> Result<SelectStatement> {
        self.deeper(|parser| parser.select_clauses(into))
    }

    fn select_clauses(&mut self, into: Into) -> Result<SelectStatement> {
        let mut statement = SelectStatement {
            fields: self.fields()?,
            ..SelectStatement::default()
        };
        if into != Into::Forbidden {
            if self.take_keyword(Keyword::Into)? {
                statement.target = Some(self.target()?);
            } else if into == Into::Required {
                let token = self.next()?;
                return Err(self.unexpected(&token, &["INTO"]));
            }
        }
        self.keyword(Keyword::From)?;
        statement.sources = self.sources(true)?;
        statement.condition = self.condition()?;
        statement.dimensions = self.dimensions()?;
        statement.fill = self.fill()?;
        statement.sort_fields = self.order_by(true)?;
        statement.limit = self.count_after(Keyword::Limit)?;
        statement.offset = self.count_after(Keyword::Offset)?;
        statement.slimit = self.count_after(Keyword::Slimit)?;
        statement.soffset = self.count_after(Keyword::Soffset)?;
        if self.peek()?.is_word("tz") {
            statement.tz = Some(self.zone()?);
        }
        Ok(statement)
    }

    fn fields(&mut self) -> Result<Vec<Field>> {
        let mut fields = Vec::new();
        loop {
            let start = self.peek()?.start;
            let expr = self.expr()?;
            if let Some(op) = misplaced_operator(&expr) {
                let at = self.position(start);
                return Err(ParseError::plain(format!(
                    "invalid operator {} in SELECT clause at line {}, char {}; operator is intended for WHERE clause",
                    op.as_str(),
                    at.line,
                    at.char
                )));
            }
            let alias = if self.take_keyword(Keyword::As)? {
                Some(self.ident()?)
            } else {
                None
            };
            fields.push(Field { expr, alias });
            if !self.take(TokenKind::Comma)? {
                return Ok(fields);
            }
        }
    }

    /// `[[db.]rp.]name`, or with `:MEASUREMENT` as the name.
    fn target(&mut self) -> Result<Target> {
        let mut segments: Vec<String> = vec![self.ident()?];
        loop {
            if !self.take(TokenKind::Dot)? {
                break;
            }
            match self.peek()?.kind {
                TokenKind::Dot => segments.push(String::new()),
                TokenKind::Colon => {
                    self.next()?;
                    let token = self.next()?;
                    if token.kind != TokenKind::Keyword(Keyword::Measurement) {
                        return Err(self.unexpected(&token, &["MEASUREMENT"]));
                    }
                    let [database, policy] = last_two(&segments);
                    return Ok(Target {
                        database,
                        retention_policy: policy,
                        name: None,
                    });
                }
                _ => segments.push(self.ident()?),
            }
        }
        if segments.len() > 3 {
            return Err(ParseError::plain("too many segments in target"));
        }
        let name = segments.pop();
        let [database, retention_policy] = last_two(&segments);
        Ok(Target {
            database,
            retention_policy,
            name,
        })
    }

    /// FROM's list.
    pub(super) fn sources(&mut self, subqueries: bool) -> Result<Vec<Source>> {
        let mut sources = Vec::new();
        loop {
            sources.push(self.source(subqueries)?);
            if !self.take(TokenKind::Comma)? {
                return Ok(sources);
            }
        }
    }

    /// One item of FROM's list; with `subqueries` also `(SELECT ..)`, aliases and joins.
    fn source(&mut self, subqueries: bool) -> Result<Source> {
        if !subqueries {
            return self.measurement().map(Source::Measurement);
        }
        let mut left = self.one_source()?;
        while let Some(kind) = self.join_kind()? {
            self.chained += 1;
            if self.chained > CHAIN_MAX {
                return Err(ParseError::plain(format!(
                    "too many joins (query_chain_max {CHAIN_MAX})"
                )));
            }
            let right = self.one_source()?;
            left = Source::Join(Box::new(Join { kind, left, right }));
        }
        Ok(left)
    }

    fn one_source(&mut self) -> Result<Source> {
        if self.take(TokenKind::LeftParen)? {
            self.keyword(Keyword::Select)?;
            let statement = self.select(Into::Forbidden)?;
            self.expect(TokenKind::RightParen, &[")"])?;
            let alias = self.alias()?;
            return Ok(Source::Subquery(Box::new(Subquery { statement, alias })));
        }
        let measurement = self.measurement()?;
        let alias = self.alias()?;
        Ok(Source::Measurement(Measurement { alias, ..measurement }))
    }

    fn alias(&mut self) -> Result<Option<String>> {
        if self.take_keyword(Keyword::As)? {
            self.ident().map(Some)
        } else {
            Ok(None)
        }
    }

    /// `JOIN`, with the word that says which. None of these words is reserved: behind a source nothing of InfluxQL begins
    /// with them.
    fn join_kind(&mut self) -> Result<Option<JoinKind>> {
        let token = self.peek()?;
        let kind = match () {
            () if token.is_word("join") => {
                self.next()?;
                return Ok(Some(JoinKind::Inner));
            }
            () if token.is_word("inner") => JoinKind::Inner,
            () if token.is_word("left") => JoinKind::Left,
            () if token.is_word("full") => JoinKind::Full,
            () if token.is_word("asof") => JoinKind::Asof,
            () => return Ok(None),
        };
        if !self.peek_second()?.is_word("join") {
            return Ok(None);
        }
        self.next()?;
        self.next()?;
        Ok(Some(kind))
    }

    pub(super) fn measurement(&mut self) -> Result<Measurement> {
        let regex = |literal| Measurement {
            database: None,
            retention_policy: None,
            name: MeasurementName::Regex(literal),
            alias: None,
        };
        if let Some(token) = self.regex()? {
            return Ok(regex(self.regex_literal(&token)?));
        }
        let mut segments: Vec<String> = vec![self.ident()?];
        while self.take(TokenKind::Dot)? {
            if let Some(token) = self.regex()? {
                let literal = self.regex_literal(&token)?;
                let [database, retention_policy] = last_two(&segments);
                return Ok(Measurement {
                    database,
                    retention_policy,
                    ..regex(literal)
                });
            }
            match self.peek()?.kind {
                TokenKind::Dot => segments.push(String::new()),
                _ => segments.push(self.ident()?),
            }
        }
        if segments.len() > 3 {
            return Err(ParseError::plain("too many segments in measurement name"));
        }
        let name = segments.pop().unwrap_or_default();
        let [database, retention_policy] = last_two(&segments);
        Ok(Measurement {
            database,
            retention_policy,
            name: MeasurementName::Name(name),
            alias: None,
        })
    }

    pub(super) fn condition(&mut self) -> Result<Option<Expr>> {
        if self.take_keyword(Keyword::Where)? {
            self.expr().map(Some)
        } else {
            Ok(None)
        }
    }

    pub(super) fn dimensions(&mut self) -> Result<Vec<Dimension>> {
        let mut dimensions = Vec::new();
        if !self.take_keyword(Keyword::Group)? {
            return Ok(dimensions);
        }
        self.keyword(Keyword::By)?;
        loop {
            dimensions.push(Dimension { expr: self.expr()? });
            if !self.take(TokenKind::Comma)? {
                return Ok(dimensions);
            }
        }
    }

    fn fill(&mut self) -> Result<Fill> {
        if !self.peek()?.is_word("fill") {
            return Ok(Fill::Null);
        }
        let Expr::Call(call) = self.expr()? else {
            return Err(ParseError::plain("fill must be a function call"));
        };
        let [argument] = call.args.as_slice() else {
            return Err(ParseError::plain(
                "fill requires an argument, e.g.: 0, null, none, previous, linear",
            ));
        };
        Ok(match argument.unparen() {
            Expr::Integer(v) => Fill::Integer(*v),
            Expr::Number(v) => Fill::Float(*v),
            Expr::VarRef(var) => match var.name.to_lowercase().as_str() {
                "null" => Fill::Null,
                "none" => Fill::None,
                "previous" => Fill::Previous,
                "linear" => Fill::Linear,
                _ => return Err(ParseError::plain("expected number argument in fill()")),
            },
            _ => return Err(ParseError::plain("expected number argument in fill()")),
        })
    }

    pub(super) fn order_by(&mut self, columns: bool) -> Result<Vec<SortField>> {
        let mut fields = Vec::new();
        if !self.take_keyword(Keyword::Order)? {
            return Ok(fields);
        }
        self.keyword(Keyword::By)?;
        loop {
            let token = self.next()?;
            let name = match token.kind {
                TokenKind::Ident => Some(token.text),
                TokenKind::Keyword(direction @ (Keyword::Asc | Keyword::Desc)) if fields.is_empty() => {
                    fields.push(SortField {
                        name: None,
                        ascending: direction == Keyword::Asc,
                    });
                    break;
                }
                _ if fields.is_empty() => return Err(self.unexpected(&token, &["identifier", "ASC", "DESC"])),
                _ => return Err(self.unexpected(&token, &["identifier"])),
            };
            let descending = self.take_keyword(Keyword::Desc)?;
            if !descending {
                self.take_keyword(Keyword::Asc)?;
            }
            fields.push(SortField {
                name,
                ascending: !descending,
            });
            if !self.take(TokenKind::Comma)? {
                break;
            }
        }
        // Only SELECT sorts by a column.
        if fields.len() > 1 || (!columns && !fields[0].is_time()) {
            return Err(ParseError::plain("only ORDER BY time supported at this time"));
        }
        Ok(fields)
    }

    /// The integer behind a keyword, 0 when the keyword is not there.
    pub(super) fn count_after(&mut self, keyword: Keyword) -> Result<u64> {
        if !self.take_keyword(keyword)? {
            return Ok(0);
        }
        let token = self.expect(TokenKind::Integer, &["integer"])?;
        let count: i64 = token
            .text
            .parse()
            .map_err(|_| self.error_at(token.at, "unable to parse integer"))?;
        Ok(count as u64)
    }

    fn zone(&mut self) -> Result<String> {
        let Expr::Call(call) = self.expr()? else {
            return Err(ParseError::plain("tz must be a function call"));
        };
        match call.args.as_slice() {
            [Expr::String(name)] => Ok(name.clone()),
            [_] => Err(ParseError::plain("expected string argument in tz()")),
            _ => Err(ParseError::plain("tz requires exactly one argument")),
        }
    }

    /// EXPLAIN, behind its keyword.
    pub(super) fn explain(&mut self) -> Result<Explain> {
        let analyze = self.take_keyword(Keyword::Analyze)?;
        let verbose = self.take_keyword(Keyword::Verbose)?;
        self.keyword(Keyword::Select)?;
        Ok(Explain {
            analyze,
            verbose,
            statement: self.select(Into::Allowed)?,
        })
    }
}

/// A comparison, AND or OR outside of what has conditions: CASE, and the first argument of `if()`.
fn misplaced_operator(expr: &Expr) -> Option<BinaryOp> {
    match expr {
        Expr::Binary(b) if b.op.is_boolean() => Some(b.op),
        Expr::Case(case) => {
            let values = case.branches.iter().map(|branch| &branch.value);
            values.chain(&case.otherwise).find_map(misplaced_operator)
        }
        Expr::Call(call) if call.name == "if" => call.args.iter().skip(1).find_map(misplaced_operator),
        _ => expr.children().into_iter().find_map(misplaced_operator),
    }
}

/// The segments before a name as database and policy; empty ones are not there.
fn last_two(segments: &[String]) -> [Option<String>; 2] {
    let named = |s: &String| (!s.is_empty()).then(|| s.clone());
    match segments {
        [] => [None, None],
        [policy] => [None, named(policy)],
        [.., database, policy] => [named(database), named(policy)],
    }
}
