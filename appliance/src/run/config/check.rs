//! What checking a file needs everywhere: problems are collected, values read, files looked for.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use pc5_control::credential::Identity;
use pc5_control::policy::limits;
use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::suite::Suite;

/// One thing that is wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem(pub String);

/// A check under way.
pub(super) struct Checker<'a> {
    pub(super) base: &'a Path,
    pub(super) problems: Vec<Problem>,
}

impl Checker<'_> {
    pub(super) fn wrong(&mut self, key: &str, value: impl Display, write: impl Display) {
        self.problems.push(Problem(format!("{key} = \"{value}\": {write}")));
    }

    pub(super) fn missing(&mut self, key: &str, write: &str) {
        self.problems.push(Problem(format!("{key} is missing: {write}")));
    }

    pub(super) fn out_of_place(&mut self, key: &str, why: &str) {
        self.problems.push(Problem(format!("{key} stands here without effect: {why}")));
    }

    /// A value of a type that reads itself.
    pub(super) fn value<T: FromStr>(&mut self, key: &str, text: &str, write: &str) -> Option<T> {
        let value = text.parse().ok();
        if value.is_none() {
            self.wrong(key, text, format_args!("write {write}"));
        }
        value
    }

    pub(super) fn duration(&mut self, key: &str, text: Option<&str>, or: Duration) -> Duration {
        let Some(text) = text else { return or };
        duration(text).unwrap_or_else(|| {
            self.wrong(
                key,
                text,
                "write a number and its unit, as \"500ms\", \"30s\", \"5m\", \"1h\" or \"7d\"; 100 years at most",
            );
            or
        })
    }

    pub(super) fn suites(&mut self, key: &str, names: Option<&[String]>, or: Vec<Suite>) -> Vec<Suite> {
        let Some(names) = names else { return or };
        if names.is_empty() {
            self.wrong(key, "[]", "name at least one suite");
        }
        names.iter().filter_map(|name| self.suite(key, name)).collect()
    }

    pub(super) fn suite(&mut self, key: &str, name: &str) -> Option<Suite> {
        self.value(key, name, "a suite: eea1-eia1 eea2-eia2 eea3-eia3 aes-128-gcm aes-256-gcm nca4 nca5 nca6, and for groups eea0 to eea3")
    }

    /// A file that is there.
    pub(super) fn file(&mut self, key: &str, path: &Path) -> PathBuf {
        let path = self.base.join(path);
        // What may not be seen is missed when it is read; a daemon that gave up its rights does not read its key again.
        let is_hidden = || path.metadata().is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied);
        if !path.is_file() && !is_hidden() {
            self.wrong(
                key,
                path.display(),
                "no such file; write the path of one, relative to this configuration or absolute",
            );
        }
        path
    }

    /// A folder that is there.
    pub(super) fn folder(&mut self, key: &str, path: &Path) -> PathBuf {
        let path = self.base.join(path);
        if !path.is_dir() {
            self.wrong(
                key,
                path.display(),
                "no such folder; write the path of one, relative to this configuration or absolute",
            );
        }
        path
    }

    pub(super) fn layer2(&mut self, key: &str, text: &str) -> Option<Layer2Id> {
        self.value(key, text, "a Layer-2 id: 6 hexadecimal digits")
    }

    pub(super) fn group_id(&mut self, key: &str, text: &str) -> Option<GroupId> {
        self.value(key, text, "a ProSe Layer-2 group id: 6 hexadecimal digits")
    }

    pub(super) fn identity(&mut self, key: &str, text: &str) -> Option<Identity> {
        self.value(key, text, "an identity, as \"pc5:001-01:ue:ue-1\"")
    }
}

/// A number and its unit; a hundred years at most.
pub(super) fn duration(text: &str) -> Option<Duration> {
    any_duration(text).filter(|d| *d <= limits::LONGEST)
}

fn any_duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "ms" => return Some(Duration::from_millis(number)),
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("500ms"), Some(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Some(Duration::from_secs(7 * 86_400)));
        assert_eq!(duration("36525d"), Some(limits::LONGEST));
        for wrong in ["", "5", "s", "5 s", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
        for wrong in ["18446744073709551615s", "18446744073709551615ms", "36526d", "3155760001s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
