//! Distinct texts with dense codes, in one arena: the values of a tag. About 20 bytes a value beside its text.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

/// Codes from 1 on; code 0 is the empty text, which stands for "no such tag".
#[derive(Default)]
pub struct Dictionary {
    bytes: Vec<u8>,
    /// Where the text of code i + 1 ends.
    ends: Vec<u32>,
    codes: HashTable<u32>,
}

impl Dictionary {
    /// Codes given out, the empty text's included.
    pub fn len(&self) -> usize {
        self.ends.len() + 1
    }

    /// Nothing but the empty text.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text of a code; empty for 0 and for codes never given out.
    pub fn text(&self, code: u32) -> &str {
        std::str::from_utf8(text_of(&self.bytes, &self.ends, code))
            .expect("only texts are put in, at their borders")
    }

    /// The code of a text, if it has one.
    pub fn code(&self, text: &str) -> Option<u32> {
        if text.is_empty() {
            return Some(0);
        }
        let same = |code: &u32| text_of(&self.bytes, &self.ends, *code) == text.as_bytes();
        self.codes.find(xxh3_64(text.as_bytes()), same).copied()
    }

    /// The code of a text, a new one at first sight; `None` when the dictionary holds 4 GiB of text.
    pub fn intern(&mut self, text: &str) -> Option<u32> {
        if let Some(code) = self.code(text) {
            return Some(code);
        }
        let end = u32::try_from(self.bytes.len() + text.len()).ok()?;
        self.bytes.extend_from_slice(text.as_bytes());
        self.ends.push(end);
        let code = self.ends.len() as u32;
        let (bytes, ends) = (&self.bytes, &self.ends);
        self.codes.insert_unique(xxh3_64(text.as_bytes()), code, |&c| {
            xxh3_64(text_of(bytes, ends, c))
        });
        Some(code)
    }

    /// Bytes of memory it takes.
    pub fn bytes(&self) -> usize {
        self.bytes.capacity() + self.ends.capacity() * 4 + self.codes.capacity() * 5
    }
}

fn text_of<'a>(bytes: &'a [u8], ends: &[u32], code: u32) -> &'a [u8] {
    let Some(index) = (code as usize).checked_sub(1) else {
        return &[];
    };
    let Some(&end) = ends.get(index) else { return &[] };
    let start = if index == 0 { 0 } else { ends[index - 1] };
    &bytes[start as usize..end as usize]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_dense_and_stable() {
        let mut dictionary = Dictionary::default();
        let texts: Vec<String> = (0..5000).map(|i| format!("value {i}")).collect();
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(dictionary.intern(text), Some(i as u32 + 1));
        }
        for (i, text) in texts.iter().enumerate() {
            assert_eq!(dictionary.intern(text), Some(i as u32 + 1));
            assert_eq!(dictionary.text(i as u32 + 1), text);
        }
        assert_eq!((dictionary.code("nope"), dictionary.code("")), (None, Some(0)));
        assert_eq!((dictionary.text(0), dictionary.text(9999)), ("", ""));
    }
}
