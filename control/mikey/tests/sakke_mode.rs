//! SAKKE mode: the published messages, our own ones, and everything that must be refused by name.
#![allow(clippy::unwrap_used)]

mod common;

use std::{sync::LazyLock, time::Duration};

use common::{
    hex_number, list, octets, published_time, text, vectors,
    world::{self, Authority, User, cache, rng, uid_scheme},
};
use mikey_sakke::{
    Message, NtpTime, Reject, ReplayCache, Standing,
    codec::*,
    identifier::KeyPeriod,
    keys::{KeyId, Purpose, SessionKey},
    policy::{ExpectedSigner, Period, Scheme, SignerKind, TrustedKms},
    sakke::Ssv,
    sakke_mode::{self, OpenedKey, Privacy, SakkeMessage},
};

const KMS: &str = "kms.example.org";
const GROUP: &str = "sip:group-7@example.org";
const ALICE: &str = "sip:alice@example.org";
const BOB: &str = "sip:bob@example.org";
const GMK: [u8; 16] = *b"0123456789abcdef";

struct World {
    authority: Authority,
    group: User,
    alice: User,
    bob: User,
}

static WORLD: LazyLock<World> = LazyLock::new(|| {
    let authority = Authority::new(1, KMS, uid_scheme());
    let at = [published_time()];
    let group = authority.user(GROUP, &at);
    let alice = authority.user(ALICE, &at);
    let bob = authority.user(BOB, &at);
    World { authority, group, alice, bob }
});

fn group() -> ExpectedSigner {
    ExpectedSigner::new(SignerKind::Group, GROUP, KMS)
}

fn parameters() -> KeyParameters {
    KeyParameters {
        key_type: 0,
        status: KeyParameters::NOT_REVOKED,
        activation: 0,
        expiry: 0,
        text: b"channel 7".to_vec(),
        group_ids: Some(GroupIds { count: 0, entries: vec![] }),
    }
}

fn gmk_message(key: &Ssv, privacy: Privacy) -> SakkeMessage<'_> {
    SakkeMessage {
        key,
        key_id: KeyId::new(Purpose::GMK, 0x0abc_def0),
        time: published_time(),
        rand: vec![0x5a; 16],
        policies: vec![SecurityPolicy::gmk_default(0)],
        cs_id: 4,
        parameters: Some(parameters()),
        privacy,
        to_self: false,
    }
}

/// A GMK from the group to Alice.
static MESSAGE: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let w = &*WORLD;
    let key = Ssv::from_octets(GMK);
    gmk_message(&key, Privacy::Hidden)
        .seal(&w.group.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(3))
        .unwrap()
});

fn open_with(octets: &[u8], cache: &mut ReplayCache, now: NtpTime) -> Result<OpenedKey, Reject> {
    let w = &*WORLD;
    sakke_mode::open(octets, &w.alice.receiving, &group(), &w.authority.trusted(), cache, now)
}

fn refused(octets: &[u8]) -> Reject {
    let mut cache = cache();
    let reason = open_with(octets, &mut cache, published_time()).err().unwrap();
    assert!(cache.is_empty());
    reason
}

#[test]
fn published_messages_open() {
    let v = vectors("mikey_sakke_messages.json");
    let kms = world::published_kms(&v);
    let uri = kms.uri().to_owned();
    for entry in list(&v["messages"]) {
        let message = octets(&entry["message"]);
        let receiver = world::published_user(&v, &kms, text(&entry["responder"]));
        let mut trusted = TrustedKms::default();
        trusted.insert(world::published_kms(&v));
        let is_gmk = entry["guk_id"].is_string();
        let kind = if is_gmk { SignerKind::Group } else { SignerKind::Peer };
        let signer = ExpectedSigner::new(kind, text(&entry["initiator"]), &uri);
        let now = published_time();
        let opened =
            sakke_mode::open(&message, &receiver.receiving, &signer, &trusted, &mut cache(), now).unwrap();
        assert_eq!(opened.key.as_octets().as_slice(), octets(&entry["key"]));
        assert_eq!(u64::from(opened.key_id.0), hex_number(&entry["key_id"]));
        assert_eq!(opened.guk_id.map(|g| u64::from(g.0)), is_gmk.then(|| hex_number(&entry["guk_id"])));
        assert_eq!(opened.bundle.rand, octets(&entry["rand"]));
        let plain = octets(&entry["general_extension"]["plaintext"]);
        assert_eq!(opened.parameters.unwrap().encode().unwrap(), plain);
        // Verification alone needs no receiver.
        assert!(sakke_mode::verify(&message, &signer, &trusted, &cache(), now).is_ok());
        // Every octet counts.
        for at in 0..message.len() {
            let mut altered = message.clone();
            altered[at] ^= 0x10;
            let mut cache = cache();
            let opened = sakke_mode::open(&altered, &receiver.receiving, &signer, &trusted, &mut cache, now);
            assert!(opened.is_err() && cache.is_empty(), "octet {at}");
        }
    }
}

/// The wrapped key parameters of the published messages, octet by octet.
#[test]
fn published_parameters_wrap_exactly() {
    let v = vectors("mikey_sakke_messages.json");
    for entry in list(&v["messages"]) {
        let m = Message::decode(&octets(&entry["message"])).unwrap();
        let key = octets(&entry["key"]);
        let csb_id = m.header.csb_id;
        let dpck = mikey_sakke::keys::dpck(&key, csb_id).unwrap();
        assert_eq!(dpck.expose(), octets(&entry["general_extension"]["dpck"]));
        let wrapped = m.payloads.iter().find_map(|p| match p {
            Payload::GeneralExtension(GeneralExtension::KeyParameters(KeyParametersContent::Protected(
                p,
            ))) => Some(p),
            _ => None,
        });
        let wrapped = wrapped.unwrap();
        assert_eq!(wrapped.associated_data().unwrap(), octets(&entry["general_extension"]["aad"]));
        let plain = wrapped.open(&key, csb_id).unwrap();
        let mut again =
            plain.protect(&key, csb_id, NtpTime::from_unix(wrapped.date_time, 0), wrapped.iv).unwrap();
        assert_eq!(again, *wrapped);
        again.ciphertext[0] ^= 1;
        assert_eq!(again.open(&key, csb_id), Err(Reject::KeyDoesNotOpen));
        assert_eq!(wrapped.open(&key, csb_id ^ 1).err().unwrap().name(), "key-data");
    }
}

#[test]
fn own_messages_open() {
    let w = &*WORLD;
    let key = Ssv::from_octets(GMK);
    for privacy in [Privacy::Clear, Privacy::Hidden] {
        let message = gmk_message(&key, privacy);
        let octets =
            message.seal(&w.group.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(3)).unwrap();
        let opened = open_with(&octets, &mut cache(), published_time()).unwrap();
        assert!(opened.key == key);
        assert_eq!(opened.key_id, message.key_id);
        assert_ne!(opened.guk_id.unwrap().0, message.key_id.0);
        assert_eq!(opened.parameters, Some(parameters()));
        assert_eq!((opened.signer.as_str(), opened.standing), (GROUP, Standing::Newest));
        assert_eq!(Message::decode(&octets).unwrap().encode().unwrap(), octets);
        let tek = opened.bundle.session_key(opened.key.as_octets(), SessionKey::Tek, 4, 16);
        assert_eq!(tek.len(), 16);
        // Hidden means that no URI of a user can be read, and no group's text.
        let shown = |needle: &[u8]| octets.windows(needle.len()).any(|w| w == needle);
        for needle in [ALICE.as_bytes(), GROUP.as_bytes(), b"channel 7"] {
            assert_eq!(shown(needle), privacy == Privacy::Clear);
        }
    }
}

#[test]
fn a_group_of_members() {
    let w = &*WORLD;
    let key = Ssv::from_octets(GMK);
    let receivers = [ALICE, BOB, "sip:not-provisioned@example.org"];
    let made = gmk_message(&key, Privacy::Hidden).seal_many(
        &w.group.signing,
        &w.authority.kms,
        &receivers,
        &w.authority.kms,
        &mut rng(4),
    );
    assert_eq!(made.len(), 3);
    // One by one it is the same: only signature and IV differ.
    let one = gmk_message(&key, Privacy::Hidden);
    let one = one.seal(&w.group.signing, &w.authority.kms, BOB, &w.authority.kms, &mut rng(5)).unwrap();
    let sakke = |octets: &[u8]| {
        let m = Message::decode(octets).unwrap();
        m.payloads.into_iter().find(|p| p.payload_type() == PayloadType::SAKKE).unwrap()
    };
    assert_eq!(sakke(&one), sakke(made[1].as_ref().unwrap()));
    let mut guk_ids = Vec::new();
    for (made, user) in made.iter().zip([&w.alice, &w.bob]) {
        let (made, trusted) = (made.as_ref().unwrap(), w.authority.trusted());
        let opened =
            sakke_mode::open(made, &user.receiving, &group(), &trusted, &mut cache(), published_time());
        let opened = opened.unwrap();
        assert!(opened.key == key);
        assert_eq!(opened.key_id.0, 0x0abc_def0);
        guk_ids.push(opened.guk_id.unwrap());
    }
    assert_ne!(guk_ids[0], guk_ids[1]);
    // Bob's message is not for Alice.
    assert_eq!(refused(made[1].as_ref().unwrap()), Reject::WrongResponder);
}

#[test]
fn every_octet_and_every_length() {
    let message = &*MESSAGE;
    assert!(open_with(message, &mut cache(), published_time()).is_ok());
    for at in 0..message.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut altered = message.clone();
            altered[at] ^= flip;
            refused(&altered);
        }
        assert_eq!(refused(&message[..at]).name(), "malformed");
    }
}

#[test]
fn every_octet_of_the_signed_part_is_covered_by_the_signature() {
    // Where an altered message still reads and names the same parties, it is the signature that refuses it.
    let message = &*MESSAGE;
    let mut by_signature = 0;
    for at in 0..message.len() {
        let mut altered = message.clone();
        altered[at] ^= 0x01;
        by_signature += usize::from(refused(&altered) == Reject::AuthenticationFailed);
    }
    // SAKKE data, wrapped parameters, signature and more.
    assert!(by_signature > 450, "{by_signature}");
}

#[test]
fn malleated_signature_is_the_same_message() {
    let other_form = world::malleated(&MESSAGE);
    assert_ne!(other_form, *MESSAGE);
    // RFC 6507 lets it verify; the replay cache does not look at the signature.
    assert!(open_with(&other_form, &mut cache(), published_time()).is_ok());
    let mut cache = cache();
    assert!(open_with(&MESSAGE, &mut cache, published_time()).is_ok());
    let again = open_with(&other_form, &mut cache, published_time());
    assert_eq!(again.err(), Some(Reject::Replay { identical: true }));
    assert_eq!(open_with(&MESSAGE, &mut cache, published_time()).err().unwrap().name(), "replay");
}

#[test]
fn timestamp_out_of_range() {
    let mut cache = cache();
    let late = published_time().after(Duration::from_secs(301));
    let early = published_time().before(Duration::from_secs(301));
    for now in [late, early] {
        let refused = open_with(&MESSAGE, &mut cache, now).err().unwrap();
        assert_eq!(refused, Reject::TimestampOutOfRange { message: published_time(), now });
    }
    let zero = WORLD.group.sign_again(&MESSAGE, |m| m.payloads[0] = Payload::T(Timestamp::NtpUtc(0)));
    assert_eq!(refused(&zero).name(), "timestamp-out-of-range");
    let counter = WORLD.group.sign_again(&MESSAGE, |m| m.payloads[0] = Payload::T(Timestamp::Counter(9)));
    assert_eq!(refused(&counter), Reject::TimestampType(2));
    let seconds = Timestamp::NtpUtc32((published_time().to_wire() >> 32) as u32);
    let seconds = WORLD.group.sign_again(&MESSAGE, |m| m.payloads[0] = Payload::T(seconds));
    assert_eq!(refused(&seconds), Reject::TimestampType(3));
}

#[test]
fn delayed_key_does_not_displace() {
    let w = &*WORLD;
    let key = Ssv::from_octets([3; 16]);
    let mut old = gmk_message(&key, Privacy::Hidden);
    old.time = published_time().before(Duration::from_secs(100));
    let old = old.seal(&w.group.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(5)).unwrap();
    let mut cache = cache();
    open_with(&MESSAGE, &mut cache, published_time()).unwrap();
    let delayed = open_with(&old, &mut cache, published_time()).unwrap();
    assert_eq!(delayed.standing, Standing::Superseded { newest: published_time() });
}

#[test]
fn wrong_kms() {
    let w = &*WORLD;
    // Another KMS under the same URI: the signature is not one of its users.
    let impostor = Authority::new(2, KMS, uid_scheme());
    let group_of_impostor = impostor.user(GROUP, &[published_time()]);
    let key = Ssv::from_octets(GMK);
    let forged = gmk_message(&key, Privacy::Hidden)
        .seal(&group_of_impostor.signing, &impostor.kms, ALICE, &w.authority.kms, &mut rng(6))
        .unwrap();
    assert_eq!(refused(&forged), Reject::AuthenticationFailed);
    // Signed well, but encapsulated under the impostor's key: TEST refuses.
    let foreign = gmk_message(&key, Privacy::Hidden)
        .seal(&w.group.signing, &w.authority.kms, ALICE, &impostor.kms, &mut rng(6))
        .unwrap();
    assert_eq!(refused(&foreign), Reject::KeyDoesNotOpen);
    // A KMS that is not trusted, whether the message or the caller names it.
    let none = TrustedKms::default();
    let opened =
        sakke_mode::open(&MESSAGE, &w.alice.receiving, &group(), &none, &mut cache(), published_time());
    assert_eq!(opened.err(), Some(Reject::UntrustedKms(KMS.into())));
    for role in [IdRole::INITIATOR_KMS, IdRole::RESPONDER_KMS] {
        let renamed = w.group.sign_again(&MESSAGE, |m| {
            for p in &mut m.payloads {
                if let Payload::Idr(idr) = p
                    && idr.role == role
                {
                    idr.data = b"kms.evil.example".to_vec();
                }
            }
        });
        assert_eq!(refused(&renamed), Reject::UntrustedKms("kms.evil.example".into()));
    }
}

#[test]
fn uid_or_uri_mismatch() {
    let w = &*WORLD;
    for (role, reason) in
        [(IdRole::INITIATOR_UID, Reject::WrongInitiator), (IdRole::RESPONDER_UID, Reject::WrongResponder)]
    {
        let altered = w.group.sign_again(&MESSAGE, |m| {
            for p in &mut m.payloads {
                if let Payload::Idr(idr) = p
                    && idr.role == role
                {
                    idr.data[5] ^= 1;
                }
            }
        });
        assert_eq!(refused(&altered), reason);
        // UID right, URI beside it wrong.
        let uri_role = if role == IdRole::INITIATOR_UID { IdRole::INITIATOR } else { IdRole::RESPONDER };
        let both = w.group.sign_again(&MESSAGE, |m| {
            let data = BOB.as_bytes().to_vec();
            m.payloads.insert(2, Payload::Idr(Idr { role: uri_role, id_type: IdType::URI, data }));
        });
        assert_eq!(refused(&both), reason);
    }
    // The same role twice: which one counts?
    let twice = w.group.sign_again(&MESSAGE, |m| m.payloads.insert(2, m.payloads[2].clone()));
    assert_eq!(refused(&twice).name(), "duplicate-payload");
}

#[test]
fn wrong_period() {
    let w = &*WORLD;
    // A month later: the sender has keys for then, the receiver not.
    let later = published_time().after(Duration::from_secs(2_592_000));
    let group_later = w.authority.user(GROUP, &[later]);
    let key = Ssv::from_octets(GMK);
    let mut message = gmk_message(&key, Privacy::Hidden);
    message.time = later;
    let octets =
        message.seal(&group_later.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(7)).unwrap();
    let opened = open_with(&octets, &mut cache(), later);
    assert_eq!(opened.err(), Some(Reject::NoKeyForPeriod { identity: ALICE.into() }));
    // A sender without a key for T makes nothing.
    assert!(message.seal(&w.group.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(7)).is_err());
    // Keys of one period given out as those of another are not installed.
    let mut alice = mikey_sakke::policy::ReceivingIdentity::new(ALICE, &w.authority.kms);
    let period = w.authority.kms.scheme().period_at(published_time()).unwrap();
    let identifier = w.authority.kms.identifier(ALICE, period).unwrap();
    let rsk = w.authority.master.extract(&identifier.octets()).unwrap();
    let Period::Number(n) = period else { unreachable!() };
    assert!(alice.install(&w.authority.kms, Period::Number(n + 1), &rsk).is_err());
    assert!(alice.install(&w.authority.kms, period, &rsk).is_ok());
}

#[test]
fn gmk_signed_by_a_mere_member() {
    let w = &*WORLD;
    let key = Ssv::from_octets([0xee; 16]);
    // Bob signs honestly with his own name.
    let by_bob = gmk_message(&key, Privacy::Hidden)
        .seal(&w.bob.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(8))
        .unwrap();
    assert_eq!(refused(&by_bob), Reject::WrongInitiator);
    // Bob signs under the group's name.
    let forged = w.bob.sign_again(&MESSAGE, |_| ());
    assert_eq!(refused(&forged), Reject::AuthenticationFailed);
    // Without any initiator in it the expected one still counts.
    let nameless = w.bob.sign_again(&by_bob, |m| {
        m.payloads.retain(|p| !matches!(p, Payload::Idr(idr) if idr.role == IdRole::INITIATOR_UID));
    });
    assert_eq!(refused(&nameless), Reject::AuthenticationFailed);
    // Whoever expects a call from Bob does not take a GMK from him; nor anything but a GSK from a speaker.
    for (kind, reason) in [
        (SignerKind::Peer, Reject::SignerNotAllowed { purpose: 0 }),
        (SignerKind::Server, Reject::SignerNotAllowed { purpose: 0 }),
        (SignerKind::Speaker, Reject::SignerNotAllowed { purpose: 0 }),
    ] {
        let bob = ExpectedSigner::new(kind, BOB, KMS);
        let trusted = w.authority.trusted();
        let opened =
            sakke_mode::open(&by_bob, &w.alice.receiving, &bob, &trusted, &mut cache(), published_time());
        assert_eq!(opened.err(), Some(reason));
    }
    // A PCK from Bob is fine, from the group it is not.
    let mut pck = gmk_message(&key, Privacy::Clear);
    pck.key_id = KeyId::new(Purpose::PCK, 5);
    let pck = pck.seal(&w.bob.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(8)).unwrap();
    let bob = ExpectedSigner::new(SignerKind::Peer, BOB, KMS);
    let trusted = w.authority.trusted();
    let opened =
        sakke_mode::open(&pck, &w.alice.receiving, &bob, &trusted, &mut cache(), published_time()).unwrap();
    assert_eq!((opened.key_id.0, opened.guk_id), (0x1000_0005, None));
    let not_group = ExpectedSigner::new(SignerKind::Group, BOB, KMS);
    let opened =
        sakke_mode::open(&pck, &w.alice.receiving, &not_group, &trusted, &mut cache(), published_time());
    assert_eq!(opened.err(), Some(Reject::SignerNotAllowed { purpose: 1 }));
}

#[test]
fn unknown_and_misplaced_parts() {
    let w = &*WORLD;
    let again = |edit: &dyn Fn(&mut Message)| refused(&w.group.sign_again(&MESSAGE, edit));
    let sakke = |edit: &dyn Fn(&mut Sakke)| {
        again(&|m| {
            for p in &mut m.payloads {
                if let Payload::Sakke(s) = p {
                    edit(s);
                }
            }
        })
    };
    assert_eq!(sakke(&|s| s.params = SakkeParams(2)), Reject::SakkeParameters(2));
    let scheme = Reject::IdentifierScheme { found: 1, expected: 2 };
    assert_eq!(sakke(&|s| s.id_scheme = IdScheme::TEL_MONTHLY), scheme);
    assert_eq!(sakke(&|s| s.data[100] ^= 1), Reject::KeyDoesNotOpen);
    assert_eq!(sakke(&|s| s.data[272] ^= 1), Reject::KeyDoesNotOpen);
    assert_eq!(sakke(&|s| s.data.truncate(272)), Reject::KeyDoesNotOpen);
    assert_eq!(again(&|m| m.header.prf = PrfFunc(2)), Reject::Prf(2));
    assert_eq!(again(&|m| m.header.data_type = DataType(27)).name(), "data-type");
    let sign = |edit: &dyn Fn(&mut Sign)| {
        let mut m = Message::decode(&MESSAGE).unwrap();
        if let Some(Payload::Sign(s)) = m.payloads.last_mut() {
            edit(s);
        }
        refused(&m.encode().unwrap())
    };
    assert_eq!(sign(&|s| s.sign_type = SignType::RSA_PSS), Reject::SignatureType(1));
    assert_eq!(sign(&|s| s.signature.truncate(128)), Reject::AuthenticationFailed);
    assert_eq!(sign(&|s| s.signature.push(0)), Reject::AuthenticationFailed);
    assert_eq!(sign(&|s| s.signature.clear()), Reject::AuthenticationFailed);
    // A payload type that nobody knows hides everything behind it, the signature too.
    let mut m = Message::decode(&MESSAGE).unwrap();
    m.payloads.pop();
    m.payloads.push(Payload::Opaque(Opaque {
        payload_type: PayloadType(99),
        octets: vec![0; 140],
        unknown_field: "payload type",
        unknown_code: 99,
    }));
    let unknown = Reject::UnknownCritical { field: "payload type", code: 99 };
    assert_eq!(refused(&m.encode().unwrap()), unknown);
    let cert = Payload::Cert(Cert { cert_type: CertType::X509, data: vec![] });
    assert_eq!(again(&|m| m.payloads.insert(3, cert.clone())), Reject::NotAllowed("CERT"));
    let without = |t: PayloadType| again(&|m| m.payloads.retain(|p| p.payload_type() != t));
    assert_eq!(without(PayloadType::T), Reject::Missing("T"));
    assert_eq!(without(PayloadType::RAND), Reject::Missing("RAND"));
    assert_eq!(without(PayloadType::SAKKE), Reject::Missing("SAKKE"));
    let mut unsigned = Message::decode(&MESSAGE).unwrap();
    unsigned.payloads.pop();
    assert_eq!(refused(&unsigned.encode().unwrap()), Reject::Missing("SIGN"));
    // An unknown extension, informational, stays what it is; order does not matter.
    let with_extension = w.group.sign_again(&MESSAGE, |m| {
        let e = GeneralExtension::Other { extension_type: ExtensionType(200), data: vec![1] };
        m.payloads.insert(0, Payload::GeneralExtension(e));
    });
    assert!(open_with(&with_extension, &mut cache(), published_time()).is_ok());
}

/// R plus the point (0, 0) of order 2: on the curve, and the pairing does not see the difference.
fn with_small_order_part(data: &[u8]) -> Vec<u8> {
    use crypto_bigint::modular::{FixedMontyForm, FixedMontyParams};
    use crypto_bigint::{Odd, U1024};
    let p = U1024::from_be_slice(&octets(&vectors("sakke_params1.json")["p"]));
    let params = FixedMontyParams::new(Odd::new(p).unwrap());
    let number = |part: &[u8]| FixedMontyForm::new(&U1024::from_be_slice(part), &params);
    let (x, y) = (number(&data[1..129]), number(&data[129..257]));
    let three = FixedMontyForm::new(&U1024::from_u8(3), &params);
    let inverse: FixedMontyForm<16> = Option::from(x.invert()).unwrap();
    let sum = [-(three * inverse), three * y * inverse * inverse];
    let coordinates = sum.map(|c| c.retrieve().to_be_bytes());
    [&data[..1], coordinates[0].as_ref(), coordinates[1].as_ref(), &data[257..]].concat()
}

/// All signed well: what is refused is the point.
#[test]
fn points_off_the_curve_or_of_wrong_order() {
    let again = |edit: &dyn Fn(&mut Vec<u8>)| {
        refused(&WORLD.group.sign_again(&MESSAGE, |m| {
            for p in &mut m.payloads {
                if let Payload::Sakke(s) = p {
                    edit(&mut s.data);
                }
            }
        }))
    };
    // Without TEST this one would give the right key: the pairing's value is that of R.
    assert_eq!(again(&|data| *data = with_small_order_part(data)), Reject::KeyDoesNotOpen);
    assert_eq!(again(&|data| data[256] ^= 1), Reject::KeyDoesNotOpen, "off the curve");
    assert_eq!(again(&|data| data[1..257].fill(0)), Reject::KeyDoesNotOpen, "(0, 0), of order 2");
    assert_eq!(again(&|data| data[0] = 2), Reject::KeyDoesNotOpen, "another form");
    assert_eq!(again(&|data| data[1..129].fill(0xff)), Reject::KeyDoesNotOpen, "x not below p");
    // The PVT in the signature: off the curve, in another form, and that of somebody else.
    let at = MESSAGE.len() - 65;
    let with_pvt = |edit: &dyn Fn(&mut [u8])| {
        let mut message = MESSAGE.clone();
        edit(&mut message[at..]);
        refused(&message)
    };
    assert_eq!(with_pvt(&|pvt| pvt[64] ^= 1), Reject::AuthenticationFailed);
    assert_eq!(with_pvt(&|pvt| pvt[0] = 2), Reject::AuthenticationFailed);
    assert_eq!(with_pvt(&|pvt| pvt[1..].fill(0)), Reject::AuthenticationFailed);
    let bobs = *WORLD.bob.raw[0].1.pvt().as_octets();
    assert_eq!(with_pvt(&|pvt| pvt.copy_from_slice(&bobs)), Reject::AuthenticationFailed);
}

#[test]
fn period_of_use() {
    let w = &*WORLD;
    let key = Ssv::from_octets(GMK);
    let now = published_time();
    let with = |edit: &dyn Fn(&mut KeyParameters)| {
        let mut m = gmk_message(&key, Privacy::Hidden);
        let mut p = parameters();
        edit(&mut p);
        m.parameters = Some(p);
        let m = m.seal(&w.group.signing, &w.authority.kms, ALICE, &w.authority.kms, &mut rng(9)).unwrap();
        open_with(&m, &mut cache(), now)
    };
    let unix = now.unix_seconds();
    assert_eq!(with(&|p| p.status = 2).err(), Some(Reject::PeriodOfUse("is revoked")));
    assert_eq!(with(&|p| p.expiry = unix).err(), Some(Reject::PeriodOfUse("has expired")));
    assert!(with(&|p| p.expiry = unix + 1).is_ok());
    assert!(with(&|p| p.expiry = 0xffff_ffff).is_ok());
    let ahead = with(&|p| p.activation = unix + 60).unwrap().parameters.unwrap();
    assert!(!ahead.active_at(now) && ahead.active_at(now.after(Duration::from_secs(60))));
}

#[test]
fn monthly_keys_of_rfc_6509() {
    let authority = Authority::new(3, "kms.tel.example", Scheme::TelMonthly);
    let (a, b) = ("tel:+447700900123", "tel:+447700900124");
    // 2025-10-02: September's keys are still taken, on the 3rd no more.
    let on_2nd = published_time();
    let in_september = on_2nd.before(Duration::from_secs(3 * 86_400));
    let alice = authority.user(a, &[on_2nd, in_september]);
    let bob = authority.user(b, &[on_2nd, in_september]);
    let key = Ssv::from_octets([9; 16]);
    let mut message = SakkeMessage {
        key: &key,
        key_id: KeyId(0x8765_4321),
        time: in_september,
        rand: vec![1; 16],
        policies: vec![],
        cs_id: 0,
        parameters: None,
        privacy: Privacy::Clear,
        to_self: false,
    };
    let octets = message.seal(&alice.signing, &authority.kms, b, &authority.kms, &mut rng(1)).unwrap();
    let signer = ExpectedSigner::new(SignerKind::Peer, a, "kms.tel.example");
    let trusted = authority.trusted();
    let deferred = || {
        let window = mikey_sakke::Window::CLOCK_SKEW.late_entry(Duration::from_secs(10 * 86_400));
        ReplayCache::new(window, 10)
    };
    let open = |now| sakke_mode::open(&octets, &bob.receiving, &signer, &trusted, &mut deferred(), now);
    let opened = open(on_2nd).unwrap();
    assert!(opened.key == key && opened.key_id.0 == 0x8765_4321);
    let on_3rd = on_2nd.after(Duration::from_secs(86_400));
    assert_eq!(open(on_3rd).err(), Some(Reject::MonthNotAccepted("2025-09".into())));
    // One receiver that has no identifier does not keep the other from being served.
    let made = message.seal_many(&alice.signing, &authority.kms, &["no tel", b], &authority.kms, &mut rng(1));
    assert!(made[0].is_err() && made[1].is_ok());
    // UIDs can't hide what has none.
    message.privacy = Privacy::Hidden;
    assert!(message.seal(&alice.signing, &authority.kms, b, &authority.kms, &mut rng(1)).is_err());
    // A UID KMS and a monthly one don't mix.
    assert!(authority.kms.identifier(a, Period::Number(3)).is_err());
    assert!(KeyPeriod::new(0, 0).is_err());
}
