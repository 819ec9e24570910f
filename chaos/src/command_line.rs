//! `--name value` options of the binaries of this crate: few, so no library.

use std::collections::BTreeMap;
use std::str::FromStr;

/// What was given.
#[derive(Debug, Default)]
pub struct CommandLine {
    values: BTreeMap<String, String>,
    switches: Vec<String>,
}

/// Why a command line is not understood.
#[derive(Debug, PartialEq, Eq)]
pub enum UsageError {
    /// An option nobody knows.
    Unknown(String),
    /// An option without its value.
    NoValue(String),
    /// A value that cannot be read.
    BadValue(String, String),
    /// An option that must be given.
    Missing(&'static str),
}

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unknown(name) => write!(f, "unknown option {name}"),
            Self::NoValue(name) => write!(f, "{name} needs a value"),
            Self::BadValue(name, value) => write!(f, "{name} cannot be '{value}'"),
            Self::Missing(name) => write!(f, "{name} must be given"),
        }
    }
}

impl std::error::Error for UsageError {}

impl CommandLine {
    /// Reads the words after the program's name.
    ///
    /// # Errors
    /// If a word is no known option or lacks its value.
    pub fn parse(
        words: impl IntoIterator<Item = String>,
        valued: &[&str],
        switches: &[&str],
    ) -> Result<Self, UsageError> {
        let mut parsed = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if switches.contains(&word.as_str()) {
                parsed.switches.push(word);
            } else if valued.contains(&word.as_str()) {
                let value = words
                    .next()
                    .ok_or_else(|| UsageError::NoValue(word.clone()))?;
                parsed.values.insert(word, value);
            } else {
                return Err(UsageError::Unknown(word));
            }
        }
        Ok(parsed)
    }

    /// True if the switch was given.
    pub fn switch(&self, name: &str) -> bool {
        self.switches.iter().any(|given| given == name)
    }

    /// The text of an option.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.values.get(name).map(String::as_str)
    }

    /// The value of an option, or the default.
    ///
    /// # Errors
    /// If the text is no such value.
    pub fn value<T: FromStr>(&self, name: &str, default: T) -> Result<T, UsageError> {
        match self.text(name) {
            None => Ok(default),
            Some(text) => text
                .replace('_', "")
                .parse()
                .map_err(|_| UsageError::BadValue(name.to_owned(), text.to_owned())),
        }
    }

    /// The text of an option that has no default.
    ///
    /// # Errors
    /// If it was not given.
    pub fn required(&self, name: &'static str) -> Result<&str, UsageError> {
        self.text(name).ok_or(UsageError::Missing(name))
    }
}

#[cfg(test)]
mod tests {
    use super::{CommandLine, UsageError};

    fn parse(line: &str) -> Result<CommandLine, UsageError> {
        CommandLine::parse(
            line.split_whitespace().map(str::to_owned),
            &["--ops"],
            &["--quick"],
        )
    }

    #[test]
    fn options_and_their_values() {
        let parsed = parse("--ops 1_000 --quick").unwrap();
        assert_eq!(parsed.value("--ops", 5), Ok(1000));
        assert!(parsed.switch("--quick"));
        assert_eq!(parsed.value("--seed", 7), Ok(7));
        assert_eq!(
            parsed.required("--seed"),
            Err(UsageError::Missing("--seed"))
        );
        assert_eq!(
            parse("--op 1").unwrap_err(),
            UsageError::Unknown("--op".into())
        );
        assert_eq!(
            parse("--ops").unwrap_err(),
            UsageError::NoValue("--ops".into())
        );
        assert!(parse("--ops x").unwrap().value("--ops", 5).is_err());
    }
}
