//! SHOW.

use super::select::Into;
use super::{Parser, Result};
use crate::lang::ast::*;
use crate::lang::expr::BinaryOp;
use crate::lang::tokens::{Keyword as K, Token, TokenKind};

const SHOWS: &[&str] = &[
    "CONTINUOUS",
    "DATABASES",
    "DIAGNOSTICS",
    "FIELD",
    "GRANTS",
    "MEASUREMENT",
    "MEASUREMENTS",
    "QUERIES",
    "RETENTION",
    "SERIES",
    "SHARD",
    "SHARDS",
    "STATS",
    "SUBSCRIPTIONS",
    "TAG",
    "USERS",
];

impl Parser<'_> {
    pub(super) fn show(&mut self) -> Result<Statement> {
        let token = self.next()?;
        let TokenKind::Keyword(keyword) = token.kind else {
            return self.show_extension(&token);
        };
        Ok(match keyword {
            K::Continuous => {
                self.keyword(K::Queries)?;
                Statement::ShowContinuousQueries
            }
            K::Databases => Statement::ShowDatabases,
            K::Diagnostics => Statement::ShowDiagnostics(self.for_module()?),
            K::Stats => Statement::ShowStats(self.for_module()?),
            K::Field => {
                let token = self.next()?;
                match token.kind {
                    TokenKind::Keyword(K::Keys) => {
                        Statement::ShowFieldKeys(Box::new(self.show_field_keys()?))
                    }
                    TokenKind::Keyword(K::Key) => self.cardinality(CardinalityOf::FieldKey)?,
                    _ => return Err(self.unexpected(&token, &["KEY", "KEYS"])),
                }
            }
            K::Grants => {
                self.keyword(K::For)?;
                Statement::ShowGrants(self.ident()?)
            }
            K::Measurement => self.cardinality(CardinalityOf::Measurement)?,
            K::Measurements => Statement::ShowMeasurements(Box::new(self.show_measurements()?)),
            K::Queries => Statement::ShowQueries,
            K::Retention => {
                self.keyword(K::Policies)?;
                Statement::ShowRetentionPolicies(self.on()?)
            }
            K::Series => match self.peek()?.kind {
                TokenKind::Keyword(K::Exact | K::Cardinality) => self.cardinality(CardinalityOf::Series)?,
                _ => Statement::ShowSeries(Box::new(self.show_series()?)),
            },
            K::Shard => {
                self.keyword(K::Groups)?;
                Statement::ShowShardGroups
            }
            K::Shards => Statement::ShowShards,
            K::Subscriptions => Statement::ShowSubscriptions,
            K::Tag => {
                let token = self.next()?;
                match token.kind {
                    TokenKind::Keyword(K::Keys) => Statement::ShowTagKeys(Box::new(self.show_tag_keys()?)),
                    TokenKind::Keyword(K::Key) => self.cardinality(CardinalityOf::TagKey)?,
                    TokenKind::Keyword(K::Values) => self.show_tag_values()?,
                    _ => return Err(self.unexpected(&token, &["KEY", "KEYS", "VALUES"])),
                }
            }
            K::Users => Statement::ShowUsers,
            _ => return Err(self.unexpected(&token, SHOWS)),
        })
    }

    fn show_extension(&mut self, token: &Token) -> Result<Statement> {
        if token.is_word("rollups") {
            return Ok(Statement::ShowRollups);
        }
        if token.is_word("correlated") {
            return self.show_correlated();
        }
        if token.is_word("rejected") {
            let database = self.on()?;
            let limit = self.count_after(K::Limit)?;
            let offset = self.count_after(K::Offset)?;
            return Ok(Statement::ShowRejected(ShowRejected {
                database,
                limit,
                offset,
            }));
        }
        Err(self.unexpected(token, SHOWS))
    }

    /// `WITH (SELECT ..) [FROM ..] [WHERE ..] [LIMIT n] [OFFSET n]`, behind `SHOW CORRELATED`.
    fn show_correlated(&mut self) -> Result<Statement> {
        self.keyword(K::With)?;
        self.expect(TokenKind::LeftParen, &["("])?;
        self.keyword(K::Select)?;
        let with = self.select(Into::Forbidden)?;
        self.expect(TokenKind::RightParen, &[")"])?;
        Ok(Statement::ShowCorrelated(Box::new(ShowCorrelated {
            with,
            sources: self.from()?,
            condition: self.condition()?,
            limit: self.count_after(K::Limit)?,
            offset: self.count_after(K::Offset)?,
        })))
    }

    fn for_module(&mut self) -> Result<Option<String>> {
        if self.take_keyword(K::For)? {
            self.string().map(Some)
        } else {
            Ok(None)
        }
    }

    fn on(&mut self) -> Result<Option<String>> {
        if self.take_keyword(K::On)? {
            self.ident().map(Some)
        } else {
            Ok(None)
        }
    }

    fn from(&mut self) -> Result<Vec<Source>> {
        if self.take_keyword(K::From)? {
            self.sources(false)
        } else {
            Ok(Vec::new())
        }
    }

    fn show_measurements(&mut self) -> Result<ShowMeasurements> {
        let mut show = ShowMeasurements::default();
        if self.take_keyword(K::On)? {
            show.database = self.on_name()?;
            if self.take(TokenKind::Dot)? {
                show.retention_policy = self.on_name()?;
            }
        }
        if self.take_keyword(K::With)? {
            self.keyword(K::Measurement)?;
            let token = self.next()?;
            show.with = Some(match token.kind {
                TokenKind::Operator(BinaryOp::Eq) => self.measurement()?,
                TokenKind::Operator(BinaryOp::EqRegex) => match self.regex()? {
                    Some(token) => Measurement {
                        database: None,
                        retention_policy: None,
                        name: MeasurementName::Regex(self.regex_literal(&token)?),
                        alias: None,
                    },
                    None => {
                        let token = self.next()?;
                        return Err(self.unexpected(&token, &["regex"]));
                    }
                },
                _ => return Err(self.unexpected(&token, &["=", "=~"])),
            });
        }
        show.condition = self.condition()?;
        show.sort_fields = self.order_by(false)?;
        show.limit = self.count_after(K::Limit)?;
        show.offset = self.count_after(K::Offset)?;
        Ok(show)
    }

    fn on_name(&mut self) -> Result<OnName> {
        if self.take(TokenKind::Operator(BinaryOp::Mul))? {
            return Ok(OnName::All);
        }
        self.ident().map(OnName::Name)
    }

    fn show_series(&mut self) -> Result<ShowSeries> {
        Ok(ShowSeries {
            database: self.on()?,
            sources: self.from()?,
            condition: self.condition()?,
            sort_fields: self.order_by(false)?,
            limit: self.count_after(K::Limit)?,
            offset: self.count_after(K::Offset)?,
        })
    }

    fn show_field_keys(&mut self) -> Result<ShowFieldKeys> {
        Ok(ShowFieldKeys {
            database: self.on()?,
            sources: self.from()?,
            sort_fields: self.order_by(false)?,
            limit: self.count_after(K::Limit)?,
            offset: self.count_after(K::Offset)?,
        })
    }

    fn show_tag_keys(&mut self) -> Result<ShowTagKeys> {
        let database = self.on()?;
        let sources = self.from()?;
        let keys = if self.peek()?.kind == TokenKind::Keyword(K::With) {
            Some(self.with_key()?)
        } else {
            None
        };
        Ok(ShowTagKeys {
            database,
            sources,
            keys,
            condition: self.condition()?,
            sort_fields: self.order_by(false)?,
            limit: self.count_after(K::Limit)?,
            offset: self.count_after(K::Offset)?,
            slimit: self.count_after(K::Slimit)?,
            soffset: self.count_after(K::Soffset)?,
        })
    }

    fn show_tag_values(&mut self) -> Result<Statement> {
        let cardinality = matches!(self.peek()?.kind, TokenKind::Keyword(K::Exact | K::Cardinality));
        let exact = self.take_keyword(K::Exact)?;
        if cardinality {
            self.keyword(K::Cardinality)?;
        }
        let database = self.on()?;
        let sources = self.from()?;
        let keys = self.with_key()?;
        let condition = self.condition()?;
        if cardinality {
            let of = CardinalityOf::TagValues(keys);
            return self.cardinality_tail(of, exact, database, sources, condition);
        }
        Ok(Statement::ShowTagValues(Box::new(ShowTagValues {
            database,
            sources,
            keys,
            condition,
            sort_fields: self.order_by(false)?,
            limit: self.count_after(K::Limit)?,
            offset: self.count_after(K::Offset)?,
        })))
    }

    fn with_key(&mut self) -> Result<TagKeyFilter> {
        self.keywords(&[K::With, K::Key])?;
        let token = self.next()?;
        match token.kind {
            TokenKind::Operator(BinaryOp::Eq) => self.ident().map(TagKeyFilter::Eq),
            TokenKind::Operator(BinaryOp::Neq) => self.ident().map(TagKeyFilter::Neq),
            TokenKind::Operator(op @ (BinaryOp::EqRegex | BinaryOp::NeqRegex)) => match self.regex()? {
                Some(token) => {
                    let literal = self.regex_literal(&token)?;
                    Ok(match op {
                        BinaryOp::EqRegex => TagKeyFilter::Regex(literal),
                        _ => TagKeyFilter::NotRegex(literal),
                    })
                }
                None => {
                    let token = self.next()?;
                    Err(self.unexpected(&token, &["regex"]))
                }
            },
            TokenKind::Keyword(K::In) => {
                self.expect(TokenKind::LeftParen, &["("])?;
                let mut keys = vec![self.ident()?];
                while self.take(TokenKind::Comma)? {
                    keys.push(self.ident()?);
                }
                self.expect(TokenKind::RightParen, &[")"])?;
                Ok(TagKeyFilter::In(keys))
            }
            _ => Err(self.unexpected(&token, &["=", "!=", "=~", "!~", "IN"])),
        }
    }

    /// `[EXACT] CARDINALITY ..`, behind what is counted.
    fn cardinality(&mut self, of: CardinalityOf) -> Result<Statement> {
        let exact = self.take_keyword(K::Exact)?;
        self.keyword(K::Cardinality)?;
        let database = self.on()?;
        let sources = self.from()?;
        let condition = self.condition()?;
        self.cardinality_tail(of, exact, database, sources, condition)
    }

    fn cardinality_tail(
        &mut self,
        of: CardinalityOf,
        exact: bool,
        database: Option<String>,
        sources: Vec<Source>,
        condition: Option<crate::lang::Expr>,
    ) -> Result<Statement> {
        Ok(Statement::ShowCardinality(Box::new(ShowCardinality {
            of,
            exact,
            database,
            sources,
            condition,
            dimensions: self.dimensions()?,
            limit: self.count_after(K::Limit)?,
            offset: self.count_after(K::Offset)?,
        })))
    }
}
