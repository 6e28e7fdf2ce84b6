//! Both sides of the pre-shared-key mode with a verification message, then the SRTP keys that both derive.
//!
//! `cargo run -p mikey-sakke --example pre_shared_key`

use std::error::Error;

use mikey_sakke::{
    NtpTime, Protection, ReplayCache, Secret, Window,
    codec::{CsIdMap, Id, IdType, KeyData, KeyType, KeyValidity, SrtpSession},
    keys::SessionKey,
    psk::{self, IMessage, Psk, PskSet},
};

fn main() -> Result<(), Box<dyn Error>> {
    let now = NtpTime::from_unix(1_760_000_000, 0);
    let (mut key, mut tgk, mut rand) = ([0; 32], [0; 16], [0; 16]);
    for octets in [&mut key[..], &mut tgk, &mut rand] {
        getrandom::fill(octets)?;
    }
    let id = |uri: &str| Some(Id { id_type: IdType::URI, data: uri.into() });

    let message = IMessage {
        csb_id: u32::from_be_bytes([rand[0], rand[5], rand[9], rand[13]]),
        map: CsIdMap::SrtpId(vec![SrtpSession { policy_no: 0, ssrc: 0xcafe_babe, roc: 0 }]),
        time: now,
        rand: rand.to_vec(),
        initiator: id("sip:a@example.org"),
        responder: id("sip:b@example.org"),
        psk_name: Some(Id { id_type: IdType::OCTETS, data: b"a-and-b".to_vec() }),
        policies: vec![],
        extensions: vec![],
        keys: vec![KeyData {
            key_type: KeyType::TGK,
            key: Secret::new(&tgk),
            salt: None,
            validity: KeyValidity::Null,
        }],
        protection: Protection::SHA_256,
        verification: true,
    };
    let (octets, expect) = message.seal(&Psk::new(b"a-and-b", &key)?)?;
    println!("I_MESSAGE  {} octets", octets.len());

    let mut psks = PskSet::default();
    psks.insert(Psk::new(b"a-and-b", &key)?);
    let mut cache = ReplayCache::new(Window::CLOCK_SKEW, 1000);
    let opened = psk::open(&octets, &psks, Some(b"sip:b@example.org"), &mut cache, now)?;
    let response = opened.response.ok_or("no response")?;
    println!("R_MESSAGE  {} octets", response.len());
    expect.ok_or("no verification wanted")?.verify(&response)?;

    let key = opened.keys.first().ok_or("no key")?;
    let master = opened.bundle.session_key(key.key.expose(), SessionKey::Tek, 1, 16);
    let salt = opened.bundle.session_key(key.key.expose(), SessionKey::Salt, 1, 14);
    println!("session 1: SRTP master key of {} octets, salt of {}", master.len(), salt.len());
    Ok(())
}
