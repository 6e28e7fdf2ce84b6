//! Ports side by side over a veth pair in two namespaces: bare, and with the engine protecting before one and verifying
//! behind the other.
//!
//! Rounds are interleaved, so that whatever else the machine does meets all pairs alike; figures are medians, and the
//! ratios are what counts. One thread a side, each on a core of its own where there are two.
//!
//! ```text
//! cargo bench -p pc5-bench --bench ports -- [--rounds N] [--round-ms N] [--len N] [--only NAME] [--all]
//! ```
#![forbid(unsafe_code)]

mod pairs;
mod work;

use std::time::Duration;

use pc5_dataplane::io::netns::Namespace;

use crate::pairs::{Pair, Round};
use crate::work::Lengths;

type Fallible<T> = Result<T, String>;

struct Plan {
    rounds: usize,
    round: Duration,
    lengths: Vec<usize>,
    only: Option<String>,
    all: bool,
}

fn main() -> Fallible<()> {
    let plan = Plan::from_arguments(std::env::args().skip(1))?;
    let Some(left) = Namespace::or_skip("ports") else { return Ok(()) };
    let right = Namespace::new()?;
    left.wire("air0", &right, "air1")?;
    left.ip("addr add 10.9.0.1/24 dev air0")?;
    for peer in 0..pairs::PEERS {
        right.ip(&format!("addr add 10.9.0.{}/24 dev air1", 100 + peer))?;
    }
    for &len in &plan.lengths {
        let lengths = Lengths::equal(len);
        let mut table = pairs::raw(&left, &right, &lengths, plan.all);
        table.extend(pairs::udp(&left, &right, 1, &lengths));
        plan.run(&mut table)?;
        print(&table);
        print_bars(&table);
    }
    let imix = Lengths::imix();
    let mut table = pairs::raw(&left, &right, &imix, false);
    table.extend(pairs::udp(&left, &right, pairs::PEERS, &imix));
    plan.run(&mut table)?;
    print(&table);
    println!("\nidle link, there and back            median      p99   us");
    let one = Lengths::equal(100);
    let mut idle = pairs::raw(&left, &right, &one, plan.all);
    idle.extend(pairs::udp(&left, &right, 1, &one));
    for pair in idle.iter().filter(|p| p.is_bare() && plan.wants(p)) {
        let (median, p99) = pair.ping(300)?;
        println!("{:<33} {median:8.0} {p99:8.0}", pair.name);
    }
    Ok(())
}

impl Plan {
    fn wants(&self, pair: &Pair<'_>) -> bool {
        self.only.as_ref().is_none_or(|only| pair.name.contains(only.as_str()))
    }

    fn run(&self, pairs: &mut Vec<Pair<'_>>) -> Fallible<()> {
        pairs.retain(|p| self.wants(p));
        for round in 0..self.rounds {
            // To and fro: what wears off or heats up during a round meets all alike.
            let mut order: Vec<_> = pairs.iter_mut().collect();
            if round % 2 == 1 {
                order.reverse();
            }
            for pair in order {
                pair.run(self.round)?;
            }
        }
        Ok(())
    }

    fn from_arguments(arguments: impl Iterator<Item = String>) -> Fallible<Self> {
        let mut plan = Self {
            rounds: 7,
            round: Duration::from_millis(200),
            lengths: vec![64, 1_420],
            only: None,
            all: false,
        };
        let mut arguments = arguments.filter(|a| a != "--bench");
        while let Some(name) = arguments.next() {
            if name == "--all" {
                plan.all = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{name} wants a value"))?;
            let number = || value.parse::<usize>().map_err(|e| format!("{name} {value}: {e}"));
            match name.as_str() {
                "--rounds" => plan.rounds = number()?.clamp(1, 1_000),
                "--round-ms" => plan.round = Duration::from_millis(number()?.clamp(10, 60_000) as u64),
                "--len" => plan.lengths = vec![number()?.clamp(60, 1_500)],
                "--only" => plan.only = Some(value),
                _ => return Err(format!("{name}: not an option")),
            }
        }
        Ok(plan)
    }
}

/// `rate` is by the clock on the wall, `a core` is what the busier thread would do with a core to itself: on a machine that has
/// other work only this means something, but what the kernel does on another core is in neither thread's time. `machine` is
/// what all cores worked a frame, and is right on a machine without other work.
fn print(pairs: &[Pair<'_>]) {
    let Some(first) = pairs.first() else { return };
    let base = pairs.iter().find(|p| p.name == pairs::BASELINE);
    let base = |of: fn(&Round) -> f64| base.map_or(f64::NAN, |p| median(p, of));
    let (base_rate, base_core) = (base(|r| r.mframes), base(Round::a_core));
    println!(
        "\n{}: Mframes/s, ns/frame{:20}rate   ratio  a core   ratio  sender  receiver  machine    lost",
        first.lengths.0, ""
    );
    for pair in pairs {
        println!(
            "{:<33} {:8.3} {:7.2} {:7.3} {:7.2} {:7.0} {:9.0} {:8.0} {:6.1} %",
            pair.name,
            median(pair, |r| r.mframes),
            median(pair, |r| r.mframes) / base_rate,
            median(pair, Round::a_core),
            median(pair, Round::a_core) / base_core,
            median(pair, |r| r.sender_ns),
            median(pair, |r| r.receiver_ns),
            median(pair, |r| r.machine_ns),
            median(pair, |r| r.lost),
        );
    }
}

/// What the project asks for, by the medians of the clock and of what a core does.
fn print_bars(pairs: &[Pair<'_>]) {
    let value =
        |name: &str, of: fn(&Round) -> f64| pairs.iter().find(|p| p.name == name).map(|p| median(p, of));
    let ratio = |what: &str, of: &str, to: &str, bar: f64| {
        let by = |measure| Some(value(of, measure)? / value(to, measure)?);
        if let (Some(clock), Some(core)) = (by(|r| r.mframes), by(Round::a_core)) {
            println!("{what:<44} by the clock {clock:5.2}, a core {core:5.2}   bar {bar:.2}");
        }
    };
    println!();
    ratio("auto / sendmmsg -> recvmmsg", pairs::AUTO, pairs::BASELINE, 1.4);
    ratio("auto / pnet", pairs::AUTO, pairs::PNET, 2.0);
    ratio("protect and verify / bare", pairs::AUTO_WORKS, pairs::AUTO, 0.9);
    ratio("unsteered / sendmmsg -> recvmmsg", pairs::UNSTEERED, pairs::BASELINE, 1.4);
    ratio("unsteered / pnet", pairs::UNSTEERED, pairs::PNET, 2.0);
    ratio("unsteered, protect and verify / bare", pairs::UNSTEERED_WORKS, pairs::UNSTEERED, 0.9);
    let is_64 = pairs.iter().all(|p| p.lengths == Lengths::equal(64));
    if let Some(rate) = value(pairs::UDP_WORKS, Round::a_core).filter(|_| is_64) {
        println!("{:<44} {rate:6.2}   bar 10", "protect and verify over UDP, Mframes/s a core");
    }
    ratio("protect and verify / bare, UDP", pairs::UDP_WORKS, pairs::UDP, 0.0);
}

fn median(pair: &Pair<'_>, of: impl Fn(&Round) -> f64) -> f64 {
    let mut all: Vec<_> = pair.rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}
