//! The examples of `docs/protocol.md`, made anew and compared. `UPDATE=1 cargo test -p pc5-control --test protocol_doc` puts
//! them in after a wanted change.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::Path;

use p256::{PublicKey, SecretKey};
use pc5_control::codec::direct::{Keepalive, KeepaliveAck, Release, ReleaseReason};
use pc5_control::codec::entry::{GroupKeyEntry, JoinKeys, OwnerProof, SessionProof};
use pc5_control::codec::go::*;
use pc5_control::codec::segment::segment;
use pc5_control::codec::{Body, Message, MessageType};
use pc5_control::credential::{Credential, CrlHeld, CrlNumber};
use pc5_dataplane::ids::{GroupId, Layer2Id, PgkId, PtkId};
use pc5_dataplane::keys::Floor;
use pc5_dataplane::suite::Suite;
use zeroize::Zeroizing;

/// The public key of a small secret: a point that everybody can compute.
fn point(secret: u8) -> PublicKey {
    let mut octets = [0; 32];
    octets[31] = secret;
    SecretKey::from_slice(&octets).unwrap().public_key()
}

fn entry() -> GroupKeyEntry {
    let sender = Layer2Id::from_octets([1, 2, 3]);
    GroupKeyEntry {
        epoch: 33,
        pgk_id: PgkId(2),
        suite: Suite::Aes256Gcm,
        direct: true,
        not_before: 0x6B49_D200,
        not_after: 0x6B49_E010,
        grant: Some(PtkId::new(513).unwrap()..=PtkId::new(1_024).unwrap()),
        s_m: Zeroizing::new([0x44; 32]),
        floors: vec![Floor { sender, ptk_id: PtkId::new(7).unwrap(), next_sn: 0x0102 }],
    }
}

fn sealed(ciphertext: usize) -> HpkeSealed {
    let enc = pc5_control::credential::key::point(&point(3));
    HpkeSealed { enc, ciphertext: vec![0xEE; ciphertext] }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let group = GroupId::from_octets([0xA0, 0xB0, 0xC0]);
    let (nonce_1, nonce_2) = ([0x11; 16], [0x22; 16]);
    let suites = vec![0x55, 0x44];
    let request =
        |cookie| JoinRequest { group, nonce_1, msb: 5, e_m: point(1), suites: vec![0x55, 0x44], cookie };
    let (lsb, suite, e_o) = (6, Suite::Aes256Gcm, point(2));
    let challenge = JoinChallenge { nonce_2, lsb, suite, e_o, sealed: vec![0xEE; 24] };
    let refreshed = Refreshed { e_o: point(2), sealed: sealed(48) };
    let (dksi, confirm_o) = ([0xD1, 0xD2, 0xD3, 0xD4], [0xC0; 32]);
    let header = |end| SessionKey {
        gk_id: 7,
        session_id: [0x88; 8],
        end,
        time: 0x0000_01A3_185C_5000,
        nonce: [0x99; 32],
        sealed: vec![0xEE; 24],
    };
    vec![
        ("", Body::Keepalive(Keepalive { counter: 9, maximum_inactivity_period: None })),
        (" with period", Body::Keepalive(Keepalive { counter: 9, maximum_inactivity_period: Some(30) })),
        ("", Body::KeepaliveAck(KeepaliveAck { counter: 9 })),
        ("", Body::Release(Release { reason: ReleaseReason::NotAllowed })),
        ("", Body::ReleaseAccept),
        ("", Body::JoinRequest(request(None))),
        (" with cookie", Body::JoinRequest(request(Some([0xCC; 16])))),
        ("", Body::JoinRetry(JoinRetry { nonce_1, cookie: [0xCC; 16] })),
        ("", Body::JoinChallenge(challenge)),
        ("", Body::JoinAuthenticate(vec![0xEE; 24])),
        ("", Body::JoinAccept(sealed(32))),
        ("", Body::JoinComplete([0xF1; 32])),
        ("", Body::JoinConfirm([0xF2; 32])),
        (" as a hint", Body::Reject(Rejection { nonce_1, cause: 0x82, tag: None })),
        (" tagged", Body::Reject(Rejection { nonce_1, cause: 0x8B, tag: Some([0x7A; 16]) })),
        ("", Body::RekeyRequest(RekeyRequest { nonce_1, msb: 5, route: vec![], refresh: None })),
        (
            " with route and refresh",
            Body::RekeyRequest(RekeyRequest {
                nonce_1,
                msb: 5,
                route: vec![1, 2, 3],
                refresh: Some(point(1)),
            }),
        ),
        ("", Body::RekeyCommand(RekeyCommand { nonce_2, lsb, refreshed: None, dksi, confirm_o })),
        (
            " refreshed",
            Body::RekeyCommand(RekeyCommand { nonce_2, lsb, refreshed: Some(refreshed), dksi, confirm_o }),
        ),
        ("", Body::RekeyComplete([0xC1; 32])),
        ("", Body::GroupKeyRequest(GroupKeyRequest { newest_epoch: 33, grant: true, floors: true })),
        (
            " wrap 0",
            Body::GroupKeyUpdate(GroupKeyUpdate {
                lowest_valid_epoch: 32,
                keys: Wrapped::Link(vec![entry()]),
            }),
        ),
        (
            " wrap 1",
            Body::GroupKeyUpdate(GroupKeyUpdate {
                lowest_valid_epoch: 32,
                keys: Wrapped::Certificate { n: 1, sealed: sealed(87) },
            }),
        ),
        ("", Body::GroupKeyAck(33)),
        ("", Body::CrlUpdate(vec![0x30, 0x03, 0x02, 0x01, 0x05])),
        ("", Body::RekeyTrigger(true)),
        ("", Body::GoAnnounce(GoAnnounce { instance: [0x1A; 8], epoch: 33, spread: 10, suites })),
        ("", Body::SessionKey(header(false))),
        (" end", Body::SessionKey(header(true))),
        ("", Body::SessionKeyRequest(7)),
    ]
}

fn block(out: &mut String, name: &str, octets: &[u8]) {
    writeln!(out, "{name} ({} octets)\n\n```", octets.len()).unwrap();
    for line in octets.chunks(40) {
        writeln!(out, "{}", hex::encode(line)).unwrap();
    }
    writeln!(out, "```\n").unwrap();
}

fn examples() -> String {
    let mut out = String::from("\n");
    let mut seen = Vec::new();
    for (seq, (variant, body)) in (0x0101..).zip(bodies()) {
        let message_type = body.message_type();
        seen.push(message_type);
        let canonical = Message { seq, body }.encode().unwrap();
        let name = format!("**{:02X} {}**{variant}", message_type as u8, message_type.name());
        block(&mut out, &name, &canonical);
    }
    seen.dedup();
    assert_eq!(seen, MessageType::ALL, "an example of every message");

    let held = CrlHeld { issuer: [0x15; 8], number: CrlNumber::from(0x0102) };
    let credential = || Credential {
        chain: vec![vec![0x30, 0x01, 0xAA], vec![0x30, 0x00]],
        crls_held: vec![held.clone()],
    };
    let proof = OwnerProof { time: 0x6B49_D200, credential: credential() };
    block(&mut out, "**P2**, with the certificates `3001aa` and `3000`", &proof.encode().unwrap());
    let keys = JoinKeys {
        s_u: Zeroizing::new([0x33; 32]),
        kd_lifetime: 86_400,
        keepalive_period: 5,
        instance: [0x1A; 8],
        lowest_valid_epoch: 32,
        entries: vec![entry()],
    };
    block(&mut out, "**keys of JOIN_ACCEPT**", &keys.encode().unwrap());
    let floor =
        Floor { sender: Layer2Id::from_octets([1, 2, 3]), ptk_id: PtkId::new(7).unwrap(), next_sn: 1 << 16 };
    let session = SessionProof {
        suite: Suite::Aes256Gcm,
        pgk_id: PgkId(3),
        lifetime: 3_600,
        floor,
        s_s: Zeroizing::new([0x66; 32]),
        credential: credential(),
    };
    block(&mut out, "**P of SESSION_KEY**, all SNs under PTK identity 7 used", &session.encode().unwrap());

    let canonical =
        Message { seq: 0x01FF, body: Body::JoinAuthenticate((0..50).collect()) }.encode().unwrap();
    block(&mut out, "**83 JOIN_AUTHENTICATE**, canonical", &canonical);
    for (i, part) in segment(&canonical, 31).unwrap().iter().enumerate() {
        block(&mut out, &format!("its part {i}, where an SDU has 31 octets"), part);
    }
    out
}

#[test]
fn the_page_shows_what_the_codec_writes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocol.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let begin = "<!-- examples: made by control/tests/protocol_doc.rs -->\n";
    let end = "<!-- end of examples -->";
    let (before, rest) = page.split_once(begin).unwrap();
    let (there, after) = rest.split_once(end).unwrap();
    let made = examples();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, format!("{before}{begin}{made}{end}{after}")).unwrap();
        return;
    }
    let differs = there.lines().zip(made.lines()).find(|(a, b)| a != b);
    assert_eq!(differs, None, "docs/protocol.md differs from the codec");
    assert_eq!(there.len(), made.len());
}
