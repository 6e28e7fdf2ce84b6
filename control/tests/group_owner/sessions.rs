//! Decentralised mode: who talks makes the key.

use std::time::Duration;

use bytes::Bytes;
use pc5_control::group_owner::lockstep::Conditions;
use pc5_control::group_owner::{GroupPsk, Input, Notice, Order, Outgoing, Sessions};
use pc5_control::policy::SessionPolicy;
use pc5_control::reject::Reject;
use pc5_control::store::MemoryStore;
use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::keys::{Event, PermittedSender};
use zeroize::Zeroizing;

use super::world::*;

const DELAY: Conditions = Conditions { loss: 0, duplicate: 0, reorder: 0, delay: Duration::from_millis(1) };

fn psk(gk: u8) -> Vec<GroupPsk> {
    vec![GroupPsk { id: 7, gk: Zeroizing::new([gk; 32]), not_before: T - DAY, not_after: T + DAY }]
}

fn talker(w: &World, n: u32, keys: Vec<GroupPsk>) -> Sessions {
    let device = w.lab.member_device(n, w.trust.clone());
    Sessions::new(device, SessionPolicy::new(GROUP, member_id(n)), keys, Box::<MemoryStore>::default())
}

fn group(n: u32) -> World {
    let mut w = World::without_owner(DELAY);
    for n in 1..=n {
        let s = talker(&w, n, psk(1));
        w.run.add_sessions(s);
    }
    w
}

/// Who `holder` hears.
fn heard(w: &World, holder: u32) -> Vec<Layer2Id> {
    let groups = w.table.current().groups().filter(|g| g.local == member_id(holder));
    let mut senders: Vec<Layer2Id> = groups
        .filter_map(|g| match g.senders {
            PermittedSender::Only(s) if s != g.local => Some(s),
            _ => None,
        })
        .collect();
    senders.sort();
    senders
}

fn assert_same_key(w: &World, talker: u32, listener: u32) {
    let key = |local| {
        let mut groups = w.table.current().groups();
        groups.find(|g| g.local == local && g.senders == PermittedSender::Only(member_id(talker))).unwrap()
    };
    let (a, b) = (key(member_id(talker)), key(member_id(listener)));
    assert!(a.pgk == b.pgk && a.pgk_id == b.pgk_id && a.suite == b.suite);
    assert!(b.grants.is_empty(), "nobody else sends under it");
}

#[test]
fn every_talker_has_a_session_of_its_own_and_late_ones_hear_all() {
    let mut w = group(3);
    for n in 1..=2 {
        w.order(member_id(n), Order::Join);
    }
    w.run_for(Duration::from_millis(50));
    assert_eq!(heard(&w, 3), [member_id(1), member_id(2)]);
    for (a, b) in [(1, 2), (1, 3), (2, 1), (2, 3)] {
        assert_same_key(&w, a, b);
    }
    // Late entry: asked for, answered at once.
    w.run_for(secs(5));
    let late = talker(&w, 4, psk(1));
    w.run.add_sessions(late);
    w.input(member_id(4), Input::Time);
    w.run_for(Duration::from_millis(20));
    assert_eq!(heard(&w, 4), [member_id(1), member_id(2)]);
    assert_same_key(&w, 1, 4);
    assert_eq!(w.log.refused_commands, []);
}

#[test]
fn talkers_that_pick_the_same_index_settle_it() {
    // Each begins at random among 31: of five groups of seven at least one has such a pair, but for 3 runs of 100.
    for _ in 0..5 {
        let mut w = group(7);
        for n in 1..=7 {
            w.order(member_id(n), Order::Join);
        }
        w.run_for(secs(10));
        for n in 1..=7 {
            let others: Vec<_> = (1..=7).filter(|o| *o != n).map(member_id).collect();
            assert_eq!(heard(&w, n), others, "heard by {n}");
        }
        assert_eq!(w.log.refused_commands, []);
    }
}

#[test]
fn who_has_no_valid_key_yet_talks_as_soon_as_it_has_one() {
    let mut w = World::without_owner(DELAY);
    for n in 1..=2 {
        let mut keys = psk(1);
        keys[0].not_before = T + 25;
        let s = talker(&w, n, keys);
        w.run.add_sessions(s);
        w.order(member_id(n), Order::Join);
    }
    w.run_for(secs(20));
    assert_eq!(
        (w.held(member_id(1)), w.refusals(member_id(1)).len()),
        (vec![], 3),
        "it says so, now and then"
    );
    w.run_for(secs(20));
    assert_eq!(heard(&w, 1), [member_id(2)]);
    assert_same_key(&w, 1, 2);
    // Who does not want to talk any more does not.
    w.order(member_id(1), Order::Leave);
    w.run_for(secs(60));
    assert_eq!(heard(&w, 2), []);
}

#[test]
fn more_talkers_than_indices_are_all_heard() {
    let mut w = group(34);
    for n in 1..=34 {
        w.order(member_id(n), Order::Join);
    }
    w.run_for(secs(20));
    for n in 1..=34 {
        let others: Vec<_> = (1..=34).filter(|o| *o != n).map(member_id).collect();
        assert_eq!(heard(&w, n), others, "heard by {n}");
        // Its own key, and one of each other.
        assert_eq!(w.held(member_id(n)).len(), 34);
    }
    assert_eq!(w.log.refused_commands, []);
}

#[test]
fn what_ends_stays_ended() {
    let mut w = group(2);
    w.order(member_id(1), Order::Join);
    w.run_for(secs(2));
    let recorded: Vec<Outgoing> = w.log.sent.iter().filter(|f| f.sdu[0] == 0xA0).cloned().collect();
    w.order(member_id(1), Order::Leave);
    w.run_for(Duration::from_millis(20));
    assert_eq!(heard(&w, 2), []);
    let mut random = rng();
    for frame in &recorded {
        w.run.inject(frame.clone(), &mut random);
    }
    w.run_for(secs(20));
    assert_eq!(heard(&w, 2), []);
    w.run_for(secs(100));
    for frame in &recorded {
        w.run.inject(frame.clone(), &mut random);
    }
    w.run_for(secs(1));
    assert_eq!(heard(&w, 2), [], "too old by then");
    // Another session is another key.
    w.order(member_id(1), Order::Join);
    w.run_for(secs(1));
    assert_eq!(heard(&w, 2), [member_id(1)]);
    assert_same_key(&w, 1, 2);
}

#[test]
fn a_replaced_or_expired_session_does_not_come_back_from_a_recording() {
    let mut w = group(2);
    let local = member_id(1);
    w.order(local, Order::Join);
    w.run_for(secs(5));
    let recorded: Vec<Outgoing> = w.log.sent.iter().filter(|f| f.sdu[0] == 0xA0).cloned().collect();
    let pgk_id = w.run.sessions(local).unwrap().own().unwrap();
    w.input(local, Input::Engine(Event::GroupHalfUsed { local, group: GROUP, pgk_id }));
    w.run_for(secs(1));
    assert_same_key(&w, 1, 2);
    let mut random = rng();
    for frame in &recorded {
        w.run.inject(frame.clone(), &mut random);
    }
    // Before its talker repeats the new one.
    w.run_for(Duration::from_millis(50));
    assert_eq!(heard(&w, 2), [local]);
    assert_same_key(&w, 1, 2);

    // One whose lifetime is over, and whose talker is not heard any more.
    let mut w = group(1);
    let mut policy = SessionPolicy::new(GROUP, member_id(2));
    policy.lifetime = secs(20);
    let device = w.lab.member_device(2, w.trust.clone());
    w.run.add_sessions(Sessions::new(device, policy, psk(1), Box::<MemoryStore>::default()));
    w.order(member_id(2), Order::Join);
    w.run_for(secs(15));
    let recorded: Vec<Outgoing> = w.log.sent.iter().filter(|f| f.sdu[0] == 0xA0).cloned().collect();
    w.run.set_attacker(Some(Box::new(|_| false)));
    w.order(member_id(2), Order::Leave);
    w.run_for(secs(10));
    assert_eq!(heard(&w, 1), []);
    w.run.set_attacker(None);
    for frame in &recorded {
        w.run.inject(frame.clone(), &mut random);
    }
    w.run_for(Duration::from_millis(500));
    assert_eq!(heard(&w, 1), []);
}

#[test]
fn the_end_is_told_three_times_a_tenth_of_a_second_apart() {
    let told = |w: &World| w.log.sent.iter().filter(|f| f.sdu[0] == 0xA0).count();
    let mut w = group(2);
    w.order(member_id(1), Order::Join);
    w.run_for(Duration::from_millis(2_500));
    let before = told(&w);
    // A burst of noise takes the first one.
    w.run.set_attacker(Some(Box::new(|_| false)));
    w.order(member_id(1), Order::Leave);
    w.run_for(Duration::from_millis(50));
    assert_eq!((told(&w), heard(&w, 2)), (before + 1, vec![member_id(1)]));
    assert!(!w.run.sessions(member_id(1)).unwrap().is_settled());
    w.run.set_attacker(None);
    w.run_for(Duration::from_millis(100));
    assert_eq!((told(&w), heard(&w, 2)), (before + 2, vec![]));
    w.run_for(secs(5));
    assert_eq!(told(&w), before + 3);
    assert!(w.run.sessions(member_id(1)).unwrap().is_settled());
}

#[test]
fn outsiders_impostors_and_the_altered_are_heard_by_nobody() {
    // Another GK.
    let mut w = group(1);
    let outsider = talker(&w, 2, psk(9));
    w.run.add_sessions(outsider);
    w.order(member_id(2), Order::Join);
    w.run_for(secs(1));
    assert_eq!(heard(&w, 1), []);
    assert!(w.refusals(member_id(1)).iter().all(|c| *c == Reject::NotAuthentic));

    // The right GK, and a certificate of nobody we know.
    let mut w = group(1);
    let stranger = Lab::new("001-01");
    let device = stranger.member_device(2, w.trust.clone());
    let policy = SessionPolicy::new(GROUP, member_id(2));
    w.run.add_sessions(Sessions::new(device, policy, psk(1), Box::<MemoryStore>::default()));
    w.trust.write().generation += 1;
    w.order(member_id(2), Order::Join);
    w.run_for(secs(1));
    assert_eq!(heard(&w, 1), []);

    // Every octet counts, and so does the address it comes from.
    let mut w = group(2);
    w.order(member_id(1), Order::Join);
    let good = w.log.sent.iter().find(|f| f.sdu[0] == 0xA0).unwrap().clone();
    let mut w = group(2);
    let mut random = rng();
    for at in (7..good.sdu.len()).step_by(3) {
        let mut octets = good.sdu.to_vec();
        octets[at] ^= 1;
        w.run.inject(Outgoing { sdu: Bytes::from(octets), ..good.clone() }, &mut random);
    }
    w.run.inject(Outgoing { from: member_id(9), ..good.clone() }, &mut random);
    w.run_for(secs(1));
    assert_eq!(heard(&w, 2), []);
}

#[test]
fn a_revoked_talker_is_silenced_and_clocks_far_apart_are_not_believed() {
    let mut w = group(2);
    let device = w.lab.member_device(3, w.trust.clone());
    let policy = SessionPolicy::new(GROUP, member_id(3));
    w.run.add_sessions(Sessions::new(device.clone(), policy, psk(1), Box::<MemoryStore>::default()));
    w.order(member_id(3), Order::Join);
    w.run_for(secs(1));
    assert_eq!(heard(&w, 1), [member_id(3)]);
    let crl = w.lab.revoke(&device, T + 1);
    w.input(member_id(1), Input::Crl(crl));
    w.input(member_id(2), Input::TrustChanged);
    assert_eq!((heard(&w, 1), heard(&w, 2)), (vec![], vec![]));
    w.run_for(secs(5));
    assert_eq!(heard(&w, 1), []);
    assert!(w.refusals(member_id(1)).contains(&Reject::Revoked));

    let mut w = group(1);
    w.order(member_id(1), Order::Join);
    let old = w.log.sent.iter().find(|f| f.sdu[0] == 0xA0).unwrap().clone();
    w.order(member_id(1), Order::Leave);
    let listener = talker(&w, 2, psk(1));
    w.run.add_sessions(listener);
    w.run_for(secs(31));
    w.run.inject(old, &mut rng());
    w.run_for(secs(1));
    assert_eq!(heard(&w, 2), []);
    assert!(
        w.notices(member_id(2))
            .any(|n| matches!(n, Notice::Refused { detail, .. } if detail.contains("30 s")))
    );
}

#[test]
fn a_long_talk_goes_on_under_more_identities_and_then_under_another_session() {
    let mut w = group(2);
    w.order(member_id(1), Order::Join);
    w.run_for(secs(1));
    let local = member_id(1);
    let pgk_id = w.run.sessions(local).unwrap().own().unwrap();
    for _ in 0..200 {
        w.input(local, Input::Engine(Event::GrantHalfUsed { local, group: GROUP, pgk_id }));
    }
    let root = w.table.current().groups().find(|g| g.local == local).unwrap();
    let mut last = 0;
    for grant in &root.grants {
        assert!(grant.start().get() > last);
        last = grant.end().get();
    }
    assert!(last > 65_000);
    w.input(local, Input::Engine(Event::GroupHalfUsed { local, group: GROUP, pgk_id }));
    w.run_for(secs(1));
    assert_ne!(w.run.sessions(local).unwrap().own(), Some(pgk_id));
    assert_eq!(heard(&w, 2), [local]);
    assert_same_key(&w, 1, 2);
    assert_eq!(w.log.refused_commands, []);
}
