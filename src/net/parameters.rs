//! Parameters of a request: the URL's, then those of a form body.

use super::error::HttpError;
use std::collections::HashMap;

/// Names and values; of equal names the first counts.
#[derive(Clone, Debug, Default)]
pub struct Parameters(HashMap<String, String>);

impl Parameters {
    /// Of a URL's query string or a form body.
    pub fn parse(text: &str) -> Self {
        let mut out = Self::default();
        out.add(text);
        out
    }

    /// Adds those of a form body.
    pub fn add(&mut self, text: &str) {
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            self.put(decode(key), decode(value));
        }
    }

    /// Adds one.
    pub fn put(&mut self, key: String, value: String) {
        self.0.entry(key).or_insert(value);
    }

    /// A value that is there and not empty.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str).filter(|v| !v.is_empty())
    }

    /// `true` or `1`, as Go's clients write truth.
    pub fn is_true(&self, key: &str) -> bool {
        matches!(self.get(key), Some("true" | "1" | "t" | "T" | "TRUE" | "True"))
    }

    /// A number.
    ///
    /// # Errors
    /// It is none.
    pub fn number(&self, key: &str) -> Result<Option<usize>, HttpError> {
        let parse = |v: &str| {
            v.parse()
                .map_err(|_| HttpError::bad_request(format!("invalid {key}: {v:?}")))
        };
        self.get(key).map(parse).transpose()
    }
}

/// Percent-decodes; bytes that are no text become U+FFFD.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut input = text.bytes();
    while let Some(byte) = input.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = input.clone();
                let digit = |b: Option<u8>| char::from(b?).to_digit(16);
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes.push((high * 16 + low) as u8);
                        input = ahead;
                    }
                    _ => bytes.push(b'%'),
                }
            }
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_decoding() {
        let p = Parameters::parse("db=a%20b&q=SELECT+1%2B1&bad=%zz%4&empty=&q=second&%C3%A9=x");
        let cases = [
            ("db", Some("a b")),
            ("q", Some("SELECT 1+1")),
            ("bad", Some("%zz%4")),
            ("empty", None),
            ("é", Some("x")),
        ];
        for (key, want) in cases {
            assert_eq!(p.get(key), want, "{key}");
        }
    }
}
