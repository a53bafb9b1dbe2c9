//! How a command ends, and what it says when it does not end well.

use std::fmt;

/// How a command ended, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// What was asked for is done.
    Done,
    /// It could not be done.
    Failed,
    /// The command line is not valid.
    Usage,
    /// It was not begun, because it would not be safe.
    Refused,
    /// It is still under way, but nobody waits for it any more.
    StillUnderWay,
}

impl Exit {
    /// The process's exit code.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::StillUnderWay => 4,
        }
    }
}

/// Why a command did not do what it was asked for.
///
/// Every failure says what was tried and against which object, what came back, and what to do
/// next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The exit code that belongs to it.
    pub exit: Exit,
    /// What was tried, the object's name included.
    pub tried: String,
    /// What came back.
    pub returned: String,
    /// What to do: sentences, or commands to type.
    pub next: Vec<String>,
}

impl Failure {
    /// It could not be done.
    pub fn failed(tried: impl Into<String>, returned: impl Into<String>) -> Self {
        Self::new(Exit::Failed, tried, returned)
    }

    /// It was not begun, because it would not be safe.
    pub fn refused(tried: impl Into<String>, returned: impl Into<String>) -> Self {
        Self::new(Exit::Refused, tried, returned)
    }

    /// The command line asks for something that does not exist or does not go together.
    pub fn usage(tried: impl Into<String>, returned: impl Into<String>) -> Self {
        Self::new(Exit::Usage, tried, returned)
    }

    /// It is still under way, but nobody waits for it any more.
    pub fn under_way(tried: impl Into<String>, returned: impl Into<String>) -> Self {
        Self::new(Exit::StillUnderWay, tried, returned)
    }

    fn new(exit: Exit, tried: impl Into<String>, returned: impl Into<String>) -> Self {
        Self {
            exit,
            tried: tried.into(),
            returned: returned.into(),
            next: Vec::new(),
        }
    }

    /// Adds a next step.
    #[must_use]
    pub fn next(mut self, step: impl Into<String>) -> Self {
        self.next.push(step.into());
        self
    }

    /// Adds next steps.
    #[must_use]
    pub fn next_all(mut self, steps: impl IntoIterator<Item = String>) -> Self {
        self.next.extend(steps);
        self
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.tried, self.returned)?;
        for step in &self.next {
            write!(f, "\n  next: {step}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_what_was_tried_what_came_back_and_what_to_do() {
        let failure = Failure::refused("Unit shop/orders was not switched over", "bj is behind")
            .next("mactl status shop/orders");
        assert_eq!(
            failure.to_string(),
            "Unit shop/orders was not switched over: bj is behind\n  next: mactl status shop/orders"
        );
        assert_eq!(failure.exit.code(), 3);
    }
}
