//! Calculations with constants, done once: `2 * 0.5` is `1`. So the rest sees which arguments are constants.

use super::check::is_literal;
use super::value::{Value, binary};
use crate::lang::{BinaryOp, Expr};

/// The expression with constants worked out.
pub fn reduce(expr: &Expr) -> Expr {
    let mut out = expr.clone();
    for part in out.children_mut() {
        *part = reduce(part);
    }
    match &out {
        Expr::Binary(b) => calculate(b.op, &b.lhs, &b.rhs).unwrap_or(out),
        Expr::Paren(inner) if is_literal(inner) => (**inner).clone(),
        _ => out,
    }
}

fn calculate(op: BinaryOp, lhs: &Expr, rhs: &Expr) -> Option<Expr> {
    if op.is_boolean() {
        return None;
    }
    // A duration with a duration, or taken so many times, is a duration.
    if let (Expr::Duration(a), BinaryOp::Add | BinaryOp::Sub, Expr::Duration(b)) = (lhs, op, rhs) {
        let sum = if op == BinaryOp::Add {
            a.checked_add(*b)
        } else {
            a.checked_sub(*b)
        };
        return sum.map(Expr::Duration);
    }
    match (lhs, op, rhs) {
        (Expr::Duration(d), BinaryOp::Mul, Expr::Integer(n))
        | (Expr::Integer(n), BinaryOp::Mul, Expr::Duration(d)) => {
            return d.checked_mul(*n).map(Expr::Duration);
        }
        (Expr::Duration(d), BinaryOp::Div, Expr::Integer(n)) => return d.checked_div(*n).map(Expr::Duration),
        _ => {}
    }
    match binary(op, &number(lhs)?, &number(rhs)?) {
        Value::Float(v) if v.is_finite() => Some(Expr::Number(v)),
        Value::Integer(v) => Some(Expr::Integer(v)),
        Value::Unsigned(v) => Some(Expr::Unsigned(v)),
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<Value> {
    Some(match expr {
        Expr::Number(v) => Value::Float(*v),
        Expr::Integer(v) => Value::Integer(*v),
        Expr::Unsigned(v) => Value::Unsigned(*v),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lang::parse_expr;

    #[test]
    fn constants_are_worked_out() {
        let cases = [
            ("g + 2 * 0.5", "g + 1.0"),
            ("(1 + 2) * f", "3 * f"),
            ("derivative(f, 2 * 30s)", "derivative(f, 1m)"),
            ("mean(f) / (4 / 2)", "mean(f) / 2.0"),
            ("1 / 0", "0.0"),
            ("9223372036854775807 + 1", "9223372036854776000.0"),
            ("a = 1 + 1", "a = 2"),
            ("'x' + 1", "'x' + 1"),
            (
                "CASE WHEN f > 2 * 3 THEN 1m / 2 END",
                "CASE WHEN f > 6 THEN 30s END",
            ),
        ];
        for (text, want) in cases {
            let expr = parse_expr(text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reduce(&expr).to_string(), want, "{text}");
        }
    }
}
