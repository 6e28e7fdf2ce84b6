//! Pre-shared-key mode with the `mykey` crate, both ways.
//!
//! mykey derives an auth key of 32 octets for HMAC-SHA-1, where RFC 3830 4.1.4 wants 20. The test takes that into
//! account by checking mykey's MAC with its key, then replacing it by the right one, and the other way round; all
//! else must agree as it is: layout, encryption, PRF, coverage of the MACs, session keys (mykey numbers the first
//! session 0).
#![allow(clippy::unwrap_used)]

mod common;

use hmac::{Hmac, KeyInit, Mac};
use mikey_sakke::{
    NtpTime, Protection, ReplayCache, Secret, Window,
    codec::{CsIdMap, KeyData, KeyType, KeyValidity, SrtpSession},
    keys::{Bundle, EnvelopeKey, SessionKey},
    prf::Prf,
    psk::{self, IMessage, Psk, PskSet},
};
use mykey::{message::MikeyMessage, payload::Timestamp, srtp::SrtpCryptoSuite};
use rand_chacha::rand_core::Rng;

const MAC: usize = 20;

/// Checks the MAC made with an auth key of one length and puts the one of the other length in its place.
fn exchange_mac(octets: &[u8], bundle: &Bundle, psk: &[u8], tail: &[u8], from: usize, to: usize) -> Vec<u8> {
    let (covered, mac) = octets.split_at(octets.len() - MAC);
    let make = |length| {
        let key = bundle.envelope_key(psk, EnvelopeKey::Auth, length);
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(key.expose()).unwrap();
        mac.update(covered);
        mac.update(tail);
        mac.finalize().into_bytes().to_vec()
    };
    assert_eq!(make(from), mac);
    [covered, &make(to)].concat()
}

struct Case {
    psk: Vec<u8>,
    rand: [u8; 16],
    csb_id: u32,
    ssrc: u32,
    now: NtpTime,
}

impl Case {
    fn bundle(&self) -> Bundle {
        Bundle { csb_id: self.csb_id, rand: self.rand.to_vec(), prf: Prf::Mikey1 }
    }

    fn unix(&self) -> std::time::SystemTime {
        std::time::UNIX_EPOCH + std::time::Duration::from_secs(self.now.unix_seconds())
    }
}

/// 200 cases; pre-shared keys of 16 to 80 octets, multiples of 32 included.
fn cases() -> impl Iterator<Item = Case> {
    let mut rng = common::world::rng(77);
    (0..200).map(move |i| {
        let mut psk = vec![0; 16 + i % 65];
        rng.fill_bytes(&mut psk);
        let mut rand = [0; 16];
        rng.fill_bytes(&mut rand);
        let now = NtpTime::from_unix(1_700_000_000 + u64::from(rng.next_u32() >> 8), 0);
        Case { psk, rand, csb_id: rng.next_u32(), ssrc: rng.next_u32(), now }
    })
}

const SUITE: SrtpCryptoSuite = SrtpCryptoSuite { master_key_len: 16, master_salt_len: 14 };

#[test]
fn mykey_initiates() {
    for case in cases() {
        let (psk, bundle) = (&case.psk, case.bundle());
        let theirs = MikeyMessage::new_psk_init_requiring_verification_at(
            case.csb_id,
            case.ssrc,
            &case.rand,
            psk,
            Timestamp::Ntp(case.unix()),
        )
        .unwrap();
        let message = exchange_mac(theirs.to_bytes(), &bundle, psk, &[], 32, 20);
        let mut set = PskSet::default();
        set.insert(Psk::new(b"", psk).unwrap());
        let mut cache = ReplayCache::new(Window::CLOCK_SKEW, 1);
        let opened = psk::open(&message, &set, None, &mut cache, case.now).unwrap();
        assert!(opened.keys[0].key.ct_eq(&theirs.verify_and_extract_tgk(psk).unwrap()));
        let srtp = theirs.complete_psk(psk, SUITE).unwrap();
        let tgk = opened.keys[0].key.expose();
        assert_eq!(opened.bundle.session_key(tgk, SessionKey::Tek, 0, 16).expose(), srtp.master_key);
        assert_eq!(opened.bundle.session_key(tgk, SessionKey::Salt, 0, 14).expose(), srtp.master_salt);
        let t = case.now.to_wire().to_be_bytes();
        let response = exchange_mac(&opened.response.unwrap(), &bundle, psk, &t, 20, 32);
        let response = MikeyMessage::from_bytes(&response).unwrap();
        response.verify_psk_verification(&theirs, psk).unwrap();
    }
}

#[test]
fn mykey_responds() {
    for case in cases() {
        let (psk, bundle) = (&case.psk, case.bundle());
        let tgk = [case.rand[0]; 16];
        let message = IMessage {
            csb_id: case.csb_id,
            map: CsIdMap::SrtpId(vec![SrtpSession { policy_no: 0, ssrc: case.ssrc, roc: 0 }]),
            time: case.now,
            rand: case.rand.to_vec(),
            initiator: None,
            responder: None,
            psk_name: None,
            policies: vec![],
            extensions: vec![],
            keys: vec![KeyData {
                key_type: KeyType::TGK,
                key: Secret::new(&tgk),
                salt: None,
                validity: KeyValidity::Null,
            }],
            protection: Protection::RFC_3830,
            verification: true,
        };
        let (octets, expect) = message.seal(&Psk::new(b"", psk).unwrap()).unwrap();
        // As it is, mykey refuses it for its MAC, and for nothing else.
        let as_it_is = MikeyMessage::from_bytes(&octets).unwrap();
        assert!(matches!(as_it_is.verify_and_extract_tgk(psk), Err(mykey::MikeyError::InvalidMac)));
        let octets = exchange_mac(&octets, &bundle, psk, &[], 20, 32);
        let theirs = MikeyMessage::from_bytes(&octets).unwrap();
        assert_eq!(theirs.verify_and_extract_tgk(psk).unwrap(), tgk);
        let t = case.now.to_wire().to_be_bytes();
        let response = MikeyMessage::new_psk_verification(&theirs, psk).unwrap();
        let response = exchange_mac(response.to_bytes(), &bundle, psk, &t, 32, 20);
        expect.unwrap().verify(&response).unwrap();
    }
}
