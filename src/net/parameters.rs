//! Parameters of a request: the URL's, then those of a form body.

use super::error::HttpError;
use crate::listen::url_pairs;
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
        for (key, value) in url_pairs(text) {
            self.put(key, value);
        }
    }

    /// Adds one.
    pub fn put(&mut self, key: String, value: String) {
        self.0.entry(key).or_insert(value);
    }

    /// Forgets one.
    pub fn remove(&mut self, key: &str) {
        self.0.remove(key);
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_str()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_equal_names_counts_and_empty_values_do_not() {
        let p = Parameters::parse("db=a%20b&q=SELECT+1%2B1&empty=&q=second&%C3%A9=x");
        let cases = [
            ("db", Some("a b")),
            ("q", Some("SELECT 1+1")),
            ("empty", None),
            ("é", Some("x")),
        ];
        for (key, want) in cases {
            assert_eq!(p.get(key), want, "{key}");
        }
    }
}
