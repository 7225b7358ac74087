//! What can be said of a SELECT before anything is looked up: which functions it calls, with which arguments, and which
//! columns may stand beside each other. The texts are InfluxDB's.

use super::error::QueryError;
use super::functions::{Family, family, math};
use crate::lang::{Call, Expr, Fill, SelectStatement, VarRef};

/// What GROUP BY says of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    /// Nothing.
    None,
    /// Windows of its own.
    Windows,
    /// Nothing, but the SELECT around it has windows.
    Inherited,
}

/// Facts of a statement, gathered while it is checked.
#[derive(Default)]
struct Facts {
    /// Calls of functions of points, those inside others too.
    calls: usize,
    not_only_selectors: bool,
    distinct: bool,
    ranked: Option<String>,
    /// Fields or tags stand beside functions.
    plain: bool,
}

/// Checks the columns of a SELECT.
///
/// # Errors
/// They make no sense.
pub fn check(statement: &SelectStatement, grouping: Grouping) -> Result<(), QueryError> {
    let mut facts = Facts::default();
    let mut columns = 0;
    for field in &statement.fields {
        if matches!(&field.expr, Expr::VarRef(var) if var.name == "time") {
            continue;
        }
        columns += 1;
        Column {
            facts: &mut facts,
            statement,
            grouping,
            wildcards: true,
        }
        .expr(&field.expr)?;
    }
    if columns == 0 {
        return fail("at least 1 non-time field must be queried");
    }
    if let (Some(name), true) = (&facts.ranked, facts.calls > 1) {
        return fail(format!(
            "selector function {name}() cannot be combined with other functions"
        ));
    }
    if facts.calls == 0 {
        match statement.fill {
            Fill::None => return fail("fill(none) must be used with a function"),
            Fill::Linear => return fail("fill(linear) must be used with a function"),
            _ if grouping == Grouping::Windows => {
                return fail("GROUP BY requires at least one aggregate function");
            }
            _ => {}
        }
    }
    if facts.distinct && (facts.calls != 1 || facts.plain) {
        return fail("aggregate function distinct() cannot be combined with other functions or fields");
    }
    // Only calls that give points which exist can have fields of these points beside them.
    if facts.plain && facts.calls > 0 {
        if facts.not_only_selectors {
            return fail("mixing aggregate and non-aggregate queries is not supported");
        }
        if facts.calls > 1 {
            return fail("mixing multiple selector functions with tags or fields is not supported");
        }
    }
    Ok(())
}

fn fail<T>(text: impl Into<String>) -> Result<T, QueryError> {
    Err(QueryError::statement(text))
}

/// Is it a constant? Parentheses make none.
pub fn is_literal(expr: &Expr) -> bool {
    matches!(
        expr,
        Expr::Number(_)
            | Expr::Integer(_)
            | Expr::Unsigned(_)
            | Expr::String(_)
            | Expr::Boolean(_)
            | Expr::Duration(_)
            | Expr::Months(_)
            | Expr::Regex(_)
    )
}

/// The kind of a constant in the words of InfluxDB's errors.
fn kind(expr: &Expr) -> &'static str {
    match expr {
        Expr::Number(_) => "*influxql.NumberLiteral",
        Expr::Integer(_) => "*influxql.IntegerLiteral",
        Expr::Unsigned(_) => "*influxql.UnsignedLiteral",
        Expr::String(_) => "*influxql.StringLiteral",
        Expr::Boolean(_) => "*influxql.BooleanLiteral",
        Expr::Duration(_) | Expr::Months(_) => "*influxql.DurationLiteral",
        Expr::Regex(_) => "*influxql.RegexLiteral",
        Expr::VarRef(_) => "*influxql.VarRef",
        Expr::Call(_) => "*influxql.Call",
        Expr::Wildcard(_) => "*influxql.Wildcard",
        Expr::Paren(_) => "*influxql.ParenExpr",
        _ => "*influxql.BinaryExpr",
    }
}

/// A column that is being checked.
struct Column<'a> {
    facts: &'a mut Facts,
    statement: &'a SelectStatement,
    grouping: Grouping,
    /// May wildcards stand here?
    wildcards: bool,
}

impl Column<'_> {
    fn expr(&mut self, expr: &Expr) -> Result<(), QueryError> {
        match expr {
            Expr::VarRef(_) => {
                self.facts.plain = true;
                Ok(())
            }
            Expr::Wildcard(_) | Expr::Regex(_) => {
                let what = if matches!(expr, Expr::Regex(_)) {
                    "regex"
                } else {
                    "wildcard"
                };
                if !self.wildcards {
                    return fail(format!("unable to use {what} in a binary expression"));
                }
                self.facts.plain = true;
                Ok(())
            }
            Expr::Call(call) => self.call(call),
            Expr::Distinct(var) => {
                self.facts.calls += 1;
                self.distinct(&[Expr::VarRef(var.clone())], false)
            }
            Expr::Binary(binary) => {
                self.wildcards = false;
                let sides = [&binary.lhs, &binary.rhs];
                if sides.iter().all(|side| is_literal(side)) {
                    return fail("cannot perform a binary expression on two literals");
                }
                let mut named = sides.into_iter().filter(|side| !is_literal(side));
                named.try_for_each(|side| self.expr(side))
            }
            Expr::Paren(inner) => self.expr(inner),
            Expr::Case(_) => {
                self.wildcards = false;
                self.parts(expr)
            }
            _ if is_literal(expr) => fail("field must contain at least one variable"),
            _ => fail("unimplemented"),
        }
    }

    /// The parts of an extension's expression: constants may stand anywhere in it.
    fn parts(&mut self, expr: &Expr) -> Result<(), QueryError> {
        for part in expr.children() {
            match part {
                Expr::Binary(_) | Expr::Case(_) | Expr::Paren(_) => self.parts(part)?,
                part if is_literal(part) => {}
                part => self.expr(part)?,
            }
        }
        Ok(())
    }

    fn call(&mut self, call: &Call) -> Result<(), QueryError> {
        if let Some(arity) = math::arity(&call.name) {
            if call.args.len() != arity {
                return fail(format!(
                    "invalid number of arguments for {}, expected {arity}, got {}",
                    call.name,
                    call.args.len()
                ));
            }
            if call.name == "if" {
                self.wildcards = false;
                return self.parts(&Expr::Call(call.clone()));
            }
            let mut named = call.args.iter().filter(|arg| !is_literal(arg));
            return named.try_for_each(|arg| self.expr(arg));
        }
        let Some(family) = family(&call.name) else {
            return fail(format!("undefined function {}()", call.name));
        };
        self.facts.calls += 1;
        match family {
            Family::Selector | Family::Aggregate => self.simple(call, family),
            Family::Percentile => self.percentile(call),
            Family::Sample => self.sample(call),
            Family::Distinct => self.distinct(&call.args, false),
            Family::Ranked => self.ranked(call),
            Family::Timed => self.timed(call, "duration argument must be positive"),
            Family::Steps => {
                self.arguments(call, 1, 1)?;
                self.sequence(call)
            }
            Family::MovingAverage => self.moving_average(call),
            Family::Averages | Family::Kaufman | Family::Chande => self.momentum(call, family),
            Family::Integral => self.integral(call),
            Family::Forecast => self.forecast(call),
            Family::Extension => {
                self.facts.not_only_selectors = true;
                super::extension::check(call)?;
                let args = super::extension::fields(call);
                args.iter().try_for_each(|arg| self.field_of(&call.name, arg))
            }
        }
    }

    fn arguments(&self, call: &Call, least: usize, most: usize) -> Result<(), QueryError> {
        let (name, got) = (&call.name, call.args.len());
        if (least..=most).contains(&got) {
            return Ok(());
        }
        fail(if least == most {
            format!("invalid number of arguments for {name}, expected {least}, got {got}")
        } else if most == usize::MAX {
            format!("invalid number of arguments for {name}, expected at least {least}, got {got}")
        } else {
            format!(
                "invalid number of arguments for {name}, expected at least {least} but no more than {most}, got {got}"
            )
        })
    }

    /// A field, a wildcard, or (an extension) an expression of fields.
    fn field_of(&mut self, name: &str, argument: &Expr) -> Result<(), QueryError> {
        match argument {
            Expr::VarRef(_) => Ok(()),
            Expr::Wildcard(_) if !self.wildcards => {
                fail(format!("unsupported expression with wildcard: {name}()"))
            }
            Expr::Regex(_) if !self.wildcards => {
                fail(format!("unsupported expression with regex field: {name}()"))
            }
            Expr::Wildcard(_) | Expr::Regex(_) => {
                self.facts.not_only_selectors = true;
                Ok(())
            }
            other if is_row_expression(other) => Ok(()),
            _ => fail(format!("expected field argument in {name}()")),
        }
    }

    fn simple(&mut self, call: &Call, family: Family) -> Result<(), QueryError> {
        self.facts.not_only_selectors |= family == Family::Aggregate;
        self.arguments(call, 1, 1)?;
        match &call.args[0] {
            Expr::Call(inner) if call.name == "count" && inner.name == "distinct" => {
                self.distinct(&inner.args, true)
            }
            Expr::Distinct(_) if call.name == "count" => {
                self.facts.not_only_selectors = true;
                Ok(())
            }
            other => self.field_of(&call.name, other),
        }
    }

    fn percentile(&mut self, call: &Call) -> Result<(), QueryError> {
        self.arguments(call, 2, usize::MAX).map_err(|_| {
            QueryError::statement(format!(
                "invalid number of arguments for percentile, expected 2, got {}",
                call.args.len()
            ))
        })?;
        if !call.args[1..]
            .iter()
            .all(|arg| matches!(arg, Expr::Integer(_) | Expr::Number(_)))
        {
            return fail("expected float argument in percentile()");
        }
        if call.args.len() > 2 {
            // Several percentiles are no point that exists.
            self.facts.not_only_selectors = true;
        }
        self.field_of(&call.name, &call.args[0])
    }

    fn sample(&mut self, call: &Call) -> Result<(), QueryError> {
        self.arguments(call, 2, 2)?;
        match &call.args[1] {
            Expr::Integer(n) if *n > 0 => {}
            Expr::Integer(n) => return fail(format!("sample window must be greater than 1, got {n}")),
            _ => return fail("expected integer argument in sample()"),
        }
        self.field_of(&call.name, &call.args[0])
    }

    fn distinct(&mut self, args: &[Expr], nested: bool) -> Result<(), QueryError> {
        match args {
            [] => return fail("distinct function requires at least one argument"),
            [Expr::VarRef(_)] => {}
            [other] if is_row_expression(other) => {}
            [_] => return fail("expected field argument in distinct()"),
            _ => return fail("distinct function can only have one argument"),
        }
        self.facts.distinct |= !nested;
        self.facts.not_only_selectors = true;
        Ok(())
    }

    fn ranked(&mut self, call: &Call) -> Result<(), QueryError> {
        let name = &call.name;
        if let Some(other) = &self.facts.ranked {
            return fail(format!(
                "selector function {other}() cannot be combined with other functions"
            ));
        }
        self.arguments(call, 2, usize::MAX)?;
        let (last, rest) = call.args.split_last().expect("at least two");
        match last {
            Expr::Integer(n) if *n <= 0 => {
                return fail(format!("limit ({n}) in {name} function must be at least 1"));
            }
            Expr::Integer(n) if self.statement.limit > 0 && *n as u64 > self.statement.limit => {
                let limit = self.statement.limit;
                return fail(format!(
                    "limit ({n}) in {name} function can not be larger than the LIMIT ({limit}) in the select statement"
                ));
            }
            Expr::Integer(_) => {}
            other => {
                return fail(format!(
                    "expected integer as last argument in {name}(), found {other}"
                ));
            }
        }
        if !matches!(rest[0], Expr::VarRef(_)) && !is_row_expression(&rest[0]) {
            return fail(format!(
                "expected first argument to be a field in {name}(), found {}",
                rest[0]
            ));
        }
        if let Some(other) = rest[1..].iter().find(|arg| !matches!(arg, Expr::VarRef(_))) {
            return fail(format!(
                "only fields or tags are allowed in {name}(), found {other}"
            ));
        }
        self.facts.plain |= rest.len() > 1 && self.statement.target.is_none();
        self.facts.ranked = Some(name.clone());
        Ok(())
    }

    /// `derivative(f, 1s)` and the like.
    fn timed(&mut self, call: &Call, not_positive: &str) -> Result<(), QueryError> {
        self.arguments(call, 1, 2)?;
        match call.args.get(1) {
            None => {}
            Some(Expr::Duration(unit)) if *unit > 0 => {}
            Some(unit @ Expr::Duration(_)) => return fail(format!("{not_positive}, got {unit}")),
            Some(other) => {
                return fail(format!(
                    "second argument to {} must be a duration, got {}",
                    call.name,
                    kind(other)
                ));
            }
        }
        self.sequence(call)
    }

    fn moving_average(&mut self, call: &Call) -> Result<(), QueryError> {
        self.arguments(call, 2, 2)?;
        match &call.args[1] {
            Expr::Integer(n) if *n > 1 => {}
            Expr::Integer(n) => {
                return fail(format!("moving_average window must be greater than 1, got {n}"));
            }
            other => {
                return fail(format!(
                    "second argument for moving_average must be an integer, got {}",
                    kind(other)
                ));
            }
        }
        self.sequence(call)
    }

    fn momentum(&mut self, call: &Call, family: Family) -> Result<(), QueryError> {
        let name = &call.name;
        self.arguments(call, 2, if family == Family::Kaufman { 3 } else { 4 })?;
        match &call.args[1] {
            Expr::Integer(n) if *n >= 1 => {}
            Expr::Integer(_) => return fail(format!("{name} period must be greater than or equal to 1")),
            _ => return fail(format!("{name} period must be an integer")),
        }
        let least = i64::from(name == "triple_exponential_derivative");
        match call.args.get(2) {
            None => {}
            Some(Expr::Integer(n)) if *n >= least || *n == -1 => {}
            Some(Expr::Integer(_)) => {
                return fail(format!(
                    "{name} hold period must be greater than or equal to {least}"
                ));
            }
            Some(_) => return fail(format!("{name} hold period must be an integer")),
        }
        let kinds: &[&str] = match family {
            Family::Chande => &["none", "exponential", "simple"],
            _ => &["exponential", "simple"],
        };
        match call.args.get(3) {
            None => {}
            Some(Expr::String(text)) if kinds.contains(&text.as_str()) => {}
            Some(Expr::String(_)) => {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("'{kind}'")).collect();
                return fail(format!("{name} warmup type must be one of: {}", kinds.join(" ")));
            }
            Some(_) => return fail(format!("{name} warmup type must be a string")),
        }
        self.sequence(call)
    }

    fn integral(&mut self, call: &Call) -> Result<(), QueryError> {
        self.arguments(call, 1, 2)?;
        match call.args.get(1) {
            None => {}
            Some(Expr::Duration(unit)) if *unit > 0 => {}
            Some(unit @ Expr::Duration(_)) => {
                return fail(format!("duration argument must be positive, got {unit}"));
            }
            Some(_) => return fail("second argument must be a duration"),
        }
        self.facts.not_only_selectors = true;
        self.field_of(&call.name, &call.args[0])
    }

    fn forecast(&mut self, call: &Call) -> Result<(), QueryError> {
        let name = &call.name;
        self.arguments(call, 3, 3)?;
        match &call.args[1] {
            Expr::Integer(n) if *n > 0 => {}
            Expr::Integer(n) => return fail(format!("second arg to {name} must be greater than 0, got {n}")),
            _ => return fail(format!("expected integer argument as second arg in {name}")),
        }
        match &call.args[2] {
            Expr::Integer(n) if *n >= 0 => {}
            Expr::Integer(n) => return fail(format!("third arg to {name} cannot be negative, got {n}")),
            _ => return fail(format!("expected integer argument as third arg in {name}")),
        }
        self.facts.not_only_selectors = true;
        match &call.args[0] {
            Expr::Call(_) if self.grouping == Grouping::None => {
                fail(format!("{name} aggregate requires a GROUP BY interval"))
            }
            inner @ Expr::Call(_) => self.nested(inner),
            _ => fail(format!("must use aggregate function with {name}")),
        }
    }

    /// The first argument of a function of a sequence: a field, or a function by window.
    fn sequence(&mut self, call: &Call) -> Result<(), QueryError> {
        self.facts.not_only_selectors = true;
        let name = &call.name;
        match &call.args[0] {
            Expr::Call(inner) if math::arity(&inner.name).is_none() => {
                if self.grouping == Grouping::None {
                    return fail(format!("{name} aggregate requires a GROUP BY interval"));
                }
                self.nested(&call.args[0])
            }
            other => {
                if self.grouping == Grouping::Windows {
                    return fail(format!("aggregate function required inside the call to {name}"));
                }
                self.field_of(name, other)
            }
        }
    }

    fn nested(&mut self, inner: &Expr) -> Result<(), QueryError> {
        match inner {
            Expr::Call(call) if call.name == "distinct" => self.distinct(&call.args, true),
            other => self.expr(other),
        }
    }
}

/// An extension: a calculation with fields of one row, as an argument of a function. It has at least one field.
pub fn is_row_expression(expr: &Expr) -> bool {
    let (mut fields, mut other) = (0, 0);
    expr.walk(&mut |part| match part {
        Expr::VarRef(_) => fields += 1,
        Expr::Call(call) if math::arity(&call.name).is_some() => {}
        Expr::Call(_) | Expr::Distinct(_) | Expr::Wildcard(_) | Expr::Over(_) | Expr::Months(_) => other += 1,
        _ => {}
    });
    fields > 0 && other == 0 && !matches!(expr, Expr::Regex(_))
}

/// Checks a condition without times: functions of points have no place in it.
///
/// # Errors
/// Such a function, or one with too many arguments.
pub fn check_condition(expr: &Expr) -> Result<(), QueryError> {
    let mut failed = None;
    expr.visit_calls(&mut |call| {
        let text = match math::arity(&call.name) {
            Some(arity) if arity == call.args.len() => return,
            Some(arity) => format!(
                "invalid number of arguments for {}, expected {arity}, got {}",
                call.name,
                call.args.len()
            ),
            None => format!("invalid function call in condition: {}", Expr::Call(call.clone())),
        };
        failed.get_or_insert(text);
    });
    failed.map_or(Ok(()), fail)
}

/// `distinct f` as the call it stands for.
pub fn distinct_call(var: &VarRef) -> Call {
    Call {
        name: "distinct".into(),
        args: vec![Expr::VarRef(var.clone())],
        at: var.at,
    }
}
