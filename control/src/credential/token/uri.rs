//! Where a key in a token is: a PKCS#11 URI. Source: RFC 7512 sections 2.3 and 2.4.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What such a URI begins with.
pub const SCHEME: &str = "pkcs11:";

/// A private key in a token: `pkcs11:token=T;object=O?module-path=M&pin-source=P`. The PIN itself never stands in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenUri {
    /// The PKCS#11 module (`module-path`).
    pub module: PathBuf,
    /// The token's label (`token`).
    pub token: Option<String>,
    /// The token's serial number (`serial`).
    pub serial: Option<String>,
    /// The key's label (`object`).
    pub object: Option<String>,
    /// The key's CKA_ID (`id`).
    pub id: Option<Vec<u8>>,
    /// The file with the user PIN (`pin-source`); none where the token has a PIN pad or wants no PIN.
    pub pin: Option<PathBuf>,
}

/// Why a text is no URI of a key in a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// Another scheme.
    #[error("a key in a token begins with \"pkcs11:\"")]
    Scheme,
    /// An attribute that is not known, or stands on the wrong side of the `?`.
    #[error(
        "attribute \"{0}\" is not known here: token, serial, object, id, type=private; after ? module-path, pin-source"
    )]
    Unknown(String),
    /// An attribute that stands there twice.
    #[error("attribute \"{0}\" stands there twice")]
    Twice(String),
    /// A value that is not what its attribute has.
    #[error("attribute \"{0}\" has a value that cannot be read: {1}")]
    Value(String, &'static str),
    /// An attribute that is needed.
    #[error("no {0}")]
    Missing(&'static str),
    /// A PIN in the open.
    #[error("pin-value puts the PIN where others read it: write pin-source=FILE")]
    PinInTheOpen,
}

impl FromStr for TokenUri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Self, UriError> {
        let rest = text.strip_prefix(SCHEME).ok_or(UriError::Scheme)?;
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let [mut token, mut serial, mut object] = [const { None }; 3];
        let [mut module, mut pin] = [const { None }; 2];
        let mut id = None;
        for (name, value) in attributes(path, ';') {
            match name {
                "token" => once(&mut token, name, string(name, value)?)?,
                "serial" => once(&mut serial, name, string(name, value)?)?,
                "object" => once(&mut object, name, string(name, value)?)?,
                "id" => once(&mut id, name, octets(name, value)?)?,
                "type" if value == "private" => {}
                "type" => return Err(UriError::Value(name.into(), "a key that signs is \"private\"")),
                _ => return Err(UriError::Unknown(name.into())),
            }
        }
        for (name, value) in attributes(query, '&') {
            match name {
                "module-path" => once(&mut module, name, file(name, value)?)?,
                "pin-source" => once(&mut pin, name, file(name, value)?)?,
                "pin-value" => return Err(UriError::PinInTheOpen),
                _ => return Err(UriError::Unknown(name.into())),
            }
        }
        if token.is_none() && serial.is_none() {
            return Err(UriError::Missing("token=LABEL or serial=NUMBER"));
        }
        if object.is_none() && id.is_none() {
            return Err(UriError::Missing("object=LABEL or id=%01%02 of the key"));
        }
        let module = module.ok_or(UriError::Missing("?module-path=FILE of the token's PKCS#11 module"))?;
        Ok(Self { module, token, serial, object, id, pin })
    }
}

impl TokenUri {
    /// The same with paths that begin in `base` where they are relative.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        let pin = self.pin.map(|pin| base.join(pin));
        Self { module: base.join(self.module), pin, ..self }
    }

    /// What the token is known by.
    pub(super) fn token_name(&self) -> String {
        named("token", [("label", &self.token), ("serial", &self.serial)])
    }

    /// What the key is known by.
    pub(super) fn key_name(&self) -> String {
        let id = self.id.as_ref().map(hex::encode);
        named("private key", [("label", &self.object), ("id", &id)])
    }
}

impl fmt::Display for TokenUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {} of {}", self.key_name(), self.token_name(), self.module.display())
    }
}

fn named(what: &str, by: [(&str, &Option<String>); 2]) -> String {
    by.iter().filter_map(|(name, value)| value.as_ref().map(|v| format!(" {name} \"{v}\""))).fold(
        what.to_owned(),
        |mut all, one| {
            all.push_str(&one);
            all
        },
    )
}

fn attributes(text: &str, between: char) -> impl Iterator<Item = (&str, &str)> {
    text.split(between).filter(|a| !a.is_empty()).map(|a| a.split_once('=').unwrap_or((a, "")))
}

fn once<T>(place: &mut Option<T>, name: &str, value: T) -> Result<(), UriError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(UriError::Twice(name.into())),
    }
}

fn string(name: &str, value: &str) -> Result<String, UriError> {
    String::from_utf8(octets(name, value)?).map_err(|_| UriError::Value(name.into(), "not UTF-8"))
}

/// `pin-source` is a URI or a path. Source: RFC 7512 section 2.4.
fn file(name: &str, value: &str) -> Result<PathBuf, UriError> {
    let octets = octets(name, value)?;
    let path =
        octets.strip_prefix(b"file://".as_slice()).or_else(|| octets.strip_prefix(b"file:".as_slice()));
    let path = path.unwrap_or(&octets);
    if path.starts_with(b"|") {
        return Err(UriError::Value(name.into(), "programs are not started for it; write a file"));
    }
    Ok(PathBuf::from(OsString::from_vec(path.to_vec())))
}

/// Percent-decoded, and not empty.
fn octets(name: &str, value: &str) -> Result<Vec<u8>, UriError> {
    let wrong = |why| UriError::Value(name.to_owned(), why);
    let mut out = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(octet) = rest.next() {
        out.push(match octet {
            b'%' => {
                let digits = [rest.next(), rest.next()].map(|d| d.and_then(|d| char::from(d).to_digit(16)));
                let [Some(high), Some(low)] = digits else {
                    return Err(wrong("two hexadecimal digits follow %"));
                };
                u8::try_from(high * 16 + low).map_err(|_| wrong("two hexadecimal digits follow %"))?
            }
            other => other,
        });
    }
    match out.is_empty() {
        true => Err(wrong("it is empty")),
        false => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Result<TokenUri, UriError> {
        text.parse()
    }

    #[test]
    fn every_attribute_is_read() {
        let all = "pkcs11:token=pc5%20lab;serial=12;object=ue-1;id=%01%fF;type=private?module-path=/m.so&pin-source=file:/p";
        let wanted = TokenUri {
            module: "/m.so".into(),
            token: Some("pc5 lab".into()),
            serial: Some("12".into()),
            object: Some("ue-1".into()),
            id: Some(vec![1, 255]),
            pin: Some("/p".into()),
        };
        assert_eq!(uri(all), Ok(wanted.clone()));
        assert_eq!(
            wanted.to_string(),
            "private key label \"ue-1\" id \"01ff\" in token label \"pc5 lab\" serial \"12\" of /m.so"
        );
        let relative = uri("pkcs11:token=t;id=%31?module-path=m.so&pin-source=pin").unwrap();
        let placed = relative.relative_to(Path::new("/etc/pc5"));
        assert_eq!((placed.module, placed.pin), ("/etc/pc5/m.so".into(), Some("/etc/pc5/pin".into())));
    }

    #[test]
    fn what_is_wrong_is_named() {
        use UriError::*;
        let value = |name: &str, why| Err(Value(name.into(), why));
        for (text, why) in [
            ("token=t;object=o?module-path=m", Err(Scheme)),
            ("pkcs11:object=o?module-path=m", Err(Missing("token=LABEL or serial=NUMBER"))),
            ("pkcs11:token=t?module-path=m", Err(Missing("object=LABEL or id=%01%02 of the key"))),
            ("pkcs11:token=t;object=o", Err(Missing("?module-path=FILE of the token's PKCS#11 module"))),
            ("pkcs11:token=t;object=o;pin-source=p?module-path=m", Err(Unknown("pin-source".into()))),
            ("pkcs11:token=t;object=o?module-path=m&pin-value=1", Err(PinInTheOpen)),
            ("pkcs11:token=t;token=u;object=o?module-path=m", Err(Twice("token".into()))),
            ("pkcs11:token=%2;object=o?module-path=m", value("token", "two hexadecimal digits follow %")),
            ("pkcs11:token=%ff;object=o?module-path=m", value("token", "not UTF-8")),
            ("pkcs11:token=;object=o?module-path=m", value("token", "it is empty")),
            ("pkcs11:token;object=o?module-path=m", value("token", "it is empty")),
            (
                "pkcs11:token=t;object=o;type=cert?module-path=m",
                value("type", "a key that signs is \"private\""),
            ),
            (
                "pkcs11:token=t;object=o?module-path=m&pin-source=|sh",
                value("pin-source", "programs are not started for it; write a file"),
            ),
        ] {
            assert_eq!(uri(text), why, "{text}");
        }
    }
}
