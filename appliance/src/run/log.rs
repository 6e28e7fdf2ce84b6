//! The log on standard error, and what is let into it.

use std::io::IsTerminal;
use std::sync::OnceLock;

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
