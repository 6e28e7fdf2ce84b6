//! Enrolment over secure transport (RFC 7030): how a device gets its certificate from its home network, and roots and
//! CRLs while it is in reach of it. Source: `go-mode.md` sections 1 and 8.
//!
//! ```text
//! GET  /.well-known/est/cacerts                    own root, and the CAs below it
//! GET  /.well-known/est/plmn-MCC-MNC/cacerts       roots of another network; 404: none, drop what was held
//! POST /.well-known/est/simpleenroll               HTTP Basic with the device's secret, PKCS#10
//! POST /.well-known/est/simplereenroll             TLS client authentication with the present certificate, PKCS#10
//! GET  /pc5/crl.der                                the newest CRL (no part of RFC 7030)
//! ```

mod certs_only;
pub mod client;
pub mod server;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

/// Base64 in lines of 76, as MIME has it. RFC 8951 has receivers ignore the line ends.
fn to_base64(octets: &[u8]) -> String {
    let text = STANDARD.encode(octets);
    let lines = text.as_bytes().chunks(76).map(|line| String::from_utf8_lossy(line).into_owned() + "\r\n");
    lines.collect()
}

fn from_base64(text: &[u8]) -> Option<Vec<u8>> {
    let digits: Vec<u8> = text.iter().copied().filter(|b| !b.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_of_any_line_length_is_read() {
        let octets: Vec<u8> = (0..=255).collect();
        let text = to_base64(&octets);
        assert!(text.lines().all(|l| l.len() <= 76));
        assert_eq!(from_base64(text.as_bytes()).unwrap(), octets);
        assert_eq!(from_base64(text.replace("\r\n", "").as_bytes()).unwrap(), octets);
        assert!(from_base64(b"AA=A").is_none());
        assert!(from_base64(b"-----BEGIN").is_none());
    }
}
