//! Users and grants: kept and shown. Passwords are kept as Argon2id hashes.

use super::{Target, commands};
use crate::batch::Command;
use crate::lang::{CreateUser, Grant, Privilege, SetPassword};
use crate::query::context::Context;
use crate::query::error::QueryError;
use crate::query::records::{self, User};
use crate::query::result::Series;
use crate::query::value::Value;
use argon2::Argon2;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString, rand_core::OsRng};

fn hash(password: &str) -> Result<String, QueryError> {
    let salt = SaltString::generate(&mut OsRng);
    let made = Argon2::default().hash_password(password.as_bytes(), &salt);
    made.map(|hash| hash.to_string())
        .map_err(|error| QueryError::statement(format!("the password cannot be used: {error}")))
}

/// Whether a password is the one that was hashed.
pub fn verify(hash: &str, password: &str) -> bool {
    let parsed = PasswordHash::new(hash);
    parsed.is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

fn user(ctx: &Context<'_>, name: &str) -> Result<User, QueryError> {
    records::user(ctx.catalog, name).ok_or_else(|| QueryError::statement("user not found"))
}

fn put(name: &str, user: &User) -> Command {
    Command::PutRecord {
        kind: records::USER.to_string(),
        name: name.to_string(),
        value: user.to_text(),
    }
}

/// CREATE USER. The same again changes nothing.
pub(super) fn create(ctx: &Context<'_>, create: &CreateUser, target: &dyn Target) -> Result<(), QueryError> {
    if create.name.is_empty() {
        return Err(QueryError::statement("username required"));
    }
    if let Some(known) = records::user(ctx.catalog, &create.name) {
        let same = known.admin == create.admin && verify(&known.hash, &create.password);
        return if same {
            Ok(())
        } else {
            Err(QueryError::statement("user already exists"))
        };
    }
    let user = User {
        hash: hash(&create.password)?,
        admin: create.admin,
    };
    commands(target, vec![put(&create.name, &user)])
}

/// DROP USER, with all grants.
pub(super) fn drop_user(ctx: &Context<'_>, name: &str, target: &dyn Target) -> Result<(), QueryError> {
    user(ctx, name)?;
    let mut list = vec![Command::RemoveRecord {
        kind: records::USER.to_string(),
        name: name.to_string(),
    }];
    list.extend(
        records::grants(ctx.catalog, name)
            .into_iter()
            .map(|(database, _)| Command::RemoveRecord {
                kind: records::GRANT.to_string(),
                name: records::key(&database, name),
            }),
    );
    commands(target, list)
}

/// SET PASSWORD.
pub(super) fn set_password(
    ctx: &Context<'_>,
    set: &SetPassword,
    target: &dyn Target,
) -> Result<(), QueryError> {
    let known = user(ctx, &set.name)?;
    let changed = User {
        hash: hash(&set.password)?,
        ..known
    };
    commands(target, vec![put(&set.name, &changed)])
}

/// GRANT; what was granted before on that database is replaced, as in InfluxDB.
pub(super) fn grant(ctx: &Context<'_>, grant: &Grant, target: &dyn Target) -> Result<(), QueryError> {
    set(ctx, grant, target, |_| Some(grant.privilege), true)
}

/// REVOKE.
pub(super) fn revoke(ctx: &Context<'_>, revoke: &Grant, target: &dyn Target) -> Result<(), QueryError> {
    let left = |known: Option<Privilege>| match (known, revoke.privilege) {
        (_, Privilege::All) | (None, _) => None,
        (Some(Privilege::All), Privilege::Read) => Some(Privilege::Write),
        (Some(Privilege::All), Privilege::Write) => Some(Privilege::Read),
        (Some(known), taken) if known == taken => None,
        (known, _) => known,
    };
    set(ctx, revoke, target, left, false)
}

fn set(
    ctx: &Context<'_>,
    grant: &Grant,
    target: &dyn Target,
    becomes: impl FnOnce(Option<Privilege>) -> Option<Privilege>,
    admin: bool,
) -> Result<(), QueryError> {
    let Some(database) = &grant.database else {
        let known = user(ctx, &grant.user)?;
        return commands(target, vec![put(&grant.user, &User { admin, ..known })]);
    };
    ctx.database(Some(database))?;
    user(ctx, &grant.user)?;
    let all = records::grants(ctx.catalog, &grant.user);
    let known = all
        .iter()
        .find(|(name, _)| name == database)
        .and_then(|(_, p)| *p);
    let value = records::privilege_name(becomes(known)).to_string();
    commands(
        target,
        vec![Command::PutRecord {
            kind: records::GRANT.to_string(),
            name: records::key(database, &grant.user),
            value,
        }],
    )
}

/// SHOW USERS.
pub(super) fn show(ctx: &Context<'_>) -> Vec<Series> {
    let users = records::users(ctx.catalog).into_iter();
    let rows = users.map(|(name, user)| vec![Value::String(name.into()), Value::Boolean(user.admin)]);
    vec![Series::table("", &["user", "admin"], rows)]
}

/// SHOW GRANTS.
pub(super) fn show_grants(ctx: &Context<'_>, name: &str) -> Result<Vec<Series>, QueryError> {
    user(ctx, name)?;
    let grants = records::grants(ctx.catalog, name).into_iter();
    let rows = grants.map(|(database, privilege)| {
        let privilege = records::privilege_name(privilege);
        vec![Value::String(database.into()), Value::String(privilege.into())]
    });
    Ok(vec![Series::table("", &["database", "privilege"], rows)])
}

#[cfg(test)]
mod tests {
    use super::{hash, verify};

    #[test]
    fn passwords_are_salted_hashes() {
        let (one, other) = (hash("secret").expect("a hash"), hash("secret").expect("a hash"));
        assert_ne!(one, other);
        assert!(!one.contains("secret"));
        assert!(verify(&one, "secret") && verify(&other, "secret"));
        assert!(!verify(&one, "Secret") && !verify("nonsense", "secret"));
    }
}
