//! From the written-out columns of a SELECT to what the executor runs: calls, each once, and nodes that refer to them.

use super::check::distinct_call;
use super::error::QueryError;
use super::exec::Call;
use super::extension;
use super::functions::aggregate::Aggregate;
use super::functions::holt_winters::HoltWinters;
use super::functions::momentum::{Indicator, Momentum, WarmUp};
use super::functions::transform::Transform;
use super::functions::{Family, family};
use super::node::{Node, Refs, compile};
use super::windows::Windows;
use crate::lang::{self, DataType, Expr};

const SECOND: i64 = 1_000_000_000;

/// See the module.
pub struct Builder<'a> {
    /// References to fields and tags so far.
    pub refs: Refs,
    /// Calls so far; those inside others come first.
    pub calls: Vec<Call>,
    /// For each call, how many windows before the first wanted one it has to give.
    pub leads: Vec<i64>,
    /// What each call was made of.
    made: Vec<(Expr, usize)>,
    windows: Option<&'a Windows>,
    /// The type of a field, to refuse what a function cannot take.
    type_of: &'a super::types::TypeOf<'a>,
}

impl<'a> Builder<'a> {
    /// Nothing built yet.
    pub fn new(windows: Option<&'a Windows>, type_of: &'a super::types::TypeOf<'a>) -> Self {
        Self {
            refs: Refs::default(),
            calls: Vec::new(),
            leads: Vec::new(),
            made: Vec::new(),
            windows,
            type_of,
        }
    }

    /// The node of a column.
    ///
    /// # Errors
    /// Something in it cannot be computed.
    pub fn column(&mut self, expr: &Expr) -> Result<Node, QueryError> {
        let mut refs = std::mem::take(&mut self.refs);
        let node = compile(expr, &mut refs, &mut |inner, refs| {
            std::mem::swap(&mut self.refs, refs);
            let number = self.call(inner);
            std::mem::swap(&mut self.refs, refs);
            number.map(Node::Call)
        });
        self.refs = refs;
        node
    }

    /// The number of a call. Equal calls are one.
    fn call(&mut self, expr: &Expr) -> Result<usize, QueryError> {
        if let Some((_, number)) = self.made.iter().find(|(made, _)| made == expr) {
            return Ok(*number);
        }
        let owned;
        let call = match expr {
            Expr::Call(call) => call,
            Expr::Distinct(var) => {
                owned = distinct_call(var);
                &owned
            }
            _ => return Err(QueryError::statement("a function is expected here")),
        };
        let new = self.new_call(call)?;
        let number = self.put(new);
        self.made.push((expr.clone(), number));
        Ok(number)
    }

    /// For each call what it was made of; none for those that only stand inside of others.
    pub fn made(&self) -> Vec<Option<Expr>> {
        let mut out = vec![None; self.calls.len()];
        for (expr, number) in &self.made {
            out[*number] = Some(expr.clone());
        }
        out
    }

    fn put(&mut self, call: Call) -> usize {
        self.calls.push(call);
        self.leads.push(0);
        self.calls.len() - 1
    }

    /// The argument of a function as a node.
    fn argument(&mut self, name: &str, expr: &Expr) -> Result<Node, QueryError> {
        compile(expr, &mut self.refs, &mut |_, _| {
            Err(QueryError::statement(format!(
                "expected field argument in {name}()"
            )))
        })
    }

    fn new_call(&mut self, call: &lang::Call) -> Result<Call, QueryError> {
        let Some(family) = family(&call.name) else {
            return Err(QueryError::statement(format!(
                "undefined function {}()",
                call.name
            )));
        };
        if let Some(transform) = self.transform(call, family) {
            return self.sequence(call, transform);
        }
        if family == Family::Extension {
            let Some(fold) = extension::fold(call) else {
                return Err(QueryError::statement(format!(
                    "undefined function {}()",
                    call.name
                )));
            };
            let mut arguments = Vec::new();
            for field in extension::fields(call) {
                self.check_number(&call.name, field)?;
                arguments.push(self.argument(&call.name, field)?);
            }
            return Ok(Call::Fold { fold, arguments });
        }
        let last_integer = match call.args.last() {
            Some(Expr::Integer(n)) => usize::try_from(*n).unwrap_or(usize::MAX),
            _ => 1,
        };
        let mut first = &call.args[0];
        let owned;
        let function = match call.name.as_str() {
            "count" => match first {
                Expr::Distinct(var) => {
                    owned = Expr::VarRef(var.clone());
                    first = &owned;
                    Aggregate::CountDistinct
                }
                Expr::Call(inner) if inner.name == "distinct" => {
                    first = &inner.args[0];
                    Aggregate::CountDistinct
                }
                _ => Aggregate::Count,
            },
            "sum" => Aggregate::Sum,
            "mean" => Aggregate::Mean,
            "min" => Aggregate::Min,
            "max" => Aggregate::Max,
            "first" => Aggregate::First,
            "last" => Aggregate::Last,
            "spread" => Aggregate::Spread,
            "stddev" => Aggregate::Stddev,
            "median" => Aggregate::Median,
            "mode" => Aggregate::Mode,
            "distinct" => Aggregate::Distinct,
            "sample" => Aggregate::Sample(last_integer),
            "percentile" => match call.args[1] {
                Expr::Integer(p) => Aggregate::Percentile(p as f64),
                Expr::Number(p) => Aggregate::Percentile(p),
                _ => return Err(QueryError::statement("expected float argument in percentile()")),
            },
            name @ ("top" | "bottom") => {
                let tags = &call.args[1..call.args.len() - 1];
                let (n, apart) = (last_integer, tags.len());
                let function = if name == "top" {
                    Aggregate::Top { n, apart }
                } else {
                    Aggregate::Bottom { n, apart }
                };
                if apart > 0 {
                    let mut beside = Vec::new();
                    for tag in tags {
                        if let Expr::VarRef(var) = tag {
                            beside.push(self.refs.number(var));
                        }
                    }
                    return Ok(Call::Ranked {
                        function,
                        argument: self.argument(&call.name, first)?,
                        beside,
                    });
                }
                function
            }
            name => return Err(QueryError::statement(format!("undefined function {name}()"))),
        };
        Ok(Call::Aggregate {
            function,
            argument: self.argument(&call.name, first)?,
        })
    }

    fn transform(&self, call: &lang::Call, family: Family) -> Option<Transform> {
        let unit = |default: i64| match call.args.get(1) {
            Some(Expr::Duration(unit)) => *unit,
            _ => default,
        };
        let integer = |at: usize| match call.args.get(at) {
            Some(Expr::Integer(n)) => usize::try_from(*n).ok(),
            _ => None,
        };
        let non_negative = call.name.starts_with("non_negative");
        Some(match (family, call.name.as_str()) {
            (Family::Timed, "elapsed") => Transform::Elapsed { unit: unit(1) },
            (Family::Timed, _) => Transform::Derivative {
                unit: unit(self.windows.map_or(SECOND, |w| w.step)),
                non_negative,
            },
            (Family::Steps, "cumulative_sum") => Transform::CumulativeSum,
            (Family::Steps, _) => Transform::Difference { non_negative },
            (Family::MovingAverage, _) => Transform::MovingAverage { points: integer(1)? },
            (Family::Averages | Family::Kaufman | Family::Chande, name) => Transform::Momentum(Momentum {
                indicator: match name {
                    "exponential_moving_average" => Indicator::Exponential,
                    "double_exponential_moving_average" => Indicator::Double,
                    "triple_exponential_moving_average" => Indicator::Triple,
                    "triple_exponential_derivative" => Indicator::TripleDerivative,
                    "relative_strength_index" => Indicator::RelativeStrength,
                    "kaufmans_efficiency_ratio" => Indicator::KaufmanRatio,
                    "kaufmans_adaptive_moving_average" => Indicator::KaufmanAverage,
                    _ => Indicator::Chande,
                },
                period: integer(1)?,
                hold: integer(2),
                warm_up: match call.args.get(3) {
                    Some(Expr::String(kind)) if kind == "simple" => WarmUp::Simple,
                    Some(Expr::String(kind)) if kind == "none" => WarmUp::None,
                    None if family == Family::Chande => WarmUp::None,
                    _ => WarmUp::Exponential,
                },
            }),
            (Family::Integral, _) => Transform::Integral { unit: unit(SECOND) },
            (Family::Forecast, name) => Transform::HoltWinters(HoltWinters {
                horizon: integer(1)?,
                season: integer(2)?,
                with_fit: name == "holt_winters_with_fit",
                step: self.windows.map_or(SECOND, |w| w.step),
            }),
            _ => return None,
        })
    }

    /// A function of a sequence, and the call that gives the sequence.
    fn sequence(&mut self, call: &lang::Call, transform: Transform) -> Result<Call, QueryError> {
        let first = &call.args[0];
        let inner = match first {
            Expr::Call(inner) if family(&inner.name).is_some() => {
                let name = &call.name;
                if let Some(windows) = self.windows
                    && windows.months > 0
                    && matches!(transform, Transform::HoltWinters(_))
                {
                    return Err(QueryError::statement(format!(
                        "{name} needs windows of fixed length"
                    )));
                }
                self.call(first)?
            }
            raw => {
                if !matches!(transform, Transform::Elapsed { .. }) {
                    self.check_number(&call.name, raw)?;
                }
                let argument = self.argument(&call.name, raw)?;
                self.put(Call::Aggregate {
                    function: Aggregate::Sequence,
                    argument,
                })
            }
        };
        Ok(Call::Transform { transform, inner })
    }

    /// A function of numbers refuses texts and truth values.
    fn check_number(&self, name: &str, field: &Expr) -> Result<(), QueryError> {
        let kind = match super::types::type_of(field, self.type_of)? {
            Some(DataType::String) => "string",
            Some(DataType::Boolean) => "boolean",
            _ => return Ok(()),
        };
        let name = name.trim_start_matches("non_negative_").replace('_', " ");
        Err(QueryError::statement(format!(
            "unsupported {name} iterator type: *query.{kind}InterruptIterator"
        )))
    }

    /// How many windows before the first wanted one each call has to give, so that those built on it are complete. The
    /// largest is what has to be read.
    pub fn find_leads(&mut self) -> i64 {
        for number in (0..self.calls.len()).rev() {
            if let Call::Transform { transform, inner } = &self.calls[number] {
                let lead = self.leads[number].saturating_add(transform.lead());
                self.leads[*inner] = self.leads[*inner].max(lead);
            }
        }
        self.leads.iter().copied().max().unwrap_or(0)
    }
}

/// How many windows before the first wanted one the functions in an expression look at.
pub fn lead_of(expr: &Expr) -> i64 {
    let inner = expr.children().into_iter().map(lead_of).max().unwrap_or(0);
    let own = match expr {
        Expr::Call(call) => {
            let none = |_: &lang::VarRef| None;
            let transform =
                family(&call.name).and_then(|family| Builder::new(None, &none).transform(call, family));
            transform.map_or(0, |transform| transform.lead())
        }
        _ => 0,
    };
    inner.saturating_add(own)
}
