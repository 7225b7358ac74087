//! Expressions of the query language: what stands in SELECT, WHERE and GROUP BY.
//!
//! Owns the expression tree, ways to walk it and the column names InfluxDB derives from it. It never evaluates:
//! constants such as `now() - 1h` or time strings stay as written, the planner gives them a value.

use std::ops::ControlFlow;

/// Where a node stands in the query text. Two nodes that differ only in position are equal.
#[derive(Debug, Clone, Copy, Default)]
pub struct Position {
    /// Byte offset from the start of the text, from 0.
    pub offset: usize,
    /// Line, from 1.
    pub line: u32,
    /// Character in the line, from 1.
    pub char: u32,
}

// IMPORTANT: a position says where a node was written, not what it means; trees compare without it.
impl PartialEq for Position {
    fn eq(&self, _other: &Self) -> bool {
        true
    }
}

impl Eq for Position {}

/// An expression.
#[derive(Debug, Clone, PartialEq)]
pub enum Expr {
    /// A field or tag, `usage` or `usage::float`; a dotted reference `cpu.usage` has the dot in its name.
    VarRef(VarRef),
    /// `*`, `*::field`, `*::tag`.
    Wildcard(Option<WildcardKind>),
    /// `/re/`.
    Regex(RegexLiteral),
    /// `distinct name`; `distinct(name)` is a [`Call`].
    Distinct(VarRef),
    /// `name(args)`.
    Call(Call),
    /// A number with a decimal point.
    Number(f64),
    /// An integer that fits i64.
    Integer(i64),
    /// An integer beyond i64.
    Unsigned(u64),
    /// A quoted string; time strings are strings until the planner reads them.
    String(String),
    /// `true` or `false`.
    Boolean(bool),
    /// A duration of fixed length in nanoseconds.
    Duration(i64),
    /// Extension: a duration of calendar months, `1mo`, `1y` (12 months).
    Months(i64),
    /// `lhs op rhs`.
    Binary(Box<BinaryExpr>),
    /// `(expr)`.
    Paren(Box<Expr>),
    /// Extension: `CASE WHEN .. THEN .. ELSE .. END`.
    Case(Box<CaseExpr>),
    /// Extension: `over 5m`, only as an argument of `time()`.
    Over(Box<Expr>),
}

/// A reference to a field or tag, with an optional cast.
#[derive(Debug, Clone, PartialEq)]
pub struct VarRef {
    /// The name; segments of a dotted reference are joined by `.`.
    pub name: String,
    /// The cast after `::`.
    pub kind: Option<DataType>,
    /// The segments of a dotted reference, `["cpu", "usage"]`; empty for a plain name. A quoted `"cpu.usage"` is
    /// a plain name: this is how a join tells them apart.
    pub segments: Vec<String>,
    /// Where it stands.
    pub at: Position,
}

/// What a cast asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DataType {
    /// `::float`
    Float,
    /// `::integer`
    Integer,
    /// `::unsigned`
    Unsigned,
    /// `::string`
    String,
    /// `::boolean`
    Boolean,
    /// `::tag`
    Tag,
    /// `::field`, any field type.
    AnyField,
}

/// The restriction of a wildcard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WildcardKind {
    /// `*::field`
    Field,
    /// `*::tag`
    Tag,
}

/// A regular expression, already checked to compile.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RegexLiteral {
    /// The pattern, without slashes, `\/` already turned into `/`.
    pub pattern: String,
}

impl RegexLiteral {
    /// Compiles the pattern, read in Go's syntax; it compiled when it was parsed.
    pub fn compile(&self) -> Result<regex::Regex, regex::Error> {
        super::pattern::compile_regex(&self.pattern)
    }
}

/// A function call.
#[derive(Debug, Clone, PartialEq)]
pub struct Call {
    /// The name, in lower case.
    pub name: String,
    /// The arguments, in order.
    pub args: Vec<Expr>,
    /// Where the name stands.
    pub at: Position,
}

/// An operator with two operands.
#[derive(Debug, Clone, PartialEq)]
pub struct BinaryExpr {
    /// The operator.
    pub op: BinaryOp,
    /// The left operand.
    pub lhs: Expr,
    /// The right operand.
    pub rhs: Expr,
}

/// The operators with two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    /// `+`
    Add,
    /// `-`
    Sub,
    /// `*`
    Mul,
    /// `/`
    Div,
    /// `%`
    Mod,
    /// `&`
    BitAnd,
    /// `|`
    BitOr,
    /// `^`
    BitXor,
    /// `AND`
    And,
    /// `OR`
    Or,
    /// `=`
    Eq,
    /// `!=` or `<>`
    Neq,
    /// `=~`
    EqRegex,
    /// `!~`
    NeqRegex,
    /// `<`
    Lt,
    /// `<=`
    Lte,
    /// `>`
    Gt,
    /// `>=`
    Gte,
}

impl BinaryOp {
    /// The operator as written.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::BitAnd => "&",
            BinaryOp::BitOr => "|",
            BinaryOp::BitXor => "^",
            BinaryOp::And => "AND",
            BinaryOp::Or => "OR",
            BinaryOp::Eq => "=",
            BinaryOp::Neq => "!=",
            BinaryOp::EqRegex => "=~",
            BinaryOp::NeqRegex => "!~",
            BinaryOp::Lt => "<",
            BinaryOp::Lte => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Gte => ">=",
        }
    }

    /// How tightly it binds: 1 (`OR`) to 5 (`*`).
    pub fn precedence(self) -> u8 {
        match self {
            BinaryOp::Or => 1,
            BinaryOp::And => 2,
            BinaryOp::Eq
            | BinaryOp::Neq
            | BinaryOp::EqRegex
            | BinaryOp::NeqRegex
            | BinaryOp::Lt
            | BinaryOp::Lte
            | BinaryOp::Gt
            | BinaryOp::Gte => 3,
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::BitOr | BinaryOp::BitXor => 4,
            BinaryOp::Mul | BinaryOp::Div | BinaryOp::Mod | BinaryOp::BitAnd => 5,
        }
    }

    /// Whether the result is a truth value: comparisons, `AND`, `OR`.
    pub fn is_boolean(self) -> bool {
        self.precedence() <= 3
    }

    /// Whether it compares: `=`, `<`, `=~` and their kin, not `AND` and `OR`.
    pub fn is_comparison(self) -> bool {
        self.precedence() == 3
    }
}

/// Extension: a choice between values.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseExpr {
    /// The branches in order; the first whose condition holds is taken. At least one.
    pub branches: Vec<CaseBranch>,
    /// The value when none holds; without it there is no value.
    pub otherwise: Option<Expr>,
}

/// One `WHEN condition THEN value`.
#[derive(Debug, Clone, PartialEq)]
pub struct CaseBranch {
    /// The condition.
    pub condition: Expr,
    /// The value when it holds.
    pub value: Expr,
}

impl VarRef {
    /// A plain reference without cast or position.
    pub fn new(name: impl Into<String>) -> Self {
        VarRef {
            name: name.into(),
            kind: None,
            segments: Vec::new(),
            at: Position::default(),
        }
    }
}

impl Expr {
    /// A plain reference to a field or tag.
    pub fn var(name: impl Into<String>) -> Expr {
        Expr::VarRef(VarRef::new(name))
    }

    /// A function call without position.
    pub fn call(name: impl Into<String>, args: Vec<Expr>) -> Expr {
        Expr::Call(Call {
            name: name.into(),
            args,
            at: Position::default(),
        })
    }

    /// `lhs op rhs`.
    pub fn binary(op: BinaryOp, lhs: Expr, rhs: Expr) -> Expr {
        Expr::Binary(Box::new(BinaryExpr { op, lhs, rhs }))
    }

    /// Operands with the same operator between them, from the left; none for no operands. Long rows of AND and OR, whose
    /// order does not matter, become a tree that is as flat as it can be.
    pub fn join(op: BinaryOp, mut operands: Vec<Expr>) -> Option<Expr> {
        const ROW_MAX: usize = 8;
        if operands.len() > ROW_MAX && matches!(op, BinaryOp::And | BinaryOp::Or) {
            let right = operands.split_off(operands.len() / 2);
            return match (Expr::join(op, operands), Expr::join(op, right)) {
                (Some(lhs), Some(rhs)) => Some(Expr::binary(op, lhs, rhs)),
                (one, other) => one.or(other),
            };
        }
        operands.into_iter().reduce(|lhs, rhs| Expr::binary(op, lhs, rhs))
    }

    /// The expression inside any parentheses.
    pub fn unparen(&self) -> &Expr {
        let mut expr = self;
        while let Expr::Paren(inner) = expr {
            expr = inner;
        }
        expr
    }

    /// The direct parts, left to right.
    pub fn children(&self) -> Vec<&Expr> {
        match self {
            Expr::Call(call) => call.args.iter().collect(),
            Expr::Binary(binary) => vec![&binary.lhs, &binary.rhs],
            Expr::Paren(inner) | Expr::Over(inner) => vec![inner],
            Expr::Case(case) => {
                let branches = case.branches.iter().flat_map(|b| [&b.condition, &b.value]);
                branches.chain(&case.otherwise).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The direct parts, left to right, to change in place.
    pub fn children_mut(&mut self) -> Vec<&mut Expr> {
        match self {
            Expr::Call(call) => call.args.iter_mut().collect(),
            Expr::Binary(binary) => {
                let BinaryExpr { lhs, rhs, .. } = &mut **binary;
                vec![lhs, rhs]
            }
            Expr::Paren(inner) | Expr::Over(inner) => vec![inner],
            Expr::Case(case) => {
                let branches = case
                    .branches
                    .iter_mut()
                    .flat_map(|b| [&mut b.condition, &mut b.value]);
                branches.chain(&mut case.otherwise).collect()
            }
            _ => Vec::new(),
        }
    }

    /// Visits this expression and all its parts, each before its own parts, left to right.
    pub fn walk<'a>(&'a self, visit: &mut dyn FnMut(&'a Expr)) {
        visit(self);
        for child in self.children() {
            child.walk(visit);
        }
    }

    /// Like [`walk`](Self::walk), with the right to change each expression before its parts are visited.
    pub fn walk_mut(&mut self, visit: &mut dyn FnMut(&mut Expr)) {
        visit(self);
        for child in self.children_mut() {
            child.walk_mut(visit);
        }
    }

    /// Like [`walk`](Self::walk), but stops as soon as `visit` breaks.
    pub fn try_walk<'a, B>(&'a self, visit: &mut dyn FnMut(&'a Expr) -> ControlFlow<B>) -> ControlFlow<B> {
        visit(self)?;
        for child in self.children() {
            child.try_walk(visit)?;
        }
        ControlFlow::Continue(())
    }

    /// Visits every function call, an outer call before the calls in its arguments.
    pub fn visit_calls<'a>(&'a self, visit: &mut dyn FnMut(&'a Call)) {
        self.walk(&mut |expr| {
            if let Expr::Call(call) = expr {
                visit(call);
            }
        });
    }

    /// Visits every reference to a field or tag, `distinct name` included.
    pub fn visit_vars<'a>(&'a self, visit: &mut dyn FnMut(&'a VarRef)) {
        self.walk(&mut |expr| {
            if let Expr::VarRef(var) | Expr::Distinct(var) = expr {
                visit(var);
            }
        });
    }

    /// Whether a function call stands anywhere in it.
    pub fn has_call(&self) -> bool {
        self.try_walk(&mut |expr| match expr {
            Expr::Call(_) => ControlFlow::Break(()),
            _ => ControlFlow::Continue(()),
        })
        .is_break()
    }

    /// The name of the column this expression makes when it has no alias: a reference's name, a call's name, the
    /// names in a calculation joined by `_`, and nothing for a literal.
    pub fn column_name(&self) -> String {
        match self {
            Expr::VarRef(var) => var.name.clone(),
            Expr::Call(call) => call.name.clone(),
            Expr::Distinct(_) => "distinct".to_owned(),
            Expr::Paren(inner) => inner.column_name(),
            Expr::Case(_) => "case".to_owned(),
            Expr::Binary(_) => {
                let mut names = Vec::new();
                collect_names(self, &mut names);
                names.join("_")
            }
            _ => String::new(),
        }
    }
}

fn collect_names<'a>(expr: &'a Expr, names: &mut Vec<&'a str>) {
    match expr {
        Expr::VarRef(var) => names.push(&var.name),
        Expr::Call(call) => names.push(&call.name),
        Expr::Case(_) => names.push("case"),
        _ => {
            for child in expr.children() {
                collect_names(child, names);
            }
        }
    }
}
