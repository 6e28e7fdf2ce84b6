//! What an attacker on the wire tries. Nothing is accepted, nothing hangs, nothing grows.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use pc5_control::codec::go::Rejection;
use pc5_control::codec::segment::{Part, segment};
use pc5_control::codec::{Body, Message};
use pc5_control::credential::{Clock, Freshness, Judge, Role};
use pc5_control::group_owner::lockstep::Conditions;
use pc5_control::group_owner::{
    Ended, Input, MemberState, Notice, Order, Outgoing, Owner, SharedTrust, Trust,
};
use pc5_control::policy::{MemberPolicy, OwnerPolicy};
use pc5_control::reject::Reject;
use pc5_control::store::{MemoryStore, Store};
use pc5_dataplane::ids::{GroupId, Layer2Id, Lcid};
use pc5_dataplane::pdu::Destination;

use super::world::*;

const DELAY: Conditions = Conditions { loss: 0, duplicate: 0, reorder: 0, delay: Duration::from_millis(1) };

fn canonical(frame: &Outgoing) -> Vec<u8> {
    let part = Part::decode(&frame.sdu).unwrap();
    assert_eq!(part.last, 0);
    [&frame.sdu[..3], &part.content[..]].concat()
}

fn clear(from: Layer2Id, to: Layer2Id, canonical: &[u8]) -> Outgoing {
    let sdu = segment(canonical, 1_477).unwrap().remove(0);
    Outgoing { from, to: Destination::Ue(to), lcid: Lcid::CLEAR, under: None, sdu }
}

fn inject(w: &mut World, frame: Outgoing) {
    let mut random = rng();
    w.run.inject(frame, &mut random);
}

/// Lets one member join while `attacker` is in the path; returns whether it did within the time of two attempts.
fn joins_under(w: &mut World, attacker: impl FnMut(&mut Outgoing) -> bool + 'static) -> bool {
    w.run.set_attacker(Some(Box::new(attacker)));
    w.order(member_id(1), Order::Join);
    w.run_for(secs(18));
    w.run.set_attacker(None);
    w.run.member(member_id(1)).unwrap().owner().is_some()
}

#[test]
fn no_field_of_any_join_message_can_be_altered() {
    // Every octet of messages 1 to 4, one bit of each, at all times: nobody joins, nothing is installed.
    for message_type in [0x80, 0x82, 0x83, 0x84] {
        let mut w = World::new(1, Conditions::PERFECT);
        let length = {
            w.join_all();
            w.log.sent.iter().find(|f| f.sdu[0] == message_type).unwrap().sdu.len()
        };
        // The transcript takes message 3 without its seq, which names nothing that is secret or decided.
        let first = if message_type == 0x83 { 3 } else { 1 };
        for at in (first..length).step_by(if length > 200 { 13 } else { 5 }) {
            let again = w.member(1);
            w.put_member(again);
            let before = w.owner().members(w.run.now()).next().unwrap().id;
            w.run.set_attacker(Some(Box::new(move |f| {
                if f.sdu[0] == message_type {
                    let mut octets = f.sdu.to_vec();
                    // DER signatures in certificates differ in length by an octet or two.
                    let at = at.min(octets.len() - 1);
                    octets[at] ^= 1;
                    f.sdu = Bytes::from(octets);
                }
                true
            })));
            w.order(member_id(1), Order::Join);
            w.run_for(Duration::from_millis(500));
            w.run.set_attacker(None);
            let joined = w.run.member(member_id(1)).unwrap().owner().is_some();
            assert!(!joined, "type {message_type:02x} octet {at}");
            assert_eq!(w.owner().members(w.run.now()).next().unwrap().id, before);
        }
    }
}

#[test]
fn bidding_down_is_seen() {
    let mut w = World::new(1, DELAY);
    let seen = Rc::new(RefCell::new(0));
    let count = seen.clone();
    let joined = joins_under(&mut w, move |f| {
        if f.sdu[0] == 0x80 {
            let mut m = canonical(f);
            // n = 2: aes-256-gcm, aes-128-gcm; the better one goes.
            let list = m.len() - 3;
            assert_eq!(m[list..list + 2], [0x55, 0x44]);
            m[list] = 0x44;
            *f = clear(f.from, OWNER, &m);
            *count.borrow_mut() += 1;
        }
        true
    });
    assert!(!joined && *seen.borrow() > 1);
    assert!(w.refusals(OWNER).contains(&Reject::NoCommonSuite));

    // Doubling one code keeps the offer possible, and still the transcript differs.
    let mut w = World::with(1, DELAY, |_| {}, |p| p.suites.push(pc5_dataplane::suite::Suite::Nca5));
    let joined = joins_under(&mut w, |f| {
        if f.sdu[0] == 0x80 {
            let mut m = canonical(f);
            let list = m.len() - 4;
            m[list + 2] = 0x55;
            *f = clear(f.from, OWNER, &m);
        }
        true
    });
    assert!(!joined);
    assert!(
        w.notices(member_id(1))
            .any(|n| matches!(n, Notice::Ignored { detail, .. } if detail.contains("open")))
    );
}

#[test]
fn a_handshake_belongs_to_the_addresses_it_was_made_for() {
    let mut w = World::new(1, DELAY);
    let elsewhere = member_id(9);
    let joined = joins_under(&mut w, move |f| {
        // Somebody in the middle presents the member under another Layer-2 id.
        if f.from == member_id(1) {
            f.from = elsewhere;
        } else if f.to == Destination::Ue(elsewhere) {
            f.to = Destination::Ue(member_id(1));
        }
        true
    });
    assert!(!joined);
    assert_eq!(w.owner().members(w.run.now()).count(), 0);
}

#[test]
fn replayed_join_messages_lead_nowhere() {
    let mut w = World::new(1, DELAY);
    assert!(w.join_all());
    let recorded: Vec<Outgoing> = w.log.sent.iter().filter(|f| f.lcid == Lcid::CLEAR).cloned().collect();
    w.run_for(secs(15));
    let id = w.run.member(member_id(1)).unwrap().link_id();
    for _ in 0..3 {
        for frame in recorded.iter().filter(|f| f.sdu[0] != 0x90) {
            inject(&mut w, frame.clone());
            w.run_for(Duration::from_millis(20));
        }
    }
    assert_eq!(w.run.member(member_id(1)).unwrap().link_id(), id);
    assert_eq!(w.owner().members(w.run.now()).count(), 1);
    // Nor into a new attempt: message 2 and 4 of the old one do not open.
    w.run.set_attacker(Some(Box::new({
        let recorded = recorded.clone();
        move |f| {
            if let Some(old) =
                recorded.iter().find(|r| r.sdu[0] == f.sdu[0] && r.from == OWNER && f.from == OWNER)
            {
                f.sdu = old.sdu.clone();
            }
            true
        }
    })));
    w.order(member_id(1), Order::Join);
    w.run_for(secs(5));
    assert_eq!(w.run.member(member_id(1)).unwrap().state(), MemberState::Joining);
    assert_eq!(w.run.member(member_id(1)).unwrap().link_id(), id, "the old link stays");
    w.run.set_attacker(None);
    w.run_for(secs(15));
    w.assert_consistent();
}

#[test]
fn reflected_messages_are_nobodys() {
    let mut w = World::new(2, DELAY);
    w.run.set_attacker(Some(Box::new(|f| {
        if let (Lcid::CLEAR, Destination::Ue(to)) = (f.lcid, f.to) {
            (f.from, f.to) = (to, Destination::Ue(f.from));
        }
        true
    })));
    for n in 1..=2 {
        w.order(member_id(n), Order::Join);
    }
    w.run_for(secs(20));
    assert!(w.run.members().all(|m| m.owner().is_none()));
    assert_eq!(w.owner().members(w.run.now()).count(), 0);
}

#[test]
fn the_role_decides_who_owns_and_who_joins() {
    // A member's good certificate does not make an owner.
    let mut w = World::new(1, DELAY);
    let impostor = w.lab.member_device(7, w.trust.clone());
    let store = Box::<MemoryStore>::default();
    let owner = Owner::new(impostor, OwnerPolicy::default(), vec![group_policy()], store).unwrap();
    w.put_owner(owner);
    assert!(!joins_under(&mut w, |_| true));
    assert!(w.refusals(member_id(1)).contains(&Reject::RoleOrGroup));
    // Its certificate was never shown to the impostor.
    assert!(w.log.sent.iter().all(|f| f.sdu[0] != 0x83));
    // The impostor is told, by a tag only this handshake has.
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::PeerRefused { cause: 0x8D, proved: true, .. })));

    // An owner's certificate does not join.
    let mut w = World::new(0, DELAY);
    let device = w.lab.device_for("go-2", vec![Role::Owner], vec![GROUP], w.trust.clone());
    let member = w.member_with(device, 1);
    w.put_member(member);
    assert!(!joins_under(&mut w, |_| true));
    assert!(w.refusals(OWNER).contains(&Reject::RoleOrGroup));

    // Nor does a member of another group.
    let mut w = World::new(0, DELAY);
    let other = pc5_dataplane::ids::GroupId::from_octets([1, 1, 1]);
    let device = w.lab.device_for("ue-1", vec![Role::Member], vec![other], w.trust.clone());
    let member = w.member_with(device, 1);
    w.put_member(member);
    assert!(!joins_under(&mut w, |_| true));
    assert!(w.refusals(OWNER).contains(&Reject::RoleOrGroup));
}

#[test]
fn another_root_vouches_for_nobody_here() {
    let mut w = World::new(0, DELAY);
    // Same PLMN by name, another root; then a root that is trusted, for its own PLMN only.
    let mut stranger = Lab::new("001-01");
    let device = stranger.member_device(1, w.trust.clone());
    let member = w.member_with(device, 1);
    w.put_member(member);
    assert!(!joins_under(&mut w, |_| true));
    assert!(w.refusals(OWNER).contains(&Reject::NotTrusted));

    // The member believes nobody of another network either.
    let mut w = World::new(0, DELAY);
    let own = stranger.trust();
    let device = w.lab.member_device(1, own);
    let member = w.member_with(device, 1);
    w.put_member(member);
    assert!(!joins_under(&mut w, |_| true));
    assert!(w.refusals(member_id(1)).contains(&Reject::NotTrusted));
}

#[test]
fn the_revoked_do_not_join_and_do_not_stay() {
    let mut w = World::new(2, DELAY);
    let device = w.lab.member_device(3, w.trust.clone());
    let member = w.member_with(device.clone(), 3);
    w.put_member(member);
    assert!(w.join_all());
    let known = w.held(member_id(3));
    let crl = w.lab.revoke(&device, T + 1);
    w.run_for(secs(2));
    w.input(OWNER, Input::Crl(crl));
    assert!(w.settle());
    assert_eq!(w.owner().members(w.run.now()).count(), 2);
    let why = |n: &Notice| matches!(n, Notice::Ended { why: Ended::Refused(Reject::Revoked), .. });
    assert!(w.notices(OWNER).any(why));
    for holder in [OWNER, member_id(1), member_id(2)] {
        assert!(w.held(holder).iter().all(|id| !known.contains(id)));
    }
    w.run_for(secs(30));
    assert_eq!(w.owner().members(w.run.now()).count(), 2);
    assert!(w.refusals(OWNER).contains(&Reject::Revoked));
    w.assert_consistent();
}

#[test]
fn a_crl_reaches_a_group_through_one_member_and_ends_a_revoked_owner() {
    // Everybody has a judge of its own here; only member 1 meets the network.
    let mut w = World::new(0, DELAY);
    let owner_trust = w.lab.trust();
    let owner_device = w.lab.owner_device(owner_trust);
    let store = Box::<MemoryStore>::default();
    let owner =
        Owner::new(owner_device.clone(), OwnerPolicy::default(), vec![group_policy()], store).unwrap();
    w.put_owner(owner);
    for n in 1..=3 {
        let trust = w.lab.trust();
        let device = w.lab.member_device(n, trust);
        let member = w.member_with(device, n);
        w.put_member(member);
    }
    assert!(w.join_all());
    w.run_for(secs(3));
    let taken = |w: &World, node| w.notices(node).filter(|n| matches!(n, Notice::CrlTaken { .. })).count();
    // The CRLs made above have rising numbers: whoever came with an older one was given the newest by the join.
    assert!(taken(&w, OWNER) > 0);

    let revoked = w.lab.member_device(9, w.trust.clone());
    let crl = w.lab.revoke(&revoked, T + 3);
    let before: Vec<usize> = [OWNER, member_id(2), member_id(3)].iter().map(|n| taken(&w, *n)).collect();
    w.input(member_id(1), Input::Crl(crl));
    w.run_for(secs(2));
    for (node, before) in [OWNER, member_id(2), member_id(3)].into_iter().zip(before) {
        assert_eq!(taken(&w, node), before + 1, "{node}");
    }
    // The owner's own turn: members leave it.
    let crl = w.lab.revoke(&owner_device, T + 6);
    w.run_for(secs(2));
    w.input(member_id(1), Input::Crl(crl));
    w.run_for(secs(2));
    assert!(w.run.members().all(|m| m.owner().is_none()));
    assert!((1..=3).all(|n| w.held(member_id(n)).is_empty()));
}

#[test]
fn old_lists_do_not_come_back_and_stale_ones_end_trust() {
    let mut w = World::new(1, DELAY);
    let old = w.lab.root.crl(T, T + 7 * DAY).unwrap();
    let device = w.lab.member_device(2, w.trust.clone());
    let new = w.lab.revoke(&device, T);
    w.input(OWNER, Input::Crl(new));
    w.input(OWNER, Input::Crl(old));
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::CrlRefused(what) if what.contains("lower"))));
    let member = w.member_with(device, 2);
    w.put_member(member);
    w.join_all();
    assert!(w.run.member(member_id(2)).unwrap().owner().is_none());

    // No CRL at all, and one past nextUpdate and grace.
    let mut lab = Lab::new("001-01");
    let empty = SharedTrust::new(Trust::new(
        Judge::new(vec![lab.root.trust_entry().unwrap()], Freshness::default()),
        0,
    ));
    let mut stale = Judge::new(vec![lab.root.trust_entry().unwrap()], Freshness::Grace(DAY));
    let crl = lab.root.crl(T - 10 * DAY, T - 2 * DAY).unwrap();
    stale.install_crl(&crl, Clock { now: T, floor: 0 }).unwrap();
    for trust in [empty, SharedTrust::new(Trust::new(stale, 0))] {
        let mut w = World::new(0, DELAY);
        let fresh = lab.trust();
        let owner = lab.owner_device(trust);
        let store = Box::<MemoryStore>::default();
        w.put_owner(Owner::new(owner, OwnerPolicy::default(), vec![group_policy()], store).unwrap());
        let member = w.member_with(lab.member_device(1, fresh), 1);
        w.put_member(member);
        assert!(!joins_under(&mut w, |_| true));
        assert!(w.refusals(OWNER).contains(&Reject::CrlMissingOrOld));
    }
}

#[test]
fn a_layer_2_id_is_one_identitys_while_a_key_given_to_it_lives() {
    let mut w = World::new(2, DELAY);
    assert!(w.join_all());
    // The attacker has a good certificate, and takes the victim's id.
    let device = w.lab.member_device(66, w.trust.clone());
    let impostor = w.member_with(device, 2);
    w.put_member(impostor);
    w.order(member_id(2), Order::Join);
    w.run_for(secs(5));
    assert!(w.refusals(OWNER).contains(&Reject::Layer2IdInUse));
    let views: Vec<_> = w.owner().members(w.run.now()).collect();
    let bound = views.iter().find(|m| m.layer2 == member_id(2)).unwrap();
    assert_eq!(bound.identity.to_string(), "pc5:001-01:ue:ue-2");
    // Still so when the victim is gone, until the last key given to it has expired.
    w.run_for(secs(60));
    assert_eq!(w.owner().members(w.run.now()).count(), 1);
    assert!(w.run.member(member_id(2)).unwrap().owner().is_none());
    w.run_for(secs(3_700));
    assert!(w.run_until(secs(60), |r| r.member(member_id(2)).unwrap().owner().is_some()));
}

#[test]
fn a_forged_refusal_is_a_hint_and_nothing_more() {
    for tag in [None, Some([7; 16])] {
        let mut w = World::new(1, DELAY);
        let nonce: Rc<RefCell<Option<[u8; 16]>>> = Rc::default();
        let seen = nonce.clone();
        w.run.set_attacker(Some(Box::new(move |f| {
            if f.sdu[0] == 0x80 {
                *seen.borrow_mut() = canonical(f)[7..23].try_into().ok();
            }
            true
        })));
        w.order(member_id(1), Order::Join);
        for cause in [0x82, 0x8B, 0x8E, 0xFF] {
            let nonce_1 = nonce.borrow().unwrap();
            let body = Body::Reject(Rejection { nonce_1, cause, tag });
            let m = Message { seq: 1, body }.encode().unwrap();
            inject(&mut w, clear(OWNER, member_id(1), &m));
            inject(&mut w, clear(member_id(1), OWNER, &m));
        }
        assert!(w.run_until(secs(1), |r| r.member(member_id(1)).unwrap().state() == MemberState::Joined));
        assert!(w.notices(member_id(1)).any(|n| matches!(n, Notice::PeerRefused { proved: false, .. })));
        assert!(!w.notices(member_id(1)).any(|n| matches!(n, Notice::PeerRefused { proved: true, .. })));
    }
}

/// A request of a stranger that never goes on.
fn request(w: &mut World, source: Layer2Id, nonce: u32, cookie: Option<[u8; 16]>) -> Vec<u8> {
    use p256::elliptic_curve::Generate;
    use pc5_control::codec::go::JoinRequest;
    let mut nonce_1 = [0; 16];
    nonce_1[..4].copy_from_slice(&nonce.to_be_bytes());
    let e_m =
        STRANGER.with(|s| s.get_or_init(|| p256::SecretKey::generate_from_rng(&mut rng())).public_key());
    let body = Body::JoinRequest(JoinRequest {
        group: GROUP,
        nonce_1,
        msb: 1,
        e_m,
        suites: vec![0x55, 0x44],
        cookie,
    });
    let m = Message { seq: 1, body }.encode().unwrap();
    inject(w, clear(source, OWNER, &m));
    m.to_vec()
}

thread_local! {
    static STRANGER: std::cell::OnceCell<p256::SecretKey> = const { std::cell::OnceCell::new() };
}

fn sent_to(w: &World, message_type: u8) -> usize {
    w.log.sent.iter().filter(|f| f.sdu[0] == message_type).count()
}

#[test]
fn a_flood_of_joins_is_bounded_and_members_come_through() {
    let mut w = World::new(3, DELAY);
    assert!(w.join_all());
    w.run_for(secs(15));
    w.log.sent.clear();
    // From 64 half-open joins on a cookie is asked for, and nothing is computed or kept.
    for n in 0..5_000_u32 {
        request(&mut w, member_id(1_000 + n), n, None);
        if n % 500 == 0 {
            w.run_for(Duration::from_millis(5));
        }
    }
    w.run_for(Duration::from_millis(10));
    assert_eq!(w.owner().half_open(), 64);
    let other = GroupId::from_octets([0xF0, 0, 2]);
    assert_eq!([GROUP, other].map(|group| w.owner().joining(group)), [64, 0]);
    assert_eq!(sent_to(&w, 0x82), 64);
    assert!(sent_to(&w, 0x81) > 1_000);

    // In the middle of it somebody joins, with a cookie; and links live on.
    let late = w.member(4);
    w.put_member(late);
    w.order(member_id(4), Order::Join);
    assert!(w.run_until(secs(2), |r| r.member(member_id(4)).unwrap().owner().is_some()));
    w.order(member_id(1), Order::RekeyLink { peer: OWNER, refresh: true });
    assert!(w.settle());
    w.run_for(secs(11));
    assert_eq!(w.owner().half_open(), 0, "all of it is gone after 10 s");
    w.assert_consistent();
}

#[test]
fn with_good_cookies_a_source_still_gets_only_so_much() {
    let mut w = World::new(0, DELAY);
    let policy = OwnerPolicy { cookie_always: true, ..OwnerPolicy::default() };
    let device = w.lab.owner_device(w.trust.clone());
    let store = Box::<MemoryStore>::default();
    w.put_owner(Owner::new(device, policy, vec![group_policy()], store).unwrap());
    // The attacker hears everything: it shows the cookies of 60 sources, 100 times each.
    let mut cookies = Vec::new();
    for n in 0..6_000_u32 {
        request(&mut w, member_id(1_000 + n % 60), n, None);
    }
    w.run_for(Duration::from_millis(10));
    for f in w.log.sent.iter().filter(|f| f.sdu[0] == 0x81) {
        let m = canonical(f);
        let Destination::Ue(to) = f.to else { continue };
        let nonce = u32::from_be_bytes(m[3..7].try_into().unwrap());
        cookies.push((to, nonce, <[u8; 16]>::try_from(&m[19..35]).unwrap()));
    }
    assert!(cookies.len() >= 1_500, "{}", cookies.len());
    w.log.sent.clear();
    for (source, nonce, cookie) in cookies {
        request(&mut w, source, nonce, Some(cookie));
    }
    w.run_for(Duration::from_millis(10));
    let computed = sent_to(&w, 0x82);
    assert!(computed <= 60 * 21, "20 a second and source: {computed}");
    assert!(w.owner().half_open() <= 60 * 4, "4 half-open a source: {}", w.owner().half_open());
}

#[test]
fn who_claims_anothers_layer_2_id_does_not_push_its_join_out() {
    let mut w = World::new(1, DELAY);
    w.order(member_id(1), Order::Join);
    w.run_for(DELAY.delay);
    assert_eq!(w.owner().half_open(), 1);
    // Before message 3 of the genuine one arrives: as many as a source may have.
    for n in 0..4 {
        request(&mut w, member_id(1), n, None);
    }
    w.run_for(Duration::from_millis(500));
    assert_eq!(w.run.member(member_id(1)).unwrap().state(), MemberState::Joined);
    assert_eq!(
        sent_to(&w, 0x81),
        1,
        "where a source has its four, the next shows that it hears what goes there"
    );
    w.assert_consistent();
}

#[test]
fn half_open_joins_have_a_cap_that_cookies_do_not_lift() {
    let mut w = World::new(0, DELAY);
    let policy = OwnerPolicy { cookie_always: true, ..OwnerPolicy::default() };
    let device = w.lab.owner_device(w.trust.clone());
    let store = Box::<MemoryStore>::default();
    w.put_owner(Owner::new(device, policy, vec![group_policy()], store).unwrap());
    for n in 0..1_400_u32 {
        request(&mut w, member_id(1_000 + n), n, None);
    }
    w.run_for(Duration::from_millis(10));
    let retries: Vec<Outgoing> = w.log.sent.iter().filter(|f| f.sdu[0] == 0x81).cloned().collect();
    for f in retries {
        let m = canonical(&f);
        let Destination::Ue(to) = f.to else { continue };
        let nonce = u32::from_be_bytes(m[3..7].try_into().unwrap());
        request(&mut w, to, nonce, Some(m[19..35].try_into().unwrap()));
    }
    w.run_for(Duration::from_millis(10));
    assert_eq!(w.owner().half_open(), 1_024);
    assert!(w.refusals(OWNER).contains(&Reject::Busy));
}

#[test]
fn an_old_copy_of_the_store_gives_new_keys_all_the_same() {
    let mut w = World::with(1, DELAY, |p| p.direct = true, |_| {});
    assert!(w.join_all());
    let keys = |w: &World| -> Vec<(u8, [u8; 32])> {
        w.table.current().groups().map(|g| (g.pgk_id.0, *g.pgk.expose())).collect()
    };
    let before = keys(&w);
    // Twice from the same empty folder: the same epoch, the same PGK id, and nothing in common.
    let mut seen = before.clone();
    for _ in 0..3 {
        let owner = w.owner_with(Box::<MemoryStore>::default());
        w.put_owner(owner);
        let again = w.member(1);
        w.put_member(again);
        assert!(w.join_all());
        let now = keys(&w);
        assert!(now.iter().all(|k| seen.iter().all(|s| s.1 != k.1)));
        assert!(now.iter().all(|k| before.iter().any(|b| b.0 == k.0)));
        seen.extend(now);
    }
}

#[test]
fn a_store_that_fails_hands_out_nothing() {
    let mut broken = MemoryStore::default();
    broken.broken = true;
    let mut w = World::new(1, DELAY);
    let owner = w.owner_with(Box::new(broken));
    w.put_owner(owner);
    assert!(!joins_under(&mut w, |_| true));
    assert_eq!(w.held(OWNER), []);
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::StoreFailed(_))));
}

#[test]
fn epochs_and_bindings_are_on_disk_before_they_are_used() {
    let store = SharedStore::default();
    let mut w = World::new(2, DELAY);
    let owner = w.owner_with(Box::new(store.clone()));
    w.put_owner(owner);
    assert!(w.join_all());
    for _ in 0..20 {
        w.order(OWNER, Order::RekeyGroup(GROUP));
        assert!(w.settle());
        let (epoch, _) = w.owner().group_key(GROUP).unwrap();
        assert!(store.epochs_reserved(GROUP) >= epoch);
    }
    assert_eq!(store.bindings(GROUP).len(), 2);
    assert!(store.time_floor() >= T - 3_600);
    let identity = w.lab.identity("ue-2");
    w.order(OWNER, Order::Evict { group: GROUP, identity: identity.clone() });
    let (last, _) = w.owner().group_key(GROUP).unwrap();

    // A restart goes on above every epoch ever reserved, and remembers who is out and whose the ids are.
    let owner = w.owner_with(Box::new(store.clone()));
    w.put_owner(owner);
    w.run_for(secs(20));
    assert!(w.owner().group_key(GROUP).unwrap().0 > last);
    assert_eq!(w.owner().evicted(GROUP), [identity]);
    let device = w.lab.member_device(77, w.trust.clone());
    let policy = MemberPolicy::new(GROUP, member_id(1), OWNER);
    w.put_member(pc5_control::group_owner::Member::new(device, policy, Box::<MemoryStore>::default()));
    w.order(member_id(1), Order::Join);
    w.run_for(secs(5));
    assert!(w.refusals(OWNER).contains(&Reject::Layer2IdInUse));
}
