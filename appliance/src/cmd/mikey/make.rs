//! Making messages.

use std::path::PathBuf;

use mikey_sakke::codec::{GroupIds, KeyParameters, KeyType, SecurityPolicy};
use mikey_sakke::gsk::GskMessage;
use mikey_sakke::key_file::KeyFile;
use mikey_sakke::keys::{KeyId, Purpose};
use mikey_sakke::policy::{Kms, SigningIdentity};
use mikey_sakke::sakke::Ssv;
use mikey_sakke::sakke_mode::{Privacy, SakkeMessage};
use mikey_sakke::{Protection, Secret};
use serde_json::json;
use zeroize::Zeroizing;

use super::{clock, input, key_file};
use crate::cmd::replay::Shown;
use crate::exit::{Exit, usage};
use crate::report;

#[derive(clap::Subcommand)]
pub(super) enum Kind {
    /// A GMK to one identity, signed by the group's.
    Gmk(Gmk),
    /// A GSK under a GMK, signed by the speaker.
    Gsk(Gsk),
}

#[derive(clap::Args)]
struct Common {
    /// Keys and KMSs in JSON (see docs/mikey.md).
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Who signs: a user of the key file with ssk and pvt.
    #[arg(long, value_name = "URI")]
    from: String,
    /// The key to send, in hexadecimal; - reads it from standard input. Without it one is drawn.
    #[arg(long, value_name = "HEX")]
    key: Option<String>,
    /// Print the key that is sent, on standard error.
    #[arg(long)]
    show_key: bool,
    /// T: now, a time in RFC 3339 (UTC) or Unix seconds.
    #[arg(long, value_name = "TIME", default_value = "now")]
    at: String,
    /// How the result is shown: the message alone in hexadecimal, or an object.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

#[derive(clap::Args)]
pub(super) struct Gmk {
    #[command(flatten)]
    common: Common,
    /// Who receives: a URI of the KMS's domain.
    #[arg(long, value_name = "URI")]
    to: String,
    /// KMS of the receiver; that of the signer without it.
    #[arg(long, value_name = "URI")]
    to_kms: Option<String>,
    /// GMK-ID, 8 hexadecimal digits, the first one 0. Without it one is drawn.
    #[arg(long, value_name = "HEX")]
    key_id: Option<String>,
    /// Seconds the GMK lives.
    #[arg(long, value_name = "SECONDS")]
    expires_in: Option<u64>,
    /// URIs and period of use in clear.
    #[arg(long)]
    clear: bool,
    /// Add TS 33.180's default policy and a GENERIC-ID map.
    #[arg(long)]
    policy: bool,
}

#[derive(clap::Args)]
pub(super) struct Gsk {
    #[command(flatten)]
    common: Common,
    /// GMK-ID, 8 hexadecimal digits: a pre-shared key of the key file.
    #[arg(long, value_name = "HEX")]
    gmk_id: String,
    /// Name of the GSK, in hexadecimal.
    #[arg(long, value_name = "HEX")]
    key_id: String,
    /// Octets of a GSK that is drawn: 16 or 32.
    #[arg(long, value_name = "N", default_value_t = 32)]
    octets: usize,
    /// Keys are derived from the GSK (TGK); without it, it is used as it is (TEK).
    #[arg(long)]
    derive: bool,
}

pub(super) fn run(kind: Kind) -> anyhow::Result<Exit> {
    match kind {
        Kind::Gmk(args) => gmk(args),
        Kind::Gsk(args) => gsk(args),
    }
}

fn gmk(args: Gmk) -> anyhow::Result<Exit> {
    let keys = key_file(&args.common.keys)?;
    let (signer, signer_kms) = signer(&keys, &args.common.from)?;
    let receiver_kms = kms(&keys, args.to_kms.as_deref().unwrap_or(signer_kms.uri()))?;
    let key = sent_key(&args.common, 16)?;
    let octets: [u8; 16] = key.as_slice().try_into().map_err(|_| usage("a GMK has 16 octets"))?;
    let ssv = Ssv::from_octets(octets);
    let key_id = match &args.key_id {
        Some(text) => key_id(text)?,
        None => KeyId::new(Purpose::GMK, u32::from_be_bytes(drawn()?)),
    };
    if key_id.purpose() != Purpose::GMK {
        return Err(usage("the first digit of a GMK-ID is 0"));
    }
    let time = clock(&args.common.at, None)?;
    let parameters = KeyParameters {
        key_type: Purpose::GMK.tag(),
        status: KeyParameters::NOT_REVOKED,
        activation: 0,
        expiry: args.expires_in.map_or(0, |s| time.unix_seconds().saturating_add(s)),
        text: Vec::new(),
        group_ids: Some(GroupIds { count: 0, entries: Vec::new() }),
    };
    let message = SakkeMessage {
        key: &ssv,
        key_id,
        time,
        rand: drawn::<16>()?.to_vec(),
        policies: if args.policy { vec![SecurityPolicy::gmk_default(0)] } else { Vec::new() },
        cs_id: 4,
        parameters: Some(parameters),
        privacy: if args.clear { Privacy::Clear } else { Privacy::Hidden },
        to_self: false,
    };
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    let made = message.seal(signer, signer_kms, &args.to, receiver_kms, rng)?;
    print(&args.common, &made, &key_id.to_string(), &key)
}

fn gsk(args: Gsk) -> anyhow::Result<Exit> {
    let keys = key_file(&args.common.keys)?;
    let (speaker, kms) = signer(&keys, &args.common.from)?;
    let gmk_id = key_id(&args.gmk_id)?;
    let gmk = keys
        .psks
        .get(&gmk_id.0.to_be_bytes())
        .ok_or_else(|| usage(format!("the key file has no pre-shared key named {gmk_id}")))?;
    let key = sent_key(&args.common, args.octets)?;
    if ![16, 32].contains(&key.len()) {
        return Err(usage("a GSK has 16 or 32 octets"));
    }
    let gsk = Secret::new(&key);
    let gsk_id = hex::decode(&args.key_id).map_err(|_| usage("--key-id wants hexadecimal"))?;
    let message = GskMessage {
        csb_id: u32::from_be_bytes(drawn()?),
        time: clock(&args.common.at, None)?,
        rand: drawn::<16>()?.to_vec(),
        gsk: &gsk,
        gsk_id: &gsk_id,
        key_type: if args.derive { KeyType::TGK } else { KeyType::TEK },
        protection: Protection::SHA_256,
    };
    let rng = &mut rand_core::UnwrapErr(getrandom::SysRng);
    let made = message.seal(gmk, speaker, kms, rng)?;
    print(&args.common, &made, &args.key_id, &key)
}

fn print(common: &Common, made: &[u8], key_id: &str, key: &[u8]) -> anyhow::Result<Exit> {
    match common.output {
        Shown::Table => report::print(&hex::encode(made))?,
        Shown::Json => {
            let all = json!({ "version": 1, "message": hex::encode(made), "key_id": key_id });
            report::print(&serde_json::to_string_pretty(&all)?)?;
        }
    }
    if common.show_key {
        eprintln!("key id {key_id}, key {}", hex::encode(key));
    }
    Ok(Exit::Ok)
}

/// The key given, or one drawn, which must be shown to be of use.
fn sent_key(common: &Common, octets: usize) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    match &common.key {
        Some(given) => input::key(given),
        None if common.show_key => {
            let mut key = Zeroizing::new(vec![0; octets]);
            getrandom::fill(&mut key)?;
            Ok(key)
        }
        None => Err(usage("a drawn key that nobody sees is of no use: give --key or --show-key")),
    }
}

fn drawn<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets)?;
    Ok(octets)
}

fn key_id(text: &str) -> anyhow::Result<KeyId> {
    let wrong = || usage("a GMK-ID has 8 hexadecimal digits");
    let octets = hex::decode(text).map_err(|_| wrong())?;
    Ok(KeyId(u32::from_be_bytes(octets.try_into().map_err(|_| wrong())?)))
}

fn signer<'a>(keys: &'a KeyFile, uri: &str) -> anyhow::Result<(&'a SigningIdentity, &'a Kms)> {
    let signer = keys
        .signing
        .get(uri)
        .ok_or_else(|| usage(format!("the key file has no user {uri:?} with ssk and pvt")))?;
    Ok((signer, kms(keys, signer.kms_uri())?))
}

fn kms<'a>(keys: &'a KeyFile, uri: &str) -> anyhow::Result<&'a Kms> {
    keys.trusted.get(uri).ok_or_else(|| usage(format!("the key file has no KMS {uri:?}")))
}
