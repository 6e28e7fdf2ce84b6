//! A device's certificate key in the wrong hands makes its holder that device and nobody else.

use std::sync::Arc;
use std::time::Duration;

use p256::PublicKey;
use pc5_control::credential::LongTermKey;
use pc5_control::credential::key::{KeyError, Signature};
use pc5_control::group_owner::lockstep::Conditions;
use pc5_control::group_owner::{Device, Order, Owner};
use pc5_control::policy::OwnerPolicy;
use pc5_control::reject::Reject;
use pc5_control::store::MemoryStore;
use zeroize::Zeroizing;

use super::world::*;

const DELAY: Conditions = Conditions { loss: 0, duplicate: 0, reorder: 0, delay: Duration::from_millis(1) };

/// Claims the public key of one device and works with the private key of another.
struct Claimed {
    claimed: PublicKey,
    held: Arc<dyn LongTermKey>,
}

impl LongTermKey for Claimed {
    fn public_key(&self) -> &PublicKey {
        &self.claimed
    }

    fn sign_message(&self, message: &[u8]) -> Result<Signature, KeyError> {
        self.held.sign_message(message)
    }

    fn ecdh(&self, peer: &PublicKey) -> Result<Zeroizing<[u8; 32]>, KeyError> {
        self.held.ecdh(peer)
    }
}

/// The certificate of `victim`, with the key of `thief`.
fn as_another(thief: &Device, victim: &Device) -> Device {
    let claimed = *victim.key.public_key();
    let key = Arc::new(Claimed { claimed, held: thief.key.clone() });
    Device::new(key, victim.chain.to_vec(), thief.trust.clone()).unwrap()
}

#[test]
fn a_stolen_key_joins_as_nobody_else() {
    for own in [false, true] {
        let mut w = World::new(1, DELAY);
        assert!(w.join_all());
        let link = w.owner().members(w.run.now()).next().unwrap().id;
        let victim = w.lab.member_device(7, w.trust.clone());
        let thief = if own { victim.clone() } else { w.lab.member_device(3, w.trust.clone()) };
        let member = w.member_with(as_another(&thief, &victim), 7);
        w.put_member(member);
        w.order(member_id(7), Order::Join);
        w.run_for(secs(18));
        let joined = w.run.member(member_id(7)).unwrap().owner().is_some();
        // With the victim's own key the very same device joins.
        assert_eq!(joined, own);
        assert_eq!(w.refusals(OWNER).contains(&Reject::NotAuthentic), !own);
        assert_eq!(w.held(member_id(7)).is_empty(), !own, "no group key for it");
        assert!(w.owner().members(w.run.now()).any(|m| m.id == link), "nobody's link moved");
    }
}

#[test]
fn a_stolen_key_owns_no_group() {
    for own in [false, true] {
        let mut w = World::new(1, DELAY);
        let victim = w.lab.owner_device(w.trust.clone());
        let thief = if own { victim.clone() } else { w.lab.member_device(3, w.trust.clone()) };
        let store = Box::<MemoryStore>::default();
        let policies = vec![group_policy()];
        let owner = Owner::new(as_another(&thief, &victim), OwnerPolicy::default(), policies, store).unwrap();
        w.put_owner(owner);
        w.order(member_id(1), Order::Join);
        w.run_for(secs(18));
        assert_eq!(w.run.member(member_id(1)).unwrap().owner().is_some(), own);
        assert_eq!(w.refusals(member_id(1)).contains(&Reject::NotAuthentic), !own);
        // Whoever cannot prove itself does not learn who it is that asks.
        assert_eq!(w.log.sent.iter().any(|f| f.sdu[0] == 0x83), own);
    }
}

#[test]
fn what_one_member_holds_is_the_groups_and_its_own() {
    let mut w = World::new(3, DELAY);
    assert!(w.join_all());
    w.order(OWNER, Order::RekeyGroup(GROUP));
    assert!(w.settle());
    let table = w.table.current();
    let taken = member_id(3);
    // Every link key is of one pair of ends; no two members have one in common.
    for link in table.links().filter(|l| l.local != taken && l.peer != taken) {
        assert!(table.links().filter(|l| l.local == taken).all(|own| own.kd_sess != link.kd_sess));
    }
    for group in table.groups().filter(|g| g.local == taken) {
        assert!(table.groups().any(|g| g.local == OWNER && g.pgk == group.pgk));
    }
    let held: Vec<_> =
        table.groups().filter(|g| g.local == taken).map(|g| (g.pgk_id, g.pgk.duplicate())).collect();
    let identity = w.lab.identity("ue-3");
    w.order(OWNER, Order::Evict { group: GROUP, identity });
    assert!(w.settle());
    let table = w.table.current();
    let left: Vec<_> = table.groups().filter(|g| g.local == OWNER && !g.retired).collect();
    assert!(!left.is_empty() && left.iter().all(|g| held.iter().all(|(_, pgk)| *g.pgk != *pgk)));
    assert_eq!(w.run.contexts(OWNER, taken), []);
}
