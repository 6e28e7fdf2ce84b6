//! One door to each algorithm by its name, over any number of bits: for tests, vectors and people. Frames go through
//! [`super::cipher`].

use std::fmt;
use std::str::FromStr;

use super::eea1::Eea1;
use super::eea2::Eea2;
use super::eea3::Eea3;
use super::eia1::Eia1;
use super::eia2::Eia2;
use super::eia3::Eia3;
use super::nca::{Aes256Core, Core, Snow5gCore, Zuc256Core, tag_len};
use crate::cipher::Job;

macro_rules! algorithms {
    ($($(#[$doc:meta])* $variant:ident = $name:literal $twin:literal $does:ident $key_len:literal,)*) => {
        /// An algorithm of 3GPP, the 128-bit ones standing for their NEA and NIA twins too.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum Algorithm { $($(#[$doc])* $variant,)* }

        impl Algorithm {
            /// Every algorithm.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// Name on the command line.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }

            /// The same algorithm's name in the other generation, bit for bit alike; its own where there is none.
            /// Source: TS 33.501 D.2, D.3.
            pub const fn twin(self) -> &'static str {
                match self { $(Self::$variant => $twin,)* }
            }

            /// What it is for.
            pub const fn does(self) -> Does {
                match self { $(Self::$variant => Does::$does,)* }
            }

            /// Octets of its key.
            pub const fn key_len(self) -> usize {
                match self { $(Self::$variant => $key_len,)* }
            }
        }
    };
}

algorithms! {
    /// 128-EEA1: SNOW 3G.
    Eea1 = "eea1" "nea1" Ciphering 16,
    /// 128-EEA2: AES-CTR.
    Eea2 = "eea2" "nea2" Ciphering 16,
    /// 128-EEA3: ZUC.
    Eea3 = "eea3" "nea3" Ciphering 16,
    /// 128-EIA1: SNOW 3G.
    Eia1 = "eia1" "nia1" Integrity 16,
    /// 128-EIA2: AES-CMAC.
    Eia2 = "eia2" "nia2" Integrity 16,
    /// 128-EIA3: ZUC.
    Eia3 = "eia3" "nia3" Integrity 16,
    /// UIA2: EIA1 with a FRESH of 32 bits.
    Uia2 = "uia2" "uia2" Integrity 16,
    /// 256-NEA4: SNOW 5G.
    Nea4 = "nea4" "nea4" Ciphering 32,
    /// 256-NEA5: AES-256-CTR.
    Nea5 = "nea5" "nea5" Ciphering 32,
    /// 256-NEA6: ZUC-256.
    Nea6 = "nea6" "nea6" Ciphering 32,
    /// 256-NIA4: SNOW 5G.
    Nia4 = "nia4" "nia4" Integrity 32,
    /// 256-NIA5: AES-256.
    Nia5 = "nia5" "nia5" Integrity 32,
    /// 256-NIA6: ZUC-256.
    Nia6 = "nia6" "nia6" Integrity 32,
    /// 256-NCA4: SNOW 5G.
    Nca4 = "nca4" "nca4" Both 32,
    /// 256-NCA5: AES-256.
    Nca5 = "nca5" "nca5" Both 32,
    /// 256-NCA6: ZUC-256.
    Nca6 = "nca6" "nca6" Both 32,
}

/// What an algorithm is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Does {
    /// [`cipher`].
    Ciphering,
    /// [`mac`].
    Integrity,
    /// [`seal`] and [`open`].
    Both,
}

/// What an algorithm takes beside key and data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// COUNT, BEARER (5 bits) and DIRECTION (1 bit): all but UIA2. The 256-bit algorithms make their IV of them, and a
    /// tag of 128 bits.
    Count {
        /// COUNT.
        count: u32,
        /// BEARER.
        bearer: u8,
        /// DIRECTION.
        direction: u8,
    },
    /// COUNT, FRESH and DIRECTION: UIA2 alone.
    Fresh {
        /// COUNT-I.
        count: u32,
        /// FRESH.
        fresh: u32,
        /// DIRECTION.
        direction: u8,
    },
    /// A whole IV: the 256-bit algorithms alone. It names the tag's length.
    Iv([u8; 16]),
}

/// A call that does not fit the algorithm.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AlgorithmError {
    /// No such name.
    #[error(
        "no algorithm '{0}'; there are eea1-eea3 (nea1-nea3), eia1-eia3 (nia1-nia3), uia2, nea4-nea6, nia4-nia6, nca4-nca6"
    )]
    Unknown(String),
    /// It does something else.
    #[error("{} does not {wanted}", .algorithm.name())]
    Does {
        /// The algorithm.
        algorithm: Algorithm,
        /// What was asked of it.
        wanted: &'static str,
    },
    /// A key of the wrong size.
    #[error("a key of {} has {} octets, not {found}", .algorithm.name(), .algorithm.key_len())]
    Key {
        /// The algorithm.
        algorithm: Algorithm,
        /// Octets given.
        found: usize,
    },
    /// An input of another algorithm, or BEARER or DIRECTION out of range, or an IV naming no tag of 32 to 128 bits.
    #[error("{} does not take this input: {wanted}", .algorithm.name())]
    Input {
        /// The algorithm.
        algorithm: Algorithm,
        /// What it takes.
        wanted: &'static str,
    },
    /// A number of bits that the data does not have, or that is not of whole octets where it must be.
    #[error("{} cannot take {bits} bits of {octets} octets", .algorithm.name())]
    Length {
        /// The algorithm.
        algorithm: Algorithm,
        /// Bits asked for.
        bits: usize,
        /// Octets given.
        octets: usize,
    },
}

impl FromStr for Algorithm {
    type Err = AlgorithmError;

    fn from_str(s: &str) -> Result<Self, AlgorithmError> {
        let named = Self::ALL.iter().find(|a| a.name() == s || a.twin() == s);
        named.copied().ok_or_else(|| AlgorithmError::Unknown(s.into()))
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Enciphers or deciphers the first `bits` bits of `data`; those behind stay as they are.
///
/// # Errors
/// What does not fit; `data` is then unchanged.
pub fn cipher(
    algorithm: Algorithm,
    key: &[u8],
    input: &Input,
    bits: usize,
    data: &mut [u8],
) -> Result<(), AlgorithmError> {
    use Algorithm as A;
    let does = AlgorithmError::Does { algorithm, wanted: "cipher alone" };
    let whole = data.len().min(bits.div_ceil(8));
    if algorithm.does() != Does::Ciphering {
        return Err(does);
    }
    check_length(algorithm, bits, data.len())?;
    let behind = data[..whole].last().copied();
    let octets = &mut data[..whole];
    match algorithm {
        A::Eea1 => Eea1::new(key_of(algorithm, key)?).apply(count(algorithm, input)?.packed(), octets),
        A::Eea2 => Eea2::new(key_of(algorithm, key)?).apply(count(algorithm, input)?.packed(), octets),
        A::Eea3 => Eea3::new(key_of(algorithm, key)?).apply(count(algorithm, input)?.packed(), octets),
        A::Nea4 => Snow5gCore::new(key_of(algorithm, key)?).nea(&iv(algorithm, input, 0)?, octets),
        A::Nea5 => Aes256Core::new(key_of(algorithm, key)?).nea(&iv(algorithm, input, 0)?, octets),
        A::Nea6 => Zuc256Core::new(key_of(algorithm, key)?).nea(&iv(algorithm, input, 0)?, octets),
        _ => return Err(does),
    }
    if let (Some(last), Some(was), rest @ 1..) = (octets.last_mut(), behind, bits % 8) {
        let mask = 0xff >> rest;
        *last = *last & !mask | was & mask;
    }
    Ok(())
}

/// MAC over the first `bits` bits of `message`: 4 octets from the 128-bit algorithms, from the others as many as the IV
/// names (whole octets only are authenticated by these).
///
/// # Errors
/// What does not fit.
pub fn mac(
    algorithm: Algorithm,
    key: &[u8],
    input: &Input,
    bits: usize,
    message: &[u8],
) -> Result<Vec<u8>, AlgorithmError> {
    use Algorithm as A;
    check_length(algorithm, bits, message.len())?;
    let nia = |iv: [u8; 16], tag: [u8; 16]| tag[..tag_len(&iv)].to_vec();
    let whole = &message[..bits / 8];
    Ok(match algorithm {
        A::Eia1 => {
            let c = count(algorithm, input)?;
            Eia1::new(key_of(algorithm, key)?).mac(c.count, c.bearer, c.direction, message, bits).into()
        }
        A::Eia2 => {
            Eia2::new(key_of(algorithm, key)?).mac(count(algorithm, input)?.packed(), message, bits).into()
        }
        A::Eia3 => {
            let c = count(algorithm, input)?;
            Eia3::new(key_of(algorithm, key)?).mac(c.count, c.bearer, c.direction, message, bits).into()
        }
        A::Uia2 => match *input {
            Input::Fresh { count, fresh, direction: direction @ 0..=1 } => {
                Eia1::new(key_of(algorithm, key)?).uia2(count, fresh, direction, message, bits).into()
            }
            _ => return Err(AlgorithmError::Input { algorithm, wanted: "COUNT, FRESH, DIRECTION (0 or 1)" }),
        },
        A::Nia4 | A::Nia5 | A::Nia6 if !bits.is_multiple_of(8) => {
            return Err(AlgorithmError::Length { algorithm, bits, octets: message.len() });
        }
        A::Nia4 => {
            let iv = iv(algorithm, input, 0x80)?;
            nia(iv, Snow5gCore::new(key_of(algorithm, key)?).nia(&iv, whole))
        }
        A::Nia5 => {
            let iv = iv(algorithm, input, 0x80)?;
            nia(iv, Aes256Core::new(key_of(algorithm, key)?).nia(&iv, whole))
        }
        A::Nia6 => {
            let iv = iv(algorithm, input, 0x80)?;
            nia(iv, Zuc256Core::new(key_of(algorithm, key)?).nia(&iv, whole))
        }
        _ => return Err(AlgorithmError::Does { algorithm, wanted: "make a MAC alone" }),
    })
}

/// Enciphers `data` in place and gives the tag over it and `aad`.
///
/// # Errors
/// What does not fit; `data` is then unchanged.
pub fn seal(
    algorithm: Algorithm,
    key: &[u8],
    input: &Input,
    aad: &[u8],
    data: &mut [u8],
) -> Result<Vec<u8>, AlgorithmError> {
    let wrong = AlgorithmError::Does { algorithm, wanted: "seal" };
    if algorithm.does() != Does::Both {
        return Err(wrong);
    }
    let iv = iv(algorithm, input, 0x84)?;
    let tag = match algorithm {
        Algorithm::Nca4 => Snow5gCore::new(key_of(algorithm, key)?).seal(&iv, &[aad], data),
        Algorithm::Nca5 => Aes256Core::new(key_of(algorithm, key)?).seal(&iv, &[aad], data),
        Algorithm::Nca6 => Zuc256Core::new(key_of(algorithm, key)?).seal(&iv, &[aad], data),
        _ => return Err(wrong),
    };
    Ok(tag[..tag_len(&iv)].to_vec())
}

/// Whether `tag` is right for `data` and `aad`; then `data` is deciphered in place, otherwise unchanged.
///
/// # Errors
/// What does not fit; `data` is then unchanged.
pub fn open(
    algorithm: Algorithm,
    key: &[u8],
    input: &Input,
    aad: &[u8],
    data: &mut [u8],
    tag: &[u8],
) -> Result<bool, AlgorithmError> {
    let wrong = AlgorithmError::Does { algorithm, wanted: "open" };
    if algorithm.does() != Does::Both {
        return Err(wrong);
    }
    let iv = iv(algorithm, input, 0x84)?;
    Ok(match algorithm {
        Algorithm::Nca4 => Snow5gCore::new(key_of(algorithm, key)?).open(&iv, &[aad], data, tag),
        Algorithm::Nca5 => Aes256Core::new(key_of(algorithm, key)?).open(&iv, &[aad], data, tag),
        Algorithm::Nca6 => Zuc256Core::new(key_of(algorithm, key)?).open(&iv, &[aad], data, tag),
        _ => return Err(wrong),
    })
}

/// COUNT, BEARER and DIRECTION in range.
struct Counted {
    count: u32,
    bearer: u8,
    direction: u8,
}

impl Counted {
    /// COUNT || BEARER || DIRECTION || 0.
    fn packed(&self) -> [u8; 8] {
        let c = self.count.to_be_bytes();
        [c[0], c[1], c[2], c[3], Job::pack_bearer_direction(self.bearer, self.direction), 0, 0, 0]
    }
}

fn count(algorithm: Algorithm, input: &Input) -> Result<Counted, AlgorithmError> {
    match *input {
        Input::Count { count, bearer: bearer @ 0..=31, direction: direction @ 0..=1 } => {
            Ok(Counted { count, bearer, direction })
        }
        _ => Err(AlgorithmError::Input { algorithm, wanted: "COUNT, BEARER (0 to 31), DIRECTION (0 or 1)" }),
    }
}

/// The IV as given, or of COUNT, BEARER and DIRECTION under its first octet. An algorithm with a tag (`first` is not 0)
/// wants one of 32 to 128 bits.
fn iv(algorithm: Algorithm, input: &Input, first: u8) -> Result<[u8; 16], AlgorithmError> {
    match *input {
        Input::Iv(iv) if first == 0 || (4..=16).contains(&(iv[0] >> 3)) => Ok(iv),
        Input::Iv(_) => Err(AlgorithmError::Input {
            algorithm,
            wanted: "an IV whose first octet has a tag of 32 to 128 bits",
        }),
        _ => {
            let c = count(algorithm, input)?;
            let mut iv = [0; 16];
            iv[0] = first;
            iv[1] = c.bearer << 1 | c.direction;
            iv[8..12].copy_from_slice(&c.count.to_be_bytes());
            Ok(iv)
        }
    }
}

fn key_of<const N: usize>(algorithm: Algorithm, key: &[u8]) -> Result<&[u8; N], AlgorithmError> {
    key.try_into().map_err(|_| AlgorithmError::Key { algorithm, found: key.len() })
}

fn check_length(algorithm: Algorithm, bits: usize, octets: usize) -> Result<(), AlgorithmError> {
    if bits.div_ceil(8) > octets {
        return Err(AlgorithmError::Length { algorithm, bits, octets });
    }
    Ok(())
}
