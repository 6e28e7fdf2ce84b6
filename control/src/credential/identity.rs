//! What a certificate says about its holder: the `pc5:` URIs of its SubjectAltName.
//! Source: `go-mode.md` section 1, leaf profile.

use std::fmt;
use std::str::FromStr;

use pc5_dataplane::ids::GroupId;

/// Public land mobile network: MCC (3 digits) and MNC (2 or 3 digits). `001-01` and `001-001` are different ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Plmn {
    mcc: u16,
    mnc: u16,
    mnc_digits: u8,
}

impl Plmn {
    /// Mobile country code.
    pub const fn mcc(self) -> u16 {
        self.mcc
    }

    /// Mobile network code; [`Self::mnc_digits`] tells `01` from `001`.
    pub const fn mnc(self) -> u16 {
        self.mnc
    }

    /// Digits of the mobile network code: 2 or 3.
    pub const fn mnc_digits(self) -> u8 {
        self.mnc_digits
    }
}

impl fmt::Display for Plmn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:03}-{:0width$}", self.mcc, self.mnc, width = self.mnc_digits.into())
    }
}

impl fmt::Debug for Plmn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plmn({self})")
    }
}

impl FromStr for Plmn {
    type Err = NameError;

    /// `MCC-MNC`.
    fn from_str(s: &str) -> Result<Self, NameError> {
        let wrong = || NameError { found: s.into(), wanted: "MCC-MNC: 3 digits, a dash, 2 or 3 digits" };
        let (mcc, mnc) = s.split_once('-').ok_or_else(wrong)?;
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if mcc.len() != 3 || !(2..=3).contains(&mnc.len()) || !digits(mcc) || !digits(mnc) {
            return Err(wrong());
        }
        let number = |t: &str| t.parse::<u16>().map_err(|_| wrong());
        Ok(Self { mcc: number(mcc)?, mnc: number(mnc)?, mnc_digits: if mnc.len() == 2 { 2 } else { 3 } })
    }
}

/// Who a device is: `pc5:MCC-MNC:ue:ID`, ID 1 to 64 of a-z 0-9 . - (one spelling only, so that equal identities are
/// equal octets).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity {
    plmn: Plmn,
    id: Box<str>,
}

impl Identity {
    /// From its two parts.
    ///
    /// # Errors
    /// [`NameError`] when `id` has other characters or another length.
    pub fn new(plmn: Plmn, id: &str) -> Result<Self, NameError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
        if id.is_empty() || id.len() > 64 || !id.bytes().all(legal) {
            return Err(NameError { found: id.into(), wanted: "1 to 64 of a-z 0-9 . -" });
        }
        Ok(Self { plmn, id: id.into() })
    }

    /// Its home network: the one whose root must have vouched for it.
    pub const fn plmn(&self) -> Plmn {
        self.plmn
    }

    /// The part after `ue:`.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pc5:{}:ue:{}", self.plmn, self.id)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({self})")
    }
}

impl FromStr for Identity {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let wrong = || NameError { found: s.into(), wanted: "pc5:MCC-MNC:ue:ID" };
        let (plmn, id) = s.strip_prefix("pc5:").and_then(|s| s.split_once(":ue:")).ok_or_else(wrong)?;
        Self::new(plmn.parse()?, id)
    }
}

/// What a holder may be in the protocol: it decides, a valid certificate alone makes nobody a group owner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Joins groups; opens sessions.
    Member,
    /// Answers joins.
    Owner,
    /// ProSe UE-to-network relay.
    Relay,
    /// Public-safety UE.
    PublicSafety,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Member, Self::Owner, Self::Relay, Self::PublicSafety];

    /// As in `pc5:role:NAME`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Member => "member",
            Self::Owner => "owner",
            Self::Relay => "relay",
            Self::PublicSafety => "public-safety",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let wrong = || NameError { found: s.into(), wanted: "member, owner, relay or public-safety" };
        Self::ALL.into_iter().find(|r| r.name() == s).ok_or_else(wrong)
    }
}

/// A set of roles.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Roles(u8);

impl Roles {
    /// Whether `role` is among them.
    pub const fn contains(self, role: Role) -> bool {
        self.0 & 1 << role as u8 != 0
    }

    /// Adds one.
    pub const fn insert(&mut self, role: Role) {
        self.0 |= 1 << role as u8;
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// In the order of [`Role::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Role> {
        Role::ALL.into_iter().filter(move |&r| self.contains(r))
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        let mut set = Self::default();
        roles.into_iter().for_each(|r| set.insert(r));
        set
    }
}

impl fmt::Debug for Roles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// One `pc5:` URI of a SubjectAltName.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Uri {
    /// `pc5:MCC-MNC:ue:ID`.
    Identity(Identity),
    /// `pc5:role:NAME`.
    Role(Role),
    /// `pc5:group:HHHHHH`, hexadecimal digits in either case.
    Group(GroupId),
}

impl FromStr for Uri {
    type Err = NameError;

    fn from_str(s: &str) -> Result<Self, NameError> {
        let rest = s.strip_prefix("pc5:").ok_or(NameError { found: s.into(), wanted: "a pc5: URI" })?;
        if let Some(role) = rest.strip_prefix("role:") {
            return role.parse().map(Self::Role);
        }
        if let Some(group) = rest.strip_prefix("group:") {
            let wrong = |_| NameError { found: s.into(), wanted: "pc5:group: and 6 hexadecimal digits" };
            return group.parse().map(Self::Group).map_err(wrong);
        }
        s.parse().map(Self::Identity)
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Identity(i) => write!(f, "{i}"),
            Self::Role(r) => write!(f, "pc5:role:{r}"),
            Self::Group(g) => write!(f, "pc5:group:{g}"),
        }
    }
}

/// A name written wrongly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("found '{found}' where {wanted} was wanted")]
pub struct NameError {
    /// What stood there.
    pub found: String,
    /// What would be right.
    pub wanted: &'static str,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris_are_read_as_they_are_written() {
        for s in ["pc5:001-01:ue:go-1", "pc5:234-015:ue:a.b-9", "pc5:role:public-safety", "pc5:group:a0b0c0"]
        {
            assert_eq!(s.parse::<Uri>().unwrap().to_string(), s);
        }
        assert_eq!("pc5:group:A0B0C0".parse::<Uri>(), "pc5:group:a0b0c0".parse::<Uri>());
        assert_ne!("001-01".parse::<Plmn>().unwrap(), "001-001".parse::<Plmn>().unwrap());
    }

    #[test]
    fn other_spellings_are_refused() {
        for s in [
            "pc5:001-01:ue:",
            "pc5:001-01:ue:A",
            "pc5:001-01:ue:a_b",
            "pc5:01-01:ue:a",
            "pc5:001-1:ue:a",
            "pc5:001-0101:ue:a",
            "pc5:+01-01:ue:a",
            "pc5:001-01:a",
            "pc5:role:Owner",
            "pc5:role:",
            "pc5:group:0",
            "pc5:group:0000000",
            "PC5:role:owner",
            "urn:x",
        ] {
            assert!(s.parse::<Uri>().is_err(), "{s}");
        }
        assert!(Identity::new("001-01".parse().unwrap(), &"a".repeat(65)).is_err());
        assert!(Identity::new("001-01".parse().unwrap(), &"a".repeat(64)).is_ok());
    }
}
