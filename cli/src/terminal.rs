//! What kind of place the output goes to.

use std::io::IsTerminal;

/// Colours, or none. Text is coloured by meaning, so that what is bad looks the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Paint {
    enabled: bool,
}

impl Paint {
    /// No colours.
    pub const PLAIN: Self = Self { enabled: false };

    /// Colours if the output is a terminal that can show them and nobody asked for none
    /// (<https://no-color.org>).
    pub fn decide(is_terminal: bool, no_color: Option<&str>, term: Option<&str>) -> Self {
        let unwanted = no_color.is_some_and(|value| !value.is_empty()) || term == Some("dumb");
        Self {
            enabled: is_terminal && !unwanted,
        }
    }

    /// Colours for standard output.
    pub fn for_stdout() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self::decide(
            std::io::stdout().is_terminal(),
            variable("NO_COLOR").as_deref(),
            variable("TERM").as_deref(),
        )
    }

    /// Colours for standard error.
    pub fn for_stderr() -> Self {
        let variable = |name| std::env::var(name).ok();
        Self::decide(
            std::io::stderr().is_terminal(),
            variable("NO_COLOR").as_deref(),
            variable("TERM").as_deref(),
        )
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.enabled && !text.is_empty() {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }

    /// Something that is as it should be.
    pub fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// Something to look at.
    pub fn warn(self, text: &str) -> String {
        self.code("33", text)
    }

    /// Something that is broken.
    pub fn bad(self, text: &str) -> String {
        self.code("1;31", text)
    }

    /// A heading or a name.
    pub fn strong(self, text: &str) -> String {
        self.code("1", text)
    }

    /// Of little importance.
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    /// Something to type.
    pub fn command(self, text: &str) -> String {
        self.code("36", text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_need_a_terminal_that_wants_them() {
        let colours = |terminal, no_color, term| Paint::decide(terminal, no_color, term).enabled;
        assert!(colours(true, None, Some("xterm")));
        assert!(
            colours(true, Some(""), None),
            "an empty NO_COLOR counts as unset"
        );
        assert!(!colours(true, Some("1"), Some("xterm")));
        assert!(!colours(true, None, Some("dumb")));
        assert!(!colours(false, None, Some("xterm")));
    }

    #[test]
    fn plain_text_stays_plain() {
        assert_eq!(Paint::PLAIN.bad("x"), "x");
        assert_eq!(Paint { enabled: true }.bad("x"), "\x1b[1;31mx\x1b[0m");
    }
}
