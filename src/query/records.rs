//! What the catalog's records mean: users, grants, continuous queries, subscriptions, limits of writes. The statements put
//! them there; whoever runs or enforces them reads them here.

use crate::catalog::Catalog;
pub use crate::catalog::settings::{NUMERIC_PROMOTION, WRITE_LIMITS};
pub use crate::ingest::mapping::MAPPING;
use crate::lang::{CreateContinuousQuery, CreateSubscription, Privilege, Statement, parse_statement};
use crate::rollup;
use serde::{Deserialize, Serialize};

/// Users by name.
pub const USER: &str = "user";
/// Privileges by database and user.
pub const GRANT: &str = "grant";
/// Statements by database and name.
pub const CONTINUOUS_QUERY: &str = "continuous_query";
/// Statements by database, policy and name.
pub const SUBSCRIPTION: &str = "subscription";

/// Kinds whose names begin with a database.
pub const OF_DATABASE: &[&str] = &[
    GRANT,
    CONTINUOUS_QUERY,
    SUBSCRIPTION,
    MAPPING,
    rollup::KIND,
    rollup::BUILT,
];

/// A name that belongs to a database. Names of databases and policies have no `/` in them.
pub fn key(database: &str, name: &str) -> String {
    format!("{database}/{name}")
}

/// A name that belongs to a retention policy.
pub fn subscription_key(database: &str, policy: &str, name: &str) -> String {
    format!("{database}/{policy}/{name}")
}

/// The database in a key.
pub fn database_of(key: &str) -> &str {
    key.split('/').next().unwrap_or_default()
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The password's Argon2id hash in PHC notation.
    pub hash: String,
    /// May do everything.
    pub admin: bool,
}

impl User {
    /// As it is kept.
    pub fn to_text(&self) -> String {
        serde_json::json!({"hash": self.hash, "admin": self.admin}).to_string()
    }
}

/// A user by name.
pub fn user(catalog: &Catalog, name: &str) -> Option<User> {
    catalog.with_records(|kept| serde_json::from_str(kept.get(USER, name)?).ok())
}

/// All users by name.
pub fn users(catalog: &Catalog) -> Vec<(String, User)> {
    catalog.with_records(|kept| {
        let all = kept.of_kind(USER);
        all.filter_map(|(name, text)| Some((name.to_string(), serde_json::from_str(text).ok()?)))
            .collect()
    })
}

/// The databases on which something was granted to a user, or revoked again (`None`).
pub fn grants(catalog: &Catalog, user: &str) -> Vec<(String, Option<Privilege>)> {
    catalog.with_records(|kept| {
        let all = kept.of_kind(GRANT).filter_map(|(name, text)| {
            let (database, of) = name.split_once('/')?;
            (of == user).then(|| (database.to_string(), privilege(text)))
        });
        all.collect()
    })
}

/// A privilege as it is kept and shown.
pub fn privilege_name(privilege: Option<Privilege>) -> &'static str {
    match privilege {
        Some(Privilege::Read) => "READ",
        Some(Privilege::Write) => "WRITE",
        Some(Privilege::All) => "ALL PRIVILEGES",
        None => "NO PRIVILEGES",
    }
}

fn privilege(text: &str) -> Option<Privilege> {
    match text {
        "READ" => Some(Privilege::Read),
        "WRITE" => Some(Privilege::Write),
        "ALL PRIVILEGES" => Some(Privilege::All),
        _ => None,
    }
}

/// A continuous query as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct ContinuousQuery {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: String,
    /// The statement that made it, every name with its database and policy.
    pub text: String,
    /// The same, read.
    pub statement: CreateContinuousQuery,
}

/// All continuous queries, by database and name.
pub fn continuous_queries(catalog: &Catalog) -> Vec<ContinuousQuery> {
    texts(catalog, CONTINUOUS_QUERY)
        .into_iter()
        .filter_map(|text| match parse_statement(&text) {
            Ok(Statement::CreateContinuousQuery(statement)) => Some(ContinuousQuery {
                database: statement.database.clone(),
                name: statement.name.clone(),
                text,
                statement: *statement,
            }),
            _ => None,
        })
        .collect()
}

/// All subscriptions, by database, policy and name.
pub fn subscriptions(catalog: &Catalog) -> Vec<CreateSubscription> {
    texts(catalog, SUBSCRIPTION)
        .iter()
        .filter_map(|text| match parse_statement(text) {
            Ok(Statement::CreateSubscription(create)) => Some(create),
            _ => None,
        })
        .collect()
}

fn texts(catalog: &Catalog, kind: &str) -> Vec<String> {
    catalog.with_records(|kept| kept.of_kind(kind).map(|(_, text)| text.to_string()).collect())
}
