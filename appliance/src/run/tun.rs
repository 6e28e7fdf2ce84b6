//! The device of a UE, with its addresses: ordinary programs talk through it.

use std::io;

use anyhow::Context;
use ipnet::IpNet;
use netconfig_rs::Interface;
use pc5_dataplane::io::tun::{Kind, Tun, fitting_mtu};
use pc5_dataplane::suite::Suite;

use super::config::TunConfig;

/// Octets of a frame of the port that are not SDU: headers and the longest MAC field.
pub(crate) const OVERHEAD: usize = pc5_dataplane::pdu::spec::HEADER_LEN + LONGEST_MAC.mac_len();
const LONGEST_MAC: Suite = Suite::Aes256Gcm;

/// Makes the device, up, with its addresses. Its MTU fits frames of `usual_frame` octets unless it is configured, and those of
/// `max_frame` then.
///
/// # Errors
/// The system says no, most often for want of CAP_NET_ADMIN; or an MTU that the port cannot carry.
pub(crate) fn open(config: &TunConfig, max_frame: usize, usual_frame: usize) -> anyhow::Result<Tun> {
    let fits = fitting_mtu(max_frame, LONGEST_MAC, config.kind);
    let mtu = match config.mtu.map(usize::from) {
        Some(mtu) if mtu > fits => {
            anyhow::bail!("tun.mtu = {mtu}: the port carries at most {fits}; write {fits} or less")
        }
        Some(mtu) => mtu,
        None => fits.min(fitting_mtu(usual_frame, LONGEST_MAC, config.kind)),
    };
    let tun = Tun::open(&config.name, config.kind, mtu)?;
    let interface =
        Interface::try_from_name(tun.name()).map_err(io::Error::from).context("the new device")?;
    for address in &config.addresses {
        let added = interface.add_address(*address).map_err(io::Error::from);
        added.with_context(|| format!("address {address} of {}", tun.name()))?;
    }
    Ok(tun)
}

/// Name of a kind in configuration.
pub(crate) fn kind(name: &str) -> Option<Kind> {
    match name {
        "ip" => Some(Kind::Ip),
        "ethernet" => Some(Kind::Ethernet),
        _ => None,
    }
}

/// The directed broadcast of an IPv4 network that has one.
pub(crate) fn broadcast(network: &IpNet) -> Option<std::net::Ipv4Addr> {
    match network {
        IpNet::V4(v4) if v4.prefix_len() < 31 => Some(v4.broadcast()),
        _ => None,
    }
}
