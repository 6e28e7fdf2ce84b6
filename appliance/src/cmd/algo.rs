//! `pc5 algo`: one computation from hexadecimal arguments, for vectors.

use anyhow::bail;
use pc5_dataplane::crypto::algorithm::{self, Algorithm, AlgorithmError, Does, Input};
use pc5_dataplane::kdf::kdf;
use serde::Serialize;
use zeroize::Zeroizing;

use super::replay::Shown;
use crate::exit::{Exit, usage};
use crate::report::{Report, show};

/// One computation from hexadecimal arguments: cipher, mac, seal, open, kdf.
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
    /// Encipher (or decipher, which is the same): 128-EEA1-3, 128-NEA1-3, 256-NEA4-6.
    Cipher {
        #[command(flatten)]
        call: Call,
        /// Plaintext or ciphertext.
        #[arg(value_parser = octets)]
        data: Octets,
    },
    /// MAC: 128-EIA1-3, 128-NIA1-3, UIA2, 256-NIA4-6.
    Mac {
        #[command(flatten)]
        call: Call,
        /// Message.
        #[arg(value_parser = octets)]
        data: Octets,
    },
    /// Encipher and authenticate: 256-NCA4-6.
    Seal {
        #[command(flatten)]
        call: Call,
        /// Authenticated, not enciphered.
        #[arg(long, default_value = "", value_parser = octets)]
        aad: Octets,
        /// Plaintext.
        #[arg(value_parser = octets)]
        data: Octets,
    },
    /// Verify and decipher: 256-NCA4-6; exit code 1 when the tag is wrong.
    Open {
        #[command(flatten)]
        call: Call,
        /// Authenticated, not enciphered.
        #[arg(long, default_value = "", value_parser = octets)]
        aad: Octets,
        /// The tag.
        #[arg(long, value_parser = octets)]
        tag: Octets,
        /// Ciphertext.
        #[arg(value_parser = octets)]
        data: Octets,
    },
    /// HMAC-SHA-256 over FC || P0 || L0 || P1 || L1 ... (TS 33.220 Annex B).
    Kdf {
        /// Key, any length.
        #[arg(long, value_parser = octets)]
        key: Octets,
        /// FC, one octet.
        #[arg(long, value_parser = octets)]
        fc: Octets,
        /// P0, P1, ...: '' is an empty one.
        #[arg(value_parser = octets)]
        parameters: Vec<Octets>,
    },
}

/// What every algorithm takes.
#[derive(clap::Args)]
struct Call {
    /// Its name: eea1-3, eia1-3 (nea, nia likewise), uia2, nea4-6, nia4-6, nca4-6.
    algorithm: Algorithm,
    /// Key: 16 or 32 octets.
    #[arg(long, value_parser = octets)]
    key: Octets,
    /// COUNT, hexadecimal.
    #[arg(long, value_parser = number, conflicts_with = "iv", required_unless_present = "iv")]
    count: Option<u32>,
    /// BEARER, hexadecimal, 00 to 1f.
    #[arg(long, value_parser = number, default_value = "0", conflicts_with = "iv")]
    bearer: u32,
    /// DIRECTION, 0 or 1.
    #[arg(long, value_parser = number, default_value = "0", conflicts_with = "iv")]
    direction: u32,
    /// FRESH, hexadecimal: UIA2 in place of BEARER.
    #[arg(long, value_parser = number, conflicts_with = "iv")]
    fresh: Option<u32>,
    /// A whole IV (16 octets) in place of COUNT, BEARER and DIRECTION: the 256-bit algorithms.
    #[arg(long, value_parser = octets)]
    iv: Option<Octets>,
    /// Bits of the data that count; all of them without it.
    #[arg(long)]
    bits: Option<usize>,
}

/// Octets given in hexadecimal; wiped afterwards, since keys are among them.
#[derive(Clone)]
struct Octets(Zeroizing<Vec<u8>>);

#[derive(Serialize)]
struct Computed {
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mac: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    key: Option<String>,
}

/// Runs the subcommand.
pub(crate) fn run(args: Args) -> anyhow::Result<Exit> {
    let mut computed = Computed { data: None, mac: None, key: None };
    match args.command {
        Command::Cipher { call, mut data } => {
            let bits = call.bits(&data);
            algorithm::cipher(call.algorithm, &call.key.0, &call.input()?, bits, &mut data.0)
                .map_err(misuse)?;
            computed.data = Some(hex::encode(&*data.0));
        }
        Command::Mac { call, data } => {
            let bits = call.bits(&data);
            let mac =
                algorithm::mac(call.algorithm, &call.key.0, &call.input()?, bits, &data.0).map_err(misuse)?;
            computed.mac = Some(hex::encode(mac));
        }
        Command::Seal { call, aad, mut data } => {
            call.whole_octets()?;
            let tag = algorithm::seal(call.algorithm, &call.key.0, &call.input()?, &aad.0, &mut data.0)
                .map_err(misuse)?;
            (computed.data, computed.mac) = (Some(hex::encode(&*data.0)), Some(hex::encode(tag)));
        }
        Command::Open { call, aad, tag, mut data } => {
            call.whole_octets()?;
            let input = call.input()?;
            let opened = algorithm::open(call.algorithm, &call.key.0, &input, &aad.0, &mut data.0, &tag.0)
                .map_err(misuse)?;
            if !opened {
                bail!("the tag is wrong");
            }
            computed.data = Some(hex::encode(&*data.0));
        }
        Command::Kdf { key, fc, parameters } => {
            let [fc] = **fc.0 else { return Err(usage("--fc takes one octet, two hexadecimal digits")) };
            if parameters.iter().any(|p| p.0.len() > usize::from(u16::MAX)) {
                return Err(usage("a parameter has at most 65,535 octets"));
            }
            let parameters: Vec<&[u8]> = parameters.iter().map(|p| p.0.as_slice()).collect();
            computed.key = Some(hex::encode(kdf(&key.0, fc, &parameters)));
        }
    }
    show(args.output, &computed)
}

impl Call {
    fn input(&self) -> anyhow::Result<Input> {
        if let Some(iv) = &self.iv {
            let iv = iv.0.as_slice().try_into().map_err(|_| usage("--iv takes 16 octets"))?;
            return Ok(Input::Iv(iv));
        }
        let count = self.count.ok_or_else(|| usage("--count or --iv is wanted"))?;
        let direction = u8::try_from(self.direction).map_err(|_| usage("--direction is 0 or 1"))?;
        match self.fresh {
            Some(fresh) => Ok(Input::Fresh { count, fresh, direction }),
            None => {
                let bearer = u8::try_from(self.bearer).map_err(|_| usage("--bearer is 00 to 1f"))?;
                Ok(Input::Count { count, bearer, direction })
            }
        }
    }

    fn bits(&self, data: &Octets) -> usize {
        self.bits.unwrap_or(data.0.len() * 8)
    }

    fn whole_octets(&self) -> anyhow::Result<()> {
        match self.bits {
            Some(_) if self.algorithm.does() == Does::Both => {
                Err(usage(format!("{} takes whole octets: leave --bits away", self.algorithm)))
            }
            _ => Ok(()),
        }
    }
}

impl Report for Computed {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let named = [("data", &self.data), ("mac", &self.mac), ("key", &self.key)];
        named.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect()
    }
}

fn misuse(error: AlgorithmError) -> anyhow::Error {
    usage(error.to_string())
}

fn octets(text: &str) -> Result<Octets, String> {
    let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    match hex::decode(digits) {
        Ok(octets) => Ok(Octets(Zeroizing::new(octets))),
        Err(e) => Err(format!("{e}; pairs of hexadecimal digits are wanted")),
    }
}

fn number(text: &str) -> Result<u32, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    match u32::from_str_radix(digits, 16) {
        Ok(number) if !digits.starts_with('+') => Ok(number),
        _ => Err("at most 8 hexadecimal digits are wanted".into()),
    }
}
