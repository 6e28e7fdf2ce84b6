//! What tests, benches and fuzzers share (feature `testkit`): the vector reader and the slow model.

use serde_json::Value;

use crate::cipher::{Job, Kernel};
use crate::crypto;
use crate::ids::{GroupId, Layer2Id, Lcid, PtkId, SduType};
use crate::kdf::{self, FrameKeys, KdSess, Pgk};
use crate::pdu::{self, Address, spec};
use crate::suite::Suite;

/// Reads a vector file of the project's shape.
///
/// # Panics
/// When the file is not there or not JSON: a broken checkout.
pub fn vectors(path: impl AsRef<std::path::Path>) -> Value {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Octets of a hexadecimal field.
///
/// # Panics
/// When the field is missing or not hexadecimal.
pub fn hex_field(object: &Value, name: &str) -> Vec<u8> {
    let text = object[name].as_str().unwrap_or_else(|| panic!("no text field {name} in {object}"));
    hex::decode(text).unwrap_or_else(|e| panic!("{name}: {e}"))
}

/// Key of a frame in the slow model.
pub enum ModelKey<'a> {
    /// One-to-many.
    Pgk(&'a Pgk),
    /// One-to-one.
    KdSess(&'a KdSess),
}

/// Everything a frame is made from.
pub struct ModelFrame<'a> {
    /// Destination and source.
    pub address: Address,
    /// Key.
    pub key: ModelKey<'a>,
    /// Suite.
    pub suite: Suite,
    /// Channel.
    pub lcid: Lcid,
    /// SDU type.
    pub sdu_type: SduType,
    /// PGK index, or 0.
    pub index: u8,
    /// PTK identity or KD-sess id.
    pub key_id: u16,
    /// PDCP SN.
    pub sn: u16,
    /// DIRECTION.
    pub direction: u8,
}

impl ModelFrame<'_> {
    fn keys(&self) -> FrameKeys {
        match (&self.key, self.address.destination()) {
            (ModelKey::Pgk(pgk), pdu::Destination::Group(group)) => {
                let id = PtkId::new(self.key_id).expect("a PTK identity of 1 or more");
                FrameKeys::from_ptk(&kdf::ptk(pgk, self.address.source(), id, group), self.suite)
            }
            (ModelKey::KdSess(kd_sess), pdu::Destination::Ue(_)) => {
                FrameKeys::from_kd_sess(kd_sess, self.suite)
            }
            _ => panic!("key and cast do not fit"),
        }
    }

    fn job(&self, lcid_and_sl: [u8; 2], pdcp: [u8; 5], start: usize, len: usize) -> Job {
        Job {
            aad: pdu::associated_data(self.address, lcid_and_sl, pdcp),
            start: start as u32,
            len: len as u32,
            key: crate::cipher::KeyIndex(0),
            count: crate::ids::count(self.key_id, self.sn),
            bearer_direction: Job::pack_bearer_direction(self.lcid.get(), self.direction),
            clear_data: self.lcid == Lcid::SECURITY_MODE && self.direction == 1,
            verified: false,
            slot: 0,
        }
    }

    fn pdcp(&self) -> [u8; 5] {
        let (k, s) = (self.key_id.to_be_bytes(), self.sn.to_be_bytes());
        [(self.sdu_type as u8) << 5 | self.index, k[0], k[1], s[0], s[1]]
    }

    /// The frame on Ethernet, one step after the other as `design.md` section 3 tells it.
    pub fn seal(&self, sdu: &[u8]) -> Vec<u8> {
        let mac_len = self.suite.mac_len();
        let lcid_and_sl = [self.lcid.get(), pdu::short_length(sdu.len() + mac_len)];
        let mut frame = self.address.ethernet_header().to_vec();
        frame.extend(lcid_and_sl);
        frame.extend(self.pdcp());
        frame.extend(sdu);
        frame.resize(frame.len() + mac_len, 0);
        let mut cipher = crypto::cipher(self.suite, Kernel::Portable).expect("portable code is everywhere");
        let key = cipher.insert(&self.keys());
        let job = Job { key, ..self.job(lcid_and_sl, self.pdcp(), spec::HEADER_LEN, sdu.len()) };
        cipher.seal(&mut frame, &mut [job]);
        frame.resize(frame.len().max(spec::MIN_FRAME), 0);
        frame
    }

    /// The SDU of a frame, or nothing when it does not verify under this key.
    pub fn open(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let header = pdu::parse(frame).ok()?;
        let mut plain = frame.to_vec();
        let start = spec::HEADER_LEN + header.tag_len as usize;
        let len = (header.end as usize).checked_sub(start + self.suite.mac_len())?;
        let mut cipher = crypto::cipher(self.suite, Kernel::Portable).expect("portable code is everywhere");
        let key = cipher.insert(&self.keys());
        let mut jobs = [Job { key, ..self.job(header.lcid_and_sl.to_be_bytes(), self.pdcp(), start, len) }];
        cipher.open(&mut plain, &mut jobs);
        jobs[0].verified.then(|| plain[start..start + len].to_vec())
    }
}

/// A Layer-2 id from a literal.
///
/// # Panics
/// Beyond 24 bits.
pub fn ue(id: u32) -> Layer2Id {
    Layer2Id::new(id).expect("24 bits")
}

/// A group id from a literal.
///
/// # Panics
/// Beyond 24 bits.
pub fn group(id: u32) -> GroupId {
    GroupId::new(id).expect("24 bits")
}
