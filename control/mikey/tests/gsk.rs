//! GSK message: the worked example, our own messages, and everything that must be refused by name.
#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::LazyLock, time::Duration};

use common::{
    hex_number, number, octets, published_time, text, vectors,
    world::{self, Authority, User, cache, rng, uid_scheme},
};
use mikey_sakke::{
    Message, NtpTime, Protection, Reject, ReplayCache, Secret, Standing, Window,
    codec::*,
    eccsi::{Kpak, Pvt, Ssk},
    gsk::{self, GskMessage, OpenedGsk, gmk_as_psk},
    identifier::KeyPeriod,
    keys::{Bundle, EnvelopeKey, KeyId},
    policy::{ExpectedSigner, Kms, Period, Scheme, SignerKind, SigningIdentity, TrustedKms},
    prf::Prf,
    psk::{IMessage, Psk, PskSet},
    sakke::{KmsMasterSecret, KmsPublicKey},
};
use serde_json::Value;

/// The KMS and speaker of the worked example. It has no SAKKE side; any Z will do.
fn example(v: &Value) -> (Kms, SigningIdentity, KmsPublicKey) {
    let s = &v["signer"];
    let scheme = Scheme::Uid(KeyPeriod::new(number(&s["key_period"]), number(&s["offset"])).unwrap());
    let kpak = Kpak::from_octets(&octets(&s["KPAK"])).unwrap();
    let z = KmsMasterSecret::generate(&mut rng(1)).public_key();
    let kms = Kms::new(text(&s["kms_uri"]), scheme, kpak, z.clone());
    let mut speaker = SigningIdentity::new(text(&s["uri"]), &kms);
    let period = Period::Number(number(&s["period_no"]));
    assert_eq!(kms.identifier(text(&s["uri"]), period).unwrap().octets(), octets(&s["uid"]));
    let ssk = Ssk::from_octets(&octets(&s["SSK"])).unwrap();
    speaker.install(&kms, period, ssk, Pvt::from_octets(&octets(&s["PVT"])).unwrap()).unwrap();
    (kms, speaker, z)
}

fn gmks(v: &Value) -> PskSet {
    let mut set = PskSet::default();
    set.insert(gmk_as_psk(KeyId(hex_number(&v["gmk_id"]) as u32), &octets(&v["gmk"])).unwrap());
    set
}

const VARIANTS: [(&str, Protection); 2] =
    [("prf_mikey1_hmac_sha1", Protection::RFC_3830), ("prf_sha256_hmac_sha256", Protection::SHA_256)];

#[test]
fn worked_example_is_made_exactly() {
    let v = vectors("mikey_gsk_candidate.json");
    let (kms, speaker, _) = example(&v);
    let gsk = Secret::new(&octets(&v["gsk"]));
    let gsk_id = octets(&v["gsk_id"]);
    for (variant, protection) in VARIANTS {
        let message = GskMessage {
            csb_id: hex_number(&v["csb_id"]) as u32,
            time: NtpTime::from_wire(hex_number(&v["timestamp"])),
            rand: octets(&v["rand"]),
            gsk: &gsk,
            gsk_id: &gsk_id,
            key_type: KeyType::TEK,
            protection,
        };
        let set = gmks(&v);
        let gmk = set.get(&octets(&v["gmk_id"])).unwrap();
        let made = message.seal(gmk, &speaker, &kms, &mut rng(1)).unwrap();
        let wanted = octets(&v[variant]["message"]);
        let signed = number(&v[variant]["signed_len"]) as usize;
        assert_eq!(made.len(), wanted.len());
        // The signature has a nonce of its own; everything that it covers is the same octet by octet.
        assert_eq!(hex::encode(&made[..signed]), hex::encode(&wanted[..signed]));
    }
}

#[test]
fn worked_example_opens() {
    let v = vectors("mikey_gsk_candidate.json");
    let (kms, speaker, _) = example(&v);
    let kms_uri = kms.uri().to_owned();
    let mut trusted = TrustedKms::default();
    trusted.insert(kms);
    let expected = ExpectedSigner::new(SignerKind::Speaker, speaker.uri(), &kms_uri);
    for (variant, _) in VARIANTS {
        let message = octets(&v[variant]["message"]);
        let opened =
            gsk::open(&message, &gmks(&v), &expected, &trusted, &mut cache(), published_time()).unwrap();
        assert!(opened.gsk.ct_eq(&octets(&v["gsk"])));
        assert_eq!(opened.gsk_id, octets(&v["gsk_id"]));
        assert_eq!(opened.gmk_id, octets(&v["gmk_id"]));
        assert_eq!(opened.key_type, KeyType::TEK);
        assert_eq!(opened.speaker, "sip:gms@example.org");
        for at in 0..message.len() {
            let mut altered = message.clone();
            altered[at] ^= 0x04;
            let mut cache = cache();
            let opened = gsk::open(&altered, &gmks(&v), &expected, &trusted, &mut cache, published_time());
            assert!(opened.is_err() && cache.is_empty(), "octet {at}");
        }
    }
}

/// The example of docs/mikey.md: made with a generator that gives zeros, so that anyone gets the same octets.
#[test]
fn documented_example() {
    let v = vectors("mikey_gsk_candidate.json");
    let (kms, speaker, _) = example(&v);
    let gsk = Secret::new(&octets(&v["gsk"]));
    let message = GskMessage {
        csb_id: 0x0123_4567,
        time: published_time(),
        rand: octets(&v["rand"]),
        gsk: &gsk,
        gsk_id: &[0, 0, 0, 7],
        key_type: KeyType::TEK,
        protection: Protection::SHA_256,
    };
    let set = gmks(&v);
    let gmk = set.get(&octets(&v["gmk_id"])).unwrap();
    let made = hex::encode(message.seal(gmk, &speaker, &kms, &mut Zeros).unwrap());
    let docs = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/mikey.md");
    let docs: String = std::fs::read_to_string(docs).unwrap().split_whitespace().collect();
    assert!(docs.contains(&made), "docs/mikey.md does not hold\n{made}");
}

struct Zeros;

impl rand_chacha::rand_core::TryRng for Zeros {
    type Error = std::convert::Infallible;
    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        Ok(0)
    }
    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        Ok(0)
    }
    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        out.fill(0);
        Ok(())
    }
}

impl rand_chacha::rand_core::TryCryptoRng for Zeros {}

const KMS: &str = "kms.example.org";
const SPEAKER: &str = "sip:speaker@example.org";
const MEMBER: &str = "sip:member@example.org";
const GMK_ID: KeyId = KeyId(0x0abc_def0);
const GMK: &[u8] = b"0123456789abcdef";

struct World {
    authority: Authority,
    speaker: User,
    member: User,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let authority = Authority::new(1, KMS, uid_scheme());
    let speaker = authority.user(SPEAKER, &[published_time()]);
    let member = authority.user(MEMBER, &[published_time()]);
    World { authority, speaker, member }
});

fn own_gmks() -> PskSet {
    let mut set = PskSet::default();
    set.insert(gmk_as_psk(GMK_ID, GMK).unwrap());
    set
}

fn seal(by: &User, gsk: &[u8], edit: impl FnOnce(&mut GskMessage<'_>)) -> Vec<u8> {
    let gsk = Secret::new(gsk);
    let mut message = GskMessage {
        csb_id: 0x1111_2222,
        time: published_time(),
        rand: vec![0x77; 16],
        gsk: &gsk,
        gsk_id: &[1, 2, 3],
        key_type: KeyType::TGK,
        protection: Protection::SHA_256,
    };
    edit(&mut message);
    let gmk = gmk_as_psk(GMK_ID, GMK).unwrap();
    message.seal(&gmk, &by.signing, &WORLD.authority.kms, &mut rng(2)).unwrap()
}

static MESSAGE: LazyLock<Vec<u8>> = LazyLock::new(|| seal(&WORLD.speaker, &[0x42; 32], |_| ()));

fn speaker() -> ExpectedSigner {
    ExpectedSigner::new(SignerKind::Speaker, SPEAKER, KMS)
}

fn open_with(octets: &[u8], cache: &mut ReplayCache, now: NtpTime) -> Result<OpenedGsk, Reject> {
    gsk::open(octets, &own_gmks(), &speaker(), &WORLD.authority.trusted(), cache, now)
}

fn refused(octets: &[u8]) -> Reject {
    let mut cache = cache();
    let reason = open_with(octets, &mut cache, published_time()).err().unwrap();
    assert!(cache.is_empty());
    reason
}

#[test]
fn thirty_two_octets_and_either_type() {
    let opened = open_with(&MESSAGE, &mut cache(), published_time()).unwrap();
    assert!(opened.gsk.ct_eq(&[0x42; 32]) && opened.key_type == KeyType::TGK);
    assert_eq!(opened.standing, Standing::Newest);
    let wrapped = seal(&WORLD.speaker, &[0x42; 16], |m| {
        m.protection.encryption = mikey_sakke::Encryption::AesKw128;
        m.key_type = KeyType::TEK;
    });
    assert!(open_with(&wrapped, &mut cache(), published_time()).unwrap().gsk.ct_eq(&[0x42; 16]));
}

#[test]
fn every_octet_and_every_length() {
    for at in 0..MESSAGE.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut altered = MESSAGE.clone();
            altered[at] ^= flip;
            refused(&altered);
        }
        assert_eq!(refused(&MESSAGE[..at]).name(), "malformed");
    }
}

/// Whoever holds the GMK can make the MAC, but not the speaker's signature.
#[test]
fn a_member_can_not_speak_for_another() {
    let own_name = seal(&WORLD.member, &[1; 32], |_| ());
    assert_eq!(refused(&own_name), Reject::WrongInitiator);
    // The member's signature under the speaker's name; MAC right, as nothing it covers changed.
    let forged = WORLD.member.sign_again(&MESSAGE, |_| ());
    assert_eq!(refused(&forged), Reject::AuthenticationFailed);
    // Another role than that of a speaker opens no GSK.
    for kind in [SignerKind::Group, SignerKind::Peer, SignerKind::Server] {
        let expected = ExpectedSigner::new(kind, SPEAKER, KMS);
        let trusted = WORLD.authority.trusted();
        let opened = gsk::open(&MESSAGE, &own_gmks(), &expected, &trusted, &mut cache(), published_time());
        assert_eq!(opened.err(), Some(Reject::SignerNotAllowed { purpose: 0 }));
    }
}

/// Whoever is no member is stopped by the MAC, however well the message is signed.
#[test]
fn a_stranger_is_stopped_by_the_mac() {
    let message = WORLD.speaker.sign_again(&MESSAGE, |m| {
        for p in &mut m.payloads {
            if let Payload::Kemac(k) = p {
                k.mac[7] ^= 1;
            }
        }
    });
    assert_eq!(refused(&message), Reject::AuthenticationFailed);
    // The signature alone is good: whoever holds no GMK can still tell who sent it.
    let trusted = WORLD.authority.trusted();
    assert!(gsk::verify(&message, &speaker(), &trusted, &cache(), published_time()).is_ok());
    let mut other = PskSet::default();
    other.insert(Psk::new(b"else", GMK).unwrap());
    let opened = gsk::open(&MESSAGE, &other, &speaker(), &trusted, &mut cache(), published_time());
    assert_eq!(opened.err(), Some(Reject::UnknownPsk("0abcdef0".into())));
}

#[test]
fn malleated_signature_is_the_same_message() {
    let mut cache = cache();
    assert!(open_with(&MESSAGE, &mut cache, published_time()).is_ok());
    let again = open_with(&world::malleated(&MESSAGE), &mut cache, published_time());
    assert_eq!(again.err(), Some(Reject::Replay { identical: true }));
}

#[test]
fn late_entry() {
    let talk = Duration::from_secs(1800);
    let new = || ReplayCache::new(Window::CLOCK_SKEW.late_entry(talk), 10);
    let (mut early, mut joiner) = (new(), new());
    let later = published_time().after(Duration::from_secs(1000));
    assert!(open_with(&MESSAGE, &mut early, published_time()).is_ok());
    assert_eq!(open_with(&MESSAGE, &mut early, later).err(), Some(Reject::Replay { identical: true }));
    assert!(open_with(&MESSAGE, &mut joiner, later).is_ok());
    let too_late = published_time().after(Duration::from_secs(2101));
    assert_eq!(open_with(&MESSAGE, &mut new(), too_late).err().unwrap().name(), "timestamp-out-of-range");
    assert_eq!(open_with(&MESSAGE, &mut cache(), later).err().unwrap().name(), "timestamp-out-of-range");
}

#[test]
fn parts_missing_misplaced_or_unknown() {
    let again = |edit: &dyn Fn(&mut Message)| refused(&WORLD.speaker.sign_again(&MESSAGE, edit));
    let without = |t: PayloadType| again(&|m| m.payloads.retain(|p| p.payload_type() != t));
    assert_eq!(without(PayloadType::T), Reject::Missing("T"));
    assert_eq!(without(PayloadType::RAND), Reject::Missing("RAND"));
    assert_eq!(without(PayloadType::KEMAC), Reject::Missing("KEMAC"));
    assert_eq!(without(PayloadType::IDR), Reject::Missing("IDRpsk"));
    let between = again(&|m| {
        let at = m.payloads.len() - 1;
        m.payloads.insert(at, Payload::Sp(SecurityPolicy::gmk_default(0)));
    });
    assert_eq!(between.name(), "payload-not-allowed");
    let id = Payload::Id(Id { id_type: IdType::URI, data: vec![] });
    assert_eq!(again(&|m| m.payloads.insert(0, id.clone())), Reject::NotAllowed("ID"));
    // In pre-shared-key mode without SIGN the message is no GSK message.
    let mut m = Message::decode(&MESSAGE).unwrap();
    m.payloads.pop();
    assert_eq!(refused(&m.encode().unwrap()), Reject::Missing("SIGN"));
}

/// A GSK message with whatever key data, MAC and signature right.
fn with_keys(keys: Vec<KeyData>) -> Vec<u8> {
    use hmac::{KeyInit, Mac};
    let gmk = gmk_as_psk(GMK_ID, GMK).unwrap();
    let message = IMessage {
        csb_id: 1,
        map: CsIdMap::Empty { sessions: 0 },
        time: published_time(),
        rand: vec![1; 16],
        initiator: None,
        responder: None,
        psk_name: Some(Id { id_type: IdType::OCTETS, data: gmk.name().to_vec() }),
        policies: vec![],
        extensions: vec![],
        keys,
        protection: Protection::SHA_256,
        verification: false,
    };
    let (mut octets, _) = message.seal(&gmk).unwrap();
    let (_, spans) = Message::decode_with_spans(&octets).unwrap();
    octets[spans.last().unwrap().start] = PayloadType::SIGN.0;
    octets.truncate(octets.len() - 32);
    let bundle = Bundle { csb_id: 1, rand: vec![1; 16], prf: Prf::HmacSha256 };
    let key = bundle.envelope_key(GMK, EnvelopeKey::Auth, 32);
    let mut mac = hmac::Hmac::<sha2::Sha256>::new_from_slice(key.expose()).unwrap();
    mac.update(&octets);
    octets.extend_from_slice(&mac.finalize().into_bytes());
    octets.extend_from_slice(&[0x20, 129]);
    let signature = WORLD.speaker.raw[0].1.sign(&octets, &mut rng(5));
    octets.extend_from_slice(signature.as_octets());
    octets
}

#[test]
fn key_data_must_be_one_named_key() {
    let key = |key_type, validity| KeyData { key_type, key: Secret::new(&[1; 16]), salt: None, validity };
    let spi = || KeyValidity::Spi(vec![1]);
    assert!(open_with(&with_keys(vec![key(KeyType::TEK, spi())]), &mut cache(), published_time()).is_ok());
    let two = vec![key(KeyType::TEK, spi()), key(KeyType::TEK, spi())];
    assert_eq!(refused(&with_keys(two)), Reject::KeyData("not exactly one key"));
    let nameless = vec![key(KeyType::TEK, KeyValidity::Null)];
    assert_eq!(refused(&with_keys(nameless)), Reject::KeyData("GSK without a name"));
    let mpk = vec![key(KeyType::MPK, spi())];
    assert_eq!(refused(&with_keys(mpk)), Reject::KeyData("neither a TEK nor a TGK"));
    let gsk = Secret::new(&[1; 16]);
    let bad_type = GskMessage {
        csb_id: 1,
        time: published_time(),
        rand: vec![1; 16],
        gsk: &gsk,
        gsk_id: &[1],
        key_type: KeyType::MPK,
        protection: Protection::SHA_256,
    };
    let gmk = gmk_as_psk(GMK_ID, GMK).unwrap();
    assert!(bad_type.seal(&gmk, &WORLD.speaker.signing, &WORLD.authority.kms, &mut rng(1)).is_err());
}
