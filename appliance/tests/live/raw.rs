//! Frames of anybody's making, put on a wire and taken from it.

use std::time::Duration;

use pc5_dataplane::ids::{GroupId, Layer2Id};
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::pdu::{Address, Destination, short_length};
use pnet::datalink::{self, Channel, Config, DataLinkReceiver, DataLinkSender};

/// One interface, both ways, everything that passes.
pub(crate) struct Wire {
    pub(crate) tx: Box<dyn DataLinkSender>,
    pub(crate) rx: Box<dyn DataLinkReceiver>,
}

impl Wire {
    pub(crate) fn new(space: &Namespace, interface: &str) -> Self {
        space
            .inside(|| {
                let found = datalink::interfaces().into_iter().find(|i| i.name == interface).unwrap();
                let config = Config {
                    read_timeout: Some(Duration::from_millis(5)),
                    read_buffer_size: 65_536,
                    write_buffer_size: 65_536,
                    promiscuous: true,
                    ..Config::default()
                };
                match datalink::channel(&found, config).unwrap() {
                    Channel::Ethernet(tx, rx) => Self { tx, rx },
                    _ => unreachable!("an Ethernet channel was asked for"),
                }
            })
            .unwrap()
    }

    /// Sends one frame; a full queue loses it, as a wire would.
    pub(crate) fn send(&mut self, frame: &[u8]) {
        let _ = self.tx.send_to(frame, None);
    }
}

pub(crate) fn id(n: u32) -> Layer2Id {
    Layer2Id::new(n).unwrap()
}

pub(crate) const OWNER: u32 = 0xff_fffe;
pub(crate) const GROUP_ID: GroupId = GroupId::from_octets([0xf0, 0, 1]);

/// A PC5-S frame in clear, LCID 28.
pub(crate) fn clear_frame(to: Destination, from: u32, sdu: &[u8]) -> Vec<u8> {
    let mut frame = Address::to(to, id(from)).ethernet_header().to_vec();
    frame.extend([28, short_length(sdu.len()), 0x40, 0, 0, 0, 0]);
    frame.extend(sdu);
    frame.resize(frame.len().max(60), 0);
    frame
}
