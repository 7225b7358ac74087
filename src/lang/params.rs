//! Values bound to `$name` in a query text.
//!
//! Owns what a bound value turns into: each becomes a token in the place of its name, so a value can never add
//! syntax. The HTTP layer reads them from JSON.

use std::collections::HashMap;

use super::duration::format_duration;
use super::tokens::{Token, TokenKind};

/// The bound values by name, without the `$`.
pub type Params = HashMap<String, BindValue>;

/// Reads the JSON object that the HTTP parameter `params` carries.
///
/// # Errors
/// It is no JSON, or no object.
pub fn params_from_json(text: &str) -> Result<Params, String> {
    match serde_json::from_str(text) {
        Ok(serde_json::Value::Object(map)) => Ok(map
            .iter()
            .map(|(name, value)| (name.clone(), BindValue::from_json(value)))
            .collect()),
        Ok(_) => Err("an object is expected".into()),
        Err(error) => Err(error.to_string()),
    }
}

/// One bound value.
#[derive(Debug, Clone, PartialEq)]
pub enum BindValue {
    /// A string literal.
    String(String),
    /// A float.
    Number(f64),
    /// An integer.
    Integer(i64),
    /// A truth value.
    Boolean(bool),
    /// A regular expression, without slashes.
    Regex(String),
    /// A name.
    Identifier(String),
    /// A duration such as `10s`.
    Duration(String),
    /// A value that could not be bound; the query fails with this text where it is used.
    Error(String),
}

impl BindValue {
    /// A value of the JSON object `params`: a plain value, or an object with one entry that names the kind.
    pub fn from_json(value: &serde_json::Value) -> BindValue {
        use serde_json::Value;
        match value {
            Value::String(s) => BindValue::String(s.clone()),
            Value::Bool(b) => BindValue::Boolean(*b),
            Value::Number(n) => match n.as_i64() {
                Some(integer) => BindValue::Integer(integer),
                None => BindValue::Number(n.as_f64().unwrap_or(f64::NAN)),
            },
            Value::Object(map) => match map.iter().next() {
                Some((kind, value)) if map.len() == 1 => BindValue::typed(kind, BindValue::from_json(value)),
                Some(_) => {
                    BindValue::Error("bound object parameter value must have exactly one entry".to_owned())
                }
                None => BindValue::Error("empty bound object parameter".to_owned()),
            },
            Value::Null => BindValue::Error("unable to bind parameter with type <nil>".to_owned()),
            Value::Array(_) => {
                BindValue::Error("unable to bind parameter with type []interface {}".to_owned())
            }
        }
    }

    /// The value of a JSON object with one entry, `{"regex": ".."}`, `{"identifier": ".."}`, `{"duration": ".."}` and
    /// so on. `value` is what its plain value would bind to.
    pub fn typed(kind: &str, value: BindValue) -> BindValue {
        let error = |text: &str| BindValue::Error(text.to_owned());
        match (kind, value) {
            (_, BindValue::Error(text)) => BindValue::Error(text),
            ("ident" | "identifier", BindValue::String(s)) => BindValue::Identifier(s),
            ("ident" | "identifier", _) => error("identifier must be a string value"),
            ("regex", BindValue::String(s)) => BindValue::Regex(s),
            ("regex", _) => error("regex literal must be a string value"),
            ("string", BindValue::String(s)) => BindValue::String(s),
            ("string", _) => error("string literal must be a string value"),
            ("float" | "number", BindValue::Number(n)) => BindValue::Number(n),
            ("float" | "number", BindValue::Integer(n)) => BindValue::Number(n as f64),
            ("float" | "number", _) => error("number literal must be a float value"),
            ("int" | "integer", BindValue::Integer(n)) => BindValue::Integer(n),
            ("int" | "integer", _) => error("integer literal must be an integer value"),
            ("duration", BindValue::String(s)) => BindValue::Duration(s),
            ("duration", BindValue::Integer(n)) => BindValue::Duration(format_duration(n)),
            ("duration", _) => error("duration literal must be a string or integer value"),
            _ => BindValue::Error(format!("unknown bind object type: {kind}")),
        }
    }

    /// Puts the value in the place of the token that names it.
    pub(super) fn substitute(&self, token: Token) -> Token {
        let (kind, text) = match self {
            BindValue::String(s) => (TokenKind::String, s.clone()),
            BindValue::Number(n) => (TokenKind::Number, n.to_string()),
            BindValue::Integer(n) => (TokenKind::Integer, n.to_string()),
            BindValue::Boolean(true) => (TokenKind::True, String::new()),
            BindValue::Boolean(false) => (TokenKind::False, String::new()),
            BindValue::Regex(s) => (TokenKind::Regex, s.clone()),
            BindValue::Identifier(s) => (TokenKind::Ident, s.clone()),
            BindValue::Duration(s) => (TokenKind::Duration, s.clone()),
            BindValue::Error(_) => return token,
        };
        Token {
            kind,
            text,
            quoted: true,
            ..token
        }
    }
}
