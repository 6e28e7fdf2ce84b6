//! Looks at the data thread's counters once a second: ports that go down or come up, and drops in masses, are events.

use std::collections::BTreeMap;
use std::io;
use std::time::Duration;

use tracing::warn;

use super::channels::DataHandle;
use super::events::Events;
use super::status::DataStatus;

/// Own limits.
mod limits {
    use std::time::Duration;

    /// How often it looks.
    pub(super) const PERIOD: Duration = Duration::from_secs(1);
    /// Drops of one cause within a period that are told.
    pub(super) const DROPS: u64 = 1_000;
    /// A cause is told again after so many periods.
    pub(super) const QUIET: u32 = 10;
}

/// Begins to look.
///
/// # Errors
/// No thread can be made.
pub(crate) fn serve(data: DataHandle, events: Events) -> io::Result<()> {
    std::thread::Builder::new().name("pc5-watch".into()).spawn(move || {
        let mut watch = Watch::default();
        loop {
            std::thread::sleep(limits::PERIOD);
            // Busy for a second, or ended: there is more to be seen next time, or nothing ever.
            let Some(status) = data.status(Duration::from_millis(900)) else { continue };
            for (event, about) in watch.look(&status) {
                warn!(event, ?about, "data");
                events.tell(event, about);
            }
        }
    })?;
    Ok(())
}

/// State of a link that carries frames.
const UP: &str = "up";

type Told = (&'static str, Vec<(&'static str, String)>);

#[derive(Default)]
struct Watch {
    links: BTreeMap<String, String>,
    drops: BTreeMap<String, u64>,
    quiet: BTreeMap<String, u32>,
}

impl Watch {
    fn look(&mut self, status: &DataStatus) -> Vec<Told> {
        let mut told = Vec::new();
        let ports = status.ports.iter().map(|port| (&port.name, &port.link));
        let tuns = status.tun.iter().chain(&status.more_tuns).map(|(name, _, link)| (name, link));
        // Data and PC5-S have sockets of their own on one interface, which need not see it go and come at once.
        let mut links = BTreeMap::<&str, &str>::new();
        for (name, link) in ports.chain(tuns) {
            let known = links.entry(name).or_insert(link);
            if *known == UP {
                *known = link;
            }
        }
        for (name, link) in links {
            let before = self.links.insert(name.to_owned(), link.to_owned());
            if before.as_deref().unwrap_or(UP) != link {
                let event = if link == UP { "port_up" } else { "port_down" };
                told.push((event, vec![("port", name.to_owned()), ("link", link.to_owned())]));
            }
        }
        let drops = status.drops();
        self.quiet.retain(|_, periods| {
            *periods -= 1;
            *periods > 0
        });
        for (cause, n) in &drops {
            let more = n - self.drops.get(cause).copied().unwrap_or(0).min(*n);
            if more >= limits::DROPS && !self.quiet.contains_key(cause) {
                self.quiet.insert(cause.clone(), limits::QUIET);
                told.push(("drops", vec![("cause", cause.clone()), ("frames", more.to_string())]));
            }
        }
        self.drops = drops;
        told
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::status::PortStatus;

    fn status(links: &str, forged: u64) -> DataStatus {
        let port = |link: &str| PortStatus { name: "p".into(), link: link.into(), ..PortStatus::default() };
        let ports = links.split(' ').map(port).collect();
        DataStatus { ports, opened: [("forged".into(), forged)].into(), ..DataStatus::default() }
    }

    #[test]
    fn changes_of_a_link_and_drops_in_masses_are_told_once() {
        let mut watch = Watch::default();
        let mut events = |link, forged| -> Vec<&'static str> {
            watch.look(&status(link, forged)).into_iter().map(|(event, _)| event).collect()
        };
        assert_eq!(events("up", 0), [""; 0]);
        assert_eq!(events("down up", 10), ["port_down"]);
        assert_eq!(events("up down", 10), [""; 0], "one interface, down for the other socket still");
        assert_eq!(events("down", 20), [""; 0]);
        assert_eq!(events("up", 1_020), ["port_up", "drops"]);
        assert_eq!(events("up", 3_000), [""; 0], "told a moment ago");
        for _ in 0..9 {
            assert_eq!(events("up", 3_000), [""; 0]);
        }
        assert_eq!(events("up", 4_000), ["drops"]);
    }

    #[test]
    fn a_device_that_goes_down_is_told() {
        let mut watch = Watch::default();
        let tun = |link: &str| DataStatus {
            tun: Some(("pc5".into(), 1_477, link.into())),
            ..DataStatus::default()
        };
        assert!(watch.look(&tun("up")).is_empty());
        let told = watch.look(&tun("down"));
        assert_eq!(told, [("port_down", vec![("port", "pc5".to_owned()), ("link", "down".to_owned())])]);
    }
}
