//! Bytes that zstd may shorten: the shorter form is kept. Pure.

use crate::block::bytes::{Input, put};
use crate::block::contexts::{compress, decompress};

const RAW: u8 = 0;
const ZSTD: u8 = 1;
const LEVEL: i32 = 3;
/// Shorter ones are kept as they are: zstd's own header would eat what it wins.
const SHORT: usize = 48;

/// Appends `v` raw length, a kind, `v` stored length, the stored bytes.
pub fn squeeze(raw: &[u8], out: &mut Vec<u8>) {
    put(out, raw.len() as u64);
    let packed = (raw.len() > SHORT).then(|| compress(raw, LEVEL));
    if let Some(packed) = packed.filter(|packed| packed.len() < raw.len()) {
        out.push(ZSTD);
        put(out, packed.len() as u64);
        out.extend_from_slice(&packed);
    } else {
        out.push(RAW);
        put(out, raw.len() as u64);
        out.extend_from_slice(raw);
    }
}

/// Reads what [`squeeze`] wrote, if it is no more than `raw_max` bytes.
pub fn unsqueeze(input: &mut Input<'_>, raw_max: usize) -> Option<Vec<u8>> {
    let raw_len = input.get_count(raw_max)?;
    let kind = input.byte()?;
    let stored = input.get_bytes()?;
    let raw = match kind {
        RAW => stored.to_vec(),
        ZSTD => decompress(stored, raw_len)?,
        _ => return None,
    };
    (raw.len() == raw_len).then_some(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses() {
        for raw in [vec![], b"short".to_vec(), vec![7; 10_000], (0..=255).collect()] {
            let mut out = Vec::new();
            squeeze(&raw, &mut out);
            let mut input = Input(&out);
            assert_eq!(unsqueeze(&mut input, raw.len()), Some(raw.clone()));
            assert!(input.is_empty());
            for len in 0..out.len() {
                assert_eq!(unsqueeze(&mut Input(&out[..len]), raw.len()), None);
            }
            if !raw.is_empty() {
                assert_eq!(unsqueeze(&mut Input(&out), raw.len() - 1), None);
            }
        }
        let mut out = Vec::new();
        squeeze(&[7; 10_000], &mut out);
        assert!(out.len() < 40);
    }
}
