use std::time::Duration;

use pc5_control::group_owner::lockstep::Conditions;
use pc5_control::group_owner::{Ended, Input, Notice, Order};
use pc5_control::policy::{Admission, GroupPolicy, OnJoin, Wrap};
use pc5_dataplane::keys::{Event, LinkPhase};
use pc5_dataplane::suite::Suite;

use super::world::*;

const DELAY: Conditions = Conditions { loss: 0, duplicate: 0, reorder: 0, delay: Duration::from_millis(2) };
const ROUGH: Conditions =
    Conditions { loss: 100, duplicate: 100, reorder: 200, delay: Duration::from_millis(2) };

#[test]
fn a_routine_change_reaches_all_before_it_is_switched_to() {
    let mut w = World::new(5, DELAY);
    assert!(w.join_all());
    let (before, old) = w.owner().group_key(GROUP).unwrap();
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before, "make before break");
    assert!(w.settle());
    let (after, new) = w.owner().group_key(GROUP).unwrap();
    assert_eq!(after, before + 1);
    w.assert_consistent();
    assert_eq!(w.held(member_id(1)), [old, new]);

    // The first verified frame of the new one starts the old one's last 10 s.
    for n in 1..=5 {
        let (local, sender) = (member_id(n), OWNER);
        w.input(local, Input::Engine(Event::GroupFirstVerified { local, group: GROUP, pgk_id: new, sender }));
    }
    w.run_for(secs(11));
    assert_eq!(w.held(member_id(1)), [new]);
    assert_eq!(w.held(OWNER), [new]);
}

#[test]
fn keys_that_live_a_second_pass_the_end_of_the_index() {
    let conditions = DELAY;
    let mut w =
        World::with(3, conditions, |p| (p.key_lifetime, p.rekey_after) = (secs(20), Some(secs(1))), |_| {});
    assert!(w.join_all());
    for _ in 0..80 {
        w.run_for(secs(1));
        let (_, pgk_id) = w.owner().group_key(GROUP).unwrap();
        for n in 1..=3 {
            let (local, sender) = (member_id(n), OWNER);
            w.input(local, Input::Engine(Event::GroupFirstVerified { local, group: GROUP, pgk_id, sender }));
        }
        w.assert_consistent();
    }
    assert!(w.owner().group_key(GROUP).unwrap().0 > 70);
    assert!(w.held(OWNER).len() <= 8 && w.held(member_id(1)).len() <= 8);
}

#[test]
fn rough_links_lose_no_change() {
    for wrap in [Wrap::Link, Wrap::Certificate] {
        let mut w = World::with(8, ROUGH, |p| p.wrap = wrap, |_| {});
        assert!(w.join_all());
        for _ in 0..5 {
            w.order(OWNER, Order::RekeyGroup(GROUP));
            w.run_for(secs(20));
        }
        w.run.set_conditions(DELAY);
        assert!(w.run_until(secs(60), |r| r.members().all(|m| m.owner().is_some())));
        assert!(w.settle());
        w.assert_consistent();
    }
}

#[test]
fn an_eviction_voids_every_epoch_handed_out() {
    let mut w = World::with(4, DELAY, |p| p.future_epochs = 2, |_| {});
    assert!(w.join_all());
    let known = w.held(member_id(3));
    assert_eq!(known.len(), 3, "current and two ahead");
    let identity = w.lab.identity("ue-3");
    w.order(OWNER, Order::Evict { group: GROUP, identity: identity.clone() });
    // The new one is in use at once; until they have it the others are served over their links.
    let (_, now_in_use) = w.owner().group_key(GROUP).unwrap();
    assert!(!known.contains(&now_in_use));
    let mut by_link = w.owner().served_by_link(GROUP);
    by_link.sort();
    assert_eq!(by_link, [member_id(1), member_id(2), member_id(4)]);
    assert!(w.settle());
    assert_eq!(w.owner().served_by_link(GROUP), []);
    w.assert_consistent();
    for holder in [OWNER, member_id(1), member_id(2), member_id(4)] {
        assert!(w.held(holder).iter().all(|id| !known.contains(id)), "{holder}");
    }
    assert!(w.notices(member_id(3)).any(|n| matches!(n, Notice::Ended { why: Ended::Released(_), .. })));

    // It stays out, and the refusal says so to nobody but itself.
    w.run_for(secs(120));
    assert_eq!(w.owner().members(w.run.now()).count(), 3);
    assert!(w.refusals(OWNER).contains(&pc5_control::reject::Reject::NotAdmitted));
    w.order(OWNER, Order::Readmit { group: GROUP, identity });
    assert!(w.run_until(secs(60), |r| r.owner(OWNER).unwrap().members(r.now()).count() == 4));
}

#[test]
fn a_wall_clock_that_is_set_ends_and_delays_no_key() {
    let mut w = World::new(3, DELAY);
    assert!(w.join_all());
    let start = w.run.now().unix;
    // The lifetime of a key is an hour.
    for (hours, ahead) in [(2, true), (4, false), (30, true)] {
        let by = secs(hours * 3_600);
        w.run.set_wall_clock(if ahead { start + by } else { start - by });
        assert!(!w.sendable().is_empty());
        let (before, _) = w.owner().group_key(GROUP).unwrap();
        w.order(OWNER, Order::RekeyGroup(GROUP));
        w.run_for(secs(5));
        assert!(w.settle());
        assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1, "everybody has acknowledged it");
        w.assert_consistent();
    }
    let ended = |n| w.notices(member_id(n)).any(|n| matches!(n, Notice::Ended { .. }));
    assert!(!(1..=3).any(ended));
}

#[test]
fn new_settings_hold_at_once_and_exclude_who_is_no_longer_listed() {
    let mut w = World::new(3, DELAY);
    assert!(w.join_all());
    let (before, old) = w.owner().group_key(GROUP).unwrap();
    let mut policy = GroupPolicy::new(GROUP, OWNER);
    policy.admission = Admission::Listed([w.lab.identity("ue-1"), w.lab.identity("ue-2")].into());
    policy.key_lifetime = secs(60);
    w.order(OWNER, Order::Policy(Box::new(policy.clone())));
    assert!(w.settle());
    assert_eq!(w.owner().members(w.run.now()).count(), 2);
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
    assert!(!w.held(member_id(1)).contains(&old), "what the third one knew is void");
    w.assert_consistent();
    // Half of the new lifetime later the key is changed, an hour's half it was before.
    w.run_for(secs(31));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 2);
    // It may come back once it is listed again; settings that do not go together change nothing.
    policy.admission = Admission::Certified;
    w.order(OWNER, Order::Policy(Box::new(policy.clone())));
    policy.max_members = 0;
    w.order(OWNER, Order::Policy(Box::new(policy)));
    assert!(w.run_until(secs(60), |r| r.owner(OWNER).unwrap().members(r.now()).count() == 3));
}

#[test]
fn who_leaves_is_followed_by_an_epoch_of_its_own() {
    let mut w = World::new(3, DELAY);
    assert!(w.join_all());
    let (before, _) = w.owner().group_key(GROUP).unwrap();
    w.order(member_id(2), Order::Leave);
    w.run_for(Duration::from_millis(900));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before, "gathered for a second");
    w.run_for(Duration::from_millis(200));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
    assert!(w.settle());
    w.assert_consistent();
    assert_eq!(w.held(member_id(2)), []);
    assert_eq!(w.run.contexts(OWNER, member_id(2)), []);
    assert_eq!(w.run.contexts(member_id(2), OWNER), []);
}

#[test]
fn late_entry_gets_the_current_epoch_or_a_fresh_one() {
    let mut w = World::new(2, DELAY);
    assert!(w.join_all());
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert!(w.settle());
    let (current, pgk_id) = w.owner().group_key(GROUP).unwrap();
    let late = w.member(3);
    w.put_member(late);
    assert!(w.join_all());
    assert_eq!(w.held(member_id(3)), [pgk_id], "no past one");
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, current);

    let mut w = World::with(2, DELAY, |p| p.on_join = OnJoin::Fresh, |_| {});
    assert!(w.join_all());
    w.run_for(secs(3));
    assert!(w.settle());
    let (current, pgk_id) = w.owner().group_key(GROUP).unwrap();
    let late = w.member(3);
    w.put_member(late);
    assert!(w.join_all());
    assert!(!w.held(member_id(3)).contains(&pgk_id), "what was recorded stays closed");
    assert_eq!(w.owner().served_by_link(GROUP), [member_id(3)]);
    w.run_for(secs(2));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, current + 1);
    assert_eq!(w.owner().served_by_link(GROUP), []);
    w.assert_consistent();
}

#[test]
fn links_are_rekeyed_through_losses() {
    let mut w = World::new(4, DELAY);
    assert!(w.join_all());
    w.run.set_conditions(ROUGH);
    for round in 0..30 {
        for n in 1..=4 {
            let refresh = round % 5 == 4;
            if (round + n) % 2 == 0 {
                w.order(member_id(n), Order::RekeyLink { peer: OWNER, refresh });
            } else {
                w.order(OWNER, Order::RekeyLink { peer: member_id(n), refresh });
            }
        }
        w.run_for(secs(4));
    }
    w.run.set_conditions(DELAY);
    assert!(w.run_until(secs(60), |r| r.members().all(|m| m.owner().is_some())));
    assert!(w.settle());
    w.run_for(secs(8));
    w.assert_consistent();
    let rekeyed = w.notices(OWNER).filter(|n| matches!(n, Notice::Rekeyed { .. })).count();
    let refreshed = w.notices(OWNER).filter(|n| matches!(n, Notice::Rekeyed { refreshed: true, .. })).count();
    assert!(rekeyed >= 100 && refreshed >= 15, "{rekeyed} {refreshed}");
    for n in 1..=4 {
        assert_eq!(w.run.contexts(OWNER, member_id(n)).len(), 1, "nothing is left behind");
        assert_eq!(w.run.contexts(member_id(n), OWNER).len(), 1);
    }
}

#[test]
fn half_of_the_sns_used_brings_new_keys_from_either_side() {
    let mut w = World::new(1, DELAY);
    assert!(w.join_all());
    let member = member_id(1);
    for (local, peer) in [(member, OWNER), (OWNER, member)] {
        let id = w.run.member(member).unwrap().link_id().unwrap();
        w.input(local, Input::Engine(Event::LinkHalfUsed { local, peer, id }));
        assert!(w.settle());
        w.run_for(secs(7));
        let now = w.run.member(member).unwrap().link_id().unwrap();
        assert_ne!(now, id);
        assert_eq!(w.run.contexts(OWNER, member), [(now, LinkPhase::Active)]);
        // Told again about a context that is gone: nothing happens.
        w.input(local, Input::Engine(Event::LinkHalfUsed { local, peer, id }));
        assert!(w.settle());
        assert_eq!(w.run.member(member).unwrap().link_id().unwrap(), now);
    }
}

#[test]
fn a_lost_complete_does_not_split_the_link() {
    let mut w = World::new(1, DELAY);
    assert!(w.join_all());
    let member = member_id(1);
    let id = w.run.member(member).unwrap().link_id().unwrap();
    w.order(member, Order::RekeyLink { peer: OWNER, refresh: true });
    // REQUEST and COMMAND come through; then nothing does for longer than COMMAND is repeated.
    w.run_for(Duration::from_millis(3));
    w.run.set_conditions(Conditions { loss: 1_000, ..DELAY });
    w.run_for(secs(4));
    assert_eq!(w.run.contexts(OWNER, member).len(), 2);
    let new = w.run.member(member).unwrap().link_id().unwrap();
    assert_ne!(new, id);
    w.run.set_conditions(DELAY);
    // Whatever the member sends next, here a keepalive, confirms it.
    assert!(w.run_until(secs(10), |r| r.agree(OWNER, member)));
    w.run_for(secs(8));
    assert_eq!(w.run.contexts(OWNER, member), [(new, LinkPhase::Active)]);
    w.order(member, Order::RekeyLink { peer: OWNER, refresh: true });
    assert!(w.settle());
    assert!(w.run_until(secs(10), |r| r.agree(OWNER, member)), "the next refresh stands on the same KD");
}

#[test]
fn kd_is_refreshed_in_time_without_being_asked() {
    let mut w = World::with(1, DELAY, |p| p.kd_lifetime = secs(100), |_| {});
    assert!(w.join_all());
    w.run_for(secs(600));
    let refreshed = w.notices(OWNER).filter(|n| matches!(n, Notice::Rekeyed { refreshed: true, .. })).count();
    assert!((6..=9).contains(&refreshed), "{refreshed}");
    assert!(w.run.agree(OWNER, member_id(1)));
}

#[test]
fn direct_members_get_grants_that_never_repeat() {
    let mut w = World::with(3, DELAY, |p| p.direct = true, |_| {});
    assert!(w.join_all());
    let grants = |w: &World, n: u32| {
        let groups = w.table.current().groups();
        groups.filter(|g| g.local == member_id(n)).flat_map(|g| g.grants.clone()).collect::<Vec<_>>()
    };
    assert_eq!(grants(&w, 1).len(), 1);
    let (_, pgk_id) = w.owner().group_key(GROUP).unwrap();
    for _ in 0..3 {
        let local = member_id(1);
        w.input(local, Input::Engine(Event::GrantHalfUsed { local, group: GROUP, pgk_id }));
        assert!(w.settle());
    }
    let first: Vec<u16> = grants(&w, 1).iter().map(|g| g.start().get()).collect();
    assert_eq!(first, [1, 513, 1_025, 1_537]);

    // A restart asks for more instead of going on with what it had.
    let again = w.member(1);
    w.put_member(again);
    assert!(w.join_all());
    assert_eq!(grants(&w, 1).last().unwrap().start().get(), 2_049);

    // Loss repeats the question, not the grant.
    w.run.set_conditions(Conditions { loss: 400, ..DELAY });
    let local = member_id(2);
    w.input(local, Input::Engine(Event::GrantHalfUsed { local, group: GROUP, pgk_id }));
    w.run_for(secs(5));
    let mut starts: Vec<u16> = grants(&w, 2).iter().map(|g| g.start().get()).collect();
    starts.dedup();
    assert!(starts == [1, 513] || starts == [1], "{starts:?}");
}

#[test]
fn a_short_mac_never_protects_group_keys() {
    let suites = vec![Suite::Eea2Eia2];
    let mut w = World::with(
        2,
        DELAY,
        |p| (p.link_suites, p.group_suite) = (vec![Suite::Eea2Eia2], Suite::Eea2Eia2),
        |p| p.suites = suites.clone(),
    );
    assert!(w.join_all());
    w.log.sent.clear();
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert!(w.settle());
    let wraps: Vec<u8> = w.log.sent.iter().filter(|f| f.sdu[0] == 0x8C).map(|f| f.sdu[7 + 8]).collect();
    assert_eq!(wraps, [1, 1]);
    w.assert_consistent();
}

#[test]
fn a_sender_that_used_half_of_its_identities_brings_a_new_key() {
    let mut w = World::with(2, DELAY, |p| p.direct = true, |_| {});
    assert!(w.join_all());
    let (before, pgk_id) = w.owner().group_key(GROUP).unwrap();
    let local = member_id(1);
    for _ in 0..64 {
        w.input(local, Input::Engine(Event::GrantHalfUsed { local, group: GROUP, pgk_id }));
        assert!(w.settle());
    }
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
    w.assert_consistent();
}

#[test]
fn several_groups_and_owners_share_a_wire() {
    use pc5_control::credential::Role;
    use pc5_control::group_owner::{Member, Owner};
    use pc5_control::policy::{GroupPolicy, MemberPolicy, OwnerPolicy};
    use pc5_control::store::MemoryStore;
    use pc5_dataplane::ids::{GroupId, Layer2Id};

    let mut w = World::without_owner(DELAY);
    let group = |n: u8| GroupId::from_octets([0xF0, 0, n]);
    let owner_id = |n: u8| Layer2Id::from_octets([0xFF, 0xFF, n]);
    // Owner A has groups 1 and 2; owner B another group with the id of group 1.
    for (name, groups) in [("go-1", vec![(1, 1), (2, 2)]), ("go-2", vec![(1, 3)])] {
        let device = w.lab.device_for(name, vec![Role::Owner], vec![], w.trust.clone());
        let policies = groups.into_iter().map(|(g, o)| GroupPolicy::new(group(g), owner_id(o))).collect();
        let store = Box::<MemoryStore>::default();
        w.run.add_owner(Owner::new(device, OwnerPolicy::default(), policies, store).unwrap());
    }
    for n in 0..9_u32 {
        let o = 1 + (n % 3) as u8;
        let g = if o == 2 { 2 } else { 1 };
        let device = w.lab.device_for(&format!("ue-{n}"), vec![Role::Member], vec![], w.trust.clone());
        let policy = MemberPolicy::new(group(g), member_id(100 + n), owner_id(o));
        w.run.add_member(Member::new(device, policy, Box::<MemoryStore>::default()));
    }
    assert!(w.join_all());
    for n in 0..9_u32 {
        let o = owner_id(1 + (n % 3) as u8);
        let owner = w.run.owner(o).unwrap();
        assert!(owner.members(w.run.now()).any(|m| m.layer2 == member_id(100 + n)));
        let key = |local| w.table.current().groups().find(|k| k.local == local).unwrap();
        assert!(key(o).pgk == key(member_id(100 + n)).pgk);
        assert!((1..=3).all(|other| owner_id(other) == o || key(owner_id(other)).pgk != key(o).pgk));
    }
    // One Layer-2 id serves one group.
    let device = w.lab.device_for("go-3", vec![Role::Owner], vec![], w.trust.clone());
    let policies = vec![GroupPolicy::new(group(1), owner_id(1)), GroupPolicy::new(group(2), owner_id(1))];
    let store = Box::<MemoryStore>::default();
    assert!(Owner::new(device, OwnerPolicy::default(), policies, store).is_err());
}

#[test]
fn at_hand_over_members_go_to_whichever_owner_they_hear() {
    use pc5_control::credential::Role;
    use pc5_control::group_owner::Owner;
    use pc5_control::policy::{GroupPolicy, OwnerPolicy};
    use pc5_control::store::MemoryStore;
    use pc5_dataplane::ids::Layer2Id;

    let mut w = World::with(3, DELAY, |_| {}, |p| p.owner = None);
    assert!(w.join_all());
    let second = Layer2Id::from_octets([0xFF, 0xFF, 0x10]);
    let device = w.lab.device_for("go-2", vec![Role::Owner], vec![GROUP], w.trust.clone());
    let policies = vec![GroupPolicy::new(GROUP, second)];
    let store = Box::<MemoryStore>::default();
    w.run.add_owner(Owner::new(device, OwnerPolicy::default(), policies, store).unwrap());
    w.run_for(secs(3));
    assert_eq!(w.owner().members(w.run.now()).count(), 3, "who is served stays");
    w.order(OWNER, Order::Leave);
    // The first one goes off the air.
    w.run_for(Duration::from_millis(5));
    w.run.set_attacker(Some(Box::new(|f| f.from != OWNER)));
    assert!(w.run_until(secs(60), |r| (1..=3).all(|n| r.agree(second, member_id(n)))));
    assert_eq!(w.run.owner(second).unwrap().members(w.run.now()).count(), 3);
}
