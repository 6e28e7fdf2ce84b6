//! `pc5 serve`: network functions over HTTPS.

mod est;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use pc5_control::credential::SoftwareKey;
use pc5_control::files::SECRET;
use pc5_control::pki::read_certificates;
use pc5_control::service::https;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::exit::Exit;
use crate::report::print;

/// Network functions over HTTPS.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    function: Function,
}

#[derive(clap::Subcommand)]
enum Function {
    /// Enrolment over secure transport (RFC 7030): certificates for devices, roots of other networks, the CRL.
    Est {
        /// Configuration (TOML); paths in it are relative to it.
        config: PathBuf,
    },
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Another subscriber is there only in tests that run commands in one process.
    let _ = tracing_subscriber::fmt().with_writer(std::io::stderr).with_env_filter(filter).try_init();
    match args.function {
        Function::Est { config } => est::run(&config),
    }
}

/// Where a function listens and with which certificate, as every configuration has it.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Listen {
    /// ADDRESS:PORT.
    listen: std::net::SocketAddr,
    /// Chain (PEM) of its TLS certificate.
    certificate: PathBuf,
    /// Its key (PEM).
    key: PathBuf,
}

impl Listen {
    /// The TLS of it, checked before anything is opened.
    fn tls(&self, base: &Path, client_roots: &[Vec<u8>]) -> anyhow::Result<Arc<rustls::ServerConfig>> {
        let key = base.join(&self.key);
        let pem = SECRET.read(&key).with_context(|| key.display().to_string())?;
        let der = PrivateKeyDer::from_pem_slice(&pem)
            .map_err(|e| anyhow::anyhow!("{}: no private key in PEM: {e}", key.display()))?;
        // Said here rather than at the first handshake.
        if let PrivateKeyDer::Pkcs8(der) = &der {
            SoftwareKey::from_pkcs8_der(der.secret_pkcs8_der()).with_context(|| key.display().to_string())?;
        }
        let chain = read_certificates(&base.join(&self.certificate))?;
        Ok(https::server_tls(chain, der, client_roots)?)
    }
}

/// Serves until SIGTERM or SIGINT, with `beside` running along.
fn serve(
    name: &str,
    listen: &Listen,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    beside: impl Future<Output = ()>,
) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listen.listen)
            .await
            .with_context(|| format!("listening on {}", listen.listen))?;
        print(&format!("{name}: https://{}", listener.local_addr()?))?;
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        tokio::select! {
            () = https::serve(listener, tls, router, stop) => {}
            () = beside => {}
        }
        Ok(Exit::Ok)
    })
}
