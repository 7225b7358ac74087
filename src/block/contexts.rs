//! zstd with one context of each kind a thread: making one asks the processor what it can do, which costs tens of microseconds on a virtual
//! machine, more than a small piece of work with it. For small pieces: a context that compresses keeps the room that its largest one took.

use std::cell::RefCell;
use zstd::bulk::{Compressor, Decompressor};

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = const { RefCell::new(None) };
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// The bytes as zstd makes them at a level.
#[must_use]
pub fn compress(bytes: &[u8], level: i32) -> Vec<u8> {
    let packed = COMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Some(Compressor::new(level)?);
        }
        let compressor = kept.as_mut().expect("made just now");
        compressor.set_compression_level(level)?;
        compressor.compress(bytes)
    });
    packed.expect("compressing memory into memory cannot fail")
}

/// What zstd made, if it is no more than `len_max` bytes.
#[must_use]
pub fn decompress(packed: &[u8], len_max: usize) -> Option<Vec<u8>> {
    DECOMPRESSOR.with_borrow_mut(|kept| {
        if kept.is_none() {
            *kept = Decompressor::new().ok();
        }
        kept.as_mut()?.decompress(packed, len_max).ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_context_that_met_damage_or_another_level_works_on() {
        let bytes: Vec<u8> = (0..5000u32).map(|i| ((i * i) >> 5) as u8).collect();
        for level in [1, 3, 1, 19] {
            let packed = compress(&bytes, level);
            assert_eq!(packed, zstd::bulk::compress(&bytes, level).expect("in memory"));
            assert_eq!(decompress(&packed[..packed.len() - 1], bytes.len()), None);
            assert_eq!(decompress(&packed, bytes.len() - 1), None);
            assert_eq!(decompress(b"nonsense", bytes.len()), None);
            assert_eq!(decompress(&packed, bytes.len()), Some(bytes.clone()));
        }
    }
}
