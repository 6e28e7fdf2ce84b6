//! SAKKE-to-self: what a device of a user sent, another device of that user reads.
#![allow(clippy::unwrap_used)]

mod common;

use common::{
    published_time,
    world::{Authority, User, cache, rng, uid_scheme},
};
use mikey_sakke::{
    Message, Reject,
    codec::*,
    keys::{KeyId, Purpose},
    policy::{ExpectedSigner, SignerKind},
    sakke::Ssv,
    sakke_mode::{self, OpenedKey, Privacy, SakkeMessage},
};

const KMS: &str = "kms.example.org";
const ALICE: &str = "sip:alice@example.org";
const BOB: &str = "sip:bob@example.org";

struct World {
    authority: Authority,
    alice: User,
    bob: User,
}

fn world() -> World {
    let authority = Authority::new(1, KMS, uid_scheme());
    let [alice, bob] = [ALICE, BOB].map(|uri| authority.user(uri, &[published_time()]));
    World { authority, alice, bob }
}

fn pck(key: &Ssv) -> SakkeMessage<'_> {
    SakkeMessage {
        key,
        key_id: KeyId::new(Purpose::PCK, 7),
        time: published_time(),
        rand: vec![0x5a; 16],
        policies: vec![],
        cs_id: 0,
        parameters: Some(KeyParameters {
            key_type: 1,
            status: KeyParameters::NOT_REVOKED,
            activation: 0,
            expiry: 0,
            text: vec![],
            group_ids: None,
        }),
        privacy: Privacy::Hidden,
        to_self: true,
    }
}

fn open_own(w: &World, by: &User, octets: &[u8]) -> Result<OpenedKey, Reject> {
    let mut cache = cache();
    let opened =
        sakke_mode::open_own(octets, &by.receiving, &w.authority.trusted(), &mut cache, published_time());
    assert_eq!(cache.is_empty(), opened.is_err());
    opened
}

#[test]
fn both_sides_get_the_key() {
    let w = world();
    let key = Ssv::from_octets([0x42; 16]);
    let kms = &w.authority.kms;
    let message = pck(&key);
    let sealed = message.seal(&w.alice.signing, kms, BOB, kms, &mut rng(1)).unwrap();
    let many = message.seal_many(&w.alice.signing, kms, &[BOB, ALICE], kms, &mut rng(2));
    assert_eq!(Message::decode(&sealed).unwrap().encode().unwrap(), sealed);
    for octets in [&sealed, many[0].as_ref().unwrap()] {
        let alice = ExpectedSigner::new(SignerKind::Peer, ALICE, KMS);
        let trusted = w.authority.trusted();
        let at_bob =
            sakke_mode::open(octets, &w.bob.receiving, &alice, &trusted, &mut cache(), published_time());
        let at_alice = open_own(&w, &w.alice, octets).unwrap();
        let at_bob = at_bob.unwrap();
        assert!(at_bob.key == key && at_alice.key == key);
        assert_eq!((at_alice.key_id, at_bob.key_id), (message.key_id, message.key_id));
        assert_eq!(at_alice.parameters, message.parameters);
        assert_eq!(at_alice.signer, ALICE);
    }
    // Once only.
    let (trusted, mut cache) = (w.authority.trusted(), cache());
    let mut open = || {
        sakke_mode::open_own(&sealed, &w.alice.receiving, &trusted, &mut cache, published_time()).map(drop)
    };
    assert_eq!(open(), Ok(()));
    assert_eq!(open(), Err(Reject::Replay { identical: true }));
}

#[test]
fn refused_by_name() {
    let w = world();
    let key = Ssv::from_octets([0x42; 16]);
    let kms = &w.authority.kms;
    let seal = |m: &SakkeMessage<'_>| m.seal(&w.alice.signing, kms, BOB, kms, &mut rng(1));
    let sealed = seal(&pck(&key)).unwrap();
    let refused = |octets: &[u8]| open_own(&w, &w.alice, octets).err().unwrap();
    // Not one's own.
    assert_eq!(open_own(&w, &w.bob, &sealed).err(), Some(Reject::WrongInitiator));
    assert_eq!(refused(&w.bob.sign_again(&sealed, |_| ())), Reject::AuthenticationFailed);
    // Nothing in it for oneself.
    let without = seal(&SakkeMessage { to_self: false, ..pck(&key) }).unwrap();
    assert_eq!(refused(&without), Reject::Missing("SAKKE-to-self"));
    let again = |edit: &dyn Fn(&mut Sakke)| {
        refused(&w.alice.sign_again(&sealed, |m| {
            for p in &mut m.payloads {
                if let Payload::GeneralExtension(GeneralExtension::SakkeToSelf(s)) = p {
                    edit(s);
                }
            }
        }))
    };
    assert_eq!(again(&|s| s.params = SakkeParams(2)), Reject::SakkeParameters(2));
    let scheme = Reject::IdentifierScheme { found: 1, expected: 2 };
    assert_eq!(again(&|s| s.id_scheme = IdScheme::TEL_MONTHLY), scheme);
    assert_eq!(again(&|s| s.data[272] ^= 1), Reject::KeyDoesNotOpen);
    // What is for Bob does not open as what is for Alice.
    let for_bob = Message::decode(&sealed).unwrap().payloads.into_iter().find_map(|p| match p {
        Payload::Sakke(s) => Some(s.data),
        _ => None,
    });
    assert_eq!(again(&|s| s.data = for_bob.clone().unwrap()), Reject::KeyDoesNotOpen);
    let twice = w.alice.sign_again(&sealed, |m| {
        let to_self = |p: &&Payload| matches!(p, Payload::GeneralExtension(GeneralExtension::SakkeToSelf(_)));
        let copy = m.payloads.iter().find(to_self).unwrap().clone();
        m.payloads.insert(0, copy);
    });
    assert_eq!(refused(&twice), Reject::Duplicate("SAKKE-to-self"));
    // Every octet and every length.
    for at in 0..sealed.len() {
        let mut altered = sealed.clone();
        altered[at] ^= 0x20;
        refused(&altered);
        assert_eq!(refused(&sealed[..at]).name(), "malformed");
    }
    // A GMK comes from a server, which has no other devices.
    let gmk = SakkeMessage { key_id: KeyId::new(Purpose::GMK, 7), ..pck(&key) };
    assert!(seal(&gmk).is_err());
    assert!(gmk.seal_many(&w.alice.signing, kms, &[BOB], kms, &mut rng(1))[0].is_err());
}
