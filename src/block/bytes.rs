//! Numbers and texts as bytes: LEB128 varints, zigzag for signed ones, texts with their length first. Pure.

/// Appends a varint.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed number, small ones short.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, (value << 1 ^ value >> 63) as u64);
}

/// Appends bytes with their length first.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads what the functions above wrote. Every read fails (`None`) at the end of the bytes.
#[derive(Clone, Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// A varint.
    pub fn get(&mut self) -> Option<u64> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7F);
            if shift == 63 && bits > 1 {
                return None;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Some(value);
            }
        }
        None
    }

    /// A varint that fits.
    pub fn get_u32(&mut self) -> Option<u32> {
        self.get()?.try_into().ok()
    }

    /// A varint used as a length or count; never more than `max`, so that no damage makes us allocate more.
    pub fn get_count(&mut self, max: usize) -> Option<usize> {
        let count = usize::try_from(self.get()?).ok()?;
        (count <= max).then_some(count)
    }

    /// A signed number.
    pub fn get_signed(&mut self) -> Option<i64> {
        let value = self.get()?;
        Some((value >> 1) as i64 ^ -((value & 1) as i64))
    }

    /// One byte.
    pub fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    /// So many bytes.
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// Bytes with their length first.
    pub fn get_bytes(&mut self) -> Option<&'a [u8]> {
        let count = self.get_count(self.0.len())?;
        self.take(count)
    }

    /// A text with its length first.
    pub fn get_text(&mut self) -> Option<String> {
        String::from_utf8(self.get_bytes()?.to_vec()).ok()
    }

    /// Nothing left?
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_and_bytes_round_trip(values in prop::collection::vec((any::<u64>(), any::<i64>(), prop::collection::vec(any::<u8>(), 0..9)), 0..20)) {
            let mut out = Vec::new();
            for (unsigned, signed, bytes) in &values {
                put(&mut out, *unsigned);
                put_signed(&mut out, *signed);
                put_bytes(&mut out, bytes);
            }
            let mut input = Input(&out);
            for (unsigned, signed, bytes) in &values {
                prop_assert_eq!((input.get(), input.get_signed(), input.get_bytes()), (Some(*unsigned), Some(*signed), Some(&bytes[..])));
            }
            prop_assert!(input.is_empty() && input.clone().get().is_none());
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..30)) {
            let mut input = Input(&bytes);
            while input.get().is_some() {}
            let mut input = Input(&bytes);
            while input.get_bytes().is_some_and(|b| b.len() <= bytes.len()) && !input.is_empty() {}
        }
    }
}
