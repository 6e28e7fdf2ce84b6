//! Exit codes of `design.md` section 6, and the one place where errors become lines for people.

use std::io::ErrorKind;
use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Exit {
    /// Done.
    Ok = 0,
    /// Failed.
    Failed = 1,
    /// The command line asks for something that is not there or does not fit together.
    Usage = 2,
    /// The daemon is not reachable.
    NotReachable = 3,
    /// Refused by policy.
    Refused = 4,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// A failure with an exit code of its own; every other error is [`Exit::Failed`].
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct Stop {
    pub exit: Exit,
    message: String,
}

/// An error of usage: says what to write instead.
pub(crate) fn usage(message: impl Into<String>) -> anyhow::Error {
    Stop { exit: Exit::Usage, message: message.into() }.into()
}

/// What the command line names and is not there, or is no file, is an error of usage; whatever else went wrong stays what it is.
pub(crate) fn usage_if_missing(error: anyhow::Error) -> anyhow::Error {
    let kinds = [ErrorKind::NotFound, ErrorKind::IsADirectory, ErrorKind::NotADirectory];
    let is_missing =
        error.chain().filter_map(|e| e.downcast_ref::<std::io::Error>()).any(|e| kinds.contains(&e.kind()));
    if is_missing { usage(told(&error)) } else { error }
}

/// A refusal by policy.
pub(crate) fn refused(message: impl Into<String>) -> anyhow::Error {
    Stop { exit: Exit::Refused, message: message.into() }.into()
}

/// A daemon that does not answer.
pub(crate) fn unreachable(message: impl Into<String>) -> anyhow::Error {
    Stop { exit: Exit::NotReachable, message: message.into() }.into()
}

/// An error with its causes, but for those whose words are there already.
pub(crate) fn told(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if text.is_empty() {
            text = cause;
        } else if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

/// Prints an error, if there is one, and gives the exit code.
pub(crate) fn report(result: anyhow::Result<Exit>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(e) => {
            eprintln!("pc5: {}", told(&e));
            e.downcast_ref::<Stop>().map_or(Exit::Failed, |s| s.exit).into()
        }
    }
}
