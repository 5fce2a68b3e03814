//! How a command ends when it does not end well: a text for a person, a code for a script.

use proto::v1;

/// A command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Exit code.
    pub(crate) code: u8,
    /// What happened, why, what to do.
    pub(crate) text: String,
}

impl Failure {
    /// The cluster refused, or something went wrong: exit code 1.
    pub(crate) fn refused(text: impl Into<String>) -> Self {
        Self { code: 1, text: text.into() }
    }

    /// What was asked for makes no sense: exit code 2.
    pub(crate) fn usage(text: impl Into<String>) -> Self {
        Self { code: 2, text: text.into() }
    }

    /// Nobody answers: exit code 3.
    pub(crate) fn unreachable(text: impl Into<String>) -> Self {
        Self { code: 3, text: text.into() }
    }

    /// An error in an answer.
    pub(crate) fn of(error: &v1::Error) -> Self {
        Self::refused(with_remedy(error))
    }

    /// The worst of many, with all their texts.
    pub(crate) fn all(failures: Vec<Self>) -> Result<(), Self> {
        let code = failures.iter().map(|failure| failure.code).max();
        let texts: Vec<String> = failures.into_iter().map(|failure| failure.text).collect();
        match code {
            Some(code) => Err(Self { code, text: texts.join("\n") }),
            None => Ok(()),
        }
    }
}

/// Message and remedy of an error.
pub(crate) fn with_remedy(error: &v1::Error) -> String {
    match error.remedy.is_empty() {
        true => error.message.clone(),
        false => format!("{}: {}", error.message, error.remedy),
    }
}
