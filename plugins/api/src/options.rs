//! Settings of a decoder, by name: from a URL (`?precision=s`), a listen address, a flag, or a saved mapping.

use crate::Format;

/// Names and values. `_` and `-` in names are the same; of equal names the last set counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pairs: Vec<(String, String)>,
}

/// One option a format takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionHelp {
    /// Its name, with `_` between words.
    pub name: &'static str,
    /// What it does and what values it takes, one line.
    pub about: &'static str,
}

/// An option that is unknown or has a value that is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OptionError {
    /// The option's name.
    pub name: String,
    /// What is wrong, lower case: `invalid precision "x" (use n, u, ms, s, m or h)`.
    pub reason: String,
}

impl Options {
    /// No options.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds or replaces one.
    pub fn set(&mut self, name: impl AsRef<str>, value: impl Into<String>) -> &mut Self {
        let name = name.as_ref().replace('-', "_");
        self.pairs.retain(|(n, _)| *n != name);
        self.pairs.push((name, value.into()));
        self
    }

    /// Forgets one.
    pub fn remove(&mut self, name: &str) {
        self.pairs.retain(|(n, _)| n != name);
    }

    /// The value of an option that is set and not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(n, _)| n == name);
        found.map(|(_, v)| v.as_str()).filter(|v| !v.is_empty())
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(n, v)| (n.as_str(), v.as_str()))
    }

    /// None is set.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// What every [`Format::decoder`] begins with: a misspelt option must not be ignored.
    ///
    /// # Errors
    /// One is set that `format` does not list in [`Format::options`].
    pub fn refuse_unknown(&self, format: &dyn Format) -> Result<(), OptionError> {
        let known = format.options();
        let Some((name, _)) = self.iter().find(|(n, _)| !known.iter().any(|k| k.name == *n)) else {
            return Ok(());
        };
        let names: Vec<&str> = known.iter().map(|option| option.name).collect();
        let takes = match names.as_slice() {
            [] => "no options".to_string(),
            names => names.join(", "),
        };
        Err(OptionError::new(
            name,
            format!("unknown option ({} takes: {takes})", format.name()),
        ))
    }

    /// The value of an option out of a list of words, the first of which is the default.
    ///
    /// # Errors
    /// Another word.
    pub fn one_of<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<Option<T>, OptionError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match words.iter().find(|(word, _)| *word == value) {
            Some((_, meaning)) => Ok(Some(*meaning)),
            None => {
                let words: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
                let reason = format!("invalid {name} \"{value}\" (use {})", words.join(", "));
                Err(OptionError::new(name, reason))
            }
        }
    }
}

impl OptionError {
    /// Of an option, and why.
    pub fn new(name: &str, reason: impl Into<String>) -> Self {
        Self {
            name: name.to_string(),
            reason: reason.into(),
        }
    }
}

impl std::fmt::Display for OptionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "option {}: {}", self.name, self.reason)
    }
}

impl std::error::Error for OptionError {}
