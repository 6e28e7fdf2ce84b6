//! Causes of refusal as they travel in REJECT. Source: `go-mode.md` section 10.

use crate::credential::Refusal;

macro_rules! causes {
    ($($(#[$doc:meta])* $name:ident = $cause:literal, $tagged:literal, $text:literal;)+) => {
        /// Why a step of the protocol was refused: one variant a cause.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, thiserror::Error)]
        pub enum Reject {
            $($(#[$doc])* #[error($text)] $name,)+
        }

        impl Reject {
            /// All of them, in the order of their causes.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The octet on the wire.
            pub const fn cause(self) -> u8 {
                match self {
                    $(Self::$name => $cause,)+
                }
            }

            /// From the octet on the wire; `None` for one that is not known.
            pub const fn from_cause(cause: u8) -> Option<Self> {
                match cause {
                    $($cause => Some(Self::$name),)+
                    _ => None,
                }
            }

            /// Whether the cause tells about certificates or membership: then it goes out only with a tag.
            pub const fn tagged_only(self) -> bool {
                match self {
                    $(Self::$name => $tagged,)+
                }
            }
        }
    };
}

causes! {
    /// A version that this side does not speak.
    Version = 0x80, false, "version not supported";
    /// Another group than those served here.
    GroupNotServed = 0x81, false, "group not served";
    /// Too much to do; the next attempt comes later.
    Busy = 0x82, false, "busy, try later";
    /// Not the cookie that was handed out.
    Cookie = 0x83, false, "cookie wrong";
    /// The Layer-2 id is bound to another identity.
    Layer2IdInUse = 0x84, true, "Layer-2 id in use by another";
    /// No suite of the offer may be used.
    NoCommonSuite = 0x85, false, "no common suite";
    /// The suite is weaker than policy allows.
    SuiteBelowPolicy = 0x86, false, "suite below policy";
    /// A signature, tag or confirmation does not hold.
    NotAuthentic = 0x87, false, "handshake not authentic";
    /// The certificate's form.
    CertificateProfile = 0x88, true, "certificate out of profile";
    /// Before or after the certificate's validity.
    CertificateNotValidNow = 0x89, true, "certificate not valid now";
    /// No root of the identity's network vouches for it.
    NotTrusted = 0x8A, true, "root or PLMN not trusted";
    /// A CRL names the certificate.
    Revoked = 0x8B, true, "certificate revoked";
    /// Revocation cannot be told.
    CrlMissingOrOld = 0x8C, true, "CRL missing or too old";
    /// The certificate does not carry what the step needs.
    RoleOrGroup = 0x8D, true, "role or group not in certificate";
    /// Not on the list, or evicted.
    NotAdmitted = 0x8E, true, "not admitted, or evicted";
    /// Ask again with the refresh flag.
    RefreshRequired = 0x8F, false, "refresh of KD required";
    /// Key or certificate is past its time.
    LifetimeOver = 0x90, false, "key or certificate lifetime over";
    /// A bound of this side.
    Limit = 0x91, false, "limit reached";
    /// A message that fits no rule.
    Protocol = 0x92, false, "protocol error";
}

impl From<&Refusal> for Reject {
    fn from(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Profile { .. } | Refusal::ChainLength { .. } => Self::CertificateProfile,
            Refusal::UnknownRoot | Refusal::ForeignRoot { .. } => Self::NotTrusted,
            Refusal::NotYetValid { .. } | Refusal::Expired { .. } => Self::CertificateNotValidNow,
            Refusal::Revoked { .. } => Self::Revoked,
            Refusal::CrlMissing { .. } | Refusal::CrlTooOld { .. } => Self::CrlMissingOrOld,
            Refusal::Role { .. } | Refusal::Group { .. } => Self::RoleOrGroup,
        }
    }
}

impl From<Refusal> for Reject {
    fn from(refusal: Refusal) -> Self {
        Self::from(&refusal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_run_without_a_gap() {
        let causes: Vec<u8> = Reject::ALL.iter().map(|r| r.cause()).collect();
        assert_eq!(causes, (0x80..=0x92).collect::<Vec<_>>());
        assert!((0..=255).all(|c| Reject::from_cause(c).is_none_or(|r| r.cause() == c)));
        assert_eq!(Reject::from_cause(0x93), None);
    }

    #[test]
    fn what_tells_about_certificates_is_tagged() {
        let tagged: Vec<u8> = Reject::ALL.iter().filter(|r| r.tagged_only()).map(|r| r.cause()).collect();
        assert_eq!(tagged, [0x84, 0x88, 0x89, 0x8A, 0x8B, 0x8C, 0x8D, 0x8E]);
    }
}
