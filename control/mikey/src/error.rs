//! Why octets could not be read ([`DecodeError`]), could not be written ([`EncodeError`]), a key could not be
//! used ([`KeyError`]), or a message was refused ([`Reject`]).

use crate::{codec::ErrorNo, time::NtpTime};

/// Octets that are not a MIKEY message: which field, where, and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} at octet {offset}: {problem}")]
pub struct DecodeError {
    /// Name of the field as the standards spell it, with the payload in front (`"KEMAC encr data"`).
    pub field: &'static str,
    /// Offset of the field's first octet from the start of the octets given to the decoder.
    pub offset: usize,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// The field reaches beyond the octets that are there.
    #[error("needs {needed} octets, {left} left")]
    Truncated {
        /// Octets the field claims.
        needed: usize,
        /// Octets left in the message, or in the part that holds the field.
        left: usize,
    },
    /// Octets remain after the last field of the message or of a length-prefixed part.
    #[error("{0} octets too many")]
    Trailing(usize),
    /// A value that the clause forbids or that this crate does not read.
    #[error("value {found}, wanted {wanted}")]
    Value {
        /// The value on the wire.
        found: u64,
        /// What would have been right.
        wanted: &'static str,
    },
    /// More than the limit of [`crate::codec::limits`].
    #[error("more than the limit of {0}")]
    Limit(usize),
    /// Text that is not UTF-8.
    #[error("not UTF-8 text")]
    Text,
    /// A code whose layout is not known: the decoder turns the payload into [`crate::codec::Payload::Opaque`].
    #[error("unknown code {0}")]
    UnknownCode(u8),
}

/// A value that has no form on the wire.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Longer than its length field can say.
    #[error("{field} has {length} octets, the field carries at most {limit}")]
    TooLong {
        /// Name of the field.
        field: &'static str,
        /// Octets given.
        length: usize,
        /// Octets the length field can express.
        limit: usize,
    },
    /// A length that the algorithm or group named beside it fixes.
    #[error("{field} has {length} octets, its algorithm fixes {wanted}")]
    WrongLength {
        /// Name of the field.
        field: &'static str,
        /// Octets given.
        length: usize,
        /// Octets wanted.
        wanted: usize,
    },
    /// A code whose layout is unknown can't be written in a typed payload.
    #[error("{field}: code {code} has no known layout")]
    UnknownCode {
        /// Name of the field.
        field: &'static str,
        /// The code.
        code: u8,
    },
    /// A payload that must be the last one (SIGN, or one of unknown layout) is followed by another.
    #[error("{0} must be the last payload")]
    NotLast(&'static str),
    /// A number does not fit its field.
    #[error("{field}: {value} does not fit")]
    OutOfRange {
        /// Name of the field.
        field: &'static str,
        /// The value.
        value: u64,
    },
}

/// A key or an identity that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Wrong number of octets.
    #[error("{what} has {found} octets, wanted {wanted}")]
    Length {
        /// Which key.
        what: &'static str,
        /// Octets given.
        found: usize,
        /// Octets wanted.
        wanted: &'static str,
    },
    /// An identity that its scheme does not allow.
    #[error("{what}: {problem}")]
    Identity {
        /// Which identity.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A point off its curve, of wrong order, or a key that does not belong to the identity and KMS it is given for.
    #[error("{what}: {problem}")]
    Invalid {
        /// Which key.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A key file that can't be read; the text never quotes key octets.
    #[error("key file: {0}")]
    File(String),
    /// The message to be made can't be encoded.
    #[error(transparent)]
    Encode(#[from] EncodeError),
}

/// Why a message is refused. Nothing of a refused message may be used, and it leaves no trace in any state.
///
/// The order of checks is that of RFC 3830 5.4: parse, time, replay, identities and algorithms, then
/// authentication; so a reason found before authentication speaks about *claimed* values.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reject {
    /// Not a MIKEY message.
    #[error("malformed: {0}")]
    Malformed(#[from] DecodeError),
    /// Another kind of message than the one expected.
    #[error("data type {found}, expected {expected}")]
    DataType {
        /// Data type of the message.
        found: u8,
        /// Data type that the caller opens.
        expected: u8,
    },
    /// A payload, or a code inside of one, that is not known; what it would demand can't be honoured.
    #[error("unknown {field} {code}")]
    UnknownCritical {
        /// What is unknown.
        field: &'static str,
        /// Its code.
        code: u8,
    },
    /// A payload that this kind of message must have is missing.
    #[error("no {0} payload")]
    Missing(&'static str),
    /// A payload that may be there once is there twice: which one is meant is ambiguous.
    #[error("more than one {0} payload")]
    Duplicate(&'static str),
    /// A payload that this kind of message must not have, or in the wrong place.
    #[error("{0} payload is not allowed here")]
    NotAllowed(&'static str),
    /// T is not a time (a counter) where a time is needed.
    #[error("timestamp type {0} is not a time")]
    TimestampType(u8),
    /// T lies outside the window around the clock value.
    #[error("timestamp out of range: message {message}, clock {now}")]
    TimestampOutOfRange {
        /// T of the message.
        message: NtpTime,
        /// Clock value of the caller.
        now: NtpTime,
    },
    /// Same signer, CSB ID, T and RAND as an accepted message. `identical` tells a repeat of the same signed part
    /// (late entry: ignore quietly) from another message under the same values (an attack or a broken sender).
    #[error("replay ({})", if *identical { "same message" } else { "another message under the same CSB ID, T and RAND" })]
    Replay {
        /// The signed part is the one accepted before.
        identical: bool,
    },
    /// Replay cache is full of entries that can still be replayed: refuse rather than forget.
    #[error("replay cache is full")]
    ReplayCacheFull,
    /// RAND shorter than 16 octets.
    #[error("RAND has {0} octets, at least 16 wanted")]
    RandTooShort(usize),
    /// PRF not known or not allowed.
    #[error("PRF {0} is not acceptable")]
    Prf(u8),
    /// Encryption algorithm not known or not allowed here.
    #[error("encryption algorithm {0} is not acceptable")]
    EncryptionAlgorithm(u8),
    /// MAC algorithm not known or not allowed here.
    #[error("MAC algorithm {0} is not acceptable")]
    MacAlgorithm(u8),
    /// Signature type other than ECCSI.
    #[error("signature type {0} is not ECCSI")]
    SignatureType(u8),
    /// SAKKE parameter set other than 1.
    #[error("SAKKE parameter set {0} is not known")]
    SakkeParameters(u8),
    /// SAKKE identifier scheme other than the one of the receiver's keys.
    #[error("identifier scheme {found}, the key is for scheme {expected}")]
    IdentifierScheme {
        /// Scheme of the message.
        found: u8,
        /// Scheme of the key.
        expected: u8,
    },
    /// The KMS URI of the message is not one of the trusted ones, or not the one expected for the identity.
    #[error("KMS {0:?} is not trusted for this")]
    UntrustedKms(String),
    /// The initiator named in the message is not the signer that was expected.
    #[error("signed for another initiator than the expected one")]
    WrongInitiator,
    /// The message is for another receiver.
    #[error("for another receiver")]
    WrongResponder,
    /// This kind of key is not for this kind of signer to send: a GMK comes from the group's identity alone.
    #[error("a key of purpose {purpose} is not accepted from this kind of signer")]
    SignerNotAllowed {
        /// Purpose tag of the key identifier (0 = GMK).
        purpose: u8,
    },
    /// No key for the period that T names.
    #[error("no key of {identity:?} for the period of the timestamp")]
    NoKeyForPeriod {
        /// Whose key.
        identity: String,
    },
    /// The monthly key of that month is not accepted on the day of the clock value.
    #[error("month {0} is not accepted today")]
    MonthNotAccepted(String),
    /// No pre-shared key under the name that the message gives.
    #[error("no pre-shared key named {0}")]
    UnknownPsk(String),
    /// MAC or signature does not verify. One reason for both, and for every way to be wrong.
    #[error("authentication failed")]
    AuthenticationFailed,
    /// The encapsulated or encrypted key does not open under the receiver's key.
    #[error("key does not open")]
    KeyDoesNotOpen,
    /// The opened key data is not what this kind of message carries.
    #[error("key data: {0}")]
    KeyData(&'static str),
    /// Key is revoked, not active yet, or expired at the clock value.
    #[error("key {0}")]
    PeriodOfUse(&'static str),
    /// The response answers another message than the one sent.
    #[error("response does not fit the message sent: {0}")]
    ResponseMismatch(&'static str),
    /// The peer sent an error message; never authenticated enough to change state.
    #[error("peer reports error {0}")]
    PeerError(u8),
}

impl Reject {
    /// Short stable name for logs, metrics and scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::DataType { .. } => "data-type",
            Self::UnknownCritical { .. } => "unknown-critical",
            Self::Missing(_) => "missing-payload",
            Self::Duplicate(_) => "duplicate-payload",
            Self::NotAllowed(_) => "payload-not-allowed",
            Self::TimestampType(_) => "timestamp-type",
            Self::TimestampOutOfRange { .. } => "timestamp-out-of-range",
            Self::Replay { .. } => "replay",
            Self::ReplayCacheFull => "replay-cache-full",
            Self::RandTooShort(_) => "rand-too-short",
            Self::Prf(_) => "prf",
            Self::EncryptionAlgorithm(_) => "encryption-algorithm",
            Self::MacAlgorithm(_) => "mac-algorithm",
            Self::SignatureType(_) => "signature-type",
            Self::SakkeParameters(_) => "sakke-parameters",
            Self::IdentifierScheme { .. } => "identifier-scheme",
            Self::UntrustedKms(_) => "untrusted-kms",
            Self::WrongInitiator => "wrong-initiator",
            Self::WrongResponder => "wrong-responder",
            Self::SignerNotAllowed { .. } => "signer-not-allowed",
            Self::NoKeyForPeriod { .. } => "no-key-for-period",
            Self::MonthNotAccepted(_) => "month-not-accepted",
            Self::UnknownPsk(_) => "unknown-psk",
            Self::AuthenticationFailed => "authentication-failed",
            Self::KeyDoesNotOpen => "key-does-not-open",
            Self::KeyData(_) => "key-data",
            Self::PeriodOfUse(_) => "period-of-use",
            Self::ResponseMismatch(_) => "response-mismatch",
            Self::PeerError(_) => "peer-error",
        }
    }

    /// Error number for the error message that RFC 3830 5.1.2 lets a responder send.
    /// Source: RFC 3830 6.12, RFC 6043 6.9, RFC 6509 2.1.
    pub fn error_no(&self) -> ErrorNo {
        match self {
            Self::AuthenticationFailed | Self::KeyDoesNotOpen | Self::UnknownPsk(_) => ErrorNo::AUTH_FAILURE,
            Self::TimestampType(_) | Self::TimestampOutOfRange { .. } | Self::Replay { .. } => {
                ErrorNo::INVALID_TS
            }
            Self::Prf(_) => ErrorNo::INVALID_PRF,
            Self::MacAlgorithm(_) => ErrorNo::INVALID_MAC,
            Self::EncryptionAlgorithm(_) => ErrorNo::INVALID_ENCR,
            Self::WrongInitiator | Self::WrongResponder | Self::UntrustedKms(_) => ErrorNo::INVALID_ID,
            Self::DataType { .. } => ErrorNo::UNSUPPORTED_MESSAGE,
            _ => ErrorNo::UNSPECIFIED,
        }
    }
}
