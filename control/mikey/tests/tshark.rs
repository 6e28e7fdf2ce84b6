//! Each kind of message that the crate makes, dissected by tshark (Debian package `tshark`): the same chain of
//! payloads, the same values, no complaint, as far as tshark knows the fields.
//!
//! tshark 4.0 misreads the GENERIC-ID map and stops at HMAC-SHA-256-256; of such messages only the header is compared.
#![allow(clippy::unwrap_used)]

mod common;

use std::{io::Write, process::Command};

use common::world::{Authority, rng, uid_scheme};
use mikey_sakke::{
    Encryption, Message, Protection, Reject, ReplayCache, Secret, Window,
    codec::*,
    gsk::{GskMessage, gmk_as_psk},
    keys::{KeyId, Purpose},
    psk::{self, ErrorMessage, IMessage, Psk, PskSet},
    sakke::Ssv,
    sakke_mode::{Privacy, SakkeMessage},
};

/// How much of a message tshark understands.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Knows {
    All,
    Header,
}

fn psk_kinds(all: &mut Vec<(&'static str, Vec<u8>, Knows)>) {
    let psk = Psk::new(b"k", b"a pre-shared key").unwrap();
    let mut set = PskSet::default();
    set.insert(Psk::new(b"k", b"a pre-shared key").unwrap());
    let id = |text: &str| Some(Id { id_type: IdType::URI, data: text.into() });
    let make = |protection| {
        let message = IMessage {
            csb_id: 0x0102_0304,
            map: CsIdMap::SrtpId(vec![SrtpSession { policy_no: 0, ssrc: 5, roc: 6 }]),
            time: common::published_time(),
            rand: vec![0x5a; 16],
            initiator: id("sip:a@example.org"),
            responder: id("sip:b@example.org"),
            psk_name: Some(Id { id_type: IdType::OCTETS, data: b"k".to_vec() }),
            policies: vec![SecurityPolicy::gmk_default(0)],
            extensions: vec![],
            keys: vec![KeyData {
                key_type: KeyType::TGK,
                key: Secret::new(&[7; 16]),
                salt: None,
                validity: KeyValidity::Spi(vec![1, 2, 3]),
            }],
            protection,
            verification: true,
        };
        message.seal(&psk).unwrap().0
    };
    let message = make(Protection::RFC_3830);
    let mut cache = ReplayCache::new(Window::CLOCK_SKEW, 9);
    let opened = psk::open(&message, &set, None, &mut cache, common::published_time()).unwrap();
    let error = ErrorMessage::answer(&message, &Reject::AuthenticationFailed).unwrap();
    all.push(("PSK I_MESSAGE", message, Knows::All));
    all.push(("PSK R_MESSAGE", opened.response.unwrap(), Knows::All));
    all.push(("error message", error.encode().unwrap(), Knows::All));
    let wrapped = make(Protection { encryption: Encryption::AesKw128, ..Protection::RFC_3830 });
    all.push(("PSK I_MESSAGE, AES-KW", wrapped, Knows::All));
    all.push(("PSK I_MESSAGE, SHA-256", make(Protection::SHA_256), Knows::Header));
}

fn signed_kinds(all: &mut Vec<(&'static str, Vec<u8>, Knows)>) {
    let authority = Authority::new(1, "kms.example.org", uid_scheme());
    let kms = &authority.kms;
    let sender = authority.user("sip:group@example.org", &[common::published_time()]);
    let gsk = Secret::new(&[9; 32]);
    let mut message = GskMessage {
        csb_id: 9,
        time: common::published_time(),
        rand: vec![0x33; 16],
        gsk: &gsk,
        gsk_id: &[1, 2],
        key_type: KeyType::TGK,
        protection: Protection::RFC_3830,
    };
    // tshark takes every identity for text and complains of a NUL at its start.
    let gmk = gmk_as_psk(KeyId(0x0abc_def1), &[1; 16]).unwrap();
    all.push(("GSK", message.seal(&gmk, &sender.signing, kms, &mut rng(1)).unwrap(), Knows::All));
    message.protection = Protection::SHA_256;
    let sha256 = message.seal(&gmk, &sender.signing, kms, &mut rng(1)).unwrap();
    all.push(("GSK, SHA-256", sha256, Knows::Header));
    let key = Ssv::from_octets([3; 16]);
    let mut message = SakkeMessage {
        key: &key,
        key_id: KeyId::new(Purpose::GMK, 5),
        time: common::published_time(),
        rand: vec![0x44; 16],
        policies: vec![],
        cs_id: 4,
        parameters: Some(KeyParameters {
            key_type: 0,
            status: 1,
            activation: 0,
            expiry: 0,
            text: vec![],
            group_ids: None,
        }),
        privacy: Privacy::Clear,
        to_self: false,
    };
    let seal = |m: &SakkeMessage<'_>| {
        m.seal(&sender.signing, kms, "sip:member@example.org", kms, &mut rng(2)).unwrap()
    };
    all.push(("GMK, clear", seal(&message), Knows::All));
    message.privacy = Privacy::Hidden;
    all.push(("GMK, hidden", seal(&message), Knows::All));
    message.policies = vec![SecurityPolicy::gmk_default(0)];
    all.push(("GMK, GENERIC-ID map", seal(&message), Knows::Header));
    message.policies.clear();
    (message.key_id, message.to_self) = (KeyId::new(Purpose::PCK, 6), true);
    all.push(("PCK with SAKKE-to-self", seal(&message), Knows::All));
}

/// A capture of link type 147 (user 0), which tshark is told to be MIKEY.
fn capture(messages: &[(&str, Vec<u8>, Knows)]) -> Vec<u8> {
    let mut out = Vec::new();
    for word in [0xa1b2_c3d4u32, 0x0004_0002, 0, 0, 65535, 147] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    for (_, message, _) in messages {
        let length = message.len() as u32;
        for word in [0, 0, length, length] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.extend_from_slice(message);
    }
    out
}

const FIELDS: [&str; 10] = [
    "mikey.csb_id",
    "mikey.type",
    "mikey.next_payload",
    "_ws.expert",
    "mikey.rand.data",
    "mikey.id.len",
    "mikey.sakke.data",
    "mikey.kemac.mac",
    "mikey.sign.data",
    "mikey.v.ver_data",
];

#[test]
fn tshark_reads_what_we_make() {
    if Command::new("tshark").arg("--version").output().is_err() {
        // Past the test harness, which would keep it to itself.
        let _ = writeln!(
            std::io::stderr(),
            "tshark_reads_what_we_make skipped: no tshark here (Debian package tshark)"
        );
        return;
    }
    let mut all = Vec::new();
    psk_kinds(&mut all);
    signed_kinds(&mut all);
    let file = std::env::temp_dir().join(format!("mikey-{}.pcap", std::process::id()));
    std::fs::write(&file, capture(&all)).unwrap();
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(&file).args(["-T", "fields", "-E", "separator=|", "-o"]);
    tshark.arg("uat:user_dlts:\"User 0 (DLT=147)\",\"mikey\",\"0\",\"\",\"0\",\"\"");
    for field in FIELDS {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().unwrap();
    std::fs::remove_file(&file).unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines.len(), all.len(), "{}", String::from_utf8_lossy(&output.stderr));
    for ((kind, octets, knows), line) in all.iter().zip(lines) {
        let seen: Vec<_> = line.split('|').collect();
        let wanted = ours(octets);
        if *knows == Knows::All {
            assert_eq!(seen, wanted, "{kind}");
        } else {
            assert_eq!(seen[..2], wanted[..2], "{kind}");
        }
    }
}

/// What tshark should say, by our own decoder.
fn ours(octets: &[u8]) -> Vec<String> {
    let m = Message::decode(octets).unwrap();
    let all = |f: &dyn Fn(&Payload) -> Option<String>| {
        m.payloads.iter().filter_map(f).collect::<Vec<_>>().join(",")
    };
    let mut chain: Vec<_> = m.payloads.iter().map(|p| p.payload_type().0.to_string()).collect();
    if !matches!(m.payloads.last(), Some(Payload::Sign(_))) {
        chain.push("0".into());
    }
    vec![
        format!("0x{:08x}", m.header.csb_id),
        m.header.data_type.0.to_string(),
        chain.join(","),
        String::new(),
        all(&|p| match p {
            Payload::Rand(rand) => Some(hex::encode(rand)),
            _ => None,
        }),
        all(&|p| match p {
            Payload::Id(id) => Some(id.data.len().to_string()),
            Payload::Idr(idr) => Some(idr.data.len().to_string()),
            _ => None,
        }),
        all(&|p| match p {
            Payload::Sakke(s) => Some(hex::encode(&s.data)),
            _ => None,
        }),
        all(&|p| match p {
            Payload::Kemac(k) => Some(hex::encode(&k.mac)),
            _ => None,
        }),
        all(&|p| match p {
            Payload::Sign(s) => Some(hex::encode(&s.signature)),
            _ => None,
        }),
        all(&|p| match p {
            Payload::V(v) => Some(hex::encode(&v.mac)),
            _ => None,
        }),
    ]
}
