//! The key log: with it and a protected capture anybody can verify and decipher. Written only when asked for explicitly.
//! Source: `design.md` section 5.

use std::fmt::Write as _;

use zeroize::Zeroizing;

use crate::ids::{GroupId, KdSessId, Layer2Id, LinkRole, PgkId};
use crate::kdf::{KdSess, Pgk};
use crate::keys::Command;
use crate::suite::Suite;

/// One line.
pub enum KeyLogLine {
    /// `GROUP <group id> <pgk id> <suite> <PGK>`
    Group {
        /// Group.
        group: GroupId,
        /// PGK Identity.
        pgk_id: PgkId,
        /// Suite.
        suite: Suite,
        /// Key.
        pgk: Pgk,
    },
    /// `LINK <UE-1> <UE-2> <KD-sess id> <suite> <KD-sess>`; UE-2 sent the command.
    Link {
        /// UE-1.
        ue1: Layer2Id,
        /// UE-2.
        ue2: Layer2Id,
        /// KD-sess id.
        id: KdSessId,
        /// Suite.
        suite: Suite,
        /// Key.
        kd_sess: KdSess,
    },
}

impl KeyLogLine {
    /// The key that a command installs; none for other commands.
    pub fn installed(by: &Command) -> Option<Self> {
        match by {
            Command::InstallGroup(k) => {
                let (group, pgk_id, suite) = (k.group, k.pgk_id, k.suite);
                Some(Self::Group { group, pgk_id, suite, pgk: k.pgk.duplicate() })
            }
            Command::InstallLink(k, _) => {
                let (ue1, ue2) = if k.role == LinkRole::Ue1 { (k.local, k.peer) } else { (k.peer, k.local) };
                Some(Self::Link { ue1, ue2, id: k.id, suite: k.suite, kd_sess: k.kd_sess.duplicate() })
            }
            _ => None,
        }
    }

    /// The suite of the key.
    pub fn suite(&self) -> Suite {
        match self {
            Self::Group { suite, .. } | Self::Link { suite, .. } => *suite,
        }
    }

    /// The line without its end.
    pub fn to_line(&self) -> Zeroizing<String> {
        let mut line = Zeroizing::new(String::with_capacity(LONGEST_LINE));
        // Writing to a String cannot fail.
        let _ = match self {
            Self::Group { group, pgk_id, suite, .. } => {
                write!(line, "GROUP {group} {:02x} {suite} ", pgk_id.0)
            }
            Self::Link { ue1, ue2, id, suite, .. } => write!(line, "LINK {ue1} {ue2} {id} {suite} "),
        };
        let key = match self {
            Self::Group { pgk, .. } => pgk.expose(),
            Self::Link { kd_sess, .. } => kd_sess.expose(),
        };
        for octet in key {
            let _ = write!(line, "{octet:02x}");
        }
        line
    }
}

/// Octets that a line has at most, and its end: a key is not copied because its line grows.
const LONGEST_LINE: usize = 128;

/// A line that is no key.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("key log line {line}: {found} where {wanted} was wanted")]
pub struct KeyLogError {
    /// From 1.
    pub line: usize,
    /// What stood there. Never a key: those are named by their length.
    pub found: String,
    /// What would be right.
    pub wanted: &'static str,
}

/// Reads a key log. `#` begins a comment; empty lines are allowed; any other line is an error.
///
/// # Errors
/// [`KeyLogError`] for the first line that is none.
pub fn parse(text: &str) -> Result<Vec<KeyLogLine>, KeyLogError> {
    let mut lines = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let content = line.split('#').next().unwrap_or("");
        let content = if content.len() < line.len() { content.trim_end_matches(' ') } else { content };
        if !content.is_empty() {
            lines.push(parse_line(content).map_err(|(found, wanted)| KeyLogError {
                line: i + 1,
                found,
                wanted,
            })?);
        }
    }
    Ok(lines)
}

type Wrong = (String, &'static str);

fn parse_line(line: &str) -> Result<KeyLogLine, Wrong> {
    let fields: Vec<&str> = line.split(' ').collect();
    match fields[..] {
        ["GROUP", group, pgk_id, suite, key] => Ok(KeyLogLine::Group {
            group: id(group)?,
            pgk_id: PgkId(hex_octets::<1>(pgk_id, "a PGK id of 2 lower-case hexadecimal digits")?[0]),
            suite: suite_of(suite)?,
            pgk: Pgk::new(key_octets(key)?),
        }),
        ["LINK", ue1, ue2, kd_sess_id, suite, key] => {
            let [high, low] = hex_octets::<2>(kd_sess_id, "a KD-sess id of 4 lower-case hexadecimal digits")?;
            let id_wrong = || ("0000".to_owned(), "a KD-sess id other than 0");
            let suite_wrong = || (format!("suite {suite}"), "a suite with integrity on a link");
            Ok(KeyLogLine::Link {
                ue1: id(ue1)?,
                ue2: id(ue2)?,
                id: KdSessId::from_halves(high, low).ok_or_else(id_wrong)?,
                suite: Some(suite_of(suite)?).filter(|s| s.has_integrity()).ok_or_else(suite_wrong)?,
                kd_sess: KdSess::new(key_octets(key)?),
            })
        }
        ["GROUP" | "LINK", ..] => Err((
            format!("{} fields", fields.len()),
            "'GROUP group pgk-id suite PGK' or 'LINK ue1 ue2 kd-sess-id suite KD-sess', single spaces,",
        )),
        _ => Err(("a line of another kind".into(), "GROUP, LINK or a comment")),
    }
}

fn id<T: std::str::FromStr>(text: &str) -> Result<T, Wrong> {
    let wrong = || (format!("'{text}'"), "an id of 6 lower-case hexadecimal digits");
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(wrong());
    }
    text.parse().map_err(|_| wrong())
}

fn suite_of(text: &str) -> Result<Suite, Wrong> {
    text.parse().map_err(|_| (format!("'{text}'"), "the name of a suite"))
}

fn key_octets(text: &str) -> Result<[u8; 32], Wrong> {
    hex_octets(text, "a key of 64 lower-case hexadecimal digits")
        .map_err(|(_, wanted)| (format!("a key of {} characters", text.len()), wanted))
}

fn hex_octets<const N: usize>(text: &str, wanted: &'static str) -> Result<[u8; N], Wrong> {
    let wrong = || (format!("'{text}'"), wanted);
    if text.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(wrong());
    }
    let mut octets = [0; N];
    hex::decode_to_slice(text, &mut octets).map_err(|_| wrong())?;
    Ok(octets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    #[test]
    fn lines_come_back() {
        let text = format!(
            "# laboratory\n\nGROUP a0b0c0 21 aes-256-gcm {KEY}\nLINK 000001 fffffe 0203 eea2-eia2 {KEY} # rekeyed\n"
        );
        let lines: Vec<_> = parse(&text).unwrap().iter().map(KeyLogLine::to_line).collect();
        assert!(lines.iter().all(|line| line.capacity() == LONGEST_LINE), "no copy of a key is left behind");
        assert_eq!(
            lines.iter().map(|line| line.as_str()).collect::<Vec<_>>(),
            [
                format!("GROUP a0b0c0 21 aes-256-gcm {KEY}"),
                format!("LINK 000001 fffffe 0203 eea2-eia2 {KEY}")
            ]
        );
    }

    #[test]
    fn anything_else_is_an_error_that_names_the_line() {
        for bad in [
            "group a0b0c0 21 aes-256-gcm 00",
            "GROUP a0b0c0 21  aes-256-gcm 00",
            "GROUP A0B0C0 21 eea2 00",
            "LINK 000001 fffffe 0000 eea2-eia2 00",
            "LINK 000001 fffffe 0203 eea2 00",
            "GROUP a0b0c0 21 eea9 00",
            " GROUP a0b0c0 21 eea2 00",
        ] {
            let bad = format!("{}{KEY}", bad.strip_suffix("00").unwrap());
            let e = parse(&format!("# first\n{bad}\n")).err().unwrap_or_else(|| panic!("{bad}"));
            assert_eq!(e.line, 2, "{bad}");
        }
        let e = parse("GROUP a0b0c0 21 eea2 0011\n").err().unwrap();
        assert_eq!(e.found, "a key of 4 characters", "keys are never shown");
    }
}
