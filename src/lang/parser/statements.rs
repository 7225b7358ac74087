//! Every statement but SELECT, CREATE, ALTER and SHOW.

use super::select::Into;
use super::{Parser, Result};
use crate::lang::ast::*;
use crate::lang::expr::BinaryOp;
use crate::lang::tokens::{Keyword as K, TokenKind};

const STATEMENTS: &[&str] = &[
    "SELECT", "DELETE", "SHOW", "CREATE", "DROP", "EXPLAIN", "GRANT", "REVOKE", "ALTER", "SET", "KILL",
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

    pub(super) fn on_database(&mut self) -> Result<OnDatabase> {
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

    pub(super) fn create_user(&mut self) -> Result<CreateUser> {
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

    pub(super) fn create_subscription(&mut self) -> Result<CreateSubscription> {
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
}
