//! One thing that was not stored, and its bytes.

use crate::ingest::{Reject, RejectKind};

/// The version of the bytes, in the first of them.
const VERSION: u8 = 1;

/// Where something came from, and what it takes to read it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provenance {
    /// The way in: `http 127.0.0.1:5000`, `graphite+tcp://127.0.0.1:2003`.
    pub source: String,
    /// The database it was for.
    pub database: String,
    /// The retention policy; empty for the default one.
    pub policy: String,
    /// The format.
    pub format: String,
    /// The format's options.
    pub options: Vec<(String, String)>,
}

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Given out by the ledger, ascending.
    pub id: u64,
    /// When it came, nanoseconds UTC.
    pub time: i64,
    /// Where from.
    pub provenance: Provenance,
    /// What it is read as again: what was sent, or line protocol.
    pub kind: RejectKind,
    /// Line of its request, from 1.
    pub line: u64,
    /// Byte in the line, from 1.
    pub column: u64,
    /// Why.
    pub reason: String,
    /// What to read again.
    pub text: Vec<u8>,
    /// What must stand before it.
    pub context: Vec<u8>,
    /// The text is not whole: it cannot be tried again.
    pub is_cut: bool,
}

impl Entry {
    /// Of something rejected. What is kept as line protocol is read as that again, whatever it came as.
    pub fn new(mut reject: Reject, provenance: &Provenance, time: i64) -> Self {
        let mut provenance = provenance.clone();
        let (line, column, reason) = (reject.line, reject.column, std::mem::take(&mut reject.reason));
        let kept = reject.kept();
        if kept.kind == RejectKind::Dropped {
            provenance.format = "line-protocol".into();
            provenance.options.clear();
        }
        Self {
            id: 0,
            time,
            provenance,
            kind: kept.kind,
            line,
            column,
            reason,
            text: kept.text,
            context: kept.context,
            is_cut: kept.is_cut,
        }
    }

    /// About what it takes in memory.
    pub fn cost(&self) -> usize {
        256 + self.text.len() + self.context.len() + self.reason.len()
    }

    /// Its bytes.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let kind = match self.kind {
            RejectKind::Unparsed => 0,
            RejectKind::Dropped => 1,
        };
        out.extend([VERSION, kind, u8::from(self.is_cut)]);
        for number in [self.id, self.time as u64, self.line, self.column] {
            out.extend(number.to_le_bytes());
        }
        let mut put = |bytes: &[u8]| {
            out.extend((bytes.len() as u32).to_le_bytes());
            out.extend_from_slice(bytes);
        };
        let from = &self.provenance;
        for text in [
            &from.source,
            &from.database,
            &from.policy,
            &from.format,
            &self.reason,
        ] {
            put(text.as_bytes());
        }
        put(&self.text);
        put(&self.context);
        for (name, value) in &from.options {
            put(name.as_bytes());
            put(value.as_bytes());
        }
    }

    /// Reads what [`encode`](Self::encode) wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [VERSION, kind, is_cut, rest @ ..] = bytes else {
            return None;
        };
        let mut rest = rest;
        let mut number = || -> Option<u64> {
            let (bytes, after) = rest.split_first_chunk::<8>()?;
            rest = after;
            Some(u64::from_le_bytes(*bytes))
        };
        let [id, time, line, column] = [number()?, number()?, number()?, number()?];
        let mut next = || -> Option<&[u8]> {
            let (len, after) = rest.split_first_chunk::<4>()?;
            let (bytes, after) = after.split_at_checked(u32::from_le_bytes(*len) as usize)?;
            rest = after;
            Some(bytes)
        };
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes?.to_vec()).ok();
        let source = text(next())?;
        let database = text(next())?;
        let policy = text(next())?;
        let format = text(next())?;
        let reason = text(next())?;
        let (content, context) = (next()?.to_vec(), next()?.to_vec());
        let mut options = Vec::new();
        while let Some(name) = next() {
            options.push((text(Some(name))?, text(next())?));
        }
        Some(Self {
            id,
            time: time as i64,
            provenance: Provenance {
                source,
                database,
                policy,
                format,
                options,
            },
            kind: match kind {
                0 => RejectKind::Unparsed,
                1 => RejectKind::Dropped,
                _ => return None,
            },
            line,
            column,
            reason,
            text: content,
            context,
            is_cut: *is_cut != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn entries_round_trip_and_damage_never_panics(
            numbers in any::<(u64, i64, u64, u64)>(),
            texts in prop::collection::vec(".{0,9}", 5),
            bytes in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 2),
            options in prop::collection::vec((".{0,5}", ".{0,5}"), 0..3),
            flags in any::<(bool, bool)>(),
            at in any::<prop::sample::Index>(),
        ) {
            let entry = Entry {
                id: numbers.0,
                time: numbers.1,
                line: numbers.2,
                column: numbers.3,
                provenance: Provenance {
                    source: texts[0].clone(),
                    database: texts[1].clone(),
                    policy: texts[2].clone(),
                    format: texts[3].clone(),
                    options,
                },
                reason: texts[4].clone(),
                text: bytes[0].clone(),
                context: bytes[1].clone(),
                kind: if flags.0 { RejectKind::Unparsed } else { RejectKind::Dropped },
                is_cut: flags.1,
            };
            let mut encoded = Vec::new();
            entry.encode(&mut encoded);
            let read = Entry::decode(&encoded);
            prop_assert_eq!(read.as_ref(), Some(&entry));
            let at = at.index(encoded.len());
            let _ = Entry::decode(&encoded[..at]);
            encoded[at] ^= 0x55;
            let _ = Entry::decode(&encoded);
        }
    }

    #[test]
    fn the_format_is_version_1() {
        let entry = Entry {
            id: 1,
            time: -2,
            provenance: Provenance {
                source: "s".into(),
                database: "d".into(),
                policy: "p".into(),
                format: "f".into(),
                options: vec![("o".into(), "v".into())],
            },
            kind: RejectKind::Dropped,
            line: 3,
            column: 4,
            reason: "r".into(),
            text: b"t".to_vec(),
            context: b"c".to_vec(),
            is_cut: true,
        };
        let golden = include_bytes!("../../tests/golden/rejected_v1.bin");
        let mut encoded = Vec::new();
        entry.encode(&mut encoded);
        assert_eq!(encoded, golden, "the format changed: raise VERSION");
        assert_eq!(Entry::decode(golden), Some(entry));
    }
}
