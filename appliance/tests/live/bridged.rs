//! UEs as bridges: a host behind each talks Ethernet through its TAP device, super-frames and checksums left to others.

use pc5_dataplane::io::netns::Namespace;

use crate::lab::{GROUP, Lab, Node, Text, octets};
use crate::traffic::there_and_back;

/// A UE whose TAP device and a host's wire are ports of one bridge.
struct Bridged {
    ue: Node,
    host: Namespace,
}

impl Bridged {
    fn new(lab: &Lab, n: u8) -> Self {
        let tables = format!(
            "[ue]\ngroup = \"{GROUP}\"\nlayer2 = \"{n:06x}\"\n\
             [tun]\nkind = \"ethernet\"\nname = \"pc5\"\naddresses = []\n"
        );
        let ue = lab.node(&format!("ue-{n}"), "ue", &Text { tables, ..Text::default() });
        let host = Namespace::new().unwrap();
        ue.space.wire("host0", &host, "eth0").unwrap();
        Self { ue, host }
    }

    /// The device has its name once the daemon runs.
    fn plug(&self, n: u8) -> u64 {
        let runtime = self.ue.await_show("runtime", |s| s["runtime"]["data"]["tun"][0] == "pc5");
        let mtu = runtime["runtime"]["data"]["tun"][1].as_u64().unwrap();
        for command in [
            "link add inner type bridge".to_owned(),
            "link set host0 master inner".into(),
            "link set pc5 master inner".into(),
            format!("link set dev inner mtu {mtu} up"),
        ] {
            self.ue.space.ip(&command).unwrap();
        }
        // The host's wire carries what the device can; its offloads stay on, as they are on veth and on cards.
        self.host.ip(&format!("link set dev eth0 mtu {mtu}")).unwrap();
        self.host.ip(&format!("addr add 10.88.0.{n}/24 dev eth0")).unwrap();
        mtu
    }
}

#[test]
fn hosts_behind_two_ues_talk_ethernet_with_offloads_on() {
    let Some(lab) = Lab::new("bridged") else { return };
    let mut go = lab.owner("", "");
    let mut nodes = [Bridged::new(&lab, 1), Bridged::new(&lab, 2)];
    go.start();
    nodes.iter_mut().for_each(|b| b.ue.start());
    go.await_members(2);
    nodes.iter().for_each(|b| b.ue.await_joined());
    let mtus = [nodes[0].plug(1), nodes[1].plug(2)];
    assert_eq!(
        mtus,
        [1_463, 1_463],
        "an Ethernet MTU of 1,500 minus headers, MAC field and the inner header"
    );

    // Much more than a segment at a time, so that the sender's kernel makes super-frames of it, and back.
    let payload = octets(2 << 20);
    there_and_back(&nodes[0].host, &nodes[1].host, "10.88.0.2:7001", &payload);

    for node in &nodes {
        let runtime = node.ue.assert_adds_up();
        let too_long = runtime["data"]["taken"]["too_long"].as_u64().unwrap_or(0);
        assert_eq!(too_long, 0, "super-frames were cut before they came: {runtime:#}");
    }
    // The host's checksums were completed: its own counters know of none that was wrong.
    for node in &nodes {
        let errors = node
            .host
            .inside(|| std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap())
            .unwrap()
            .lines()
            .filter(|l| l.starts_with("Tcp:"))
            .map(|l| l.split(' ').map(str::to_owned).collect::<Vec<_>>())
            .collect::<Vec<_>>();
        let at = errors[0].iter().position(|name| name == "InCsumErrors").unwrap();
        assert_eq!(errors[1][at], "0");
    }
    for node in nodes.iter_mut().map(|b| &mut b.ue).chain([&mut go]) {
        assert!(node.stop(), "{}", node.story());
    }
}
