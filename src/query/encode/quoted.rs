//! Texts that come again and again, tags above all, as JSON: each is escaped once, and neighbours that always come together are
//! written as one.

use super::number::json_text;
use crate::query::result::{Coded, ResultColumn};
use std::sync::Arc;

/// Columns of more texts than this are written text by text: most would be needed once.
const TEXTS_MAX: usize = 1 << 16;
/// Bytes of text that are kept; beyond that, all is forgotten and begins anew.
const BYTES_MAX: usize = 8 << 20;
/// Sets of columns that are kept.
const SETS_MAX: usize = 4;

/// A table of texts, as columns share it.
type Table = Arc<[Option<Arc<str>>]>;

/// What was written so far, for all columns of an answer.
#[derive(Debug, Default)]
pub struct Quoted {
    sets: Vec<Set>,
}

/// Neighbours with the same codes.
#[derive(Debug)]
struct Set {
    /// Their tables. Held, so that no other table can come to lie at the same address.
    tables: Vec<Table>,
    /// By code: where its texts are in `bytes`; nothing when `end` is 0.
    places: Vec<Place>,
    bytes: Vec<u8>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Place {
    start: u32,
    end: u32,
}

/// How many of the columns, from the first on, are coded and have the same codes; 0 where that is not worth it.
pub fn together(columns: &[ResultColumn]) -> usize {
    let coded = |column: &ResultColumn| match column {
        ResultColumn::Coded(coded) if coded.texts.len() <= TEXTS_MAX => Some(coded.codes.clone()),
        _ => None,
    };
    let Some(first) = columns.first().and_then(coded) else {
        return 0;
    };
    let same = |column: &&ResultColumn| coded(column).is_some_and(|codes| Arc::ptr_eq(&codes, &first));
    columns.iter().take_while(same).count()
}

impl Quoted {
    /// The number of a set of columns, which [`write`](Self::write) is told.
    pub fn set(&mut self, columns: &[&Coded]) -> usize {
        let same = |set: &Set| {
            set.tables.len() == columns.len()
                && set
                    .tables
                    .iter()
                    .zip(columns)
                    .all(|(table, coded)| Arc::ptr_eq(table, &coded.texts))
        };
        if let Some(known) = self.sets.iter().position(same) {
            return known;
        }
        self.sets.push(Set {
            tables: columns.iter().map(|coded| coded.texts.clone()).collect(),
            places: vec![Place::default(); columns.iter().map(|c| c.texts.len()).min().unwrap_or(0)],
            bytes: Vec::new(),
        });
        self.sets.len() - 1
    }

    /// Forgets the sets of earlier pieces when they are many. Numbers that were given before hold no more.
    pub fn tidy(&mut self) {
        if self.sets.len() > SETS_MAX {
            self.sets.clear();
        }
    }

    /// Appends the texts of a code, a comma after each.
    #[inline]
    pub fn write(&mut self, set: usize, code: u32, out: &mut Vec<u8>) {
        let set = &mut self.sets[set];
        let mut place = set.places[code as usize];
        if place.end == 0 {
            place = set.add(code);
        }
        out.extend_from_slice(&set.bytes[place.start as usize..place.end as usize]);
    }
}

impl Set {
    #[cold]
    fn add(&mut self, code: u32) -> Place {
        if self.bytes.len() > BYTES_MAX {
            self.bytes.clear();
            self.places.fill(Place::default());
        }
        let start = self.bytes.len() as u32;
        for table in &self.tables {
            match &table[code as usize] {
                Some(text) => json_text(text, &mut self.bytes),
                None => self.bytes.extend_from_slice(b"null"),
            }
            self.bytes.push(b',');
        }
        let place = Place {
            start,
            end: self.bytes.len() as u32,
        };
        self.places[code as usize] = place;
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(codes: &Arc<Vec<u32>>, texts: &[Option<&str>]) -> ResultColumn {
        ResultColumn::Coded(Coded {
            codes: codes.clone(),
            texts: texts.iter().map(|text| text.map(Arc::from)).collect(),
        })
    }

    fn written(quoted: &mut Quoted, columns: &[ResultColumn], codes: &[u32]) -> String {
        let of = |column: &ResultColumn| match column {
            ResultColumn::Coded(coded) => coded.clone(),
            _ => unreachable!("made so"),
        };
        let all: Vec<Coded> = columns.iter().map(of).collect();
        let set = quoted.set(&all.iter().collect::<Vec<_>>());
        let mut out = Vec::new();
        codes.iter().for_each(|&code| quoted.write(set, code, &mut out));
        String::from_utf8(out).expect("text")
    }

    #[test]
    fn neighbours_of_equal_codes_are_one_text() {
        let (codes, others) = (Arc::new(vec![0, 1]), Arc::new(vec![0, 1]));
        let columns = [
            coded(&codes, &[None, Some("a\"b")]),
            coded(&codes, &[Some("x"), Some("y")]),
            coded(&others, &[Some("x"), Some("y")]),
        ];
        assert_eq!(
            (together(&columns), together(&columns[2..]), together(&[])),
            (2, 1, 0)
        );
        assert_eq!(together(&[ResultColumn::nulls(2)]), 0);
        let mut quoted = Quoted::default();
        for _ in 0..2 {
            let text = written(&mut quoted, &columns[..2], &[1, 0, 1]);
            assert_eq!(text, r#""a\"b","y",null,"x","a\"b","y","#);
        }
        assert_eq!(quoted.sets.len(), 1, "the same columns are known again");
        assert_eq!(written(&mut quoted, &columns[2..], &[1]), r#""y","#);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let codes = Arc::new(vec![0]);
        let long = "x".repeat(BYTES_MAX / 4);
        let texts: Vec<String> = (0..9).map(|i| format!("{long}{i}")).collect();
        let texts: Vec<Option<&str>> = texts.iter().map(|text| Some(text.as_str())).collect();
        let column = [coded(&codes, &texts)];
        let mut quoted = Quoted::default();
        for code in (0..9).chain(0..9) {
            let got = written(&mut quoted, &column, &[code]);
            assert!(got.ends_with(&format!("x{code}\",")), "{code}");
            assert!(quoted.sets[0].bytes.len() <= BYTES_MAX + BYTES_MAX / 3);
        }
        for _ in 0..99 {
            quoted.tidy();
            written(&mut quoted, &[coded(&codes, &[None])], &[0]);
        }
        assert!(quoted.sets.len() <= SETS_MAX + 1);
        let many = coded(&codes, &vec![None; TEXTS_MAX + 1]);
        assert_eq!(together(&[many]), 0);
    }
}
