//! Every message there and back, cut at every length, and its parts in every order.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use bytes::Bytes;
use p256::elliptic_curve::Generate;
use p256::{PublicKey, SecretKey};
use pc5_control::codec::direct::{Keepalive, KeepaliveAck, Release, ReleaseReason};
use pc5_control::codec::entry::{GroupKeyEntry, JoinKeys, OwnerProof, decode_signed_credential};
use pc5_control::codec::go::*;
use pc5_control::codec::segment::{Part, Reassembly, limits, segment};
use pc5_control::codec::{Body, Message, MessageType};
use pc5_control::credential::{Credential, CrlHeld, CrlNumber};
use pc5_dataplane::ids::{GroupId, KdSessId, Layer2Id, Lcid, PgkId, PtkId};
use pc5_dataplane::keys::Floor;
use pc5_dataplane::suite::Suite;
use proptest::prelude::*;
use zeroize::Zeroizing;

fn point() -> impl Strategy<Value = PublicKey> {
    // A handful is enough: what is tested is where the octets stand.
    prop::sample::select(
        (0..4).map(|_| SecretKey::generate_from_rng(&mut rng()).public_key()).collect::<Vec<_>>(),
    )
}

fn rng() -> rand_core::UnwrapErr<getrandom::SysRng> {
    rand_core::UnwrapErr(getrandom::SysRng)
}

fn octets(range: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), range)
}

fn suite() -> impl Strategy<Value = Suite> {
    prop::sample::select(Suite::ALL.to_vec())
}

fn sealed() -> impl Strategy<Value = HpkeSealed> {
    (any::<[u8; 32]>(), octets(0..300)).prop_map(|(enc, ciphertext)| {
        let mut point = [4; 65];
        point[1..33].copy_from_slice(&enc);
        HpkeSealed { enc: point, ciphertext }
    })
}

/// What an entry is made from: entries themselves are secret and cannot be cloned.
type EntrySeed = (u64, Suite, bool, u64, u64, Option<(u16, u16)>, [u8; 32], Vec<(u32, u16, u16)>);

fn entry_seed() -> impl Strategy<Value = EntrySeed> {
    (
        any::<u64>(),
        suite(),
        any::<bool>(),
        any::<u64>(),
        any::<u64>(),
        prop::option::of((1..=u16::MAX, 0..512_u16)),
        any::<[u8; 32]>(),
        prop::collection::vec((0..1_u32 << 24, 1..=u16::MAX, any::<u16>()), 0..5),
    )
}

fn entries(seeds: &[EntrySeed]) -> Vec<GroupKeyEntry> {
    let make = |(i, seed): (usize, &EntrySeed)| {
        let (epoch, suite, direct, not_before, not_after, grant, s_m, floors) = seed.clone();
        let floor = |(sender, id, sn): (u32, u16, u16)| Floor {
            sender: Layer2Id::new(sender).unwrap(),
            ptk_id: PtkId::new(id).unwrap(),
            next_sn: sn.into(),
        };
        GroupKeyEntry {
            epoch: (epoch >> 3 << 3 | i as u64).max(1),
            pgk_id: PgkId(1 + i as u8 * 7),
            suite,
            direct,
            not_before,
            not_after,
            grant: grant.map(|(a, n)| PtkId::new(a).unwrap()..=PtkId::new(a.saturating_add(n)).unwrap()),
            s_m: Zeroizing::new(s_m),
            floors: floors.into_iter().map(floor).collect(),
        }
    };
    seeds.iter().enumerate().map(make).collect()
}

/// Canonical messages of every type.
fn canonical() -> impl Strategy<Value = Vec<u8>> {
    let nonce = any::<[u8; 16]>;
    let tag = any::<[u8; 32]>;
    let body = prop_oneof![
        (any::<u32>(), prop::option::of(any::<u32>())).prop_map(|(counter, maximum_inactivity_period)| {
            message(Body::Keepalive(Keepalive { counter, maximum_inactivity_period }))
        }),
        any::<u32>().prop_map(|counter| message(Body::KeepaliveAck(KeepaliveAck { counter }))),
        any::<u8>().prop_map(|r| message(Body::Release(Release { reason: ReleaseReason::from_octet(r) }))),
        Just(()).prop_map(|()| message(Body::ReleaseAccept)),
        (0..1_u32 << 24, nonce(), 1..=u8::MAX, point(), octets(1..20), prop::option::of(nonce())).prop_map(
            |(group, nonce_1, msb, e_m, suites, cookie)| {
                let group = GroupId::new(group).unwrap();
                message(Body::JoinRequest(JoinRequest { group, nonce_1, msb, e_m, suites, cookie }))
            }
        ),
        (nonce(), nonce())
            .prop_map(|(nonce_1, cookie)| message(Body::JoinRetry(JoinRetry { nonce_1, cookie }))),
        (nonce(), any::<u8>(), suite(), point(), octets(0..700)).prop_map(
            |(nonce_2, lsb, suite, e_o, sealed)| {
                message(Body::JoinChallenge(JoinChallenge { nonce_2, lsb, suite, e_o, sealed }))
            }
        ),
        octets(0..700).prop_map(|s| message(Body::JoinAuthenticate(s))),
        sealed().prop_map(|s| message(Body::JoinAccept(s))),
        tag().prop_map(|t| message(Body::JoinComplete(t))),
        tag().prop_map(|t| message(Body::JoinConfirm(t))),
        (nonce(), any::<u8>(), prop::option::of(nonce()))
            .prop_map(|(nonce_1, cause, tag)| { message(Body::Reject(Rejection { nonce_1, cause, tag })) }),
        (nonce(), 1..=u8::MAX, octets(0..33), prop::option::of(point())).prop_map(
            |(nonce_1, msb, route, refresh)| {
                message(Body::RekeyRequest(RekeyRequest { nonce_1, msb, route, refresh }))
            }
        ),
        (nonce(), any::<u8>(), prop::option::of((point(), octets(48..49))), any::<[u8; 4]>(), tag())
            .prop_map(|(nonce_2, lsb, refreshed, dksi, confirm_o)| {
                let refreshed = refreshed.map(|(e_o, ciphertext)| Refreshed {
                    e_o,
                    sealed: HpkeSealed { enc: [4; 65], ciphertext },
                });
                message(Body::RekeyCommand(RekeyCommand { nonce_2, lsb, refreshed, dksi, confirm_o }))
            }),
        tag().prop_map(|t| message(Body::RekeyComplete(t))),
        (any::<u64>(), any::<bool>(), any::<bool>()).prop_map(|(newest_epoch, grant, floors)| {
            message(Body::GroupKeyRequest(GroupKeyRequest { newest_epoch, grant, floors }))
        }),
        (any::<u64>(), prop::collection::vec(entry_seed(), 1..=4)).prop_map(|(lowest_valid_epoch, seeds)| {
            let keys = Wrapped::Link(entries(&seeds));
            message(Body::GroupKeyUpdate(GroupKeyUpdate { lowest_valid_epoch, keys }))
        }),
        (any::<u64>(), 1..=4_u8, sealed()).prop_map(|(lowest_valid_epoch, n, sealed)| {
            let keys = Wrapped::Certificate { n, sealed };
            message(Body::GroupKeyUpdate(GroupKeyUpdate { lowest_valid_epoch, keys }))
        }),
        any::<u64>().prop_map(|e| message(Body::GroupKeyAck(e))),
        octets(1..900).prop_map(|der| message(Body::CrlUpdate(der))),
        any::<bool>().prop_map(|r| message(Body::RekeyTrigger(r))),
        (any::<[u8; 8]>(), any::<u64>(), any::<u8>(), octets(0..20)).prop_map(
            |(instance, epoch, spread, suites)| {
                message(Body::GoAnnounce(GoAnnounce { instance, epoch, spread, suites }))
            }
        ),
        (any::<u16>(), any::<[u8; 8]>(), any::<bool>(), any::<u64>(), tag(), octets(0..700)).prop_map(
            |(gk_id, session_id, end, time, nonce, sealed)| {
                message(Body::SessionKey(SessionKey { gk_id, session_id, end, time, nonce, sealed }))
            }
        ),
        any::<u16>().prop_map(|gk_id| message(Body::SessionKeyRequest(gk_id))),
    ];
    (body, any::<u16>()).prop_map(|(mut canonical, seq)| {
        canonical[1..3].copy_from_slice(&seq.to_be_bytes());
        canonical
    })
}

fn message(body: Body) -> Vec<u8> {
    Message { seq: 0, body }.encode().unwrap().to_vec()
}

/// Messages whose end only their sealed part knows.
fn open_ended(message_type: MessageType, cut: usize) -> bool {
    let fixed = match message_type {
        MessageType::JoinChallenge => 3 + 83,
        MessageType::JoinAuthenticate => 3,
        MessageType::JoinAccept => 3 + 65,
        MessageType::GroupKeyUpdate => 3 + 10 + 65,
        MessageType::CrlUpdate => 3 + 1,
        MessageType::SessionKey => 3 + SessionKey::HEADER,
        // The information element is optional.
        MessageType::Keepalive => return cut == 7,
        _ => return false,
    };
    cut >= fixed
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(canonical in canonical()) {
        let read = Message::decode(&canonical).unwrap();
        prop_assert_eq!(read.encode().unwrap().to_vec(), &canonical[..]);
        for cut in 0..canonical.len() {
            match Message::decode(&canonical[..cut]) {
                Err(e) => prop_assert!(e.offset <= cut),
                Ok(shorter) => {
                    prop_assert!(open_ended(read.body.message_type(), cut), "{:?} cut at {cut}", read.body.message_type());
                    prop_assert_eq!(shorter.encode().unwrap().to_vec(), &canonical[..cut]);
                }
            }
        }
    }

    #[test]
    fn any_octets_are_read_or_refused(octets in octets(0..400)) {
        if let Ok(message) = Message::decode(&octets) {
            // One spelling only: what is hashed is what was said.
            prop_assert_eq!(message.encode().unwrap().to_vec(), &octets[..]);
        }
        let _ = Part::decode(&Bytes::from(octets));
    }

    #[test]
    fn altered_messages_are_read_as_what_they_say(canonical in canonical(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut altered = canonical;
        let i = at.index(altered.len());
        altered[i] ^= 1_u8 << bit;
        if let Ok(message) = Message::decode(&altered) {
            prop_assert_eq!(message.encode().unwrap().to_vec(), altered);
        }
    }

    #[test]
    fn keys_of_a_join_come_back(
        seeds in prop::collection::vec(entry_seed(), 1..=4),
        numbers in (any::<u32>(), any::<u16>(), any::<[u8; 8]>(), any::<u64>()),
    ) {
        let (kd_lifetime, keepalive_period, instance, lowest_valid_epoch) = numbers;
        let s_u = Zeroizing::new([7; 32]);
        let keys = JoinKeys { s_u, kd_lifetime, keepalive_period, instance, lowest_valid_epoch, entries: entries(&seeds) };
        let octets = keys.encode().unwrap();
        let floors: usize = seeds.iter().map(|s| s.7.len()).sum();
        prop_assert_eq!(octets.len(), 55 + 64 * seeds.len() + 7 * floors);
        prop_assert_eq!(JoinKeys::decode(&octets).unwrap().encode().unwrap().to_vec(), octets.to_vec());
        for cut in 0..octets.len() {
            prop_assert!(JoinKeys::decode(&octets[..cut]).is_err());
        }
    }

    #[test]
    fn parts_in_any_order_make_the_message(
        canonical in canonical(), sdu in 8..200_usize, order in any::<prop::sample::Index>(), twice in any::<bool>(),
    ) {
        let lcid = Message::decode(&canonical).unwrap().body.message_type().lcid();
        let Ok(sdus) = segment(&canonical, sdu) else {
            prop_assert!(lcid == Lcid::CLEAR && canonical.len() - 3 > 16 * (sdu - 7));
            return Ok(());
        };
        let direct = canonical[0] < 0x80;
        prop_assert!(direct || sdus.iter().all(|s| s.len() <= sdu));
        let (mut r, source, mut whole) = (Reassembly::default(), Layer2Id::new(1).unwrap(), Vec::new());
        let mut all: Vec<Bytes> = sdus.clone();
        let n = all.len();
        all.rotate_left(order.index(n));
        all.reverse();
        if twice {
            all.insert(0, all[0].clone());
        }
        for s in &all {
            let part = Part::decode(s).unwrap();
            whole.extend(r.take(None, source, lcid, None, part, Duration::ZERO).unwrap());
        }
        prop_assert_eq!(&*whole[0], &canonical);
        if n > 1 {
            prop_assert_eq!(whole.len(), 1);
            prop_assert!(r.is_empty());
        }
    }

    #[test]
    fn reassembly_is_bounded_whatever_comes(
        parts in prop::collection::vec((0..400_u32, any::<bool>(), any::<u16>(), 0..40_u16, 0..40_u16, 0..60_usize), 0..600),
    ) {
        let mut r = Reassembly::default();
        for (i, (source, clear, seq, a, b, len)) in parts.into_iter().enumerate() {
            let (message_type, lcid) = if clear { (MessageType::JoinRequest, Lcid::CLEAR) } else { (MessageType::CrlUpdate, Lcid::SIGNALLING) };
            let content = Bytes::from(vec![i as u8; len]);
            let part = Part { message_type, seq: seq % 2, index: a.min(b), last: a.max(b), content };
            let _ = r.take(None, Layer2Id::new(source).unwrap(), lcid, KdSessId::new(1), part, Duration::from_millis(i as u64));
            prop_assert!(r.len() <= limits::REASSEMBLIES);
        }
        r.expire(Duration::from_secs(10));
        prop_assert!(r.is_empty());
    }
}

#[test]
fn proofs_of_identity_come_back() {
    let held = CrlHeld { issuer: [3; 8], number: CrlNumber::from(300) };
    let credential = Credential { chain: vec![vec![1; 400], vec![2; 300]], crls_held: vec![held] };
    let proof = OwnerProof { time: 1_800_000_000, credential };
    let mut octets = proof.encode().unwrap();
    let length = octets.len();
    octets.extend([9; 64]);
    assert_eq!(OwnerProof::decode_signed(&octets).unwrap(), (proof.clone(), length, [9; 64]));
    let (credential, n, signature) = decode_signed_credential(&octets[8..]).unwrap();
    assert_eq!((credential, n, signature), (proof.credential, length - 8, [9; 64]));
    for cut in 0..octets.len() {
        assert!(OwnerProof::decode_signed(&octets[..cut]).is_err());
    }
    octets.push(0);
    assert!(OwnerProof::decode_signed(&octets).is_err());
}

#[test]
fn channels_carry_what_is_theirs() {
    for &message_type in MessageType::ALL {
        let octet = message_type as u8;
        let clear = matches!(octet, 0x80..=0x84 | 0x87 | 0x90 | 0xA0 | 0xA1);
        assert_eq!(message_type.allowed_on(Lcid::CLEAR), clear, "{octet:02x}");
        assert_eq!(message_type.allowed_on(Lcid::SIGNALLING), !clear || octet == 0x87, "{octet:02x}");
        assert!(!message_type.allowed_on(Lcid::SECURITY_MODE));
        assert_eq!(message_type.to_group(), matches!(octet, 0x90 | 0xA0 | 0xA1));
        assert_eq!(MessageType::from_octet(octet), Some(message_type));
    }
}

#[test]
fn a_part_that_contradicts_starts_anew() {
    let canonical = message(Body::JoinAuthenticate(vec![5; 100]));
    let other = message(Body::JoinAuthenticate(vec![6; 100]));
    let parts = |m: &[u8]| -> Vec<Part> {
        segment(m, 50).unwrap().iter().map(|s| Part::decode(s).unwrap()).collect()
    };
    let (a, b) = (parts(&canonical), parts(&other));
    assert_eq!(a.len(), 3);
    let source = Layer2Id::new(1).unwrap();
    let mut r = Reassembly::default();
    let mut take = |p: &Part| r.take(None, source, Lcid::CLEAR, None, p.clone(), Duration::ZERO).unwrap();
    assert_eq!(take(&a[0]), None);
    assert_eq!(take(&a[1]), None);
    assert_eq!(take(&b[0]), None, "same seq, other content: the earlier parts are gone");
    assert_eq!(take(&b[1]), None);
    assert_eq!(take(&b[2]), Some(other.into()));
    assert_eq!(take(&a[2]), None, "nothing is left of the first one");
    let mut r = Reassembly::default();
    let wrong = |last: u16, len: usize| Part {
        message_type: MessageType::JoinRequest,
        seq: 1,
        index: 0,
        last,
        content: Bytes::from(vec![0; len]),
    };
    assert!(r.take(None, source, Lcid::CLEAR, None, wrong(16, 1), Duration::ZERO).is_err());
    assert!(r.take(None, source, Lcid::CLEAR, None, wrong(15, 1_100), Duration::ZERO).is_err());
    assert!(r.take(None, source, Lcid::SIGNALLING, None, wrong(0, 1), Duration::ZERO).is_err());
    assert!(r.is_empty());
}
