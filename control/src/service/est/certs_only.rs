//! "certs-only" CMS messages: certificates in a SignedData without signers. Source: RFC 5652 5; RFC 7030 4.1.3, 4.2.3.
//!
//! ```text
//! ContentInfo { id-signedData, [0] SignedData { 1, {}, { id-data }, [0] { certificate ... }, {} } }
//! ```

use const_oid::ObjectIdentifier;
use der::{Decode, Reader, SliceReader, Tag, TagNumber};

/// Certificates (DER) as one message, DER.
pub(crate) fn encode(certificates: &[Vec<u8>]) -> Vec<u8> {
    let oid = |oid: ObjectIdentifier| tlv(0x06, oid.as_bytes());
    let signed_data = [
        tlv(0x02, &[1]),
        tlv(0x31, &[]),
        tlv(0x30, &oid(ID_DATA)),
        tlv(0xA0, &certificates.concat()),
        tlv(0x31, &[]),
    ];
    let signed_data = tlv(0x30, &signed_data.concat());
    tlv(0x30, &[oid(ID_SIGNED_DATA), tlv(0xA0, &signed_data)].concat())
}

/// Certificates of a message, DER, in its order; `None` when it is not one. Signers and CRLs in it are passed over.
pub(crate) fn decode(message: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut reader = SliceReader::new(message).ok()?;
    let certificates = reader
        .sequence(|r| {
            if ObjectIdentifier::decode(r)? != ID_SIGNED_DATA {
                return Err(der::Error::from(der::ErrorKind::Failed));
            }
            let tag = Tag::ContextSpecific { constructed: true, number: TagNumber(0) };
            nested(r, tag, |r| {
                r.sequence(|r| {
                    r.tlv_bytes()?; // version
                    r.tlv_bytes()?; // digestAlgorithms
                    r.tlv_bytes()?; // encapContentInfo
                    let mut certificates = Vec::new();
                    if Tag::peek(r)? == tag {
                        nested(r, tag, |r| {
                            while !r.is_finished() {
                                certificates.push(r.tlv_bytes()?.to_vec());
                            }
                            Ok(())
                        })?;
                    }
                    while !r.is_finished() {
                        r.tlv_bytes()?;
                    }
                    Ok::<_, der::Error>(certificates)
                })
            })
        })
        .ok()?;
    reader.finish().ok()?;
    Some(certificates)
}

fn nested<'r, R: Reader<'r>, T>(
    reader: &mut R,
    tag: Tag,
    read: impl FnOnce(&mut R) -> der::Result<T>,
) -> der::Result<T> {
    let header = der::Header::decode(reader)?;
    if header.tag() != tag {
        return Err(header.tag().unexpected_error(Some(tag)).into());
    }
    reader.read_nested(header.length(), read)
}

fn tlv(tag: u8, value: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match value.len() {
        short @ 0..=0x7F => out.push(short as u8),
        long => {
            let octets: Vec<u8> = long.to_be_bytes().into_iter().skip_while(|&b| b == 0).collect();
            out.push(0x80 | octets.len() as u8);
            out.extend_from_slice(&octets);
        }
    }
    out.extend_from_slice(value);
    out
}

const ID_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.1");
const ID_SIGNED_DATA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.7.2");

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_written_is_read() {
        let certificates = vec![tlv(0x30, &[5; 300]), tlv(0x30, &[]), tlv(0x30, &[7; 70_000])];
        let message = encode(&certificates);
        assert_eq!(decode(&message).unwrap(), certificates);
        assert_eq!(decode(&encode(&[])).unwrap(), Vec::<Vec<u8>>::new());
        for cut in [0, 1, 10, 40, message.len() - 1] {
            assert!(decode(&message[..cut]).is_none());
        }
    }

    proptest! {
        #[test]
        fn any_octets_are_read_or_refused(octets in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&octets);
        }

        #[test]
        fn altered_messages_are_read_or_refused(i in 0..60_usize, v in any::<u8>()) {
            let mut message = encode(&[tlv(0x30, &[5; 30])]);
            let i = i % message.len();
            message[i] = v;
            let _ = decode(&message);
        }
    }
}
