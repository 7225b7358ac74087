//! Expressions ready to be evaluated: names resolved to numbers, patterns compiled.

use super::error::QueryError;
use super::functions::math;
use super::value::{Value, binary};
use crate::lang::{BinaryOp, DataType, Expr, VarRef};
use crate::model::FieldType;
use regex::Regex;

/// An expression.
#[derive(Clone, Debug)]
pub enum Node {
    /// A constant.
    Constant(Value),
    /// The time of the row.
    Time,
    /// The `i`th reference to a field or tag.
    Ref(usize, Option<FieldType>),
    /// The result of the `i`th call.
    Call(usize),
    /// `lhs op rhs`.
    Binary(BinaryOp, Box<(Node, Node)>),
    /// `lhs =~ /re/`, or `!~`.
    Matches(Box<Node>, Regex, bool),
    /// A function of values.
    Math(String, Vec<Node>),
    /// `CASE`: conditions with values, and the value otherwise.
    Case(Vec<(Node, Node)>, Option<Box<Node>>),
    /// A value for where there is none.
    Default(Box<Node>, Value),
}

/// The references of a statement to fields and tags, each once.
#[derive(Clone, Debug, Default)]
pub struct Refs {
    list: Vec<Reference>,
}

/// A reference to a field or tag.
#[derive(Clone, Debug, PartialEq)]
pub struct Reference {
    /// The name.
    pub name: String,
    /// `::tag` or `::field` restricts it.
    pub only: Option<Only>,
}

/// What a cast restricts a reference to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// A tag.
    Tag,
    /// A field.
    Field,
}

impl Refs {
    /// The number of a reference; a new one is added.
    pub fn number(&mut self, var: &VarRef) -> usize {
        let only = match var.kind {
            Some(DataType::Tag) => Some(Only::Tag),
            Some(_) => Some(Only::Field),
            None => None,
        };
        let reference = Reference {
            name: var.name.clone(),
            only,
        };
        self.list
            .iter()
            .position(|known| *known == reference)
            .unwrap_or_else(|| {
                self.list.push(reference);
                self.list.len() - 1
            })
    }

    /// All of them.
    pub fn list(&self) -> &[Reference] {
        &self.list
    }
}

/// What values stand for references and calls.
pub trait Environment {
    /// The time of the row.
    fn time(&self) -> i64;
    /// A reference's value.
    fn reference(&self, number: usize) -> Value;
    /// A call's result.
    fn call(&self, number: usize) -> Value;
}

/// Makes nodes of expressions; calls that are no functions of values go to `call`.
pub fn compile(
    expr: &Expr,
    refs: &mut Refs,
    call: &mut dyn FnMut(&Expr, &mut Refs) -> Result<Node, QueryError>,
) -> Result<Node, QueryError> {
    Ok(match expr {
        Expr::Paren(inner) => compile(inner, refs, call)?,
        Expr::VarRef(var) if var.name == "time" && var.kind.is_none() => Node::Time,
        Expr::VarRef(var) => Node::Ref(refs.number(var), cast_of(var)),
        Expr::Number(v) => Node::Constant(Value::Float(*v)),
        Expr::Integer(v) | Expr::Duration(v) => Node::Constant(Value::Integer(*v)),
        Expr::Unsigned(v) => Node::Constant(Value::Unsigned(*v)),
        Expr::String(v) => Node::Constant(Value::String(v.as_str().into())),
        Expr::Boolean(v) => Node::Constant(Value::Boolean(*v)),
        Expr::Binary(b) => match (b.op, b.rhs.unparen()) {
            (op @ (BinaryOp::EqRegex | BinaryOp::NeqRegex), Expr::Regex(pattern)) => {
                let regex = pattern
                    .compile()
                    .map_err(|e| QueryError::statement(e.to_string()))?;
                Node::Matches(
                    Box::new(compile(&b.lhs, refs, call)?),
                    regex,
                    op == BinaryOp::EqRegex,
                )
            }
            (op, _) => {
                let sides = (compile(&b.lhs, refs, call)?, compile(&b.rhs, refs, call)?);
                Node::Binary(op, Box::new(sides))
            }
        },
        Expr::Call(c) => match math::arity(&c.name) {
            Some(arity) => {
                if c.args.len() != arity {
                    return Err(QueryError::statement(format!(
                        "invalid number of arguments for {}, expected {arity}, got {}",
                        c.name,
                        c.args.len()
                    )));
                }
                let args = c
                    .args
                    .iter()
                    .map(|arg| compile(arg, refs, call))
                    .collect::<Result<_, _>>()?;
                Node::Math(c.name.clone(), args)
            }
            None => call(expr, refs)?,
        },
        Expr::Distinct(_) => call(expr, refs)?,
        Expr::Case(case) => {
            let mut branches = Vec::new();
            for branch in &case.branches {
                branches.push((
                    compile(&branch.condition, refs, call)?,
                    compile(&branch.value, refs, call)?,
                ));
            }
            let otherwise = case
                .otherwise
                .as_ref()
                .map(|e| compile(e, refs, call))
                .transpose()?;
            Node::Case(branches, otherwise.map(Box::new))
        }
        Expr::Wildcard(_) | Expr::Regex(_) => {
            return Err(QueryError::statement(
                "unsupported expression with wildcard or regular expression",
            ));
        }
        Expr::Months(_) | Expr::Over(_) => return Err(QueryError::statement("a duration cannot stand here")),
    })
}

fn cast_of(var: &VarRef) -> Option<FieldType> {
    Some(match var.kind? {
        DataType::Float => FieldType::Float,
        DataType::Integer => FieldType::Integer,
        DataType::Unsigned => FieldType::Unsigned,
        DataType::String => FieldType::String,
        DataType::Boolean => FieldType::Boolean,
        DataType::Tag | DataType::AnyField => return None,
    })
}

impl Node {
    /// Its value.
    pub fn eval(&self, env: &dyn Environment) -> Value {
        match self {
            Self::Constant(value) => value.clone(),
            Self::Time => Value::Integer(env.time()),
            Self::Ref(number, cast) => {
                let value = env.reference(*number);
                match cast {
                    Some(to) => value.cast(*to),
                    None => value,
                }
            }
            Self::Call(number) => env.call(*number),
            Self::Binary(op, sides) => binary(*op, &sides.0.eval(env), &sides.1.eval(env)),
            Self::Matches(node, regex, wanted) => match node.eval(env) {
                Value::String(text) => Value::Boolean(regex.is_match(&text) == *wanted),
                _ => Value::Boolean(false),
            },
            Self::Math(name, args) => {
                let args: Vec<Value> = args.iter().map(|arg| arg.eval(env)).collect();
                math::apply(name, &args)
            }
            Self::Default(node, default) => match node.eval(env) {
                Value::Null => default.clone(),
                value => value,
            },
            Self::Case(branches, otherwise) => {
                let holds = |node: &Node| node.eval(env) == Value::Boolean(true);
                match branches.iter().find(|(condition, _)| holds(condition)) {
                    Some((_, value)) => value.eval(env),
                    None => otherwise.as_ref().map(|node| node.eval(env)).unwrap_or_default(),
                }
            }
        }
    }

    /// The same, with a value wherever a reference or call has none.
    pub fn with_default(self, value: &Value) -> Self {
        let inner = |node: Self| node.with_default(value);
        match self {
            Self::Ref(..) | Self::Call(_) => Self::Default(Box::new(self), value.clone()),
            Self::Binary(op, sides) => {
                let (lhs, rhs) = *sides;
                Self::Binary(op, Box::new((inner(lhs), inner(rhs))))
            }
            Self::Matches(node, regex, wanted) => Self::Matches(Box::new(inner(*node)), regex, wanted),
            Self::Math(name, args) => Self::Math(name, args.into_iter().map(inner).collect()),
            Self::Case(branches, otherwise) => Self::Case(
                branches.into_iter().map(|(c, v)| (inner(c), inner(v))).collect(),
                otherwise.map(|node| Box::new(inner(*node))),
            ),
            other => other,
        }
    }

    /// Visits the numbers of all calls in it.
    pub fn calls(&self, visit: &mut dyn FnMut(usize)) {
        match self {
            Self::Call(number) => visit(*number),
            Self::Binary(_, sides) => {
                sides.0.calls(visit);
                sides.1.calls(visit);
            }
            Self::Matches(node, ..) | Self::Default(node, _) => node.calls(visit),
            Self::Math(_, args) => args.iter().for_each(|arg| arg.calls(visit)),
            Self::Case(branches, otherwise) => {
                for (condition, value) in branches {
                    condition.calls(visit);
                    value.calls(visit);
                }
                otherwise.iter().for_each(|node| node.calls(visit));
            }
            Self::Constant(_) | Self::Time | Self::Ref(..) => {}
        }
    }

    /// The numbers of all references in it.
    pub fn references(&self, out: &mut Vec<usize>) {
        match self {
            Self::Ref(number, _) => out.push(*number),
            Self::Binary(_, sides) => {
                sides.0.references(out);
                sides.1.references(out);
            }
            Self::Matches(node, ..) | Self::Default(node, _) => node.references(out),
            Self::Math(_, args) => args.iter().for_each(|arg| arg.references(out)),
            Self::Case(branches, otherwise) => {
                for (condition, value) in branches {
                    condition.references(out);
                    value.references(out);
                }
                otherwise.iter().for_each(|node| node.references(out));
            }
            Self::Constant(_) | Self::Time | Self::Call(_) => {}
        }
    }
}
