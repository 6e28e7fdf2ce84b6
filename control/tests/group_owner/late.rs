//! What frames that come late, or not at all, must not bring about.

use std::time::Duration;

use pc5_control::credential::Clock;
use pc5_control::group_owner::lockstep::{Conditions, Flight, Forwarded, Side};
use pc5_control::group_owner::{Ended, Input, Notice, Order, Outgoing};
use pc5_control::policy::GroupPolicy;
use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::keys::Event;
use pc5_dataplane::pdu::Destination;

use super::world::*;

const DELAY: Conditions = Conditions { loss: 0, duplicate: 0, reorder: 0, delay: Duration::from_millis(2) };

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Holds frames of one type back on their way to or from member 1, the first `n` of them.
fn hold(w: &mut World, message_type: u8, mut n: usize, by: Duration) {
    let path = move |flight: Flight, to: Side| {
        let held = flight.frame.sdu[0] == message_type && n > 0;
        n -= usize::from(held);
        vec![Forwarded { flight, to, later: if held { by } else { Duration::ZERO } }]
    };
    w.run.set_path(Some((member_id(1), Box::new(path))));
}

fn lose(w: &mut World, message_type: u8) {
    w.run.set_attacker(Some(Box::new(move |f| f.sdu[0] != message_type)));
}

fn ended(w: &World, node: Layer2Id) -> Vec<Ended> {
    let of = |n: &Notice| if let Notice::Ended { why, .. } = n { Some(*why) } else { None };
    w.notices(node).filter_map(of).collect()
}

#[test]
fn who_erased_what_it_had_and_joins_again_gets_an_epoch_of_its_own() {
    for direct in [false, true] {
        let mut w = World::with(3, DELAY, |p| p.direct = direct, |_| {});
        assert!(w.join_all());
        let (before, _) = w.owner().group_key(GROUP).unwrap();
        // RELEASE gets lost: the member has left and erased its keys, and the owner knows nothing of it.
        lose(&mut w, 6);
        w.order(member_id(1), Order::Leave);
        w.run_for(secs(1));
        assert_eq!(w.held(member_id(1)), []);
        w.run.set_attacker(None);
        w.order(member_id(1), Order::Join);
        w.run_for(millis(100));
        assert_eq!(w.owner().served_by_link(GROUP), [member_id(1)], "until it has a key that it can take");
        w.run_for(secs(3));
        assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1);
        assert_eq!(w.owner().served_by_link(GROUP), []);
        w.assert_consistent();
        w.run_for(secs(10));
        assert_eq!(w.owner().group_key(GROUP).unwrap().0, before + 1, "one is enough");
    }
}

#[test]
fn a_late_release_of_the_link_before_leaves_the_next_one_alone() {
    for leaver in [member_id(1), OWNER] {
        let mut w = World::new(2, DELAY);
        assert!(w.join_all());
        hold(&mut w, 6, 1, millis(300));
        w.order(leaver, Order::Leave);
        w.order(member_id(1), Order::Join);
        w.run_for(millis(100));
        let link = w.run.member(member_id(1)).unwrap().link_id().unwrap();
        assert!(w.run.agree(OWNER, member_id(1)));
        w.log.notices.clear();
        w.run_for(secs(3));
        assert_eq!((ended(&w, member_id(1)), ended(&w, OWNER)), (vec![], vec![]), "{leaver}");
        assert_eq!(w.run.member(member_id(1)).unwrap().link_id(), Some(link));
        assert!(w.run.agree(OWNER, member_id(1)));
    }
}

#[test]
fn a_link_that_is_left_while_the_next_is_joined_leaves_no_context_behind() {
    let mut w = World::new(2, DELAY);
    assert!(w.join_all());
    // RELEASE comes between messages 4 and 5.
    let path = |flight: Flight, to: Side| {
        let later = match flight.frame.sdu[0] {
            6 => millis(20),
            0x85 => millis(40),
            _ => Duration::ZERO,
        };
        vec![Forwarded { flight, to, later }]
    };
    w.run.set_path(Some((member_id(1), Box::new(path))));
    w.order(member_id(1), Order::Leave);
    w.order(member_id(1), Order::Join);
    w.run_for(millis(100));
    assert_eq!(w.run.contexts(OWNER, member_id(1)).len(), 1);
    w.order(member_id(1), Order::Leave);
    w.run_for(secs(5));
    assert_eq!(w.run.contexts(OWNER, member_id(1)), []);
    assert_eq!(w.run.contexts(member_id(1), OWNER), []);
}

#[test]
fn a_join_under_way_is_one_of_the_four_contexts_of_a_link() {
    let mut w = World::new(1, DELAY);
    assert!(w.join_all());
    // Message 6 is lost on its way: both sides have a context that waits for it.
    lose(&mut w, 0x86);
    w.order(member_id(1), Order::Join);
    w.run_for(millis(20));
    let member = member_id(1);
    for _ in 0..4 {
        w.order(member, Order::RekeyLink { peer: OWNER, refresh: false });
        w.run_for(millis(50));
        assert!(w.run.contexts(OWNER, member).len() <= 4 && w.run.contexts(member, OWNER).len() <= 4);
    }
    w.run.set_attacker(None);
    w.run_for(secs(5));
    w.assert_consistent();
}

#[test]
fn future_epochs_that_were_passed_over_make_room() {
    let mut w = World::with(3, DELAY, |p| p.future_epochs = 3, |_| {});
    assert!(w.join_all());
    // A change before its time waits for an acknowledgement, and then somebody has to go at once.
    lose(&mut w, 0x8D);
    w.order(OWNER, Order::RekeyGroup(GROUP));
    w.run_for(millis(300));
    let identity = w.lab.identity("ue-3");
    w.order(OWNER, Order::Evict { group: GROUP, identity });
    let (_, pgk_id) = w.owner().group_key(GROUP).unwrap();
    assert_eq!(w.sendable(), [pgk_id], "the owner can send");
    w.run.set_attacker(None);
    assert!(w.settle());
    w.assert_consistent();
}

#[test]
fn a_grant_that_was_overtaken_by_the_next_is_passed_over() {
    let mut w = World::with(1, DELAY, |p| p.direct = true, |_| {});
    assert!(w.join_all());
    hold(&mut w, 0x8C, 1, millis(150));
    let half_used = |w: &mut World| {
        let (_, pgk_id) = w.owner().group_key(GROUP).unwrap();
        let (local, group) = (member_id(1), GROUP);
        w.input(local, Input::Engine(Event::GrantHalfUsed { local, group, pgk_id }));
    };
    half_used(&mut w);
    w.run_for(millis(400));
    half_used(&mut w);
    w.run_for(millis(400));
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert!(w.settle());
    w.assert_consistent();
}

#[test]
fn direct_members_send_under_an_epoch_as_long_as_their_owner_does() {
    let settings = |p: &mut GroupPolicy| {
        (p.direct, p.future_epochs, p.key_lifetime, p.rekey_after) = (true, 3, secs(60), Some(secs(4)));
    };
    let mut w = World::with(2, DELAY, settings, |_| {});
    assert!(w.join_all());
    for _ in 0..40 {
        w.run_for(millis(500));
        w.assert_consistent();
    }
}

#[test]
fn a_refresh_that_falls_due_while_a_command_waits_is_waited_for() {
    let mut w = World::new(1, DELAY);
    assert!(w.join_all());
    w.run_for(secs(55));
    lose(&mut w, 0x8A);
    w.order(member_id(1), Order::RekeyLink { peer: OWNER, refresh: false });
    w.run_for(millis(5));
    let mut policy = group_policy();
    policy.kd_lifetime = secs(60);
    w.order(OWNER, Order::Policy(Box::new(policy)));
    let (deadline, now) = (w.owner().deadline().unwrap(), w.run.now().monotonic);
    assert!(deadline > now, "the driver would never sleep: {deadline:?} at {now:?}");
    w.run.set_attacker(None);
    w.run_for(secs(5));
    assert!(w.notices(OWNER).any(|n| matches!(n, Notice::Rekeyed { refreshed: true, .. })));
    w.assert_consistent();
}

#[test]
fn a_stored_answer_goes_to_nobody_who_was_revoked_meanwhile() {
    let mut w = World::new(2, DELAY);
    let local = member_id(1);
    let device = w.lab.member_device(1, w.trust.clone());
    let first = w.member_with(device.clone(), 1);
    w.put_member(first);
    assert!(w.join_all());
    // GROUP_KEY_UPDATE is lost, so that its request comes again.
    lose(&mut w, 0x8C);
    w.input(local, Input::Engine(Event::UnknownIndex { group: GROUP, claimed_source: OWNER, index: 30 }));
    w.run_for(millis(50));
    w.log.sent.clear();
    // Trust is shared: another procedure of the device takes the CRL, and this owner has not heard of it yet.
    let crl = w.lab.revoke(&device, T);
    w.trust.write().judge.install_crl(&crl, Clock { now: T, floor: 0 }).unwrap();
    w.run_for(millis(500));
    let answered = |f: &&Outgoing| f.sdu[0] == 0x8C && f.to == Destination::Ue(local);
    assert_eq!(w.log.sent.iter().filter(answered).count(), 0);
    assert!(ended(&w, OWNER).iter().any(|why| matches!(why, Ended::Refused(_))));
}
