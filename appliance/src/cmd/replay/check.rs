//! What `pc5 replay` is asked that does not go together, said before anything is done.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use pc5_dataplane::crypto;
use pc5_dataplane::suite::Suite;

use super::{Args, ReportTo};
use crate::exit::{refused, usage};
use crate::replay::directory::Cast;
use crate::replay::plan::{Op, Output, Plan};

/// Refuses what does not go together, with what to write instead.
pub(super) fn check(args: &Args, plan: &Plan) -> anyhow::Result<()> {
    if plan.op == Op::Verify {
        opens_only(args)?;
    }
    if args.to.is_some() && plan.output != Output::Frames {
        return Err(usage("--to puts protected frames on a wire: use --op protect or bridge"));
    }
    let goes_somewhere = args.out.is_some() || args.to.is_some();
    if args.signalling && (!goes_somewhere || plan.output != Output::Frames) {
        return Err(usage(
            "--signalling gives PC5-S frames among protected ones: use --op protect or bridge with --out FILE or --to IFACE",
        ));
    }
    if plan.from_key_log && (args.duration.is_some() || args.times.is_some_and(|n| n > 1)) {
        return Err(usage(
            "a protected frame opens once, so a second time through it would all be dropped as replayed: leave out --loop and --duration",
        ));
    }
    if args.members == Some(1) && plan.cast != Cast::Group && !plan.hop2.is_empty() {
        return Err(usage("a frame never goes back to its sender, so bridging takes --members 2 or more"));
    }
    if let Some(seconds) = args.duration
        && !(seconds.is_finite() && seconds > 0.0 && seconds <= 1e6)
    {
        return Err(usage("--duration takes a number of seconds above 0, at most 1000000"));
    }
    let goes_on = args.duration.is_some() || args.times.is_some_and(|n| n > 1);
    if goes_on && args.input.metadata().is_ok_and(|m| !m.is_file() && !m.is_dir()) {
        return Err(usage(
            "what comes through a pipe comes once: leave out --loop and --duration, or name a file",
        ));
    }
    overwrites_nothing(args)
}

/// What `--op verify` has no use for: everything there is to know of a key stands in its line of the log.
fn opens_only(args: &Args) -> anyhow::Result<()> {
    let useless = [
        ("--suite", args.suite.is_some(), "each key of the log has its own"),
        ("--cast", args.cast.is_some(), "each frame says itself whether it is one-to-one or one-to-many"),
        ("--members", args.members.is_some(), "senders are those of the frames"),
        ("--keylog", args.keylog.is_some(), "no keys are made"),
    ];
    match useless.into_iter().find(|(_, given, _)| *given) {
        Some((option, _, why)) => Err(usage(format!("--op verify takes no {option}, {why}: leave it out"))),
        None => Ok(()),
    }
}

fn overwrites_nothing(args: &Args) -> anyhow::Result<()> {
    let outputs = [("--out", &args.out), ("--keylog", &args.keylog), ("--report", &args.report)];
    let outputs = outputs.map(|(name, path)| (name, path.as_deref()));
    let inputs = [("what is read", Some(args.input.as_path())), ("what is read", args.keys.as_deref())];
    for (i, (name, path)) in outputs.iter().enumerate() {
        for (other, taken) in inputs.iter().chain(&outputs[..i]) {
            if let (Some(path), Some(taken)) = (path, taken)
                && same_file(path, taken)
            {
                return Err(usage(format!(
                    "{name} {} would overwrite {other}; name another file",
                    path.display()
                )));
            }
        }
    }
    Ok(())
}

/// Whether a forced kernel serves every suite that frames are opened or protected with.
pub(super) fn kernels(args: &Args, plan: &Plan, opened_with: &BTreeSet<Suite>) -> anyhow::Result<()> {
    let Some(kernel) = args.kernel else { return Ok(()) };
    let protected_with = (plan.op != Op::Verify).then(|| args.suite());
    let lacks = |suite: &Suite| !crypto::kernels(*suite).contains(&kernel);
    if let Some(suite) = protected_with.into_iter().chain(opened_with.iter().copied()).find(lacks) {
        let names: Vec<&str> = crypto::kernels(suite).iter().map(|k| k.name()).collect();
        return Err(refused(format!(
            "suite {suite} has no kernel {} on this machine; it has {}",
            kernel.name(),
            names.join(", ")
        )));
    }
    Ok(())
}

/// Puts the system's names in the place of `-`. What is written to standard output leaves it no room for the report.
pub(super) fn standard_streams(args: &mut Args) -> anyhow::Result<ReportTo> {
    let dash = Path::new("-");
    if args.input == dash {
        args.input = STANDARD_INPUT.into();
    }
    if args.keys.as_deref() == Some(dash) {
        args.keys = Some(STANDARD_INPUT.into());
    }
    if is_standard(&args.input, STANDARD_INPUT)
        && args.keys.as_deref().is_some_and(|k| is_standard(k, STANDARD_INPUT))
    {
        return Err(usage(
            "capture and key log cannot both come by standard input: name a file for one of them",
        ));
    }
    let mut taken_by = None;
    let outputs = [("--out", &mut args.out), ("--keylog", &mut args.keylog), ("--report", &mut args.report)];
    for (option, path) in outputs {
        let Some(path) = path.as_mut().filter(|p| *p == dash || is_standard(p, STANDARD_OUTPUT)) else {
            continue;
        };
        *path = PathBuf::from(STANDARD_OUTPUT);
        if let Some(other) = taken_by.replace(option) {
            return Err(usage(format!(
                "{other} and {option} would mix on standard output: name a file for one of them"
            )));
        }
        if path.metadata().is_ok_and(|m| m.is_file()) {
            return Err(usage(format!(
                "standard output goes to a file here, which {option} would replace by another: name that file with {option}"
            )));
        }
    }
    Ok(if taken_by.is_some() { ReportTo::Error } else { ReportTo::Output })
}

const STANDARD_INPUT: &str = "/dev/stdin";
const STANDARD_OUTPUT: &str = "/dev/stdout";

/// Whether a path is a name of a standard stream.
fn is_standard(path: &Path, stream: &str) -> bool {
    let number = if stream == STANDARD_INPUT { "0" } else { "1" };
    path == Path::new(stream)
        || ["/dev/fd", "/proc/self/fd"].iter().any(|folder| path == Path::new(folder).join(number))
}

/// One and the same regular file, be it there already or not.
fn same_file(a: &Path, b: &Path) -> bool {
    let place = |path: &Path| {
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        path.canonicalize().or_else(|_| Ok(folder.canonicalize()?.join(path.file_name().unwrap_or_default())))
    };
    let is_file = |path: &Path| path.metadata().map_or(true, |m| m.is_file());
    let same =
        |a: std::io::Result<PathBuf>, b: std::io::Result<PathBuf>| matches!((a, b), (Ok(a), Ok(b)) if a == b);
    is_file(a) && same(place(a), place(b))
}
