//! `pc5 pki`: a laboratory certification authority in a folder, one a PLMN.

mod token;
mod vault;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use getrandom::SysRng;
use pc5_control::credential::{
    Clock, Freshness, Identity, Judge, LongTermKey, Need, Plmn, Role, SoftwareKey, TrustEntry,
};
use pc5_control::pki::describe::{self, CertificateText, CrlText, utc};
use pc5_control::pki::{
    Authority, Curve, Folder, Request, Validity, csr, read_certificates, read_crls, read_requests, serial_of,
};
use pc5_dataplane::ids::GroupId;
use rand_core::UnwrapErr;
use serde::Serialize;

use super::replay::Shown;
use crate::exit::{Exit, refused, usage};
use crate::report::{Report, show};

/// Laboratory certification authority: roots, certificates, revocation.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
    /// How the result is shown.
    #[arg(short, value_enum, global = true, default_value_t = Shown::Table)]
    output: Shown,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Make the root of a network in a new folder, and its first CRL.
    Root {
        /// Folder to make.
        dir: PathBuf,
        /// The network whose identities it vouches for, MCC-MNC.
        #[arg(long)]
        plmn: Plmn,
        #[command(flatten)]
        ca: CaOptions,
    },
    /// Make a CA below another one in a new folder, and its first CRL.
    Intermediate {
        /// Folder to make.
        dir: PathBuf,
        /// Folder of the CA above it.
        #[arg(long)]
        under: PathBuf,
        /// Its common name.
        #[arg(long)]
        name: String,
        #[command(flatten)]
        ca: CaOptions,
    },
    /// Issue a device's certificate, with a fresh key unless a request brings one.
    Issue {
        /// Folder of the CA.
        dir: PathBuf,
        /// pc5:MCC-MNC:ue:ID, or ID alone for one of the CA's own network.
        identity: String,
        /// member, owner, relay or public-safety; may be repeated.
        #[arg(long = "role", required = true)]
        roles: Vec<Role>,
        /// Group id (6 hexadecimal digits) that it may be in; may be repeated; none is every group.
        #[arg(long = "group")]
        groups: Vec<GroupId>,
        /// Days of validity.
        #[arg(long, default_value_t = 365)]
        days: u64,
        /// Certification request (PEM) of whoever has the key.
        #[arg(long)]
        csr: Option<PathBuf>,
    },
    /// Make a device's key in a sealed vault, and the request for its certificate.
    Vault(vault::Args),
    /// Make a device's key in a PKCS#11 token, and the request for its certificate.
    Token(token::Args),
    /// Issue a TLS certificate for a network function's server.
    Server {
        /// Folder of the CA.
        dir: PathBuf,
        /// DNS names and IP addresses; the first one names the files.
        #[arg(required = true)]
        names: Vec<String>,
        /// Days of validity.
        #[arg(long, default_value_t = 365)]
        days: u64,
    },
    /// Revoke a certificate and make the next CRL.
    Revoke {
        /// Folder of the CA.
        dir: PathBuf,
        /// Identity (or ID alone) whose certificate stands in the folder.
        identity: Option<String>,
        /// The certificate's file (PEM) instead.
        #[arg(long, conflicts_with = "identity")]
        certificate: Option<PathBuf>,
        /// The serial number (hexadecimal) instead.
        #[arg(long, conflicts_with_all = ["identity", "certificate"])]
        serial: Option<String>,
        /// Days until the CRL after this one is due.
        #[arg(long, default_value_t = 7)]
        crl_days: u64,
    },
    /// Make the next CRL.
    Crl {
        /// Folder of the CA.
        dir: PathBuf,
        /// Days until the one after it is due.
        #[arg(long = "days", default_value_t = 7)]
        crl_days: u64,
    },
    /// Show a CA's folder, or the certificates or the CRL of a PEM file.
    Show {
        /// Folder or file.
        path: PathBuf,
    },
    /// Judge a chain as a group owner or member does; exit code 4 when it is refused.
    Check {
        /// Chain (PEM), leaf first, root left out.
        chain: PathBuf,
        /// Trusted root: MCC-MNC=FILE; may be repeated.
        #[arg(long = "root", required = true, value_parser = root_argument)]
        roots: Vec<(Plmn, PathBuf)>,
        /// CRL (PEM); may be repeated.
        #[arg(long = "crl")]
        crls: Vec<PathBuf>,
        /// Role that is needed.
        #[arg(long, default_value = "member")]
        role: Role,
        /// Group that is needed.
        #[arg(long)]
        group: Option<GroupId>,
        /// Seconds that a CRL serves beyond its nextUpdate.
        #[arg(long, default_value_t = 7 * 86_400)]
        grace: u64,
    },
}

#[derive(clap::Args)]
struct CaOptions {
    /// Curve of its key.
    #[arg(long, value_enum, default_value_t = CurveName::P256)]
    curve: CurveName,
    /// Days of validity.
    #[arg(long, default_value_t = 3650)]
    days: u64,
    /// Days until the CRL after the first is due.
    #[arg(long, default_value_t = 7)]
    crl_days: u64,
    /// CRL distribution point to put into what it issues.
    #[arg(long)]
    crl_url: Option<String>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CurveName {
    P256,
    P384,
}

/// Runs the subcommand.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let output = args.output;
    let rng = &mut UnwrapErr(SysRng);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?.as_secs();
    match args.command {
        Command::Root { dir, plmn, ca } => {
            let mut authority = Authority::root(plmn, ca.curve(), Validity::days(now, ca.days), rng)?;
            authority.set_crl_url(ca.crl_url);
            let mut folder = Folder::create(&dir, authority)?;
            publish(&mut folder, &dir, now, ca.crl_days)?;
            show(output, &Made::new(&folder, dir.join("ca.pem"))?)
        }
        Command::Intermediate { dir, under, name, ca } => {
            let parent = Folder::open(&under)?;
            let validity = Validity::days(now, ca.days);
            let mut authority = parent.authority().intermediate(&name, ca.curve(), validity, rng)?;
            authority.set_crl_url(ca.crl_url);
            let mut folder = Folder::create(&dir, authority)?;
            publish(&mut folder, &dir, now, ca.crl_days)?;
            show(output, &Made::new(&folder, dir.join("ca.pem"))?)
        }
        Command::Issue { dir, identity, roles, groups, days, csr } => {
            let folder = Folder::open(&dir)?;
            let identity = identity_of(&identity, folder.authority().plmn())?;
            let request = Request { identity, roles, groups, validity: Validity::days(now, days) };
            let (key, public) = match csr {
                Some(path) => {
                    let blocks = read_requests(&path)?;
                    let [der] = blocks.as_slice() else { bail!("{}: one request is wanted", path.display()) };
                    (None, csr::check(der)?)
                }
                None => {
                    let key = SoftwareKey::generate(rng);
                    let public = *key.public_key();
                    (Some(key), public)
                }
            };
            let leaf = folder.authority().issue(&request, &public, rng)?;
            let path = folder.store_leaf(&request.identity, &leaf, key.as_ref())?;
            let key = key.map(|_| path.with_extension("key"));
            show(output, &Issued { certificate: describe::certificate(&leaf)?, path, key })
        }
        Command::Vault(args) => vault::run(args, output),
        Command::Token(args) => token::run(args, output),
        Command::Server { dir, names, days } => {
            let folder = Folder::open(&dir)?;
            let key = SoftwareKey::generate(rng);
            let validity = Validity::days(now, days);
            let leaf = folder.authority().issue_server(&names, validity, key.public_key(), rng)?;
            let name = names.first().map_or("server", String::as_str);
            let path = folder.store_server(name, &leaf, &key)?;
            let key = Some(path.with_extension("key"));
            let mut certificate = describe::certificate(&leaf)?;
            // The profile is that of devices; a server's certificate has another one.
            certificate.out_of_profile = None;
            show(output, &Issued { certificate, path, key })
        }
        Command::Revoke { dir, identity, certificate, serial, crl_days } => {
            let mut folder = Folder::open(&dir)?;
            let serial = match (identity, certificate, serial) {
                (_, _, Some(serial)) => {
                    hex::decode(&serial).ok().filter(|s| !s.is_empty() && s.len() <= 20).ok_or_else(|| {
                        usage(format!("'{serial}' is no serial number of 1 to 20 octets, hexadecimal"))
                    })?
                }
                (_, Some(path), _) => first_serial(&path)?,
                (Some(identity), ..) => {
                    let identity = identity_of(&identity, folder.authority().plmn())?;
                    first_serial(&folder.leaf_path(&identity))?
                }
                (None, None, None) => {
                    return Err(usage("whose? name an identity, --certificate or --serial"));
                }
            };
            if !folder.authority_mut().revoke(&serial, now) {
                bail!("serial number {} is revoked already", hex::encode(serial));
            }
            let crl = publish(&mut folder, &dir, now, crl_days)?;
            show(output, &CrlMade { crl: describe::crl(&crl)?, path: dir.join("crl.pem") })
        }
        Command::Crl { dir, crl_days } => {
            let mut folder = Folder::open(&dir)?;
            let crl = publish(&mut folder, &dir, now, crl_days)?;
            show(output, &CrlMade { crl: describe::crl(&crl)?, path: dir.join("crl.pem") })
        }
        Command::Show { path } if path.is_dir() => {
            let folder = Folder::open(&path)?;
            show(output, &Made::new(&folder, path.join("ca.pem"))?)
        }
        Command::Show { path } => show_file(&path, output),
        Command::Check { chain, roots, crls, role, group, grace } => {
            let clock = Clock { now, floor: 0 };
            let mut entries = Vec::new();
            for (plmn, path) in roots {
                for root in read_certificates(&path)? {
                    entries.push(TrustEntry::new(plmn, &root).with_context(|| path.display().to_string())?);
                }
            }
            let mut judge = Judge::new(entries, Freshness::Grace(grace));
            let chain = read_certificates(&chain)?;
            // So that CRLs of intermediates are known; what is wrong with the chain is said by `judge`.
            let _ = judge.learn(&chain, clock);
            for path in crls {
                for crl in read_crls(&path)? {
                    if let Err(error) = judge.install_crl(&crl, clock) {
                        // Without it the chain is refused, which says more about the chain.
                        eprintln!("pc5: {}: {error}", path.display());
                    }
                }
            }
            let judged = judge.judge(&chain, Need { role, group }, clock);
            let leaf = judged.map_err(|refusal| refused(refusal.to_string()))?;
            show(
                output,
                &Accepted {
                    identity: leaf.identity.to_string(),
                    roles: leaf.roles.iter().map(|r| r.to_string()).collect(),
                    groups: leaf.groups.map(|g| g.iter().map(|g| g.to_string()).collect()),
                    not_after: leaf.path_not_after,
                    crl_in_grace: leaf.crl_in_grace,
                },
            )
        }
    }
}

impl CaOptions {
    fn curve(&self) -> Curve {
        match self.curve {
            CurveName::P256 => Curve::P256,
            CurveName::P384 => Curve::P384,
        }
    }
}

#[derive(Serialize)]
struct Made {
    path: PathBuf,
    plmn: String,
    certificate: CertificateText,
    crl_number: u64,
    revoked: usize,
}

#[derive(Serialize)]
struct Contents {
    certificates: Vec<CertificateText>,
    crls: Vec<CrlText>,
}

impl Made {
    fn new(folder: &Folder, path: PathBuf) -> anyhow::Result<Self> {
        let authority = folder.authority();
        Ok(Self {
            path,
            plmn: authority.plmn().to_string(),
            certificate: describe::certificate(authority.certificate())?,
            crl_number: authority.crl_number(),
            revoked: authority.revoked().len(),
        })
    }
}

#[derive(Serialize)]
struct Issued {
    path: PathBuf,
    key: Option<PathBuf>,
    certificate: CertificateText,
}

#[derive(Serialize)]
struct CrlMade {
    path: PathBuf,
    crl: CrlText,
}

#[derive(Serialize)]
struct Accepted {
    identity: String,
    roles: Vec<String>,
    groups: Option<Vec<String>>,
    not_after: u64,
    crl_in_grace: bool,
}

impl Report for Made {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("file", self.path.display().to_string()), ("PLMN", self.plmn.clone())];
        rows.extend(self.certificate.rows());
        rows.push(("CRL number", self.crl_number.to_string()));
        rows.push(("revoked", self.revoked.to_string()));
        rows
    }
}

impl Report for Issued {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("chain", self.path.display().to_string())];
        rows.extend(self.key.iter().map(|k| ("key", k.display().to_string())));
        rows.extend(self.certificate.rows());
        rows
    }
}

impl Report for CrlMade {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![("file", self.path.display().to_string())];
        rows.extend(self.crl.rows());
        rows
    }
}

impl Report for Contents {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let certificates = self.certificates.iter().flat_map(Report::rows);
        certificates.chain(self.crls.iter().flat_map(Report::rows)).collect()
    }
}

impl Report for Accepted {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let groups = self.groups.as_ref().map_or("every".into(), |g| g.join(" "));
        let crl =
            if self.crl_in_grace { "past its nextUpdate, within grace: fetch a new one" } else { "fresh" };
        vec![
            ("identity", self.identity.clone()),
            ("roles", self.roles.join(" ")),
            ("groups", groups),
            ("good until", utc(self.not_after)),
            ("CRL", crl.into()),
        ]
    }
}

impl Report for CertificateText {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("subject", self.subject.clone()),
            ("issuer", self.issuer.clone()),
            ("serial", self.serial.clone()),
            ("valid", format!("{} to {}", utc(self.not_before), utc(self.not_after))),
        ];
        rows.extend(self.names.iter().map(|n| ("name", n.clone())));
        rows.extend(self.out_of_profile.iter().map(|e| ("out of profile", e.clone())));
        rows
    }
}

impl Report for CrlText {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let mut rows = vec![
            ("issuer", self.issuer.clone()),
            ("number", self.number.clone().unwrap_or("none".into())),
            ("made", utc(self.this_update)),
            ("next due", self.next_update.map_or("never".into(), utc)),
        ];
        rows.extend(self.revoked.iter().map(|r| ("revoked", r.clone())));
        rows
    }
}

fn publish(folder: &mut Folder, dir: &Path, now: u64, days: u64) -> anyhow::Result<Vec<u8>> {
    let next = now.saturating_add(days.saturating_mul(86_400));
    folder.publish_crl(now, next).with_context(|| format!("CRL of {}", dir.display()))
}

fn show_file(path: &Path, output: Shown) -> anyhow::Result<Exit> {
    let certificates = read_certificates(path);
    let crls = read_crls(path);
    let shown = match (certificates, crls) {
        (Err(error), Err(_)) => return Err(error.into()),
        (certificates, crls) => Contents {
            certificates: certificates
                .unwrap_or_default()
                .iter()
                .map(|der| describe::certificate(der))
                .collect::<Result<_, _>>()?,
            crls: crls.unwrap_or_default().iter().map(|der| describe::crl(der)).collect::<Result<_, _>>()?,
        },
    };
    show(output, &shown)
}

fn first_serial(path: &Path) -> anyhow::Result<Vec<u8>> {
    let certificates = read_certificates(path)?;
    Ok(serial_of(certificates.first().context("no certificate")?)?)
}

fn identity_of(text: &str, plmn: Plmn) -> anyhow::Result<Identity> {
    let identity = if text.starts_with("pc5:") { text.parse() } else { Identity::new(plmn, text) };
    identity.map_err(|e| usage(e.to_string()))
}

fn root_argument(text: &str) -> Result<(Plmn, PathBuf), String> {
    let (plmn, path) = text.split_once('=').ok_or("MCC-MNC=FILE is wanted")?;
    Ok((plmn.parse().map_err(|e: pc5_control::credential::NameError| e.to_string())?, path.into()))
}
