//! Which way a port is made: as configured, or the first that can be had, with the reason why the others cannot.
//!
//! ```text
//! auto, with an interface      af_xdp -> af_packet -> pnet
//! auto, without one            udp
//! ```

use std::fmt;
use std::str::FromStr;

use super::af_packet::{AfPacket, Receive, Settings};
use super::pnet::Pnet;
use super::steer::{Standing, Steer, Steering};
use super::udp::{self, Udp};
use super::{Interface, IoError, PacketIo, Share, Traffic};

/// A way to move frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Way {
    /// Ring in, AF_XDP out.
    AfXdp,
    /// Ring in, `sendmmsg` out.
    AfPacket,
    /// Plain sockets.
    Pnet,
    /// Datagrams.
    Udp,
}

impl Way {
    /// Name in configuration and reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AfXdp => "af_xdp",
            Self::AfPacket => "af_packet",
            Self::Pnet => "pnet",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// As configured: one way, or `auto`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Choice {
    /// The first that can be had.
    #[default]
    Auto,
    /// This one or none.
    Only(Way),
}

/// A way that there is not.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("found port '{0}' where auto, af_xdp, af_packet, pnet or udp were wanted")]
pub struct UnknownWay(String);

impl FromStr for Choice {
    type Err = UnknownWay;

    fn from_str(s: &str) -> Result<Self, UnknownWay> {
        let ways = [Way::AfXdp, Way::AfPacket, Way::Pnet, Way::Udp];
        match s {
            "auto" => Ok(Self::Auto),
            _ => ways
                .into_iter()
                .find(|way| way.name() == s)
                .map(Self::Only)
                .ok_or_else(|| UnknownWay(s.to_owned())),
        }
    }
}

/// What ports are to be made.
#[derive(Clone)]
pub struct Request {
    /// Which way.
    pub choice: Choice,
    /// For the ways over an interface. `traffic` and `xdp` are set here.
    pub raw: Option<Settings>,
    /// For the way over UDP.
    pub udp: Option<udp::Settings>,
    /// Data workers, at least 1.
    pub workers: usize,
    /// Which processors do the kernel's work of receiving, for the ways over an interface.
    pub steer: Steer,
}

/// Ports that were made.
pub struct Ports {
    /// Which way.
    pub way: Way,
    /// One for each worker; [`Share::owner`] says who gets what.
    pub data: Vec<Box<dyn PacketIo>>,
    /// PC5 signalling.
    pub signalling: Box<dyn PacketIo>,
    /// Ways that were tried before, and what the way taken could not do for every worker.
    pub refused: Vec<Refusal>,
    /// Which processors do the kernel's work of receiving. It is put back when this is dropped.
    pub steering: Steering,
}

/// Why something could not be had.
#[derive(Debug)]
pub struct Refusal {
    /// The way.
    pub way: Way,
    /// The reason.
    pub why: IoError,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.way, self.why)
    }
}

/// No way could be had.
#[derive(Debug, thiserror::Error)]
#[error("no port: {}", list(.0))]
pub struct NoPort(pub Vec<Refusal>);

fn list(refused: &[Refusal]) -> String {
    if refused.is_empty() {
        return "neither an interface nor a UDP address is configured for it".to_owned();
    }
    refused.iter().map(Refusal::to_string).collect::<Vec<_>>().join("; ")
}

/// Makes ports, trying the ways in order.
///
/// # Errors
/// Every way that was tried, with the reason against it.
pub fn open(request: &Request) -> Result<Ports, NoPort> {
    let mut refused = Vec::new();
    for way in ways(request) {
        match open_way(request, way, &mut refused) {
            Ok((data, signalling)) => {
                let steering = steer(request, way);
                return Ok(Ports { way, data, signalling, refused, steering });
            }
            Err(why) => refused.push(Refusal { way, why }),
        }
    }
    Err(NoPort(refused))
}

fn steer(request: &Request, way: Way) -> Steering {
    let interface =
        request.raw.as_ref().filter(|_| way != Way::Udp).map(|raw| Interface::find(&raw.interface));
    match interface {
        Some(Ok(interface)) => Steering::set(&interface, &request.steer, request.workers),
        Some(Err(e)) => Steering::none(Standing::Left(e.to_string())),
        None => Steering::none(Standing::Left("datagrams come to all interfaces".to_owned())),
    }
}

fn ways(request: &Request) -> Vec<Way> {
    match request.choice {
        Choice::Only(way) => vec![way],
        Choice::Auto if request.raw.is_some() => vec![Way::AfXdp, Way::AfPacket, Way::Pnet],
        Choice::Auto if request.udp.is_some() => vec![Way::Udp],
        Choice::Auto => Vec::new(),
    }
}

type Made = (Vec<Box<dyn PacketIo>>, Box<dyn PacketIo>);

fn open_way(request: &Request, way: Way, refused: &mut Vec<Refusal>) -> Result<Made, IoError> {
    let missing = |what: &str| IoError::Setting {
        name: way.name().to_owned(),
        reason: format!("{what} is not configured, and this way wants one"),
    };
    if way == Way::Udp {
        let settings = request.udp.as_ref().ok_or_else(|| missing("a UDP address"))?;
        let (signalling, data) = Udp::open_shared(settings, request.workers)?;
        return Ok((data.into_iter().map(boxed).collect(), boxed(signalling)));
    }
    let settings = request.raw.as_ref().ok_or_else(|| missing("an interface"))?;
    let data = Settings { traffic: Traffic::Data, xdp: None, ..settings.clone() };
    let calls =
        Settings { traffic: Traffic::Signalling, receive: Receive::Socket, xdp: None, ..settings.clone() };
    let workers = request.workers.max(1);
    if way == Way::Pnet {
        let data = (0..workers)
            .map(|worker| Pnet::open(&data, Share { worker, workers }).map(boxed))
            .collect::<Result<_, _>>()?;
        return Ok((data, boxed(Pnet::open(&calls, Share::WHOLE)?)));
    }
    let signalling = boxed(AfPacket::open(&calls)?);
    let data = if way == Way::AfXdp {
        let (data, why) = AfPacket::open_shared_xdp(&data, workers)?;
        refused.extend(why.map(|why| Refusal { way, why }));
        data
    } else {
        AfPacket::open_shared(&data, workers)?
    };
    Ok((data.into_iter().map(boxed).collect(), signalling))
}

fn boxed(port: impl PacketIo + 'static) -> Box<dyn PacketIo> {
    Box::new(port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_as_they_are_written() {
        assert_eq!("auto".parse(), Ok(Choice::Auto));
        for way in [Way::AfXdp, Way::AfPacket, Way::Pnet, Way::Udp] {
            assert_eq!(way.name().parse(), Ok(Choice::Only(way)));
        }
        let e = "dpdk".parse::<Choice>().unwrap_err().to_string();
        assert!(e.contains("'dpdk'") && e.contains("af_xdp"), "{e}");
    }

    #[test]
    fn every_refusal_is_told() {
        let request = Request {
            choice: Choice::Auto,
            raw: Some(Settings::new("no-such-0")),
            udp: None,
            workers: 1,
            steer: Steer::Auto,
        };
        let e = open(&request).err().unwrap();
        assert_eq!(e.0.iter().map(|r| r.way).collect::<Vec<_>>(), [Way::AfXdp, Way::AfPacket, Way::Pnet]);
        assert!(e.to_string().contains("af_xdp: no interface \"no-such-0\""), "{e}");
        let nothing = Request { raw: None, ..request.clone() };
        assert!(open(&nothing).err().unwrap().to_string().contains("neither"));
        let udp = Request { choice: Choice::Only(Way::Udp), ..nothing };
        assert!(open(&udp).err().unwrap().to_string().contains("UDP address"));
    }
}
