//! Asking before something dangerous is done.

use std::io::{BufRead, IsTerminal, Write};

use crate::failure::Failure;

/// What to do before something dangerous.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// It was given on the command line.
    Given,
    /// Somebody is there to be asked.
    Ask,
    /// Nobody is there to be asked.
    Missing,
}

/// `--yes` gives consent; otherwise somebody must be at both ends of a terminal.
pub fn consent(yes: bool, stdin_is_terminal: bool, stderr_is_terminal: bool) -> Consent {
    match (yes, stdin_is_terminal && stderr_is_terminal) {
        (true, _) => Consent::Given,
        (false, true) => Consent::Ask,
        (false, false) => Consent::Missing,
    }
}

/// Only a plain yes is one; an empty line is a no.
pub fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// Gets consent for `question`, or fails as refused.
///
/// Blocks on standard input; nothing else runs meanwhile.
pub fn obtain(yes: bool, question: &str, not_done: &str, command: &str) -> Result<(), Failure> {
    let prompt = format!("{question} [y/N] ");
    let declined = "it was not confirmed. Nothing was changed";
    ask(yes, &prompt, is_yes, declined, not_done, command)
}

/// Only the number itself confirms; an empty line does not.
pub fn is_number(answer: &str, number: u64) -> bool {
    answer.trim() == number.to_string()
}

/// Has a number typed that `question` names, or fails as refused.
///
/// Blocks on standard input; nothing else runs meanwhile.
pub fn obtain_number(
    yes: bool,
    question: &str,
    number: u64,
    not_done: &str,
    command: &str,
) -> Result<(), Failure> {
    let prompt = format!("{question} Type {number} to confirm: ");
    let declined = "the number was not typed. Nothing was changed";
    let confirms = |answer: &str| is_number(answer, number);
    ask(yes, &prompt, confirms, declined, not_done, command)
}

fn ask(
    yes: bool,
    prompt: &str,
    confirms: impl Fn(&str) -> bool,
    declined: &str,
    not_done: &str,
    command: &str,
) -> Result<(), Failure> {
    let terminals = (
        std::io::stdin().is_terminal(),
        std::io::stderr().is_terminal(),
    );
    match consent(yes, terminals.0, terminals.1) {
        Consent::Given => Ok(()),
        Consent::Missing => Err(Failure::refused(
            not_done,
            "it has to be confirmed, and there is no terminal to ask at",
        )
        .next(format!("{command} --yes"))),
        Consent::Ask => {
            let mut stderr = std::io::stderr();
            let mut answer = String::new();
            write!(stderr, "{prompt}")
                .and_then(|()| stderr.flush())
                .and_then(|()| std::io::stdin().lock().read_line(&mut answer))
                .map_err(|error| Failure::failed(not_done, format!("asking failed: {error}")))?;
            if confirms(&answer) {
                Ok(())
            } else {
                Err(Failure::refused(not_done, declined))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_yes_and_without_a_terminal_there_is_no_consent() {
        assert_eq!(consent(true, false, false), Consent::Given);
        assert_eq!(consent(false, true, true), Consent::Ask);
        assert_eq!(consent(false, false, true), Consent::Missing);
        assert_eq!(consent(false, true, false), Consent::Missing);
    }

    #[test]
    fn only_the_number_itself_confirms() {
        assert!(is_number(" 12\n", 12));
        assert!(!is_number("\n", 0) && !is_number("y\n", 1) && !is_number("11", 12));
    }

    #[test]
    fn only_a_plain_yes_is_one() {
        assert!(is_yes("y\n") && is_yes(" YES\n"));
        assert!(!is_yes("\n") && !is_yes("yeah") && !is_yes(""));
    }
}
