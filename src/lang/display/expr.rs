//! Expressions as text.

use super::{Name, list};
use crate::lang::duration::format_duration;
use crate::lang::expr::{CaseExpr, DataType, Expr, VarRef, WildcardKind};
use std::fmt::{self, Display};

impl Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expr::VarRef(var) => write!(f, "{var}"),
            Expr::Wildcard(None) => f.write_str("*"),
            Expr::Wildcard(Some(WildcardKind::Field)) => f.write_str("*::field"),
            Expr::Wildcard(Some(WildcardKind::Tag)) => f.write_str("*::tag"),
            Expr::Regex(literal) => write!(f, "{literal}"),
            Expr::Distinct(var) => write!(f, "DISTINCT {var}"),
            Expr::Call(call) => {
                // `distinct` is reserved but may be called.
                match call.name.as_str() {
                    name @ ("distinct" | "fill" | "tz") => f.write_str(name)?,
                    name => write!(f, "{}", Name(name))?,
                }
                f.write_str("(")?;
                list(f, &call.args)?;
                f.write_str(")")
            }
            Expr::Number(number) => {
                // Without an exponent, which the language does not have.
                let text = number.to_string();
                f.write_str(&text)?;
                f.write_str(if text.contains('.') { "" } else { ".0" })
            }
            Expr::Integer(integer) => write!(f, "{integer}"),
            Expr::Unsigned(unsigned) => write!(f, "{unsigned}"),
            Expr::String(text) => write!(f, "{}", super::Text(text)),
            Expr::Boolean(boolean) => write!(f, "{boolean}"),
            Expr::Duration(nanos) => f.write_str(&format_duration(*nanos)),
            Expr::Months(months) if months % 12 == 0 => write!(f, "{}y", months / 12),
            Expr::Months(months) => write!(f, "{months}mo"),
            Expr::Binary(binary) => write!(f, "{} {} {}", binary.lhs, binary.op.as_str(), binary.rhs),
            Expr::Paren(inner) => write!(f, "({inner})"),
            Expr::Case(case) => write!(f, "{case}"),
            Expr::Over(width) => write!(f, "over {width}"),
        }
    }
}

impl Display for CaseExpr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CASE")?;
        for branch in &self.branches {
            write!(f, " WHEN {} THEN {}", branch.condition, branch.value)?;
        }
        if let Some(otherwise) = &self.otherwise {
            write!(f, " ELSE {otherwise}")?;
        }
        f.write_str(" END")
    }
}

impl Display for VarRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.segments.is_empty() {
            write!(f, "{}", Name(&self.name))?;
        }
        for (i, segment) in self.segments.iter().enumerate() {
            f.write_str(if i > 0 { "." } else { "" })?;
            write!(f, "{}", Name(segment))?;
        }
        match self.kind {
            Some(kind) => write!(f, "::{}", kind.as_str()),
            None => Ok(()),
        }
    }
}

impl DataType {
    /// The word after `::`.
    pub fn as_str(self) -> &'static str {
        match self {
            DataType::Float => "float",
            DataType::Integer => "integer",
            DataType::Unsigned => "unsigned",
            DataType::String => "string",
            DataType::Boolean => "boolean",
            DataType::Tag => "tag",
            DataType::AnyField => "field",
        }
    }
}
