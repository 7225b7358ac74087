//! Functions of values: `abs`, `round`, `pow`, .. A value that is no number, and a result that is not finite, is null.

use crate::query::value::Value;

/// The names of all of them.
pub const NAMES: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "ceil", "cos", "exp", "floor", "if", "ln", "log", "log10",
    "log2", "pow", "round", "sin", "sqrt", "tan",
];

/// How many arguments a function takes; `None` for other names.
pub fn arity(name: &str) -> Option<usize> {
    Some(match name {
        "abs" | "acos" | "asin" | "atan" | "ceil" | "cos" | "exp" | "floor" | "ln" | "log10" | "log2"
        | "round" | "sin" | "sqrt" | "tan" => 1,
        "atan2" | "log" | "pow" => 2,
        // An extension: `if(condition, value, value otherwise)`.
        "if" => 3,
        _ => return None,
    })
}

/// Applies a function of [`arity`].
pub fn apply(name: &str, args: &[Value]) -> Value {
    if let ("if", [condition, then, otherwise]) = (name, args) {
        let chosen = if *condition == Value::Boolean(true) {
            then
        } else {
            otherwise
        };
        return chosen.clone();
    }
    if let ("abs" | "ceil" | "floor" | "round", [whole @ (Value::Integer(_) | Value::Unsigned(_))]) =
        (name, args)
    {
        return match whole {
            Value::Integer(v) if name == "abs" => match v.checked_abs() {
                Some(v) => Value::Integer(v),
                None => Value::Float(-(*v as f64)),
            },
            other => other.clone(),
        };
    }
    if let ("pow", [Value::Integer(a), Value::Integer(b)]) = (name, args) {
        let power = (*a as f64).powf(*b as f64);
        // What does not fit stays a float.
        return match power {
            power if power.abs() < 9.2e18 => Value::Integer(power as i64),
            power if power.is_finite() => Value::Float(power),
            _ => Value::Null,
        };
    }
    let Some(numbers) = args.iter().map(Value::as_f64).collect::<Option<Vec<f64>>>() else {
        return Value::Null;
    };
    let result = match (name, numbers.as_slice()) {
        ("abs", [x]) => x.abs(),
        ("acos", [x]) => x.acos(),
        ("asin", [x]) => x.asin(),
        ("atan", [x]) => x.atan(),
        ("atan2", [y, x]) => y.atan2(*x),
        ("ceil", [x]) => x.ceil(),
        ("cos", [x]) => x.cos(),
        ("exp", [x]) => x.exp(),
        ("floor", [x]) => x.floor(),
        ("ln", [x]) => x.ln(),
        ("log", [x, base]) => x.ln() / base.ln(),
        ("log10", [x]) => x.log10(),
        ("log2", [x]) => x.log2(),
        ("pow", [x, y]) => x.powf(*y),
        ("round", [x]) => x.round(),
        ("sin", [x]) => x.sin(),
        ("sqrt", [x]) => x.sqrt(),
        ("tan", [x]) => x.tan(),
        _ => return Value::Null,
    };
    if result.is_finite() {
        Value::Float(result)
    } else {
        Value::Null
    }
}
