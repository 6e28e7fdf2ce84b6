//! Where members send one-to-many themselves, a frame of the owner shows them that it changed to another group key: the
//! first verified frame of a newer epoch is what makes them follow. Source: `go-mode.md` section 5.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use pc5_dataplane::batch::Meta;
use pc5_dataplane::ids::{GroupId, Lcid, SduType};
use pc5_dataplane::keys::PermittedSender;
use pc5_dataplane::pdu::Address;

use super::{DataPlane, Which};
use crate::run::inner;

/// Times from the change at which it is shown: one-to-many frames are not repeated when they are lost.
const TIMES: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_secs(1)];

impl DataPlane {
    /// The owner sends a group under another key from now on.
    pub(super) fn begin_marks(&mut self, group: GroupId) {
        let now = Instant::now();
        self.marks.retain(|(g, _)| *g != group);
        self.marks.extend(TIMES.map(|after| (group, now + after)));
    }

    /// Shows the groups whose members send themselves that the key changed. An ARP SDU about no address: nobody's
    /// business but the engine's.
    pub(super) fn mark(&mut self) -> anyhow::Result<()> {
        let now = Instant::now();
        if self.marks.iter().all(|(_, at)| *at > now) {
            return Ok(());
        }
        let snapshot = self.keys.load();
        self.batch.clear();
        for (group, _) in self.marks.extract_if(.., |(_, at)| *at <= now) {
            let direct = snapshot.groups().find(|g| g.group == group && g.senders == PermittedSender::Any);
            let Some(root) = direct else { continue };
            let address = Address::group(group, root.local);
            if !self.share.owns(address) {
                continue;
            }
            let [_, _, _, _, _, _, mac @ .., _, _] = address.ethernet_header();
            let sdu = inner::announcement(Ipv4Addr::UNSPECIFIED, mac);
            // A batch takes more than there are marks.
            let _ = self.batch.push_sdu(address, Lcid::USER, SduType::Arp, &sdu, Meta::default());
        }
        self.send(Which::Data)
    }
}
