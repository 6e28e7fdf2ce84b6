//! The log on standard error, and what is let into it.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::sync::OnceLock;
use std::time::Duration;

use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

static FILTER: OnceLock<reload::Handle<EnvFilter, Registry>> = OnceLock::new();

/// `PC5_LOG`, else what is configured, else `info`.
fn filter(configured: Option<&str>) -> EnvFilter {
    let environment = std::env::var("PC5_LOG").ok().and_then(|text| EnvFilter::try_new(text).ok());
    let configured = || configured.and_then(|text| EnvFilter::try_new(text).ok());
    environment.or_else(configured).unwrap_or_else(|| EnvFilter::new("info"))
}

/// Begins to log.
pub(crate) fn begin(configured: Option<&str>) {
    let (layer, handle) = reload::Layer::new(filter(configured));
    let log = tracing_subscriber::registry()
        .with(layer)
        .with(fmt::layer().with_ansi(std::io::stderr().is_terminal()).with_writer(std::io::stderr));
    // Another subscriber can only be a test's.
    if log.try_init().is_ok() {
        let _ = FILTER.set(handle);
    }
}

/// Changes what is let in; the environment goes before it still.
///
/// # Errors
/// The log has ended.
pub(crate) fn set(configured: Option<&str>) -> anyhow::Result<()> {
    match FILTER.get() {
        Some(handle) => handle.reload(filter(configured))?,
        None => return Ok(()),
    }
    tracing::debug!(configured, "log filter set");
    Ok(())
}

/// Lines that others can cause at will: of each kind one a second, which tells how many were held back before it.
#[derive(Default)]
pub(crate) struct Paced(BTreeMap<Kind, (Duration, u64)>);

/// What a line is about, and the cause that it names, if any: what strangers can cause hides nothing else.
pub(crate) type Kind = (&'static str, u8);

impl Paced {
    /// Whether a line of this kind is due, at this point of monotonic time: how many were held back since the last one.
    pub(crate) fn due(&mut self, kind: Kind, now: Duration) -> Option<u64> {
        let Some((last, held_back)) = self.0.get_mut(&kind) else {
            self.0.insert(kind, (now, 0));
            return Some(0);
        };
        if now.saturating_sub(*last) < PACE {
            *held_back = held_back.saturating_add(1);
            return None;
        }
        *last = now;
        Some(std::mem::take(held_back))
    }
}

const PACE: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_of_each_kind_and_none_is_forgotten() {
        let mut paced = Paced::default();
        let ms = Duration::from_millis;
        assert_eq!(paced.due(("refused", 0x82), ms(5_000)), Some(0));
        assert_eq!(paced.due(("refused", 0x87), ms(5_001)), Some(0));
        for n in 0..900 {
            assert_eq!(paced.due(("refused", 0x82), ms(5_001 + n)), None);
        }
        assert_eq!(paced.due(("refused", 0x82), ms(6_000)), Some(900));
        assert_eq!(paced.due(("refused", 0x82), ms(6_999)), None);
        assert_eq!(paced.due(("refused", 0x82), ms(60_000)), Some(1));
        assert_eq!(paced.due(("refused", 0x87), ms(60_000)), Some(0));
    }
}
