//! What an operation does with each frame, and which combinations there are.

use pc5_dataplane::suite::Suite;

use super::directory::Cast;
use super::lane::{Hop, Step};
use crate::exit::{refused, usage};

/// What replay does.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum Op {
    /// All in one run, every frame compared with its original.
    Roundtrip,
    /// Writes what the UEs put on the air.
    Protect,
    /// Writes what the group owner puts on the air.
    Bridge,
    /// Opens protected frames and writes the SDUs back.
    Verify,
}

/// How keys come about.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub(crate) enum KeyingWay {
    /// Group-owner mode: certificates, contributions of TR 33.833.
    Go,
    /// Not there yet: ProSe KMF, GBA.
    Kmf,
    /// Not there yet: KMS and group management over MIKEY-SAKKE.
    Mikey,
    /// From a key log; opens only.
    File,
}

/// What is written out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Output {
    /// Protected frames.
    Frames,
    /// SDUs, as captured.
    Sdus,
}

/// The steps of one run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub op: Op,
    pub cast: Cast,
    /// Before the owner decides where a frame goes.
    pub hop1: &'static [Step],
    /// After it has; empty where nothing is bridged.
    pub hop2: &'static [Step],
    /// What comes out.
    pub output: Output,
    /// The input is protected: opened with a key log.
    pub from_key_log: bool,
}

impl Plan {
    /// The plan of a command line.
    pub(crate) fn new(
        op: Op,
        cast: Cast,
        keying: KeyingWay,
        has_keys: bool,
        suite: Suite,
    ) -> anyhow::Result<Self> {
        use Step::{Compare, MembersOpen, MembersProtect, MonitorOpen, OwnerOpen, OwnerProtect};
        match keying {
            KeyingWay::Kmf => {
                return Err(usage(
                    "--keying kmf needs GBA and a ProSe KMF, which are not there yet; use --keying go",
                ));
            }
            KeyingWay::Mikey => {
                return Err(usage(
                    "--keying mikey needs a KMS and group management, which are not there yet; use --keying go",
                ));
            }
            KeyingWay::File if !has_keys => {
                return Err(usage("--keying file reads keys from a key log; name it with --keys KEYLOG"));
            }
            KeyingWay::Go | KeyingWay::File => {}
        }
        let file = keying == KeyingWay::File || (op == Op::Verify && has_keys);
        if has_keys && !file {
            return Err(usage("--keys goes with --op verify or --keying file"));
        }
        if file && matches!(op, Op::Protect | Op::Roundtrip) {
            return Err(refused(
                "protecting under logged keys would repeat COUNTs; --keying file only opens: use --op verify or --op bridge",
            ));
        }
        if op == Op::Verify && !file {
            return Err(usage("--op verify opens protected frames; name their key log with --keys KEYLOG"));
        }
        if op == Op::Bridge && cast == Cast::Group {
            return Err(usage(
                "with --cast group there is nothing to bridge; use --op protect, or --cast auto or link",
            ));
        }
        let protects = op != Op::Verify;
        if protects && cast != Cast::Group && !suite.has_integrity() {
            return Err(refused(format!(
                "suite {suite} has no integrity and is for one-to-many only; use --cast group, or a suite with a MAC field"
            )));
        }
        let (hop1, hop2, output): (&'static [Step], &'static [Step], Output) = match (op, cast, file) {
            (Op::Roundtrip, Cast::Group, _) => (&[MembersProtect, OwnerOpen, Compare], &[], Output::Sdus),
            (Op::Roundtrip, _, _) => {
                (&[MembersProtect, OwnerOpen], &[OwnerProtect, MembersOpen, Compare], Output::Sdus)
            }
            (Op::Protect, _, _) => (&[MembersProtect], &[], Output::Frames),
            (Op::Bridge, _, false) => (&[MembersProtect, OwnerOpen], &[OwnerProtect], Output::Frames),
            (Op::Bridge, _, true) => (&[MonitorOpen], &[OwnerProtect], Output::Frames),
            (Op::Verify, _, _) => (&[MonitorOpen], &[], Output::Sdus),
        };
        Ok(Self { op, cast, hop1, hop2, output, from_key_log: file })
    }

    /// What a lane does on a hop.
    pub(crate) fn steps(&self, hop: Hop) -> &'static [Step] {
        match hop {
            Hop::First => self.hop1,
            Hop::Second => self.hop2,
        }
    }

    /// Whether a frame's way ends with this hop.
    pub(crate) fn ends_with(&self, hop: Hop) -> bool {
        hop == Hop::Second || self.hop2.is_empty()
    }

    /// Whether every frame is compared with what was captured.
    pub(crate) fn compares(&self) -> bool {
        self.op == Op::Roundtrip
    }
}
