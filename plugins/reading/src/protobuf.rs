//! Protobuf's wire format: fields of a message one after the other, borrowed. No schema, no trees.

/// A message that is read field by field.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// The value of a field as it is on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire<'a> {
    /// int32, int64, uint32, uint64, sint32, sint64, bool, enum.
    Varint(u64),
    /// fixed64, sfixed64, double.
    Fixed64(u64),
    /// string, bytes, messages, packed repeated fields.
    Bytes(&'a [u8]),
    /// fixed32, sfixed32, float.
    Fixed32(u32),
}

/// The bytes are no message, from this byte on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// From 0.
    pub at: usize,
}

impl<'a> Message<'a> {
    /// Of all of `bytes`.
    #[inline]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next field begins.
    #[inline]
    pub fn at(&self) -> usize {
        self.at
    }

    /// The next field: its number and its value. Call it no more after an error.
    #[inline]
    pub fn next_field(&mut self) -> Result<Option<(u32, Wire<'a>)>, Broken> {
        if self.at >= self.bytes.len() {
            return Ok(None);
        }
        let begin = self.at;
        let broken = Broken { at: begin };
        let key = self.varint().ok_or(broken)?;
        let number = u32::try_from(key >> 3).map_err(|_| broken)?;
        let value = match key & 7 {
            0 => Wire::Varint(self.varint().ok_or(broken)?),
            1 => Wire::Fixed64(u64::from_le_bytes(*self.chunk().ok_or(broken)?)),
            2 => {
                let len = self.varint().and_then(|len| usize::try_from(len).ok());
                Wire::Bytes(len.and_then(|len| self.take(len)).ok_or(broken)?)
            }
            5 => Wire::Fixed32(u32::from_le_bytes(*self.chunk().ok_or(broken)?)),
            // Groups, which nobody uses any more, and what never was.
            _ => return Err(broken),
        };
        if number == 0 {
            return Err(broken);
        }
        Ok(Some((number, value)))
    }

    #[inline]
    fn varint(&mut self) -> Option<u64> {
        // Nearly all are small: keys, lengths, booleans.
        if let Some(&byte) = self.bytes.get(self.at)
            && byte < 0x80
        {
            self.at += 1;
            return Some(u64::from(byte));
        }
        // Lengths of messages with strings in them.
        if let Some(&[low, high @ ..0x80]) = self.bytes.get(self.at..self.at + 2) {
            self.at += 2;
            return Some(u64::from(high) << 7 | u64::from(low & 0x7F));
        }
        self.long_varint()
    }

    fn long_varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = *self.bytes.get(self.at)?;
            self.at += 1;
            value |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                // The tenth byte has room for one bit.
                return (shift < 63 || byte <= 1).then_some(value);
            }
        }
        None
    }

    #[inline]
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let bytes = self.bytes.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(bytes)
    }

    #[inline]
    fn chunk<const N: usize>(&mut self) -> Option<&'a [u8; N]> {
        self.take(N)?.first_chunk()
    }
}

impl<'a> Wire<'a> {
    /// Of a string, bytes or message field; of others nothing.
    #[inline]
    pub fn bytes(self) -> Option<&'a [u8]> {
        match self {
            Self::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Of a string field with good UTF-8.
    #[inline]
    pub fn text(self) -> Option<&'a str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    /// Of a double field.
    #[inline]
    pub fn double(self) -> Option<f64> {
        match self {
            Self::Fixed64(bits) => Some(f64::from_bits(bits)),
            _ => None,
        }
    }

    /// Of an integer field that is no sint: varint or fixed.
    #[inline]
    pub fn integer(self) -> Option<u64> {
        match self {
            Self::Varint(value) | Self::Fixed64(value) => Some(value),
            Self::Fixed32(value) => Some(u64::from(value)),
            Self::Bytes(_) => None,
        }
    }

    /// The numbers of a repeated integer field, packed or not; an error where they are broken.
    pub fn varints(self) -> impl Iterator<Item = Result<u64, Broken>> + 'a {
        let (mut message, mut single) = match self {
            Self::Bytes(bytes) => (Message::new(bytes), None),
            other => (Message::new(&[]), Some(other.integer().ok_or(Broken { at: 0 }))),
        };
        std::iter::from_fn(move || {
            if let Some(single) = single.take() {
                return Some(single);
            }
            if message.at >= message.bytes.len() {
                return None;
            }
            let at = message.at;
            let value = message.varint().ok_or(Broken { at });
            if value.is_err() {
                message.at = message.bytes.len();
            }
            Some(value)
        })
    }

    /// The numbers of a repeated fixed64 or double field, packed or not, as bits; an error where they are broken.
    pub fn fixed64s(self) -> impl Iterator<Item = Result<u64, Broken>> + 'a {
        let (bytes, single): (&'a [u8], _) = match self {
            Self::Bytes(bytes) => (bytes, None),
            Self::Fixed64(value) => (&[], Some(Ok(value))),
            _ => (&[], Some(Err(Broken { at: 0 }))),
        };
        let (chunks, rest) = bytes.as_chunks::<8>();
        let broken = (!rest.is_empty()).then_some(Err(Broken {
            at: bytes.len() - rest.len(),
        }));
        let packed = chunks.iter().map(|chunk| Ok(u64::from_le_bytes(*chunk)));
        single.into_iter().chain(packed).chain(broken)
    }
}

/// The value of a sint32 or sint64.
pub fn zigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fields(bytes: &[u8]) -> Result<Vec<(u32, Wire<'_>)>, Broken> {
        let mut message = Message::new(bytes);
        let mut out = Vec::new();
        while let Some(field) = message.next_field()? {
            out.push(field);
        }
        Ok(out)
    }

    #[test]
    fn fields_of_every_kind() {
        let bytes = [
            0x08, 0x96, 0x01, // 1: 150
            0x12, 0x03, b'a', b'b', b'c', // 2: "abc"
            0x19, 0, 0, 0, 0, 0, 0, 0xF0, 0x3F, // 3: 1.0
            0x25, 1, 0, 0, 0, // 4: 1
            0x28, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01, // 5: -1
        ];
        let got = fields(&bytes).expect("a message");
        assert_eq!(got[0], (1, Wire::Varint(150)));
        assert_eq!(got[1].1.text(), Some("abc"));
        assert_eq!(got[2].1.double(), Some(1.0));
        assert_eq!(got[3], (4, Wire::Fixed32(1)));
        assert_eq!(got[4].1.integer().map(|v| v as i64), Some(-1));
        for cut in 1..bytes.len() {
            let whole = [3, 8, 17, 22].contains(&cut);
            assert_eq!(fields(&bytes[..cut]).is_ok(), whole, "cut at {cut}");
        }
    }

    #[test]
    fn what_is_no_message_is_broken_at_its_field() {
        for (bytes, at) in [
            (&[0x08][..], 0),
            (&[0x08, 0x01, 0x0B], 2), // a group
            (&[0x08, 0x01, 0x12, 0x05, 1], 2),
            (&[0x00, 0x01], 0), // field 0
            (
                &[0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02],
                0,
            ),
            (
                &[0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x01],
                0,
            ),
        ] {
            assert_eq!(fields(bytes), Err(Broken { at }), "{bytes:?}");
        }
    }

    #[test]
    fn repeated_numbers_packed_or_not() {
        let all = |wire: Wire<'_>| wire.varints().collect::<Result<Vec<u64>, Broken>>();
        assert_eq!(all(Wire::Bytes(&[1, 0x96, 0x01, 3])), Ok(vec![1, 150, 3]));
        assert_eq!(all(Wire::Varint(7)), Ok(vec![7]));
        assert_eq!(all(Wire::Bytes(&[1, 0x96])), Err(Broken { at: 1 }));
        let all = |wire: Wire<'_>| wire.fixed64s().collect::<Result<Vec<u64>, Broken>>();
        assert_eq!(all(Wire::Bytes(&[1, 0, 0, 0, 0, 0, 0, 0])), Ok(vec![1]));
        assert_eq!(all(Wire::Fixed64(7)), Ok(vec![7]));
        assert_eq!(
            all(Wire::Bytes(&[1, 0, 0, 0, 0, 0, 0, 0, 9])),
            Err(Broken { at: 8 })
        );
        assert_eq!(
            (zigzag(0), zigzag(1), zigzag(2), zigzag(u64::MAX)),
            (0, -1, 1, i64::MIN)
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(fields) = fields(&bytes) {
                for (_, wire) in fields {
                    let _ = (wire.varints().count(), wire.fixed64s().count(), wire.text());
                }
            }
        }
    }
}
