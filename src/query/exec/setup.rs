//! What a SELECT with calls is made of, worked out once and shared by all workers: its functions, the types of their values,
//! and how each is folded.

use super::fold::{Fold, States, fold_of};
use super::reading::Reading;
use super::vector::{reference_type, type_of};
use super::{Call, Prepared};
use crate::model::{FieldType, time::TIME_MIN};
use crate::query::error::QueryError;
use crate::query::functions::aggregate::Aggregate;
use crate::query::input::{Input, Resolved};
use crate::query::node::{Node, Only, Refs};
use crate::query::rolling;
use crate::query::windows::Windows;

/// What is the same for all workers.
pub struct Setup<'a> {
    /// The statement.
    pub prepared: &'a Prepared,
    /// Its functions of sets of points, in the order of its calls.
    pub sets: Vec<Set<'a>>,
    /// References whose values stand beside a selected point.
    pub beside: Vec<usize>,
    /// The statement is one selector and nothing else.
    pub selector: bool,
    /// The windows that rows are folded by: rolling ones are put together from the slots they share.
    pub slots: Option<Windows>,
    /// Start of the first window that is wanted, if the time has a lower bound.
    pub first_window: Option<i64>,
}

/// A function of sets of points.
pub struct Set<'a> {
    /// Which.
    pub function: Aggregate,
    /// Of what.
    pub argument: &'a Node,
    /// Of the values it folds; `None` where that is not known before.
    pub field_type: Option<FieldType>,
    /// It wants points with their time.
    pub timed: bool,
    /// It wants what stands beside them.
    pub beside: bool,
    /// Rows before this were read for other functions.
    pub since: Option<i64>,
}

impl<'a> Setup<'a> {
    /// Of a statement and its inputs.
    ///
    /// # Errors
    /// A function of what it cannot take.
    pub fn of(prepared: &'a Prepared, readings: &[Reading<'_>]) -> Result<Self, QueryError> {
        let mut setup = Self::untyped(prepared);
        setup.types(readings)?;
        Ok(setup)
    }

    fn untyped(prepared: &'a Prepared) -> Self {
        let mut beside = Vec::new();
        prepared
            .columns
            .iter()
            .for_each(|(_, node)| node.references(&mut beside));
        if let Some(Call::Ranked { beside: first, .. }) = prepared.calls.first() {
            beside = first.iter().copied().chain(beside).collect();
        }
        let functions: Vec<(usize, &Node, &Aggregate)> = prepared
            .calls
            .iter()
            .enumerate()
            .filter_map(|(number, call)| Some((number, call.argument()?, call.function()?)))
            .collect();
        let alone = functions.len() == 1 && prepared.calls.len() == 1;
        let selector = alone && functions[0].2.is_selector();
        let sets = functions.into_iter().map(|(call, argument, function)| Set {
            function: *function,
            argument,
            field_type: None,
            timed: selector && prepared.windows.is_none(),
            beside: selector && !beside.is_empty(),
            since: Some(prepared.since(call)).filter(|since| *since > prepared.read.min),
        });
        let windows = prepared.windows.as_ref();
        let min = prepared.time.min;
        Self {
            prepared,
            sets: sets.collect(),
            selector,
            slots: windows.map(rolling::slots),
            first_window: windows.filter(|_| min > TIME_MIN).map(|w| w.start(min)),
            beside,
        }
    }

    /// Finds the types of the functions' values; the same for all inputs.
    fn types(&mut self, readings: &[Reading<'_>]) -> Result<(), QueryError> {
        for set in &mut self.sets {
            let mut types = Vec::new();
            for reading in readings {
                check_type(reading.input, set, &self.prepared.refs)?;
                let wanted = &reading.wanted;
                let reference = |number: usize| reference_type(wanted.resolved[number], &wanted.fields);
                match set.argument {
                    // Functions of tags have nothing to work on, as in InfluxDB.
                    Node::Ref(number, _) if matches!(wanted.resolved[*number], Resolved::Tag(_)) => {}
                    node => types.push(type_of(node, &reference)),
                }
            }
            let number = |t: &Option<FieldType>| {
                matches!(
                    t,
                    Some(FieldType::Float | FieldType::Integer | FieldType::Unsigned)
                )
            };
            set.field_type = match types.first() {
                None => Some(FieldType::Float),
                Some(first) if types.iter().all(|t| t == first) => *first,
                // Numbers of several types are taken as floats.
                Some(_) if types.iter().all(number) => Some(FieldType::Float),
                Some(_) => None,
            };
        }
        Ok(())
    }

    /// An empty fold for a function.
    pub fn folder(&self, set: &Set<'_>) -> Folder {
        // States can be put together again and again, as rolling windows need it.
        let rolls = self.prepared.windows.as_ref().is_some_and(|w| w.over.is_some());
        let fold = match set.field_type {
            Some(field_type) if !set.beside && !rolls => fold_of(&set.function, field_type, set.timed),
            _ => None,
        };
        match fold {
            Some(fold) => Folder::Fold(fold),
            None => Folder::States(States::new(set.function)),
        }
    }

    /// May several threads fold?
    pub fn is_shared(&self) -> bool {
        let shared = |set: &Set<'_>| match self.folder(set) {
            Folder::Fold(_) => true,
            Folder::States(states) => states.is_shared(set.beside),
        };
        self.sets.iter().all(shared)
    }
}

impl Set<'_> {
    /// Do its points keep the time they have?
    pub fn keeps_time(&self, setup: &Setup<'_>) -> bool {
        let many = matches!(
            self.function,
            Aggregate::Top { .. } | Aggregate::Bottom { .. } | Aggregate::Sample(_) | Aggregate::Sequence
        );
        many || (setup.prepared.windows.is_none() && setup.selector)
    }
}

/// A function refuses a field of a type it cannot take, as InfluxDB does.
fn check_type(input: &Input, set: &Set<'_>, refs: &Refs) -> Result<(), QueryError> {
    let Node::Ref(number, None) = set.argument else {
        return Ok(());
    };
    let reference = &refs.list()[*number];
    if reference.only == Some(Only::Tag) {
        return Ok(());
    }
    match input.field_type(&reference.name) {
        Some(field_type) if !set.function.takes(field_type) => {
            let name = format!("{:?}", set.function)
                .split(['(', ' '])
                .next()
                .unwrap_or_default()
                .to_lowercase();
            Err(QueryError::statement(format!(
                "unsupported {name} iterator type: *query.{}InterruptIterator",
                field_type.name()
            )))
        }
        _ => Ok(()),
    }
}

/// The values of a function by slot.
pub enum Folder {
    /// Arrays, for functions that have them.
    Fold(Box<dyn Fold>),
    /// Any function.
    States(States),
}

impl Folder {
    /// There are so many slots now.
    pub fn grow(&mut self, slots: usize) {
        match self {
            Self::Fold(fold) => fold.grow(slots),
            Self::States(states) => states.grow(slots),
        }
    }

    /// Bytes of memory, roughly.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Fold(fold) => fold.bytes(),
            Self::States(states) => states.bytes(),
        }
    }

    /// Sees to it that it keeps no more than so many values: beyond that, digests of them.
    pub fn bound(&mut self, values_max: usize) {
        if let Self::Fold(fold) = self
            && let Some(digests) = fold.digests(values_max)
        {
            *fold = digests;
        }
    }

    /// Has the slot anything?
    pub fn has(&self, slot: usize) -> bool {
        match self {
            Self::Fold(fold) => fold.has(slot),
            Self::States(states) => states.has(slot),
        }
    }
}
