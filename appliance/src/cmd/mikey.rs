//! `pc5 mikey`: MIKEY messages from a shell: inspect, open, verify, make.

mod input;
mod make;
mod open;
mod show;

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context;
use mikey_sakke::key_file::KeyFile;
use mikey_sakke::{ClaimedMessage, Message, NtpTime};
use pc5_control::files::FileKind;
use serde_json::json;

use super::replay::Shown;
use crate::exit::{Exit, usage};
use crate::report::print;

/// Arguments of `pc5 mikey`.
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(clap::Subcommand)]
enum Verb {
    /// Show every field of a message with its offset. Nothing is verified.
    Decode(Decode),
    /// Open a message: verify it, then decapsulate or decrypt its key.
    Open(open::Args),
    /// Verify a message without opening it. Without SIGN the pre-shared key is needed.
    Verify(open::Args),
    /// Make a message.
    Make {
        #[command(subcommand)]
        kind: make::Kind,
    },
}

#[derive(clap::Args)]
struct Decode {
    /// Message: hexadecimal, base64 or binary; - for standard input.
    file: PathBuf,
    /// Show key octets that stand in clear under NULL encryption.
    #[arg(long)]
    show_key: bool,
    /// How the result is shown.
    #[arg(short, value_enum, default_value_t = Shown::Table)]
    output: Shown,
}

/// Runs the command.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    match args.verb {
        Verb::Decode(args) => decode(args),
        Verb::Open(args) => open::run(args, open::Depth::Open),
        Verb::Verify(args) => open::run(args, open::Depth::Verify),
        Verb::Make { kind } => make::run(kind),
    }
}

fn decode(args: Decode) -> anyhow::Result<Exit> {
    let octets = input::message(&args.file)?;
    let (fields, decoded) = Message::inspect(&octets);
    match args.output {
        Shown::Table => print(&show::table(&fields, &octets, args.show_key))?,
        Shown::Json => {
            let error = decoded
                .as_ref()
                .err()
                .map(|e| json!({ "field": e.field, "offset": e.offset, "problem": e.problem.to_string() }));
            let fields = show::json(&fields, &octets, args.show_key);
            let all = json!({ "version": 1, "octets": octets.len(), "fields": fields, "malformed": error });
            print(&serde_json::to_string_pretty(&all)?)?;
        }
    }
    // What could be read is shown before the error is.
    decoded.context("malformed")?;
    Ok(Exit::Ok)
}

/// Keys of thousands of users.
const KEY_FILE: FileKind = FileKind::new("key file", 16 << 20);

/// A key file, read and validated.
fn key_file(path: &Path) -> anyhow::Result<KeyFile> {
    let text = KEY_FILE.read_text(path).with_context(|| path.display().to_string())?;
    KeyFile::parse(&text).with_context(|| path.display().to_string())
}

/// The clock value: the machine's, a given one, or the message's own.
fn clock(at: &str, message: Option<&ClaimedMessage>) -> anyhow::Result<NtpTime> {
    match (at, message) {
        ("now", _) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            Ok(NtpTime::from_unix(now.as_secs(), now.subsec_nanos()))
        }
        ("message", Some(m)) => {
            m.claimed_time().ok_or_else(|| usage("--at message: the message has no time of its own"))
        }
        ("message", None) => Err(usage("--at message: there is no message yet")),
        (text, _) => {
            let given = text.parse().ok().or_else(|| Some(NtpTime::from_unix(text.parse().ok()?, 0)));
            given.ok_or_else(|| usage("--at wants now, message, YYYY-MM-DDThh:mm:ssZ or Unix seconds"))
        }
    }
}
