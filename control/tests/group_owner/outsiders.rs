//! Who holds keys and is no member any more, or none yet: what the group is sent is closed to it, also where the store
//! fails or a key is changed before its time.

use std::time::Duration;

use pc5_control::group_owner::lockstep::Conditions;
use pc5_control::group_owner::{Ended, Input, Member, Notice, Order};
use pc5_control::pki::{Request, Validity};
use pc5_control::policy::{Admission, GroupPolicy, MemberPolicy, OnJoin, Wrap};
use pc5_control::reject::Reject;
use pc5_control::store::{MemoryStore, Store};
use pc5_dataplane::keys::Event;

use super::world::*;

const DELAY: Conditions = Conditions { loss: 0, duplicate: 0, reorder: 0, delay: Duration::from_millis(2) };

fn drop_all(w: &mut World, message_type: u8) {
    w.run.set_attacker(Some(Box::new(move |f| f.sdu[0] != message_type)));
}

/// Two members, and a third that was given keys and whose message 5 never arrives.
fn unconfirmed() -> World {
    let mut w = World::new(2, DELAY);
    assert!(w.join_all());
    drop_all(&mut w, 0x85);
    let third = w.member(3);
    w.put_member(third);
    w.order(member_id(3), Order::Join);
    w.run_for(Duration::from_millis(100));
    let (_, pgk_id) = w.owner().group_key(GROUP).unwrap();
    assert_eq!(w.held(member_id(3)), [pgk_id]);
    w
}

#[test]
fn a_join_that_is_never_confirmed_is_followed_by_an_epoch_of_its_own() {
    let mut w = unconfirmed();
    let (before, known) = w.owner().group_key(GROUP).unwrap();
    w.order(member_id(3), Order::Leave);
    w.run_for(secs(12));
    assert_eq!(w.owner().half_open(), 0);
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
    assert!(w.settle());
    w.assert_consistent();
    for holder in [OWNER, member_id(1), member_id(2)] {
        assert!(!w.held(holder).contains(&known), "{holder}");
    }
}

#[test]
fn a_join_that_is_made_again_in_time_costs_no_epoch() {
    let mut w = unconfirmed();
    let (before, _) = w.owner().group_key(GROUP).unwrap();
    w.run_for(secs(3));
    let again = w.member(3);
    w.put_member(again);
    w.run.set_attacker(None);
    assert!(w.join_all());
    w.run_for(secs(15));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before);
    w.assert_consistent();
}

#[test]
fn an_eviction_right_after_an_unconfirmed_join_is_immediate() {
    for listed in [false, true] {
        let mut w = unconfirmed();
        let (before, _) = w.owner().group_key(GROUP).unwrap();
        w.order(member_id(3), Order::Leave);
        // Its time is over; the epoch without it is still being gathered for.
        w.run_for(Duration::from_millis(10_100));
        assert_eq!(w.owner().half_open(), 0);
        assert_eq!(w.owner().group_key(GROUP).unwrap().0, before);
        if listed {
            let mut policy = group_policy();
            let members = [w.lab.identity("ue-1"), w.lab.identity("ue-2")];
            policy.admission = Admission::Listed(members.into());
            w.order(OWNER, Order::Policy(Box::new(policy)));
        } else {
            let identity = w.lab.identity("ue-3");
            w.order(OWNER, Order::Evict { group: GROUP, identity });
        }
        assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
    }
}

#[test]
fn a_crl_between_messages_3_and_5_ends_the_join() {
    let mut w = World::new(2, DELAY);
    assert!(w.join_all());
    let device = w.lab.member_device(3, w.trust.clone());
    let third = w.member_with(device.clone(), 3);
    w.put_member(third);
    drop_all(&mut w, 0x85);
    w.order(member_id(3), Order::Join);
    w.run_for(Duration::from_millis(100));
    let (before, known) = w.owner().group_key(GROUP).unwrap();
    assert_eq!(w.held(member_id(3)), [known]);
    let crl = w.lab.revoke(&device, T);
    w.input(OWNER, Input::Crl(crl));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1, "it had the one before");
    assert_eq!(w.owner().half_open(), 0);
    w.run.set_attacker(None);
    w.run_for(secs(20));
    assert_eq!(w.owner().members(w.run.now()).count(), 2);
    assert!(w.refusals(OWNER).contains(&Reject::Revoked));
    w.assert_consistent();
}

#[test]
fn a_certificate_that_expires_before_message_5_confirms_nothing() {
    let mut w = World::new(2, DELAY);
    assert!(w.join_all());
    let mut validity = Validity::days(T, 1);
    validity.not_after = T + 1;
    let (roles, groups) = (vec![pc5_control::credential::Role::Member], vec![GROUP]);
    let request = Request { identity: w.lab.identity("ue-3"), roles, groups, validity };
    let enrolled = w.lab.root.enrol(&request, &mut rng()).unwrap();
    let key = std::sync::Arc::new(enrolled.key);
    let device = pc5_control::group_owner::Device::new(key, enrolled.chain, w.trust.clone()).unwrap();
    let third = w.member_with(device, 3);
    w.put_member(third);
    drop_all(&mut w, 0x85);
    w.order(member_id(3), Order::Join);
    w.run_for(secs(2));
    assert!(!w.held(member_id(3)).is_empty());
    let (before, _) = w.owner().group_key(GROUP).unwrap();
    // The last repeat of message 5 comes through.
    w.run.set_attacker(None);
    w.run_for(secs(2));
    assert!(w.refusals(OWNER).contains(&Reject::CertificateNotValidNow));
    assert!(!w.notices(OWNER).any(|n| matches!(n, Notice::Joined { peer, .. } if *peer == member_id(3))));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
}

#[test]
fn a_change_before_its_time_never_stops_sending() {
    for on_join in [OnJoin::Current, OnJoin::Fresh] {
        for ahead in 1..=3 {
            let settings = |p: &mut GroupPolicy| {
                (p.future_epochs, p.on_join, p.key_lifetime) = (ahead, on_join, secs(120));
            };
            let mut w = World::with(2, DELAY, settings, |_| {});
            assert!(w.join_all());
            w.run_for(secs(3));
            assert!(w.settle());
            for round in 0..6 {
                let (before, _) = w.owner().group_key(GROUP).unwrap();
                if on_join == OnJoin::Fresh {
                    let late = w.member(3 + round);
                    w.put_member(late);
                    assert!(w.join_all());
                    w.run_for(secs(2));
                } else {
                    w.order(OWNER, Order::RekeyGroup(GROUP));
                }
                assert!(w.settle());
                let (after, pgk_id) = w.owner().group_key(GROUP).unwrap();
                assert!(after > before);
                assert_eq!(w.sendable(), [pgk_id], "{on_join:?}, {ahead} ahead, {round}");
                assert!(w.held(OWNER).len() <= 8 && w.held(member_id(1)).len() <= 8);
                w.assert_consistent();
            }
            // Routine changes go on from there, with as many ahead as before.
            w.run_for(secs(400));
            assert!(w.settle());
            let (_, pgk_id) = w.owner().group_key(GROUP).unwrap();
            assert!(w.sendable().contains(&pgk_id));
            let live = w.table.current().groups().filter(|g| g.local == OWNER && !g.retired).count();
            assert_eq!(live, 1 + usize::from(ahead));
            w.assert_consistent();
        }
    }
}

#[test]
fn an_epoch_that_the_store_refused_is_never_switched_to() {
    let store = SharedStore::default();
    let mut w = World::new(2, DELAY);
    let owner = w.owner_with(Box::new(store.clone()));
    w.put_owner(owner);
    assert!(w.join_all());
    let (before, _) = w.owner().group_key(GROUP).unwrap();
    store.set_broken(true);
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::StoreFailed(_))));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before);
    store.set_broken(false);
    w.run_for(secs(3));
    assert!(w.settle());
    let (after, pgk_id) = w.owner().group_key(GROUP).unwrap();
    assert!(after > before);
    assert_eq!(w.sendable(), [pgk_id]);
    w.assert_consistent();
}

#[test]
fn hints_use_no_grant_up() {
    let mut w = World::with(1, DELAY, |p| p.direct = true, |_| {});
    assert!(w.join_all());
    let local = member_id(1);
    let grants = |w: &World| -> Vec<u16> {
        let groups = w.table.current().groups().filter(|g| g.local == local);
        groups.flat_map(|g| g.grants.iter().map(|r| r.start().get())).collect()
    };
    let (before, _) = w.owner().group_key(GROUP).unwrap();
    w.log.sent.clear();
    for n in 0..140 {
        let (group, claimed_source) = (GROUP, OWNER);
        let hint = if n % 2 == 0 {
            Event::UnknownIndex { group, claimed_source, index: 30 }
        } else {
            Event::FloorsWanted { group, claimed_source, index: 1 }
        };
        w.input(local, Input::Engine(hint));
        w.run_for(Duration::from_millis(1_010));
    }
    assert_eq!(w.log.sent.iter().filter(|f| f.sdu[0] == 0x8B).count(), 140);
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before, "nobody's frames bring a new key");
    assert_eq!(grants(&w), [1]);

    // A hint that leads to an epoch that was missed brings the grant to send under it.
    drop_all(&mut w, 0x8C);
    w.order(OWNER, Order::RekeyGroup(GROUP));
    w.run_for(Duration::from_millis(50));
    w.run.set_attacker(None);
    assert_eq!(w.held(local).len(), 1);
    let hint = Event::UnknownIndex { group: GROUP, claimed_source: OWNER, index: 2 };
    w.input(local, Input::Engine(hint));
    w.run_for(Duration::from_millis(50));
    assert_eq!(grants(&w).len(), 2);
}

#[test]
fn nobody_has_group_data_twice_where_nobody_is_excluded() {
    let mut w = World::new(3, DELAY);
    assert!(w.join_all());
    // A join beside a live link, and a change of the key that all acknowledge before it.
    w.order(member_id(1), Order::Join);
    assert!(w.settle());
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert!(w.settle());
    let told: Vec<_> = w.log.audiences.iter().map(|(by_link, _)| by_link).collect();
    assert!(told.iter().all(|by_link| by_link.is_empty()), "{told:?}");
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, 2);
}

#[test]
fn everybody_is_served_by_link_before_a_key_is_taken_away() {
    let mut w = World::new(4, DELAY);
    assert!(w.join_all());
    let (_, known) = w.owner().group_key(GROUP).unwrap();
    w.log.audiences.clear();
    let identity = w.lab.identity("ue-3");
    w.order(OWNER, Order::Evict { group: GROUP, identity });
    let (by_link, sendable) = &w.log.audiences[0];
    let mut by_link = by_link.clone();
    by_link.sort();
    assert_eq!(by_link, [member_id(1), member_id(2), member_id(4)]);
    assert_eq!(*sendable, [known], "told before the first command");
    assert!(w.settle());
    assert_eq!(w.log.audiences.last().unwrap().0, []);
}

#[test]
fn nothing_more_goes_out_under_an_old_key_while_the_store_fails() {
    let store = SharedStore::default();
    let mut w = World::new(3, DELAY);
    let owner = w.owner_with(Box::new(store.clone()));
    w.put_owner(owner);
    assert!(w.join_all());
    let (before, _) = w.owner().group_key(GROUP).unwrap();
    store.set_broken(true);
    let identity = w.lab.identity("ue-3");
    w.order(OWNER, Order::Evict { group: GROUP, identity });
    let others = [member_id(1), member_id(2)];
    for _ in 0..5 {
        assert_eq!(w.sendable(), []);
        assert_eq!(w.owner().served_by_link(GROUP), others);
        let mut told = w.log.audiences.last().unwrap().0.clone();
        told.sort();
        assert_eq!(told, others);
        let told = |w: &World| w.notices(OWNER).filter(|n| matches!(n, Notice::StoreFailed(_))).count();
        let before = told(&w);
        w.order(OWNER, Order::RekeyGroup(GROUP));
        assert!(told(&w) > before, "an order that is not carried out is told so");
        w.run_for(secs(2));
    }
    store.set_broken(false);
    // Ordered: it waits for no timer.
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert_eq!(w.sendable().len(), 1);
    assert!(w.settle());
    let (after, pgk_id) = w.owner().group_key(GROUP).unwrap();
    assert!(after > before);
    assert_eq!(w.sendable(), [pgk_id]);
    assert_eq!(w.owner().served_by_link(GROUP), []);
    w.assert_consistent();
}

#[test]
fn one_certificate_binds_only_so_many_layer_2_ids() {
    let store = SharedStore::default();
    let mut w = World::new(1, DELAY);
    let owner = w.owner_with(Box::new(store.clone()));
    w.put_owner(owner);
    assert!(w.join_all());
    let device = w.lab.member_device(66, w.trust.clone());
    drop_all(&mut w, 0x85);
    for n in 0..70 {
        let policy = MemberPolicy::new(GROUP, member_id(1_000 + n), OWNER);
        w.put_member(Member::new(device.clone(), policy, Box::<MemoryStore>::default()));
        w.order(member_id(1_000 + n), Order::Join);
        w.run_for(Duration::from_millis(100));
        w.order(member_id(1_000 + n), Order::Leave);
    }
    assert_eq!(store.bindings(GROUP).len(), 1 + 64);
    assert!(w.refusals(OWNER).contains(&Reject::Limit));
    w.run.set_attacker(None);
    let late = w.member(2);
    w.put_member(late);
    w.order(member_id(2), Order::Join);
    assert!(w.run_until(secs(12), |r| r.member(member_id(2)).unwrap().owner().is_some()), "others join");
}

#[test]
fn an_update_sealed_before_a_refresh_is_sealed_again() {
    let mut w = World::with(1, DELAY, |p| p.wrap = Wrap::Certificate, |_| {});
    assert!(w.join_all());
    let (before, _) = w.owner().group_key(GROUP).unwrap();
    w.order(member_id(1), Order::RekeyLink { peer: OWNER, refresh: true });
    // REKEY_COMMAND is under way: what is sealed now opens under no root that the member still has then.
    w.run_for(Duration::from_millis(3));
    w.order(OWNER, Order::RekeyGroup(GROUP));
    w.run_for(secs(10));
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::Rekeyed { refreshed: true, .. })));
    assert!(!w.notices(OWNER).any(|n| matches!(n, Notice::Ended { why: Ended::Lost, .. })));
    assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
    assert!(w.settle());
    w.assert_consistent();
}
