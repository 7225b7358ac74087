//! Values that say where others are, a pack's header and a long directory, in pieces. The engine moves values of
//! [`SEPARATION_BYTES`] or more into its files of values, which have no second copy; pieces stay in its tables, which have one
//! (docs/adr/0032). A flipped bit there must not cost every row that the value is about. Drawn in docs/formats/keys.md.

use super::engine::{Bytes, PackSink, SEPARATION_BYTES};
use super::error::StoreError;
use super::{frame, keys};
use crate::block::bytes::{Input, put};

/// The version of a value that is in pieces, and of a piece; no other value has it.
const VERSION: u8 = u8::MAX;
/// Of a piece, without its frame.
const PIECE_BYTES: usize = 4000;
/// No honest value is longer.
const WHOLE_BYTES_MAX: usize = 1 << 29;

/// Writes a framed value: whole where it is short, else its pieces, and under its own key how many there are.
///
/// # Errors
/// Input/output.
pub fn write(sink: &mut PackSink<'_>, key: &[u8], value: Vec<u8>) -> Result<(), StoreError> {
    if value.len() < SEPARATION_BYTES as usize {
        return sink.write(key, value);
    }
    for (number, piece) in (0..).zip(value.chunks(PIECE_BYTES)) {
        let piece_key = keys::piece(key, number);
        let framed = [frame::begin(VERSION), piece.to_vec()].concat();
        sink.write(&piece_key, frame::finish(&piece_key, framed))?;
    }
    let mut head = frame::begin(VERSION);
    put(&mut head, value.len() as u64);
    sink.write(key, frame::finish(key, head))
}

/// The framed value that [`write()`] was given, from what is stored under its key.
///
/// # Errors
/// A piece that is damaged or missing, and whatever `get` gives.
pub fn gather(
    key: &[u8],
    stored: Bytes,
    mut get: impl FnMut(&[u8]) -> Result<Option<Bytes>, StoreError>,
) -> Result<Bytes, StoreError> {
    if stored.first() != Some(&VERSION) {
        return Ok(stored);
    }
    let mut head = Input(frame::open(key, &stored, VERSION)?);
    let damaged = |reason| StoreError::damaged(keys::describe(key), reason);
    let len = head.get_count(WHOLE_BYTES_MAX);
    let len = len.ok_or_else(|| damaged("no length of what is in pieces"))?;
    let mut whole = Vec::new();
    for number in 0..len.div_ceil(PIECE_BYTES) as u32 {
        let piece_key = keys::piece(key, number);
        let piece = get(&piece_key)?;
        let piece = piece.ok_or_else(|| StoreError::damaged(keys::describe(&piece_key), "it is missing"))?;
        whole.extend_from_slice(frame::open(&piece_key, &piece, VERSION)?);
    }
    if whole.len() != len {
        return Err(damaged("its pieces are of another length"));
    }
    Ok(Bytes::from(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::keys::RunId;
    use std::collections::BTreeMap;

    fn written(key: &[u8], value: Vec<u8>) -> BTreeMap<Vec<u8>, Vec<u8>> {
        let mut stored = BTreeMap::new();
        let mut write_one = |key: &[u8], value: Vec<u8>| {
            stored.insert(key.to_vec(), value);
            Ok(())
        };
        let mut sink = PackSink::new(&mut write_one);
        write(&mut sink, key, value).expect("keys ascend");
        stored
    }

    fn read(key: &[u8], stored: &BTreeMap<Vec<u8>, Vec<u8>>) -> Result<Vec<u8>, StoreError> {
        let get = |key: &[u8]| Ok(stored.get(key).map(|value| Bytes::from(&value[..])));
        let head = get(key)?.expect("it is there");
        gather(key, head, get).map(|value| value.to_vec())
    }

    #[test]
    fn what_is_long_comes_back_from_short_pieces_and_damage_is_found() {
        let id = RunId { pack: 7, run: 2 };
        for key in [keys::header(7), keys::directory(id, 3)] {
            for len in [20, 4095, 4096, 8000, 8001, 100_000] {
                let value = frame::finish(&key, (0..len).map(|i| (i % 251) as u8).collect());
                let stored = written(&key, value.clone());
                assert_eq!(stored.keys().next_back(), Some(&key), "its own key is the last");
                assert!(
                    stored
                        .values()
                        .all(|value| value.len() < SEPARATION_BYTES as usize)
                );
                assert_eq!(stored.len() > 1, value.len() >= SEPARATION_BYTES as usize);
                assert_eq!(read(&key, &stored).expect("sound"), value);
                let damaged = |change: &dyn Fn(&mut BTreeMap<Vec<u8>, Vec<u8>>)| {
                    let mut stored = stored.clone();
                    change(&mut stored);
                    assert!(read(&key, &stored).is_err_and(|error| error.is_damage()));
                };
                for piece in stored.keys().filter(|piece| stored.len() > 1 && **piece != key) {
                    damaged(&|stored| drop(stored.remove(piece)));
                    damaged(&|stored| stored.get_mut(piece).expect("it is there")[9] ^= 1);
                    // A sound piece under the key of another.
                    let swapped = stored[&keys::piece(&key, 0)].clone();
                    if *piece != keys::piece(&key, 0) {
                        damaged(&|stored| drop(stored.insert(piece.clone(), swapped.clone())));
                    }
                }
                if stored.len() > 1 {
                    damaged(&|stored| stored.get_mut(&key).expect("it is there")[1] ^= 1);
                }
            }
        }
    }
}
