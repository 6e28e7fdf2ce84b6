//! `[port]`: how frames come and go.

use std::net::SocketAddr;

use pc5_dataplane::ids::Layer2Id;
use pc5_dataplane::io::af_packet::Receive;
use pc5_dataplane::io::probe::{Choice, Way};
use pc5_dataplane::io::steer::Steer;
use pc5_dataplane::io::udp;
use serde::Deserialize;

use super::check::Checker;

/// How frames come and go.
#[derive(Clone, PartialEq)]
pub(crate) enum Port {
    Raw { choice: Choice, interface: String, vlan: Option<u16>, receive: Receive, steer: Steer },
    Udp { bind: SocketAddr, peers: Vec<(Layer2Id, SocketAddr)> },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortFile {
    kind: String,
    interface: Option<String>,
    vlan: Option<u16>,
    receive: Option<String>,
    steer: Option<String>,
    bind: Option<String>,
    #[serde(default)]
    peer: Vec<PeerFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PeerFile {
    layer2: String,
    address: String,
}

impl Checker<'_> {
    pub(super) fn port(&mut self, port: PortFile) -> Option<Port> {
        let kinds = "auto, af_xdp, af_packet or pnet (an interface), or udp (peers)";
        match self.value::<Choice>("port.kind", &port.kind, kinds)? {
            choice if choice != Choice::Only(Way::Udp) => {
                if port.bind.is_some() || !port.peer.is_empty() {
                    self.out_of_place("port.bind, port.peer", "they belong to port.kind \"udp\"");
                }
                if let Some(vlan) = port.vlan
                    && !(1..=4094).contains(&vlan)
                {
                    self.wrong("port.vlan", vlan, "write 1 to 4094, or leave it out for untagged frames");
                }
                let receive = match port.receive.as_deref() {
                    None | Some("adaptive") => Receive::Adaptive,
                    Some("frames") => Receive::FRAMES,
                    Some("blocks") => Receive::BLOCKS,
                    Some(other) => {
                        self.wrong(
                            "port.receive",
                            other,
                            "write \"frames\" (each at once), \"blocks\" (cheapest under load) or \"adaptive\" (both, by load)",
                        );
                        Receive::Adaptive
                    }
                };
                let steer = port.steer.as_deref().map_or(Some(Steer::Auto), |steer| {
                    self.value("port.steer", steer, "auto, off, all, or processors as \"2-3,6\"")
                });
                let Some(interface) = port.interface else {
                    self.missing("port.interface", "write the name of an interface, as `ip link` shows it");
                    return None;
                };
                Some(Port::Raw {
                    choice,
                    interface,
                    vlan: port.vlan,
                    receive,
                    steer: steer.unwrap_or_default(),
                })
            }
            _ => {
                let of_interfaces = [&port.interface, &port.receive, &port.steer];
                if of_interfaces.into_iter().any(Option::is_some) || port.vlan.is_some() {
                    self.out_of_place(
                        "port.interface, port.vlan, port.receive, port.steer",
                        "they belong to the other values of port.kind",
                    );
                }
                let usual = SocketAddr::new(std::net::Ipv6Addr::UNSPECIFIED.into(), udp::PORT);
                let bind = match &port.bind {
                    Some(text) => self.value("port.bind", text, "ADDRESS:PORT, as \"0.0.0.0:34997\"")?,
                    None => usual,
                };
                let mut peers = Vec::new();
                for (i, peer) in port.peer.iter().enumerate() {
                    let id = self.layer2(&format!("port.peer[{i}].layer2"), &peer.layer2);
                    let address = self.value(
                        &format!("port.peer[{i}].address"),
                        &peer.address,
                        "ADDRESS:PORT, as \"192.0.2.1:34997\"",
                    );
                    if let Some(address) = address
                        && !reaches(bind, address)
                    {
                        self.wrong(
                            &format!("port.peer[{i}].address"),
                            address,
                            format_args!(
                                "port.bind = \"{bind}\" does not reach it; \"[::]:{}\" reaches both kinds",
                                bind.port()
                            ),
                        );
                    }
                    peers.extend(id.zip(address));
                }
                if port.peer.is_empty() {
                    self.missing(
                        "[[port.peer]]",
                        "a UDP port needs the address of each peer that it may be the first to send to",
                    );
                }
                Some(Port::Udp { bind, peers })
            }
        }
    }
}

/// Whether a socket bound there sends to such addresses: one for all of IPv6 has IPv4, too.
fn reaches(bind: SocketAddr, peer: SocketAddr) -> bool {
    bind.is_ipv4() == peer.is_ipv4() || (bind.is_ipv6() && bind.ip().is_unspecified())
}
