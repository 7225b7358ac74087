//! Expressions.

use super::{CHAIN_MAX, Parser, Result};
use crate::lang::duration::{DurationError, parse_duration, parse_months};
use crate::lang::error::ParseError;
use crate::lang::expr::{
    BinaryOp, Call, CaseBranch, CaseExpr, DataType, Expr, RegexLiteral, VarRef, WildcardKind,
};
use crate::lang::pattern::{compile_regex, regex_error};
use crate::lang::tokens::{Keyword, Token, TokenKind};

/// Operands with the same operator between them.
struct Row {
    op: Option<BinaryOp>,
    operands: Vec<Expr>,
}

impl Row {
    fn new(first: Expr) -> Self {
        Self {
            op: None,
            operands: vec![first],
        }
    }

    fn push(&mut self, op: BinaryOp, operand: Expr) {
        if self.op.is_some_and(|known| known != op) {
            let before = std::mem::replace(self, Self::new(Expr::Integer(0))).finish();
            *self = Self::new(before);
        }
        self.op = Some(op);
        self.operands.push(operand);
    }

    fn finish(self) -> Expr {
        Expr::join(self.op.unwrap_or(BinaryOp::And), self.operands).unwrap_or(Expr::Boolean(true))
    }
}

const OPERANDS: &[&str] = &["identifier", "string", "number", "bool"];

impl Parser<'_> {
    /// An expression with operators.
    pub(super) fn expr(&mut self) -> Result<Expr> {
        self.deeper(|parser| parser.operators(1))
    }

    fn operators(&mut self, least: u8) -> Result<Expr> {
        let mut row = Row::new(self.operand()?);
        loop {
            let TokenKind::Operator(op) = self.peek()?.kind else {
                return Ok(row.finish());
            };
            if op.precedence() < least {
                return Ok(row.finish());
            }
            self.next()?;
            let rhs = if matches!(op, BinaryOp::EqRegex | BinaryOp::NeqRegex) {
                match self.regex()? {
                    Some(token) => self.pattern(&token)?,
                    None => {
                        let token = self.next()?;
                        return Err(self.unexpected(&token, &["regex"]));
                    }
                }
            } else {
                let rhs = self.deeper(|parser| parser.operators(op.precedence() + 1))?;
                // `a / -b` reads as `a / (-1 * b)`, and has to be written so.
                match rhs {
                    Expr::Binary(b) if b.op.precedence() <= op.precedence() => {
                        Expr::Paren(Box::new(Expr::Binary(b)))
                    }
                    rhs => rhs,
                }
            };
            if row.op.is_some() && !matches!(op, BinaryOp::And | BinaryOp::Or) {
                self.chained += 1;
                if self.chained > CHAIN_MAX {
                    return Err(ParseError::plain(format!(
                        "too many operators in a row (query_chain_max {CHAIN_MAX})"
                    )));
                }
            }
            row.push(op, rhs);
        }
    }

    pub(super) fn pattern(&self, token: &Token) -> Result<Expr> {
        Ok(Expr::Regex(self.regex_literal(token)?))
    }

    pub(super) fn regex_literal(&self, token: &Token) -> Result<RegexLiteral> {
        compile_regex(&token.text).map_err(|e| self.error_at(token.at, regex_error(&e)))?;
        Ok(RegexLiteral {
            pattern: token.text.clone(),
        })
    }

    fn operand(&mut self) -> Result<Expr> {
        if let Some(token) = self.regex()? {
            return self.pattern(&token);
        }
        let token = self.next()?;
        match token.kind {
            TokenKind::LeftParen => {
                let inner = self.expr()?;
                self.expect(TokenKind::RightParen, &[")"])?;
                Ok(Expr::Paren(Box::new(inner)))
            }
            TokenKind::Ident if token.is_word("case") && self.at_when()? => self.case(),
            TokenKind::Ident => {
                if self.peek()?.kind == TokenKind::LeftParen
                    && !(token.quoted && self.text[token.end..].starts_with(char::is_whitespace))
                {
                    self.next()?;
                    return self.call(token);
                }
                self.var_ref(token).map(Expr::VarRef)
            }
            TokenKind::Keyword(Keyword::Distinct) => match self.peek()?.kind {
                TokenKind::LeftParen => {
                    self.next()?;
                    self.call(Token {
                        text: "distinct".into(),
                        ..token
                    })
                }
                TokenKind::Ident => {
                    let name = self.next()?;
                    self.var_ref(name).map(Expr::Distinct)
                }
                TokenKind::RightParen => {
                    let next = self.next()?;
                    Err(self.unexpected(&next, &["(", "identifier"]))
                }
                _ => {
                    let next = self.next()?;
                    Err(self.unexpected(&next, &["identifier"]))
                }
            },
            TokenKind::String => Ok(Expr::String(token.text)),
            TokenKind::True => Ok(Expr::Boolean(true)),
            TokenKind::False => Ok(Expr::Boolean(false)),
            TokenKind::Number | TokenKind::Integer | TokenKind::Duration => self.number(&token, false),
            TokenKind::Operator(BinaryOp::Mul) => self.wildcard(),
            TokenKind::Operator(sign @ (BinaryOp::Sub | BinaryOp::Add)) => {
                let negative = sign == BinaryOp::Sub;
                let next = self.peek()?.clone();
                match next.kind {
                    TokenKind::Number | TokenKind::Integer | TokenKind::Duration => {
                        self.next()?;
                        self.number(&next, negative)
                    }
                    TokenKind::Ident | TokenKind::LeftParen => {
                        let inner = self.deeper(Self::operand)?;
                        let factor = Expr::Integer(if negative { -1 } else { 1 });
                        Ok(Expr::binary(BinaryOp::Mul, factor, inner))
                    }
                    _ => {
                        self.next()?;
                        Err(self.unexpected(&next, &["identifier", "number", "duration", "("]))
                    }
                }
            }
            _ => Err(self.unexpected(&token, OPERANDS)),
        }
    }

    fn at_when(&mut self) -> Result<bool> {
        Ok(self.peek()?.is_word("when"))
    }

    /// `CASE WHEN condition THEN value .. [ELSE value] END`, behind `CASE`.
    fn case(&mut self) -> Result<Expr> {
        let mut case = CaseExpr {
            branches: Vec::new(),
            otherwise: None,
        };
        loop {
            let token = self.next()?;
            if token.is_word("when") {
                let condition = self.expr()?;
                let then = self.next()?;
                if !then.is_word("then") {
                    return Err(self.unexpected(&then, &["THEN"]));
                }
                case.branches.push(CaseBranch {
                    condition,
                    value: self.expr()?,
                });
            } else if token.is_word("else") && case.otherwise.is_none() {
                case.otherwise = Some(self.expr()?);
            } else if token.kind == TokenKind::Keyword(Keyword::End) {
                return Ok(Expr::Case(Box::new(case)));
            } else {
                return Err(self.unexpected(&token, &["WHEN", "ELSE", "END"]));
            }
        }
    }

    fn wildcard(&mut self) -> Result<Expr> {
        if !self.take(TokenKind::DoubleColon)? {
            return Ok(Expr::Wildcard(None));
        }
        let token = self.next()?;
        Ok(Expr::Wildcard(Some(match token.kind {
            TokenKind::Keyword(Keyword::Field) => WildcardKind::Field,
            TokenKind::Keyword(Keyword::Tag) => WildcardKind::Tag,
            _ => return Err(self.unexpected(&token, &["field", "tag"])),
        })))
    }

    /// A call, behind its `(`.
    fn call(&mut self, name: Token) -> Result<Expr> {
        let at = self.position(name.start);
        let mut call = Call {
            name: name.text.to_lowercase(),
            args: Vec::new(),
            at,
        };
        if self.take(TokenKind::RightParen)? {
            return Ok(Expr::Call(call));
        }
        loop {
            let over = call.name == "time" && !call.args.is_empty() && self.peek()?.is_word("over");
            if over && self.peek_second()?.kind == TokenKind::Duration {
                self.next()?;
                call.args.push(Expr::Over(Box::new(self.expr()?)));
            } else {
                call.args.push(self.expr()?);
            }
            let token = self.next()?;
            match token.kind {
                TokenKind::Comma => {}
                TokenKind::RightParen => return Ok(Expr::Call(call)),
                _ => return Err(self.unexpected(&token, &[")"])),
            }
        }
    }

    /// `name`, `a.b.c`, each with an optional cast, behind its first name.
    pub(super) fn var_ref(&mut self, first: Token) -> Result<VarRef> {
        let at = self.position(first.start);
        let mut segments = vec![first.text];
        while self.peek()?.kind == TokenKind::Dot {
            self.next()?;
            segments.push(self.ident()?);
        }
        let mut kind = None;
        if self.take(TokenKind::DoubleColon)? {
            let token = self.next()?;
            kind = Some(match (token.kind, token.text.to_lowercase().as_str()) {
                (TokenKind::Ident, "float") => DataType::Float,
                (TokenKind::Ident, "integer") => DataType::Integer,
                (TokenKind::Ident, "unsigned") => DataType::Unsigned,
                (TokenKind::Ident, "string") => DataType::String,
                (TokenKind::Ident, "boolean") => DataType::Boolean,
                (TokenKind::Keyword(Keyword::Tag), _) => DataType::Tag,
                (TokenKind::Keyword(Keyword::Field), _) => DataType::AnyField,
                _ => {
                    let expected = [
                        "float", "integer", "unsigned", "string", "boolean", "field", "tag",
                    ];
                    return Err(self.unexpected(&token, &expected));
                }
            });
        }
        let name = segments.join(".");
        let segments = if segments.len() > 1 { segments } else { Vec::new() };
        Ok(VarRef {
            name,
            kind,
            segments,
            at,
        })
    }

    fn number(&self, token: &Token, negative: bool) -> Result<Expr> {
        match token.kind {
            TokenKind::Number => {
                let number: f64 = token
                    .text
                    .parse()
                    .ok()
                    .filter(|number: &f64| number.is_finite())
                    .ok_or_else(|| self.error_at(token.at, "unable to parse number"))?;
                Ok(Expr::Number(if negative { -number } else { number }))
            }
            TokenKind::Integer => {
                let digits = if negative {
                    format!("-{}", token.text)
                } else {
                    token.text.clone()
                };
                if let Ok(integer) = digits.parse::<i64>() {
                    return Ok(Expr::Integer(integer));
                }
                match digits.parse::<u64>() {
                    Ok(unsigned) => Ok(Expr::Unsigned(unsigned)),
                    Err(_) => Err(self.error_at(token.at, "unable to parse integer")),
                }
            }
            _ => match parse_months(&token.text) {
                Ok(months) => Ok(Expr::Months(if negative { -months } else { months })),
                Err(_) => {
                    let nanos = self.duration_of(token)?;
                    Ok(Expr::Duration(if negative { -nanos } else { nanos }))
                }
            },
        }
    }

    pub(super) fn duration_of(&self, token: &Token) -> Result<i64> {
        parse_duration(&token.text).map_err(|error| match error {
            DurationError::Overflow(_) => self.error_at(
                token.at,
                format!(
                    "overflowed duration {}: choose a smaller duration or INF",
                    token.text
                ),
            ),
            DurationError::Invalid => ParseError::plain("invalid duration"),
        })
    }
}
