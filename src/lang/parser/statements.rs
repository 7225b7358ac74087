//! Every statement but SELECT.

use super::select::Into;
use super::{Parser, Result};
use crate::lang::ast::*;
use crate::lang::duration::format_duration;
use crate::lang::error::ParseError;
use crate::lang::expr::BinaryOp;
use crate::lang::tokens::{Keyword as K, Token, TokenKind};

const STATEMENTS: &[&str] = &[
    "SELECT", "DELETE", "SHOW", "CREATE", "DROP", "EXPLAIN", "GRANT", "REVOKE", "ALTER", "SET", "KILL",
];
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
const DROPS: &[&str] = &[
    "CONTINUOUS",
    "DATABASE",
    "MEASUREMENT",
    "RETENTION",
    "SERIES",
    "SHARD",
    "SUBSCRIPTION",
    "USER",
];

/// The largest number of replicas InfluxDB takes.
const REPLICATION_MAX: u32 = 2_147_483_647;

impl Parser<'_> {
    pub(super) fn statement(&mut self) -> Result<Statement> {
        let token = self.next()?;
        let TokenKind::Keyword(keyword) = token.kind else {
            return Err(self.unexpected(&token, STATEMENTS));
        };
        Ok(match keyword {
            K::Select => Statement::Select(Box::new(self.select(Into::Allowed)?)),
            K::Delete => Statement::Delete(self.delete(true)?),
            K::Show => self.show()?,
            K::Create => self.create()?,
            K::Drop => self.drop_statement()?,
            K::Explain => Statement::Explain(Box::new(self.explain()?)),
            K::Grant => Statement::Grant(self.grant(K::To)?),
            K::Revoke => Statement::Revoke(self.grant(K::From)?),
            K::Alter => {
                if self.take_keyword(K::Database)? {
                    return Ok(Statement::AlterDatabase(self.alter_database()?));
                }
                self.keywords(&[K::Retention, K::Policy])?;
                Statement::AlterRetentionPolicy(self.alter_policy()?)
            }
            K::Set => {
                self.keywords(&[K::Password, K::For])?;
                let name = self.ident()?;
                self.expect(TokenKind::Operator(BinaryOp::Eq), &["="])?;
                Statement::SetPassword(SetPassword {
                    name,
                    password: self.string()?,
                })
            }
            K::Kill => {
                self.keyword(K::Query)?;
                let id = self.unsigned()?;
                let host = if self.take_keyword(K::On)? {
                    Some(self.ident()?)
                } else {
                    None
                };
                Statement::KillQuery(KillQuery { id, host })
            }
            _ => return Err(self.unexpected(&token, STATEMENTS)),
        })
    }

    fn unsigned(&mut self) -> Result<u64> {
        let token = self.expect(TokenKind::Integer, &["integer"])?;
        token
            .text
            .parse()
            .map_err(|_| self.error_at(token.at, "unable to parse integer"))
    }

    /// DELETE and DROP SERIES, behind their keywords.
    fn delete(&mut self, policies: bool) -> Result<Delete> {
        let mut delete = Delete::default();
        if self.take_keyword(K::From)? {
            delete.sources = self.sources(false)?;
            for source in &delete.sources {
                if let Source::Measurement(m) = source {
                    if m.database.is_some() {
                        return Err(self.error_at(0, "database not supported"));
                    }
                    if m.retention_policy.is_some() && !policies {
                        return Err(self.error_at(0, "retention policy not supported"));
                    }
                }
            }
        } else if self.peek()?.kind != TokenKind::Keyword(K::Where) {
            let token = self.next()?;
            return Err(self.unexpected(&token, &["FROM", "WHERE"]));
        }
        delete.condition = self.condition()?;
        Ok(delete)
    }

    fn drop_statement(&mut self) -> Result<Statement> {
        let token = self.next()?;
        let TokenKind::Keyword(keyword) = token.kind else {
            if token.is_word("rollup") {
                return self.on_database().map(Statement::DropRollup);
            }
            return Err(self.unexpected(&token, DROPS));
        };
        Ok(match keyword {
            K::Continuous => {
                self.keyword(K::Query)?;
                Statement::DropContinuousQuery(self.on_database()?)
            }
            K::Database => Statement::DropDatabase(self.ident()?),
            K::Measurement => Statement::DropMeasurement(self.ident()?),
            K::Retention => {
                self.keyword(K::Policy)?;
                Statement::DropRetentionPolicy(self.on_database()?)
            }
            K::Series => Statement::DropSeries(self.delete(false)?),
            K::Shard => Statement::DropShard(self.unsigned()?),
            K::Subscription => {
                let (name, database, retention_policy) = self.subscription_name()?;
                Statement::DropSubscription(DropSubscription {
                    name,
                    database,
                    retention_policy,
                })
            }
            K::User => Statement::DropUser(self.ident()?),
            _ => return Err(self.unexpected(&token, DROPS)),
        })
    }

    fn on_database(&mut self) -> Result<OnDatabase> {
        let name = self.ident()?;
        self.keyword(K::On)?;
        Ok(OnDatabase {
            name,
            database: self.ident()?,
        })
    }

    fn subscription_name(&mut self) -> Result<(String, String, String)> {
        let name = self.ident()?;
        self.keyword(K::On)?;
        let database = self.ident()?;
        self.expect(TokenKind::Dot, &["."])?;
        Ok((name, database, self.ident()?))
    }

    fn create(&mut self) -> Result<Statement> {
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
    fn alter_database(&mut self) -> Result<AlterDatabase> {
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

    fn alter_policy(&mut self) -> Result<AlterRetentionPolicy> {
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

    fn create_user(&mut self) -> Result<CreateUser> {
        let name = self.ident()?;
        self.keywords(&[K::With, K::Password])?;
        let password = self.string()?;
        let admin = self.take_keyword(K::With)?;
        if admin {
            self.keywords(&[K::All, K::Privileges])?;
        }
        Ok(CreateUser {
            name,
            password,
            admin,
        })
    }

    fn create_subscription(&mut self) -> Result<CreateSubscription> {
        let (name, database, retention_policy) = self.subscription_name()?;
        self.keyword(K::Destinations)?;
        let token = self.next()?;
        let mode = match token.kind {
            TokenKind::Keyword(K::All) => SubscriptionMode::All,
            TokenKind::Keyword(K::Any) => SubscriptionMode::Any,
            _ => return Err(self.unexpected(&token, &["ALL", "ANY"])),
        };
        let mut destinations = vec![self.string()?];
        while self.take(TokenKind::Comma)? {
            destinations.push(self.string()?);
        }
        Ok(CreateSubscription {
            name,
            database,
            retention_policy,
            mode,
            destinations,
        })
    }

    /// GRANT and REVOKE, behind their keywords; `before_user` is TO or FROM.
    fn grant(&mut self, before_user: K) -> Result<Grant> {
        let token = self.next()?;
        let privilege = match token.kind {
            TokenKind::Keyword(K::Read) => Privilege::Read,
            TokenKind::Keyword(K::Write) => Privilege::Write,
            TokenKind::Keyword(K::All) => {
                self.take_keyword(K::Privileges)?;
                Privilege::All
            }
            _ => return Err(self.unexpected(&token, &["READ", "WRITE", "ALL [PRIVILEGES]"])),
        };
        let token = self.next()?;
        let database = match token.kind {
            TokenKind::Keyword(K::On) => {
                let database = self.ident()?;
                self.keyword(before_user)?;
                Some(database)
            }
            TokenKind::Keyword(word) if word == before_user && privilege == Privilege::All => None,
            _ if privilege == Privilege::All => {
                return Err(self.unexpected(&token, &["ON", before_user.as_str()]));
            }
            _ => return Err(self.unexpected(&token, &["ON"])),
        };
        Ok(Grant {
            privilege,
            database,
            user: self.ident()?,
        })
    }

    fn show(&mut self) -> Result<Statement> {
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
