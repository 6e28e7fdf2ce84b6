use std::time::{Duration, Instant};

use pc5_control::codec::MessageType;
use pc5_control::credential::{LongTermKey, Role, TrustEntry};
use pc5_control::group_owner::lockstep::{Conditions, Lockstep};
use pc5_control::group_owner::{Device, Ended, Input, MemberState, Notice, Order, Outgoing};
use pc5_control::pki::{Curve, Request, Validity};
use pc5_control::reject::Reject;
use pc5_dataplane::keys::LinkPhase;
use pc5_dataplane::suite::Suite;

use super::world::*;

#[test]
fn a_member_joins_and_both_ends_hold_the_same_keys() {
    let mut w = World::new(1, Conditions::PERFECT);
    assert!(w.join_all());
    w.assert_consistent();
    let member = w.run.member(member_id(1)).unwrap();
    assert_eq!(member.state(), MemberState::Joined);
    assert_eq!(member.owner().unwrap().to_string(), "pc5:001-01:ue:go-1");
    assert_eq!(w.run.contexts(member_id(1), OWNER), [(member.link_id().unwrap(), LinkPhase::Active)]);
    assert_eq!(w.owner().members(w.run.now()).count(), 1);
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::Joined { suite: Suite::Aes256Gcm, .. })));
    assert_eq!(
        w.log.sent.iter().map(|f| f.sdu[0]).filter(|t| *t != 0x90).collect::<Vec<_>>(),
        [0x80, 0x82, 0x83, 0x84, 0x85, 0x86]
    );
    assert_eq!(w.log.sent.iter().filter(|f| f.sdu[0] != 0x90).count(), 6, "one frame each");
}

#[test]
fn many_members_join_quickly() {
    let mut w = World::new(256, Conditions::PERFECT);
    let begun = Instant::now();
    assert!(w.join_all());
    let took = begun.elapsed();
    println!("256 joins, both sides: {took:?}");
    w.assert_consistent();
    assert_eq!(w.owner().members(w.run.now()).count(), 256);
    assert_eq!(w.owner().half_open(), 0);
    // Not a benchmark: only that nothing grows with the square.
    assert!(took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn joins_come_through_loss_duplication_and_reordering() {
    for seed in 0..6 {
        let conditions =
            Conditions { loss: 150, duplicate: 200, reorder: 300, delay: Duration::from_millis(5 + seed) };
        let mut w = World::new(12, conditions);
        assert!(w.join_all(), "run {seed}");
        w.run.set_conditions(Conditions { delay: Duration::from_millis(5), ..Conditions::PERFECT });
        assert!(w.settle());
        w.assert_consistent();
        // A late copy of a first message may have opened one more, which ends by itself.
        w.run_for(Duration::from_secs(20));
        assert_eq!(w.owner().half_open(), 0);
    }
}

#[test]
fn a_second_join_replaces_the_link_when_it_is_confirmed() {
    let mut w = World::new(1, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    assert!(w.join_all());
    let before = w.run.member(member_id(1)).unwrap().link_id().unwrap();
    w.order(member_id(1), Order::Join);
    assert_eq!(w.run.contexts(OWNER, member_id(1))[0], (before, LinkPhase::Active));
    assert!(w.run_until(secs(5), |r| r.member(member_id(1)).unwrap().state() == MemberState::Joined));
    w.assert_consistent();
    let after = w.run.member(member_id(1)).unwrap().link_id().unwrap();
    assert_ne!(before, after);
    assert!(w.run.contexts(OWNER, member_id(1)).contains(&(before, LinkPhase::Retiring)));
    w.run_for(secs(3));
    assert_eq!(w.run.contexts(OWNER, member_id(1)), [(after, LinkPhase::Active)]);
    assert_eq!(w.run.contexts(member_id(1), OWNER), [(after, LinkPhase::Active)]);
}

#[test]
fn a_member_that_restarts_joins_again() {
    let mut w = World::new(2, Conditions::PERFECT);
    assert!(w.join_all());
    for _ in 0..5 {
        let again = w.member(1);
        w.put_member(again);
        assert!(w.join_all());
        w.run_for(secs(3));
    }
    w.assert_consistent();
}

#[test]
fn an_owner_that_restarts_is_another_instance_and_its_members_come_back() {
    let mut w = World::new(3, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    assert!(w.join_all());
    let owner = w.owner_with(Box::<pc5_control::store::MemoryStore>::default());
    w.put_owner(owner);
    // Announcements tell the members, keepalives would later.
    assert!(w.run_until(secs(30), |r| r.owner(OWNER).unwrap().members(r.now()).count() == 3));
    assert!(w.settle());
    for n in 1..=3 {
        assert!(w.run.agree(OWNER, member_id(n)));
    }
}

#[test]
fn an_owner_that_comes_back_after_long_is_joined_when_it_is_heard() {
    let mut w = World::new(3, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    assert!(w.join_all());
    for away in [80, 200] {
        // Nothing of it comes through; members wait longer from attempt to attempt.
        w.run.set_attacker(Some(Box::new(|frame| frame.from != OWNER)));
        w.run_for(secs(away));
        assert!(w.run.members().all(|m| m.owner().is_none()));
        w.run.set_attacker(None);
        // An attempt under way ends after 6 s, and the next announcement comes within one more; without it 30 s and more.
        let all = |r: &Lockstep| r.owner(OWNER).unwrap().members(r.now()).count() == 3;
        assert!(w.run_until(secs(15), all), "{away}");
    }
}

#[test]
fn an_owner_that_restarts_again_at_once_finds_its_members_again() {
    let mut w = World::new(3, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    assert!(w.join_all());
    for _ in 0..3 {
        let owner = w.owner_with(Box::<pc5_control::store::MemoryStore>::default());
        w.put_owner(owner);
        // The spread of a second; then the join.
        assert!(w.run_until(secs(2), |r| r.owner(OWNER).unwrap().members(r.now()).count() == 3));
    }
}

#[test]
fn lost_answers_to_keepalives_do_not_end_a_link_that_is_heard() {
    let mut w = World::with(1, Conditions::PERFECT, |g| g.keepalive_period = secs(1), |_| {});
    assert!(w.join_all());
    // KEEPALIVE_ACK never arrives; group keys do.
    w.run.set_attacker(Some(Box::new(|frame| frame.sdu[0] != MessageType::KeepaliveAck as u8)));
    for _ in 0..10 {
        w.order(OWNER, Order::RekeyGroup(GROUP));
        w.run_for(secs(2));
    }
    assert!(!w.notices(member_id(1)).any(|n| matches!(n, Notice::Ended { .. })));
    w.run_for(secs(20));
    assert!(w.notices(member_id(1)).any(|n| matches!(n, Notice::Ended { why: Ended::Lost, .. })));
}

#[test]
fn silence_ends_a_link_on_both_sides() {
    let mut w = World::new(2, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    assert!(w.join_all());
    w.run_for(secs(100));
    assert_eq!(w.owner().members(w.run.now()).count(), 2, "keepalives keep it");
    w.run.set_conditions(Conditions { loss: 1_000, ..Conditions::PERFECT });
    w.run_for(secs(45));
    assert_eq!(w.owner().members(w.run.now()).count(), 0);
    assert!(w.run.members().all(|m| m.owner().is_none()));
    w.run.set_conditions(Conditions::PERFECT);
    assert!(
        w.run_until(secs(60), |r| r.members().all(|m| m.owner().is_some())),
        "they come back by themselves"
    );
    assert!(w.settle());
    w.assert_consistent();
}

#[test]
fn who_stops_believing_its_owner_says_so_and_can_join_again() {
    let mut w = World::new(2, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    let trust = w.lab.trust();
    let roots: Vec<TrustEntry> = trust.read().judge.roots().to_vec();
    let device = w.lab.member_device(3, trust.clone());
    let member = w.member_with(device, 3);
    w.put_member(member);
    assert!(w.join_all() && w.settle());

    // Its root is gone: it erases every group key, and the owner must not take it for one that holds them.
    {
        let mut trust = trust.write();
        trust.judge.set_roots(Vec::new());
        trust.generation += 1;
    }
    let id = w.run.member(member_id(3)).unwrap().link_id().unwrap();
    w.run.set_attacker(Some(Box::new(|_| false)));
    w.input(member_id(3), Input::TrustChanged);
    assert!(w.held(member_id(3)).is_empty());
    assert_eq!(w.run.contexts(member_id(3), OWNER), [(id, LinkPhase::Pending)], "for RELEASE only");
    w.run_for(Duration::from_millis(50));
    w.run.set_attacker(None);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.owner().members(w.run.now()).count(), 2, "the owner was told");
    assert_eq!(w.run.contexts(member_id(3), OWNER), []);
    {
        let mut trust = trust.write();
        trust.judge.set_roots(roots);
        trust.generation += 1;
    }
    assert!(w.run_until(secs(60), |r| r.agree(OWNER, member_id(3))));
    assert!(w.settle());
    w.assert_consistent();
    assert!(!w.held(member_id(3)).is_empty());
}

#[test]
fn a_member_that_leaves_sleeps_between_its_releases() {
    let mut w = World::new(1, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    assert!(w.join_all());
    // Keepalives are due each 5 s: here while nobody answers the RELEASE.
    w.run_for(Duration::from_millis(4_800));
    w.run.set_attacker(Some(Box::new(|_| false)));
    w.order(member_id(1), Order::Leave);
    let mut rounds = 0;
    let limit = 100;
    w.run_until(secs(2), |_| {
        rounds += 1;
        rounds >= limit
    });
    assert!(rounds < limit, "the deadline lies in the past");
    assert_eq!(w.run.member(member_id(1)).unwrap().state(), MemberState::Apart);
}

/// A member that has to hear its owner, told to join, and the owner's announcement.
fn joining_without_a_configured_owner() -> (World, Outgoing) {
    let delay = Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT };
    let mut w = World::with(1, delay, |_| {}, |p| p.owner = None);
    w.input(OWNER, Input::Time);
    let genuine = w.log.sent.iter().find(|f| f.sdu[0] == 0x90).unwrap().clone();
    w.order(member_id(1), Order::Join);
    (w, genuine)
}

#[test]
fn forged_announcements_do_not_keep_a_member_from_its_owner() {
    let (mut w, genuine) = joining_without_a_configured_owner();
    let mut random = rng();
    // Two that are no owners, louder than the one that is.
    let joined = (0..6_000).any(|n| {
        w.run.inject(Outgoing { from: member_id(900 + n % 2), ..genuine.clone() }, &mut random);
        w.run_for(Duration::from_millis(10));
        w.run.agree(OWNER, member_id(1))
    });
    assert!(joined);
}

#[test]
fn an_announcer_that_never_answers_gives_way_to_one_that_is_heard() {
    let (mut w, genuine) = joining_without_a_configured_owner();
    let mut random = rng();
    // As many as a member remembers, and then silence.
    for n in 0..4 {
        w.run.inject(Outgoing { from: member_id(900 + n), ..genuine.clone() }, &mut random);
    }
    let began = w.run.now().monotonic;
    assert!(w.run_until(secs(5), |r| r.agree(OWNER, member_id(1))));
    let took = w.run.now().monotonic - began;
    assert!(
        took < Duration::from_millis(2_500),
        "1.2 s and what is left until the next announcement: {took:?}"
    );
}

#[test]
fn who_came_by_an_intermediate_is_admitted_once_its_crl_is_there() {
    let mut w = World::new(0, Conditions { delay: Duration::from_millis(1), ..Conditions::PERFECT });
    let mut ops = w.lab.root.intermediate("ops", Curve::P256, Validity::days(T, 1_000), &mut rng()).unwrap();
    let identity = w.lab.identity("ue-1");
    let (roles, groups) = (vec![Role::Member], vec![GROUP]);
    let request = Request { identity, roles, groups, validity: Validity::days(T, 365) };
    let enrolled = ops.enrol(&request, &mut rng()).unwrap();
    let device = Device::new(std::sync::Arc::new(enrolled.key), enrolled.chain, w.lab.trust()).unwrap();
    let member = w.member_with(device, 1);
    w.put_member(member);
    w.order(member_id(1), Order::Join);
    w.run_for(Duration::from_millis(100));
    assert_eq!(w.refusals(OWNER), [Reject::CrlMissingOrOld]);

    // The chain led to a root of ours: the owner now takes what this issuer says.
    w.input(OWNER, Input::Crl(ops.crl(T, T + 7 * DAY).unwrap()));
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::CrlTaken { .. })));
    assert!(w.join_all());
    w.assert_consistent();
}

#[test]
fn a_member_whose_certificate_had_ended_joins_with_the_new_one_at_once() {
    let mut w = World::new(0, Conditions::PERFECT);
    let (roles, groups) = (vec![Role::Member], vec![GROUP]);
    let of = |validity| Request {
        identity: "pc5:001-01:ue:ue-1".parse().unwrap(),
        roles: roles.clone(),
        groups: groups.clone(),
        validity,
    };
    let ended = Validity { not_before: T - 1_000, not_after: T - 10 };
    let enrolled = w.lab.root.enrol(&of(ended), &mut rng()).unwrap();
    let renewed = of(Validity::days(T - 10, 365));
    let renewed = w.lab.root.issue(&renewed, enrolled.key.public_key(), &mut rng()).unwrap();
    let device = Device::new(std::sync::Arc::new(enrolled.key), enrolled.chain, w.trust.clone()).unwrap();
    let member = w.member_with(device, 1);
    w.put_member(member);
    w.order(member_id(1), Order::Join);
    // Refused again and again, it waits longer each time.
    w.run_for(secs(40));
    assert!(w.refusals(OWNER).len() > 1);
    assert!(w.run.member(member_id(1)).unwrap().owner().is_none());
    w.input(member_id(1), Input::Renewed(vec![renewed]));
    assert!(w.run_until(secs(1), |r| r.agree(OWNER, member_id(1))));
    w.assert_consistent();
}
