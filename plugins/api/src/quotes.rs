//! Lines that go on inside quotes, as CSV's do (RFC 4180): where a record ends.

/// How cells are divided and quoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoting {
    /// Between cells.
    pub delimiter: u8,
    /// Around cells; doubled inside.
    pub quote: u8,
}

/// Follows a stream, byte by byte. A quote counts where a cell begins, and nowhere else: `5" pipe` is a cell without quotes.
#[derive(Clone, Debug)]
pub struct Quotes {
    quoting: Quoting,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    /// Of a record. A byte order mark may stand here, of which so many bytes were seen.
    Begin(usize),
    /// Of a cell.
    Cell,
    /// In a cell without quotes, or behind one with them.
    Bare,
    Quoted,
    /// Behind a quote in a cell with quotes: its end, or one half of a doubled one.
    Quote,
}

const BYTE_ORDER_MARK: [u8; 3] = [0xEF, 0xBB, 0xBF];

impl Quotes {
    /// At the begin of a record.
    pub fn new(quoting: Quoting) -> Self {
        let at = At::Begin(0);
        Self { quoting, at }
    }

    /// Takes the next byte: does a record end with it? It does at a newline that stands in no quotes.
    #[inline]
    pub fn is_end(&mut self, byte: u8) -> bool {
        let Quoting { delimiter, quote } = self.quoting;
        let may_quote = matches!(self.at, At::Begin(0) | At::Cell | At::Quote);
        self.at = match self.at {
            At::Quoted if byte == quote => At::Quote,
            At::Quoted => At::Quoted,
            At::Begin(seen) if BYTE_ORDER_MARK.get(seen) == Some(&byte) => At::Begin((seen + 1) % 3),
            _ if byte == quote && may_quote => At::Quoted,
            _ if byte == delimiter => At::Cell,
            _ if matches!(byte, b'\n' | b'\r') => At::Begin(0),
            _ => At::Bare,
        };
        byte == b'\n' && self.at == At::Begin(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Vec<&str> {
        let mut quotes = Quotes::new(Quoting {
            delimiter: b',',
            quote: b'"',
        });
        text.split_inclusive(|c: char| quotes.is_end(c as u8)).collect()
    }

    #[test]
    fn newlines_end_records_outside_of_quotes() {
        for (text, want) in [
            ("a,b\nc\n", &["a,b\n", "c\n"][..]),
            ("a,\"b\nc\",d\ne", &["a,\"b\nc\",d\n", "e"]),
            ("\"a\n\"\n\"b\"\n", &["\"a\n\"\n", "\"b\"\n"]),
            // Doubled.
            ("\"a\"\"\nb\"\nc\n", &["\"a\"\"\nb\"\n", "c\n"]),
            ("\"\"\n\"\"\"\"\nc\n", &["\"\"\n", "\"\"\"\"\n", "c\n"]),
            // In the middle of a cell, or behind its end, a quote is a letter.
            ("5\" pipe\nb\n", &["5\" pipe\n", "b\n"]),
            ("\"a\"x\"\nb\n", &["\"a\"x\"\n", "b\n"]),
            ("a,\"b\r\nc\"\r\nd\r\n", &["a,\"b\r\nc\"\r\n", "d\r\n"]),
        ] {
            assert_eq!(records(text), want, "{text:?}");
        }
        let mut quotes = Quotes::new(Quoting {
            delimiter: b';',
            quote: b'\'',
        });
        let ends: Vec<bool> = b"\xEF\xBB\xBF'a\n';'\n'\n"
            .iter()
            .map(|b| quotes.is_end(*b))
            .collect();
        assert_eq!(ends.iter().filter(|end| **end).count(), 1);
        assert!(ends[ends.len() - 1]);
    }
}
