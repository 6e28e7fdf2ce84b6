//! The hot path allocates nothing once it is warm.
#![allow(clippy::unwrap_used)] // A test that cannot go on may stop.

mod counting;

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::cipher::Kernel;
use pc5_dataplane::crypto;
use pc5_dataplane::engine::{Engine, EngineConfig, Now};
use pc5_dataplane::ids::{KdSessId, Lcid, LinkRole, PgkId, PtkId, SduType};
use pc5_dataplane::kdf::{KdSess, Pgk};
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::keys::{Command, GroupKey, LinkKey, LinkPhase, PermittedSender};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::suite::Suite;
use pc5_dataplane::testkit::{group, ue};
use pc5_dataplane::verdict::Verdict;

fn table(local: u32, peer: u32, role: LinkRole, suite: Suite) -> KeyTable {
    let mut table = KeyTable::new();
    table.apply(Command::AddLocal(ue(local))).unwrap();
    if suite.has_integrity() {
        let id = KdSessId::new(0x0101).unwrap();
        let key =
            LinkKey { local: ue(local), peer: ue(peer), id, kd_sess: KdSess::new([3; 32]), suite, role };
        table.apply(Command::InstallLink(key, LinkPhase::Active)).unwrap();
    }
    let key = GroupKey {
        local: ue(local),
        group: group(9),
        pgk_id: PgkId(1),
        pgk: Pgk::new([7; 32]),
        suite,
        senders: PermittedSender::Any,
        not_before: 0,
        not_after: 100,
        grant: Some(PtkId::new(1).unwrap()..=PtkId::new(9).unwrap()),
        floors: vec![],
    };
    table.apply(Command::InstallGroup(key)).unwrap();
    table.publish();
    table
}

#[test]
fn protecting_and_verifying_allocate_nothing() {
    for suite in Suite::ALL {
        for kernel in crypto::kernels(suite) {
            assert_eq!(allocations_of(suite, kernel), 0, "{suite} on {}", kernel.name());
        }
    }
}

fn allocations_of(suite: Suite, kernel: Kernel) -> u64 {
    let now = Now { unix_seconds: 5, monotonic_ns: 0 };
    let config = EngineConfig { kernel: Some(kernel), ..Default::default() };
    let sending = table(1, 2, LinkRole::Ue1, suite);
    let receiving = table(2, 1, LinkRole::Ue2, suite);
    let mut sender = Engine::new(sending.shared(), config);
    let mut receiver = Engine::new(receiving.shared(), config);
    let mut batch = Batch::new(64);
    let sdu = [0x5a; 300];
    let mut round = || {
        batch.clear();
        for i in 0..64 {
            let one_to_many = i % 3 == 0 || !suite.has_integrity();
            let address =
                if one_to_many { Address::group(group(9), ue(1)) } else { Address::link(ue(2), ue(1)) };
            batch.push_sdu(address, Lcid::USER, SduType::Ip, &sdu[..(i * 4) % 300], Meta::default()).unwrap();
        }
        sender.protect(&mut batch, now).unwrap();
        batch.loop_back();
        receiver.open(&mut batch, now).unwrap();
        assert!(batch.slots().iter().all(|s| s.verdict == Verdict::Accepted));
    };
    for _ in 0..4 {
        round();
    }
    let before = counting::allocations();
    for _ in 0..50 {
        round();
    }
    counting::allocations() - before
}
