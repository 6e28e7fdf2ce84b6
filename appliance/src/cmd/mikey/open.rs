//! Opening and verifying.

use std::path::PathBuf;
use std::time::Duration;

use mikey_sakke::codec::{DataType, IdRole, Payload};
use mikey_sakke::identifier::Identifier;
use mikey_sakke::key_file::KeyFile;
use mikey_sakke::policy::{ExpectedSigner, ReceivingIdentity, SignerKind};
use mikey_sakke::{ClaimedMessage, NtpTime, Reject, ReplayCache, Standing, Window, gsk, psk, sakke_mode};
use serde_json::{Map, Value, json};

use super::{clock, input, key_file};
use crate::cmd::replay::Shown;
use crate::exit::{Exit, refused, usage};
use crate::report::print;

#[derive(clap::Args)]
pub(super) struct Args {
    /// Message: hexadecimal, base64 or binary; - for standard input.
    file: PathBuf,
    /// Keys, trusted KMSs and expected signers in JSON (see docs/mikey.md).
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// Clock value: now, message (T of the message: for old ones), a time in RFC 3339 (UTC) or Unix seconds.
    #[arg(long, value_name = "TIME", default_value = "now")]
    at: String,
    /// Seconds that T may lie from the clock value.
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    window: u64,
    /// Which signer of the key file is expected, where several could be.
    #[arg(long, value_name = "URI")]
    signer: Option<String>,
    /// Which user of the key file receives, where several could.
    #[arg(long, value_name = "URI")]
    receiver: Option<String>,
    /// Print the key that the message carries.
    #[arg(long)]
    show_key: bool,
    /// How the result is shown.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

/// How far to go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Depth {
    Verify,
    Open,
}

/// What is known of an accepted message, in the order it is shown.
type Facts = Map<String, Value>;

pub(super) fn run(args: Args, depth: Depth) -> anyhow::Result<Exit> {
    let octets = input::message(&args.file)?;
    let keys = key_file(&args.keys)?;
    let result = match ClaimedMessage::decode(&octets) {
        Ok(m) => {
            let now = clock(&args.at, Some(&m))?;
            accept(&args, depth, &keys, &m, now)?
        }
        Err(reason) => Err(reason),
    };
    match result {
        Ok(facts) => {
            show(&facts, args.output)?;
            Ok(Exit::Ok)
        }
        Err(reason) => {
            if args.output == Shown::Json {
                let all = json!({ "version": 1, "refused": reason.name(), "reason": reason.to_string() });
                print(&serde_json::to_string_pretty(&all)?)?;
            }
            Err(refused(format!("refused: {}: {reason}", reason.name())))
        }
    }
}

fn show(facts: &Facts, output: Shown) -> anyhow::Result<()> {
    match output {
        Shown::Json => {
            let mut all = Map::from_iter([("version".to_owned(), json!(1))]);
            all.extend(facts.clone());
            print(&serde_json::to_string_pretty(&all)?)?;
        }
        Shown::Table => {
            for (name, value) in facts {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                print(&format!("{:<12}{text}", name.replace('_', " ")))?;
            }
        }
    }
    Ok(())
}

/// The outer error is one of usage, the inner one refuses the message.
fn accept(
    args: &Args,
    depth: Depth,
    keys: &KeyFile,
    m: &ClaimedMessage,
    now: NtpTime,
) -> anyhow::Result<Result<Facts, Reject>> {
    let side = Duration::from_secs(args.window);
    let mut cache = ReplayCache::new(Window { past: side, future: side }, 1);
    let cache = &mut cache;
    let signed = m.claimed().payloads.iter().any(|p| matches!(p, Payload::Sign(_)));
    let octets = m.octets();
    let show_key = args.show_key;
    Ok(match (m.claimed().header.data_type, signed, depth) {
        (DataType::SAKKE, _, Depth::Verify) => {
            let signer = signer(args, keys, m, false)?;
            sakke_mode::verify(octets, signer, &keys.trusted, cache, now).map(|id| verified(signer, &id))
        }
        (DataType::SAKKE, _, Depth::Open) => {
            let signer = signer(args, keys, m, false)?;
            let receiver = receiver(args, keys, m)?;
            sakke_mode::open(octets, receiver, signer, &keys.trusted, cache, now).map(|o| {
                let mut facts = verified(signer, &o.identifier);
                facts.insert("time".into(), json!(o.time.to_string()));
                facts.insert("purpose".into(), json!(o.key_id.purpose().to_string()));
                facts.insert("key_id".into(), json!(o.key_id.to_string()));
                if let Some(guk_id) = o.guk_id {
                    facts.insert("guk_id".into(), json!(format!("{:08x}", guk_id.0)));
                }
                if let Some(p) = &o.parameters {
                    let when = |seconds: u64| match seconds {
                        0 => json!("not given"),
                        s => json!(NtpTime::from_unix(s, 0).to_string()),
                    };
                    facts.insert("activation".into(), when(p.activation));
                    facts.insert("expiry".into(), when(p.expiry));
                    facts.insert("text".into(), json!(String::from_utf8_lossy(&p.text)));
                }
                standing(&mut facts, o.standing);
                key(&mut facts, show_key, o.key.as_octets());
                facts
            })
        }
        (_, true, Depth::Verify) => {
            let signer = signer(args, keys, m, true)?;
            gsk::verify(octets, signer, &keys.trusted, cache, now).map(|id| verified(signer, &id))
        }
        (_, true, Depth::Open) => {
            let signer = signer(args, keys, m, true)?;
            gsk::open(octets, &keys.psks, signer, &keys.trusted, cache, now).map(|o| {
                let mut facts = verified(signer, &o.identifier);
                facts.insert("time".into(), json!(o.time.to_string()));
                facts.insert("gmk_id".into(), json!(hex::encode(&o.gmk_id)));
                facts.insert("gsk_id".into(), json!(hex::encode(&o.gsk_id)));
                facts.insert("key_type".into(), json!(o.key_type.to_string()));
                standing(&mut facts, o.standing);
                key(&mut facts, show_key, o.gsk.expose());
                facts
            })
        }
        (_, false, depth) => {
            let responder = args.receiver.as_deref().map(str::as_bytes);
            psk::open(octets, &keys.psks, responder, cache, now).map(|o| {
                let mut facts = Facts::new();
                facts.insert("psk".into(), json!(hex::encode(&o.psk_name)));
                if let Some(id) = &o.initiator {
                    facts.insert("initiator".into(), json!(String::from_utf8_lossy(&id.data)));
                }
                facts.insert("time".into(), json!(o.time.to_string()));
                if let Some(response) = &o.response {
                    facts.insert("response".into(), json!(hex::encode(response)));
                }
                if depth == Depth::Open {
                    for (i, k) in o.keys.iter().enumerate() {
                        facts.insert(format!("key_type_{}", i + 1), json!(k.key_type.to_string()));
                        if show_key {
                            facts.insert(format!("key_{}", i + 1), json!(hex::encode(k.key.expose())));
                        }
                    }
                }
                facts
            })
        }
    })
}

fn verified(signer: &ExpectedSigner, identifier: &Identifier) -> Facts {
    let mut facts = Facts::new();
    facts.insert("signer".into(), json!(signer.uri()));
    facts.insert("kms".into(), json!(signer.kms_uri()));
    if let Identifier::Uid(uid) = identifier {
        facts.insert("uid".into(), json!(hex::encode(uid.0)));
    }
    facts
}

fn standing(facts: &mut Facts, standing: Standing) {
    if let Standing::Superseded { newest } = standing {
        facts.insert("superseded_by".into(), json!(newest.to_string()));
    }
}

fn key(facts: &mut Facts, show: bool, octets: &[u8]) {
    facts.insert("key_octets".into(), json!(octets.len()));
    if show {
        facts.insert("key".into(), json!(hex::encode(octets)));
    }
}

/// The signer to expect: of the fitting kind, named by `--signer`, else the only one, else the one that the message
/// claims. The claim only chooses among those that the operator listed.
fn signer<'a>(
    args: &Args,
    keys: &'a KeyFile,
    m: &ClaimedMessage,
    speaker: bool,
) -> anyhow::Result<&'a ExpectedSigner> {
    let fits = |s: &&ExpectedSigner| {
        (s.kind() == SignerKind::Speaker) == speaker && args.signer.as_ref().is_none_or(|u| u == s.uri())
    };
    let all: Vec<_> = keys.signers.iter().filter(fits).collect();
    let claimed = |s: &&&ExpectedSigner| {
        let roles = (IdRole::INITIATOR, IdRole::INITIATOR_UID);
        is_claimed(keys, m, roles, s.uri(), s.kms_uri())
    };
    let found = match all.as_slice() {
        [only] => Some(*only),
        several => several.iter().find(claimed).or(several.first()).copied(),
    };
    let kind = if speaker { "of kind speaker" } else { "of kind group, peer or server" };
    found.ok_or_else(|| usage(format!("the key file lists no signer {kind} that could be expected")))
}

/// The receiving identity: named by `--receiver`, else the only one, else the one that the message is for.
fn receiver<'a>(args: &Args, keys: &'a KeyFile, m: &ClaimedMessage) -> anyhow::Result<&'a ReceivingIdentity> {
    let mut all: Vec<_> =
        keys.receiving.values().filter(|r| args.receiver.as_ref().is_none_or(|uri| uri == r.uri())).collect();
    all.sort_by(|a, b| a.uri().cmp(b.uri()));
    let claimed = |r: &&&ReceivingIdentity| {
        let roles = (IdRole::RESPONDER, IdRole::RESPONDER_UID);
        is_claimed(keys, m, roles, r.uri(), r.kms_uri())
    };
    let found = match all.as_slice() {
        [only] => Some(*only),
        several => several.iter().find(claimed).or(several.first()).copied(),
    };
    found.ok_or_else(|| usage("the key file has no user with an rsk that could receive"))
}

/// Whether the message names this user, by URI or by UID.
fn is_claimed(
    keys: &KeyFile,
    m: &ClaimedMessage,
    (uri_role, uid_role): (IdRole, IdRole),
    uri: &str,
    kms_uri: &str,
) -> bool {
    let identifier = || {
        let kms = keys.trusted.get(kms_uri)?;
        kms.identifier(uri, kms.scheme().period_at(m.claimed_time()?)?).ok()
    };
    m.claimed_uri(uri_role) == Some(uri)
        || identifier().is_some_and(|wanted| {
            m.claimed().payloads.iter().any(
                |p| matches!(p, Payload::Idr(idr) if idr.role == uid_role && idr.data == wanted.octets()),
            )
        })
}
