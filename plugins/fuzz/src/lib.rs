//! The kit's check of robustness with inputs made by proptest: good ones put together, cut, repeated and changed, and bytes that were
//! never good. Others in each run; one that shows a mistake is made as small as it can be.

use kymo_plugin_api::{Format, Framing, kit};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestError, TestRunner};

/// Inputs of a run; `PROPTEST_CASES` asks for more.
const CASES: u32 = 2000;

/// A change of an input.
#[derive(Clone, Debug)]
enum Edit {
    Insert(Index, Vec<u8>),
    Remove(Index, Index),
    Flip(Index, u8),
    /// A stretch once more, elsewhere.
    Copy(Index, Index, Index),
    Cut(Index),
}

impl Edit {
    fn apply(&self, bytes: &mut Vec<u8>) {
        let len = bytes.len();
        let stretch = |from: &Index, to: &Index| {
            let (from, to) = (from.index(len + 1), to.index(len + 1));
            from.min(to)..from.max(to).min(from.min(to) + 64)
        };
        match self {
            Self::Insert(at, what) => {
                let at = at.index(len + 1);
                bytes.splice(at..at, what.iter().copied());
            }
            Self::Remove(from, to) => drop(bytes.drain(stretch(from, to))),
            Self::Flip(at, bit) if len > 0 => bytes[at.index(len)] ^= 1 << bit,
            Self::Flip(..) => {}
            Self::Copy(from, to, at) => {
                let what = bytes[stretch(from, to)].to_vec();
                let at = at.index(len + 1);
                bytes.splice(at..at, what);
            }
            Self::Cut(at) => bytes.truncate(at.index(len + 1)),
        }
    }
}

fn edit() -> impl Strategy<Value = Edit> {
    let index = any::<Index>;
    // What formats are made of, and what is never in them.
    let marks = "[\\\\\"=, \n\r\t:|@#;._+\\-0-9eE{}\\[\\]<>/naNI]{1,4}".prop_map(String::into_bytes);
    let what = prop_oneof![marks, prop::collection::vec(any::<u8>(), 1..6)];
    prop_oneof![
        4 => (index(), what).prop_map(|(at, what)| Edit::Insert(at, what)),
        2 => (index(), index()).prop_map(|(from, to)| Edit::Remove(from, to)),
        2 => (index(), 0..8u8).prop_map(|(at, bit)| Edit::Flip(at, bit)),
        1 => (index(), index(), index()).prop_map(|(from, to, at)| Edit::Copy(from, to, at)),
        1 => index().prop_map(Edit::Cut),
    ]
}

/// [`kit::check_robust`], then as much again by proptest.
///
/// # Panics
/// With the smallest input that was found, when it does not hold.
pub fn check_robust<I: AsRef<[u8]>>(format: &dyn Format, inputs: &[I]) {
    check_robust_with(format, &[], inputs);
}

/// [`check_robust`] with options.
///
/// # Panics
/// With the smallest input that was found, when it does not hold.
pub fn check_robust_with<I: AsRef<[u8]>>(format: &dyn Format, with: &[(&str, &str)], inputs: &[I]) {
    kit::check_robust_with(format, with, inputs);
    let seeds: Vec<Vec<u8>> = inputs.iter().map(|input| input.as_ref().to_vec()).collect();
    let (first, options) = (seeds[0].clone(), kit::options(with));
    let between: &[u8] = match format.framings().contains(&Framing::Lines) {
        true => b"\n",
        false => b"",
    };
    let piece = prop_oneof![
        8 => prop::sample::select(seeds),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ];
    let pieces = prop::collection::vec(piece, 1..4);
    let edits = prop::collection::vec(edit(), 0..5);
    let inputs = (pieces, edits).prop_map(move |(pieces, edits)| {
        let mut bytes = pieces.join(between);
        edits.iter().for_each(|edit| edit.apply(&mut bytes));
        bytes
    });
    let config = Config {
        cases: Config::default().cases.max(CASES),
        failure_persistence: None,
        ..Config::default()
    };
    let result = TestRunner::new(config).run(&inputs, |bytes| {
        kit::check_input(format, &options, &first, &bytes);
        Ok(())
    });
    match result {
        Ok(()) => {}
        Err(TestError::Fail(why, bytes)) => {
            panic!("{why}: {bytes:?} ({:?})", String::from_utf8_lossy(&bytes))
        }
        Err(TestError::Abort(why)) => panic!("{why}"),
    }
}
