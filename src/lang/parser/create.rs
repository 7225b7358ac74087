//! CREATE and ALTER.

use super::select::Into;
use super::{Parser, Result};
use crate::lang::ast::*;
use crate::lang::duration::format_duration;
use crate::lang::error::ParseError;
use crate::lang::tokens::{Keyword as K, TokenKind};

/// The largest number of replicas InfluxDB takes.
const REPLICATION_MAX: u32 = 2_147_483_647;

impl Parser<'_> {
    pub(super) fn create(&mut self) -> Result<Statement> {
        const CREATES: &[&str] = &["CONTINUOUS", "DATABASE", "USER", "RETENTION", "SUBSCRIPTION"];
        let token = self.next()?;
        let TokenKind::Keyword(keyword) = token.kind else {
            if token.is_word("rollup") {
                return self.create_rollup();
            }
            return Err(self.unexpected(&token, CREATES));
        };
        Ok(match keyword {
            K::Continuous => {
                self.keyword(K::Query)?;
                Statement::CreateContinuousQuery(Box::new(self.continuous_query()?))
            }
            K::Database => Statement::CreateDatabase(self.create_database()?),
            K::User => Statement::CreateUser(self.create_user()?),
            K::Retention => {
                self.keyword(K::Policy)?;
                Statement::CreateRetentionPolicy(self.create_policy()?)
            }
            K::Subscription => Statement::CreateSubscription(self.create_subscription()?),
            _ => return Err(self.unexpected(&token, CREATES)),
        })
    }

    fn create_rollup(&mut self) -> Result<Statement> {
        let OnDatabase { name, database } = self.on_database()?;
        let mut measurements = Vec::new();
        if self.take_keyword(K::From)? {
            measurements.push(self.ident()?);
            while self.take(TokenKind::Comma)? {
                measurements.push(self.ident()?);
            }
        }
        self.keyword(K::Every)?;
        let mut every = Vec::new();
        loop {
            let token = self.expect(TokenKind::Duration, &["duration"])?;
            every.push(self.duration_of(&token)?);
            if !self.take(TokenKind::Comma)? {
                break;
            }
        }
        let mut percentiles = true;
        if self.peek()?.is_word("without") {
            self.next()?;
            let token = self.next()?;
            if !token.is_word("percentiles") {
                return Err(self.unexpected(&token, &["PERCENTILES"]));
            }
            percentiles = false;
        }
        Ok(Statement::CreateRollup(Box::new(CreateRollup {
            name,
            database,
            measurements,
            every,
            percentiles,
        })))
    }

    fn create_database(&mut self) -> Result<CreateDatabase> {
        let name = self.ident()?;
        if !self.take_keyword(K::With)? {
            return Ok(CreateDatabase { name, policy: None });
        }
        let mut policy = DatabasePolicy::default();
        let mut options = 0;
        loop {
            let token = self.peek()?.clone();
            match token.kind {
                TokenKind::Keyword(K::Duration) => {
                    self.next()?;
                    policy.duration = Some(self.duration()?);
                }
                TokenKind::Keyword(K::Replication) => {
                    self.next()?;
                    policy.replication = Some(self.replication()?);
                }
                TokenKind::Keyword(K::Shard) => {
                    self.next()?;
                    policy.shard_duration = self.shard_duration()?;
                }
                TokenKind::Keyword(K::Future) => {
                    self.next()?;
                    self.keyword(K::Limit)?;
                    policy.future_limit = Some(self.duration()?);
                }
                TokenKind::Keyword(K::Past) => {
                    self.next()?;
                    self.keyword(K::Limit)?;
                    policy.past_limit = Some(self.duration()?);
                }
                TokenKind::Keyword(K::Name) => {
                    self.next()?;
                    policy.name = Some(self.ident()?);
                }
                _ if options == 0 => {
                    let expected = ["DURATION", "NAME", "REPLICATION", "SHARD", "FUTURE", "PAST"];
                    return Err(self.unexpected(&token, &expected));
                }
                _ => {
                    return Ok(CreateDatabase {
                        name,
                        policy: Some(policy),
                    });
                }
            }
            options += 1;
        }
    }

    /// A duration, or INF as 0.
    fn duration(&mut self) -> Result<i64> {
        let token = self.next()?;
        match token.kind {
            TokenKind::Duration => self.duration_of(&token),
            TokenKind::Keyword(K::Inf) => Ok(0),
            _ => Err(self.unexpected(&token, &["duration"])),
        }
    }

    fn shard_duration(&mut self) -> Result<i64> {
        self.keyword(K::Duration)?;
        let token = self.peek()?.clone();
        if token.kind == TokenKind::Keyword(K::Inf) {
            return Err(self.error_at(token.at, "invalid duration INF for shard duration"));
        }
        self.duration()
    }

    fn replication(&mut self) -> Result<u32> {
        let token = self.expect(TokenKind::Integer, &["integer"])?;
        match token.text.parse::<u32>() {
            Ok(n) if (1..=REPLICATION_MAX).contains(&n) => Ok(n),
            _ => {
                let text = format!(
                    "invalid value {}: must be 1 <= n <= {REPLICATION_MAX}",
                    token.text
                );
                Err(self.error_at(token.at, text))
            }
        }
    }

    fn create_policy(&mut self) -> Result<CreateRetentionPolicy> {
        let OnDatabase { name, database } = self.on_database()?;
        self.keyword(K::Duration)?;
        let duration = self.duration()?;
        self.keyword(K::Replication)?;
        let replication = self.replication()?;
        let mut policy = CreateRetentionPolicy {
            name,
            database,
            duration,
            replication,
            shard_duration: 0,
            default: false,
            future_limit: 0,
            past_limit: 0,
        };
        loop {
            if self.take_keyword(K::Shard)? {
                policy.shard_duration = self.shard_duration()?;
            } else if self.take_keyword(K::Future)? {
                self.keyword(K::Limit)?;
                policy.future_limit = self.duration()?;
            } else if self.take_keyword(K::Past)? {
                self.keyword(K::Limit)?;
                policy.past_limit = self.duration()?;
            } else if self.take_keyword(K::Default)? {
                policy.default = true;
            } else {
                return Ok(policy);
            }
        }
    }

    /// `name NUMERIC PROMOTION ON|OFF`, behind `ALTER DATABASE`.
    pub(super) fn alter_database(&mut self) -> Result<AlterDatabase> {
        let name = self.ident()?;
        for word in ["numeric", "promotion"] {
            let token = self.next()?;
            if !token.is_word(word) {
                return Err(self.unexpected(&token, &[&word.to_uppercase()]));
            }
        }
        let token = self.next()?;
        let on = token.kind == TokenKind::Keyword(K::On);
        if !on && !token.is_word("off") {
            return Err(self.unexpected(&token, &["ON", "OFF"]));
        }
        Ok(AlterDatabase {
            name,
            numeric_promotion: on,
        })
    }

    pub(super) fn alter_policy(&mut self) -> Result<AlterRetentionPolicy> {
        // InfluxDB's early versions called their policy `default`.
        let OnDatabase { name, database } = if self.take_keyword(K::Default)? {
            self.keyword(K::On)?;
            OnDatabase {
                name: "default".into(),
                database: self.ident()?,
            }
        } else {
            self.on_database()?
        };
        let mut policy = AlterRetentionPolicy {
            name,
            database,
            ..AlterRetentionPolicy::default()
        };
        let mut seen: Vec<K> = Vec::new();
        loop {
            let token = self.peek()?.clone();
            let option = match token.kind {
                TokenKind::Keyword(
                    option @ (K::Duration | K::Replication | K::Shard | K::Default | K::Future | K::Past),
                ) => option,
                _ if seen.is_empty() => {
                    let expected = ["DURATION", "REPLICATION", "SHARD", "DEFAULT", "FUTURE", "PAST"];
                    return Err(self.unexpected(&token, &expected));
                }
                _ => return Ok(policy),
            };
            if seen.contains(&option) {
                return Err(self.error_at(token.at, format!("found duplicate {} option", option.as_str())));
            }
            seen.push(option);
            self.next()?;
            match option {
                K::Duration => policy.duration = Some(self.duration()?),
                K::Replication => policy.replication = Some(self.replication()?),
                K::Shard => policy.shard_duration = Some(self.shard_duration()?),
                K::Default => policy.default = true,
                K::Future => {
                    self.keyword(K::Limit)?;
                    policy.future_limit = Some(self.duration()?);
                }
                _ => {
                    self.keyword(K::Limit)?;
                    policy.past_limit = Some(self.duration()?);
                }
            }
        }
    }

    fn continuous_query(&mut self) -> Result<CreateContinuousQuery> {
        let OnDatabase { name, database } = self.on_database()?;
        let (mut resample_every, mut resample_for) = (0, 0);
        if self.take_keyword(K::Resample)? {
            let mut options = 0;
            if self.take_keyword(K::Every)? {
                resample_every = self.duration()?;
                options += 1;
            }
            if self.take_keyword(K::For)? {
                resample_for = self.duration()?;
                options += 1;
            }
            if options == 0 {
                let token = self.next()?;
                return Err(self.unexpected(&token, &["EVERY", "FOR"]));
            }
        }
        self.keywords(&[K::Begin, K::Select])?;
        let source = self.select(Into::Required)?;
        self.keyword(K::End)?;
        let interval = source.group_by_interval();
        if !source.is_raw() && interval == 0 {
            return Err(ParseError::plain(
                "GROUP BY requires at least one aggregate function",
            ));
        }
        let least = interval.max(resample_every);
        if resample_for != 0 && resample_for < least {
            return Err(ParseError::plain(format!(
                "FOR duration must be >= GROUP BY time duration: must be a minimum of {}, got {}",
                format_duration(least),
                format_duration(resample_for)
            )));
        }
        Ok(CreateContinuousQuery {
            name,
            database,
            resample_every,
            resample_for,
            source,
        })
    }
}
