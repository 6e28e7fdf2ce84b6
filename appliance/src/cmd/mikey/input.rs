//! Messages and keys as people have them: hexadecimal, base64, binary.

use std::path::Path;

use anyhow::Context;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use mikey_sakke::codec::limits;
use pc5_control::files::FileKind;
use zeroize::Zeroizing;

use crate::exit::usage;

/// Hexadecimal with spaces is the longest form.
const MESSAGE: FileKind = FileKind::new("message", 4 * limits::MESSAGE);

/// A message from a file, or from standard input for `-`.
pub(super) fn message(path: &Path) -> anyhow::Result<Vec<u8>> {
    let mut raw = if path == Path::new("-") {
        MESSAGE.read_from(std::io::stdin()).context("standard input")?
    } else {
        MESSAGE.read(path).with_context(|| path.display().to_string())?
    };
    Ok(octets(std::mem::take(&mut *raw)))
}

/// Hexadecimal if it is that, else base64 (with the prefix of RFC 4567 or without) if that gives a first octet of 1,
/// else the octets themselves.
fn octets(raw: Vec<u8>) -> Vec<u8> {
    let Ok(text) = std::str::from_utf8(&raw) else { return raw };
    let text: String = text.trim_start().strip_prefix("mikey ").unwrap_or(text).split_whitespace().collect();
    if let Ok(octets) = hex::decode(&text)
        && !octets.is_empty()
    {
        return octets;
    }
    match BASE64_STANDARD.decode(&text) {
        Ok(octets) if octets.first() == Some(&1) => octets,
        _ => raw,
    }
}

/// A key in hexadecimal, or `-` for a line on standard input, so that it does not show in the list of processes.
pub(super) fn key(given: &str) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(given.to_owned());
    if given == "-" {
        text.clear();
        std::io::stdin().read_line(&mut text).context("standard input")?;
    }
    hex::decode(text.trim()).map(Zeroizing::new).map_err(|_| usage("a key is given in hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_forms() {
        let message = hex::decode("010006000102030400010055aa").unwrap();
        let forms = [
            "01000600 0102030400 0100\n55AA\n".as_bytes().to_vec(),
            BASE64_STANDARD.encode(&message).into_bytes(),
            format!("mikey {}\r\n", BASE64_STANDARD.encode(&message)).into_bytes(),
            message.clone(),
        ];
        for form in forms {
            assert_eq!(octets(form), message);
        }
        assert_eq!(octets(vec![]), b"");
    }
}
