//! The frame around every stored value: version first, checksum last (docs/formats/keys.md). Pure.
//!
//! The checksum is seeded with the key's hash, so a sound value under a wrong key is found out as well.

use super::error::StoreError;
use super::keys;
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Bytes of the checksum at the end.
pub const CHECKSUM_BYTES: usize = 8;

/// Starts a value.
pub fn begin(version: u8) -> Vec<u8> {
    vec![version]
}

/// Ends a value that [`begin`] started: appends the checksum for `key`.
pub fn finish(key: &[u8], mut value: Vec<u8>) -> Vec<u8> {
    let checksum = xxh3_64_with_seed(&value, xxh3_64(key));
    value.extend_from_slice(&checksum.to_le_bytes());
    value
}

/// The payload of a value that was stored under `key`.
///
/// # Errors
/// Damage: too short, another version, wrong checksum.
pub fn open<'a>(key: &[u8], value: &'a [u8], version: u8) -> Result<&'a [u8], StoreError> {
    open_at(key, value, version, &|| keys::describe(key))
}

/// As [`open`]; `describe` says what is under the key.
///
/// # Errors
/// The same.
pub fn open_at<'a>(
    key: &[u8],
    value: &'a [u8],
    version: u8,
    describe: &dyn Fn() -> String,
) -> Result<&'a [u8], StoreError> {
    let fail = |reason: &str| StoreError::damaged(describe(), reason);
    let Some((body, checksum)) = value.split_last_chunk::<CHECKSUM_BYTES>() else {
        return Err(fail("shorter than a checksum"));
    };
    if xxh3_64_with_seed(body, xxh3_64(key)).to_le_bytes() != *checksum {
        return Err(fail("wrong checksum"));
    }
    match body.split_first() {
        Some((&found, payload)) if found == version => Ok(payload),
        Some((found, _)) => Err(fail(&format!("version {found}, this program reads {version}"))),
        None => Err(fail("no version")),
    }
}

/// The payload of a value that [`open`] has checked before.
pub fn body(value: &[u8]) -> &[u8] {
    value
        .get(1..value.len().saturating_sub(CHECKSUM_BYTES))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_and_every_cut_is_found() {
        let value = finish(b"key", [begin(3), b"payload".to_vec()].concat());
        assert_eq!(open(b"key", &value, 3).ok(), Some(&b"payload"[..]));
        assert_eq!(body(&value), b"payload");
        assert_eq!(body(b"short"), b"");
        assert!(open(b"kez", &value, 3).is_err_and(|e| e.is_damage()));
        assert!(open(b"key", &value, 4).is_err_and(|e| e.is_damage()));
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(open(b"key", &bad, 3).is_err_and(|e| e.is_damage()), "bit {bit}");
        }
        for len in 0..value.len() {
            assert!(
                open(b"key", &value[..len], 3).is_err_and(|e| e.is_damage()),
                "length {len}"
            );
        }
    }
}
