//! What a look at a backend came to: whose credentials are in force, how its tables or its bucket are set up.
//!
//! Neutral: a backend looks and judges, `sacker doctor` prints. A look never fails; what cannot be found out is a warning
//! that says why.

use crate::error::{Error, Meaning};

/// How much a finding counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be, or nothing to worry about.
    Fine,
    /// Worth a look, or not to be found out.
    Odd,
    /// To be set right before anything else.
    Wrong,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How much it counts.
    pub level: Level,
    /// What was looked at, in a word or two: the same for every backend of a kind.
    pub check: &'static str,
    /// What was found, and where. Never a secret.
    pub text: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Finding {
    /// Something that is as it should be.
    pub fn fine(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Fine, check, text: text.into(), hint: None }
    }

    /// Something that is worth a look.
    pub fn odd(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Odd, ..Self::fine(check, text) }
    }

    /// Something that is wrong.
    pub fn wrong(check: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Wrong, ..Self::fine(check, text) }
    }

    /// Something that could not be found out, because of `error`.
    pub fn unknown(check: &'static str, error: &Error) -> Self {
        let text = match (error.meaning(), std::error::Error::source(error)) {
            // The error itself says nothing then.
            (Meaning::Other, Some(cause)) => format!("{error}: {cause}"),
            _ => error.to_string(),
        };
        Self { hint: error.hint().map(str::to_owned), ..Self::odd(check, text) }
    }

    /// Says what to do about it: one line that can be typed or followed.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
