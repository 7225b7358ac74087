//! The types of expressions: what a calculation gives, and whether it can be done at all.

use super::error::QueryError;
use super::functions::{Family, family, math};
use crate::lang::{BinaryExpr, BinaryOp, Call, DataType, Expr, VarRef};

/// What a reference is; `None` when nothing is known of it.
pub type TypeOf<'a> = dyn Fn(&VarRef) -> Option<DataType> + 'a;

/// The type of an expression; `None` when it has no values, or may have of any type.
///
/// # Errors
/// Its parts do not go together.
pub fn type_of(expr: &Expr, of: &TypeOf<'_>) -> Result<Option<DataType>, QueryError> {
    Ok(match expr {
        Expr::VarRef(var) => of(var),
        Expr::Number(_) => Some(DataType::Float),
        Expr::Integer(_) | Expr::Duration(_) => Some(DataType::Integer),
        Expr::Unsigned(_) => Some(DataType::Unsigned),
        Expr::String(_) => Some(DataType::String),
        Expr::Boolean(_) => Some(DataType::Boolean),
        Expr::Paren(inner) => type_of(inner, of)?,
        Expr::Distinct(var) => of(var),
        Expr::Binary(binary) => binary_type(binary, of)?,
        Expr::Call(call) => call_type(call, of)?,
        Expr::Case(case) => {
            let mut found = None;
            for branch in &case.branches {
                type_of(&branch.condition, of)?;
                found = found.or(type_of(&branch.value, of)?);
            }
            match &case.otherwise {
                Some(otherwise) => found.or(type_of(otherwise, of)?),
                None => found,
            }
        }
        Expr::Wildcard(_) | Expr::Regex(_) | Expr::Months(_) | Expr::Over(_) => None,
    })
}

fn is_number(of: DataType) -> bool {
    matches!(of, DataType::Float | DataType::Integer | DataType::Unsigned)
}

fn binary_type(binary: &BinaryExpr, of: &TypeOf<'_>) -> Result<Option<DataType>, QueryError> {
    let (lhs, rhs) = (type_of(&binary.lhs, of)?, type_of(&binary.rhs, of)?);
    if binary.op.is_boolean() {
        return Ok(Some(DataType::Boolean));
    }
    let (Some(a), Some(b)) = (lhs, rhs) else {
        return Ok(lhs.or(rhs));
    };
    let bits = matches!(binary.op, BinaryOp::BitAnd | BinaryOp::BitOr | BinaryOp::BitXor);
    let float = a == DataType::Float || b == DataType::Float;
    if bits && (a, b) == (DataType::Boolean, DataType::Boolean) {
        return Ok(Some(DataType::Boolean));
    }
    if !is_number(a) || !is_number(b) || (bits && float) {
        let mut shown = Expr::Binary(Box::new(binary.clone()));
        shown.walk_mut(&mut |part| {
            if let Expr::VarRef(var) = part {
                var.kind = of(var).or(var.kind);
            }
        });
        return Err(QueryError::statement(format!(
            "type error: {shown}: incompatible types: {} and {}",
            a.as_str(),
            b.as_str()
        )));
    }
    Ok(Some(match binary.op {
        _ if float => DataType::Float,
        BinaryOp::Div if (a, b) == (DataType::Integer, DataType::Integer) => DataType::Float,
        _ if a == DataType::Unsigned || b == DataType::Unsigned => DataType::Unsigned,
        _ => DataType::Integer,
    }))
}

fn call_type(call: &Call, of: &TypeOf<'_>) -> Result<Option<DataType>, QueryError> {
    let args: Vec<Option<DataType>> = call
        .args
        .iter()
        .map(|arg| type_of(arg, of))
        .collect::<Result<_, _>>()?;
    let first = args.first().copied().flatten();
    if math::arity(&call.name).is_some() {
        return Ok(match call.name.as_str() {
            "abs" | "ceil" | "floor" | "round" => first,
            "if" => args.iter().skip(1).copied().flatten().next(),
            "pow" if args.iter().all(|t| *t == Some(DataType::Integer)) => Some(DataType::Integer),
            _ => Some(DataType::Float),
        });
    }
    Ok(match (family(&call.name), call.name.as_str()) {
        (_, "count" | "elapsed") => Some(DataType::Integer),
        (_, "sum" | "spread" | "mode") => first,
        (
            Some(
                Family::Selector
                | Family::Percentile
                | Family::Sample
                | Family::Distinct
                | Family::Ranked
                | Family::Steps,
            ),
            _,
        ) => first,
        (Some(_), _) => Some(DataType::Float),
        (None, _) => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::parse_expr;

    #[test]
    fn types_of_calculations() {
        let of = |var: &VarRef| {
            Some(match var.name.as_str() {
                "f" => DataType::Float,
                "i" => DataType::Integer,
                "u" => DataType::Unsigned,
                "s" => DataType::String,
                "b" => DataType::Boolean,
                "t" => DataType::Tag,
                _ => return None,
            })
        };
        let good = [
            ("f + i", Some(DataType::Float)),
            ("i * 2", Some(DataType::Integer)),
            ("i / 2", Some(DataType::Float)),
            ("u + 1", Some(DataType::Unsigned)),
            ("b & b", Some(DataType::Boolean)),
            ("nothing + f", Some(DataType::Float)),
            ("nothing", None),
            ("mean(i) + count(s)", Some(DataType::Float)),
            ("max(i)", Some(DataType::Integer)),
            ("if(s = 'x', i, 0)", Some(DataType::Integer)),
            (
                "CASE WHEN f > 1 THEN nothing ELSE 'x' END",
                Some(DataType::String),
            ),
        ];
        for (text, want) in good {
            let expr = parse_expr(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(type_of(&expr, &of), Ok(want), "{text}");
        }
        let bad = [
            (
                "f + s",
                "type error: f::float + s::string: incompatible types: float and string",
            ),
            (
                "t * f",
                "type error: t::tag * f::float: incompatible types: tag and float",
            ),
            (
                "f & i",
                "type error: f::float & i::integer: incompatible types: float and integer",
            ),
            (
                "sum(s) + 1",
                "type error: sum(s::string) + 1: incompatible types: string and integer",
            ),
        ];
        for (text, want) in bad {
            let expr = parse_expr(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(type_of(&expr, &of), Err(QueryError::statement(want)), "{text}");
        }
    }
}
