//! The parts of a packet: a type and a length (both u16, big-endian, the length with these four bytes), then the content.

/// Types of parts.
pub mod part {
    pub const HOST: u16 = 0x0000;
    pub const TIME: u16 = 0x0001;
    pub const PLUGIN: u16 = 0x0002;
    pub const PLUGIN_INSTANCE: u16 = 0x0003;
    pub const TYPE: u16 = 0x0004;
    pub const TYPE_INSTANCE: u16 = 0x0005;
    pub const VALUES: u16 = 0x0006;
    pub const TIME_FINE: u16 = 0x0008;
    pub const MESSAGE: u16 = 0x0100;
    pub const SEVERITY: u16 = 0x0101;
    pub const SIGNATURE: u16 = 0x0200;
    pub const ENCRYPTED: u16 = 0x0210;
}

/// Bytes of type and length.
pub const HEADER_BYTES: usize = 4;

/// The first part of `bytes`: its type, its content, and what follows. `None`: it is not whole.
pub fn split(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    let kind = u16::from_be_bytes(*bytes.first_chunk()?);
    let len = usize::from(u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?));
    let (part, rest) = bytes.split_at_checked(len)?;
    Some((kind, part.get(HEADER_BYTES..)?, rest))
}

/// A text, which ends with a zero.
pub fn text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content.strip_suffix(b"\0")?).ok()
}

/// A number.
pub fn number(content: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(content.try_into().ok()?))
}

/// The values of a part: a count (u16), a byte for the kind of each, eight bytes for each.
pub fn values(content: &[u8]) -> Option<impl ExactSizeIterator<Item = f64>> {
    let count = usize::from(u16::from_be_bytes(*content.first_chunk()?));
    let (kinds, numbers) = content.get(2..)?.split_at_checked(count)?;
    if numbers.len() != count * 8 || kinds.iter().any(|&kind| kind > 3) {
        return None;
    }
    let (numbers, _) = numbers.as_chunks::<8>();
    Some(kinds.iter().zip(numbers).map(|(kind, bytes)| match kind {
        // A gauge, the only one in the byte order of x86.
        1 => f64::from_le_bytes(*bytes),
        // A derivative may go down.
        2 => i64::from_be_bytes(*bytes) as f64,
        // Counters and absolutes.
        _ => u64::from_be_bytes(*bytes) as f64,
    }))
}
