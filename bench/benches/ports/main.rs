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
        for _ in 0..self.rounds {
            for pair in pairs.iter_mut() {
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

/// `rate` is by the clock on the wall; `a core` is what the busier thread would do with a core to itself, in the median
/// round and in the best one: on a machine that has other work only these mean something.
fn print(pairs: &[Pair<'_>]) {
    let Some(first) = pairs.first() else { return };
    let base = pairs.iter().find(|p| p.name == pairs::BASELINE);
    let (base_median, base_best) = base.map_or((f64::NAN, f64::NAN), |p| (median(p, Round::a_core), best(p)));
    println!(
        "\n{}: Mframes/s, ns/frame{:20}rate  a core   ratio    best   ratio  sender  receiver    lost",
        first.lengths.0, ""
    );
    for pair in pairs {
        println!(
            "{:<33} {:8.3} {:7.3} {:7.2} {:7.3} {:7.2} {:7.0} {:9.0} {:6.1} %",
            pair.name,
            median(pair, |r| r.mframes),
            median(pair, Round::a_core),
            median(pair, Round::a_core) / base_median,
            best(pair),
            best(pair) / base_best,
            median(pair, |r| r.sender_ns),
            median(pair, |r| r.receiver_ns),
            median(pair, |r| r.lost),
        );
    }
}

/// What the project asks for, by the medians of what a core does.
fn print_bars(pairs: &[Pair<'_>]) {
    let a_core = |name: &str| pairs.iter().find(|p| p.name == name).map(|p| median(p, Round::a_core));
    let ratio = |what: &str, of: &str, to: &str, bar: f64| {
        if let (Some(of), Some(to)) = (a_core(of), a_core(to)) {
            println!("{what:<44} {:6.2}   bar {bar:.2}", of / to);
        }
    };
    println!();
    ratio("auto / sendmmsg -> recvmmsg", pairs::AUTO, pairs::BASELINE, 1.4);
    ratio("auto / pnet", pairs::AUTO, pairs::PNET, 2.0);
    ratio("protect and verify / bare, auto", pairs::AUTO_WORKS, pairs::AUTO, 0.9);
    // What the kernel does on the receiver's core while that idles is in nobody's processor time.
    let by_the_clock = |what: &str, of: &str, to: &str, bar: f64| {
        let rate = |name: &str| pairs.iter().find(|p| p.name == name).map(|p| median(p, |r| r.mframes));
        if let (Some(of), Some(to)) = (rate(of), rate(to)) {
            println!("{:<44} {:6.2}   bar {bar:.2}", format!("{what}, by the clock"), of / to);
        }
    };
    by_the_clock("auto, steered / sendmmsg", pairs::STEERED, pairs::BASELINE, 1.4);
    by_the_clock("auto, steered / pnet", pairs::STEERED, pairs::PNET, 2.0);
    by_the_clock("steered, works / bare", pairs::STEERED_WORKS, pairs::STEERED, 0.9);
    if let Some(rate) =
        a_core(pairs::UDP_WORKS).filter(|_| pairs.iter().all(|p| p.lengths == Lengths::equal(64)))
    {
        println!("{:<44} {rate:6.2}   bar 10", "protect and verify over UDP, Mframes/s a core");
    }
    ratio("protect and verify / bare, UDP", pairs::UDP_WORKS, pairs::UDP, 0.0);
}

fn median(pair: &Pair<'_>, of: impl Fn(&Round) -> f64) -> f64 {
    let mut all: Vec<_> = pair.rounds.iter().map(of).collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn best(pair: &Pair<'_>) -> f64 {
    pair.rounds.iter().map(Round::a_core).fold(0.0, f64::max)
}
