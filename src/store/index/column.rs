//! The values of one tag in one page: distinct texts, and a code for each slot. Pure.

use super::slots::Slots;
use hashbrown::HashMap;

/// Codes of values, by slot.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Codes {
    /// While there are at most 255 values.
    Bytes(Vec<u8>),
    Words(Vec<u16>),
}

/// See the module. Code 0 is the absent tag, whose text is empty; the others are 1, 2, .. in order of first sight.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    text: String,
    /// Where the text of code i + 1 ends.
    ends: Vec<u32>,
    codes: Codes,
}

impl Default for Column {
    fn default() -> Self {
        Self {
            text: String::new(),
            ends: Vec::new(),
            codes: Codes::Bytes(Vec::new()),
        }
    }
}

impl Column {
    /// From distinct texts end to end and where each ends, no slot having any. `None` when the ends do not fit.
    pub(super) fn from_texts(text: String, ends: Vec<u32>) -> Option<Self> {
        let fits = ends.windows(2).all(|pair| pair[0] <= pair[1])
            && ends.last().copied().unwrap_or(0) as usize == text.len()
            && ends.iter().all(|&end| text.is_char_boundary(end as usize))
            && ends.len() <= usize::from(u16::MAX);
        let codes = if ends.len() > 255 {
            Codes::Words(Vec::new())
        } else {
            Codes::Bytes(Vec::new())
        };
        fits.then_some(Self { text, ends, codes })
    }

    /// One column out of several of the same page.
    pub fn joined(several: &[&std::sync::Arc<Self>]) -> Self {
        let mut out = Self::default();
        let mut codes: HashMap<&str, u16> = HashMap::new();
        for column in several {
            for slot in column.present().iter() {
                let value = column.value(column.code(slot));
                let code = *codes.entry(value).or_insert_with(|| {
                    out.push_value(value)
                        .expect("a page has no more values than series")
                });
                out.set(slot, code);
            }
        }
        out
    }

    /// Distinct values, the absent one not counted.
    pub fn distinct(&self) -> usize {
        self.ends.len()
    }

    /// The text of a code; empty for 0 and for codes never given out.
    #[inline]
    pub fn value(&self, code: u16) -> &str {
        let Some(at) = usize::from(code)
            .checked_sub(1)
            .filter(|&at| at < self.ends.len())
        else {
            return "";
        };
        let start = if at == 0 { 0 } else { self.ends[at - 1] };
        &self.text[start as usize..self.ends[at] as usize]
    }

    /// Values in order of their codes, from code 1 on.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        (1..=self.ends.len()).map(|code| self.value(code as u16))
    }

    /// The code of a slot; 0 where its series has no such tag.
    #[inline]
    pub fn code(&self, slot: usize) -> u16 {
        match &self.codes {
            Codes::Bytes(codes) => u16::from(codes.get(slot).copied().unwrap_or(0)),
            Codes::Words(codes) => codes.get(slot).copied().unwrap_or(0),
        }
    }

    /// Adds a value: its code. It must be new. `None` when there is no room.
    pub(super) fn push_value(&mut self, value: &str) -> Option<u16> {
        let end = u32::try_from(self.text.len() + value.len()).ok()?;
        let code = u16::try_from(self.ends.len() + 1).ok()?;
        self.text.push_str(value);
        self.ends.push(end);
        if code > 255
            && let Codes::Bytes(codes) = &self.codes
        {
            self.codes = Codes::Words(codes.iter().map(|&code| u16::from(code)).collect());
        }
        Some(code)
    }

    /// Gives a slot a code.
    pub(super) fn set(&mut self, slot: usize, code: u16) {
        match &mut self.codes {
            Codes::Bytes(codes) => {
                if codes.len() <= slot {
                    codes.resize(slot + 1, 0);
                }
                codes[slot] = code as u8;
            }
            Codes::Words(codes) => {
                if codes.len() <= slot {
                    codes.resize(slot + 1, 0);
                }
                codes[slot] = code;
            }
        }
    }

    /// Slots that have a code.
    pub fn with_code(&self, code: u16) -> Slots {
        match &self.codes {
            Codes::Bytes(codes) => select(codes, |&c| u16::from(c) == code),
            Codes::Words(codes) => select(codes, |&c| c == code),
        }
    }

    /// Slots whose code a verdict is given for; `verdicts` has one for each code from 0 on. Code 0 counts only for slots
    /// before the last one with a value: intersect with the slots that exist.
    pub fn with_codes(&self, verdicts: &[bool]) -> Slots {
        let wanted = |code: usize| verdicts.get(code).copied().unwrap_or(false);
        let mut slots = match &self.codes {
            Codes::Bytes(codes) => select(codes, |&c| wanted(usize::from(c))),
            Codes::Words(codes) => select(codes, |&c| wanted(usize::from(c))),
        };
        if wanted(0) {
            let len = match &self.codes {
                Codes::Bytes(codes) => codes.len(),
                Codes::Words(codes) => codes.len(),
            };
            (len..super::PAGE_SERIES as usize).for_each(|slot| {
                slots.insert(slot);
            });
        }
        slots
    }

    /// Slots that have the tag.
    pub fn present(&self) -> Slots {
        match &self.codes {
            Codes::Bytes(codes) => select(codes, |&c| c != 0),
            Codes::Words(codes) => select(codes, |&c| c != 0),
        }
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        let codes = match &self.codes {
            Codes::Bytes(codes) => codes.capacity(),
            Codes::Words(codes) => codes.capacity() * 2,
        };
        self.text.capacity() + self.ends.capacity() * 4 + codes + size_of::<Self>()
    }
}

#[inline]
fn select<T>(codes: &[T], wanted: impl Fn(&T) -> bool) -> Slots {
    let mut slots = Slots::default();
    for (at, chunk) in codes.chunks(64).enumerate() {
        let mut bits = 0u64;
        for (bit, code) in chunk.iter().enumerate() {
            bits |= u64::from(wanted(code)) << bit;
        }
        slots.set_word(at, bits);
    }
    slots
}
