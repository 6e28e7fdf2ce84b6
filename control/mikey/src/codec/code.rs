//! Code points. Each is the octet of the wire with names for the values that the standards give, so that a value
//! nobody knows survives decoding and encoding.

macro_rules! code_points {
    ($($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $value:ident = $code:literal $text:literal,)* })*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub u8);

        impl $name {
            $(#[doc = $text] $(#[$vdoc])* pub const $value: Self = Self($code);)*

            /// Name in the standards' words; `None` for a value without one here.
            pub fn name(self) -> Option<&'static str> {
                match self.0 { $($code => Some($text),)* _ => None }
            }
        }

        impl core::fmt::Display for $name {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                match self.name() { Some(name) => f.write_str(name), None => write!(f, "unknown ({})", self.0) }
            }
        }
    )*};
}

code_points! {
    /// Data type of HDR. Source: RFC 3830 6.1, RFC 4650, RFC 4738, RFC 6043, RFC 6509.
    DataType {
        PRE_SHARED = 0 "pre-shared key",
        PSK_VERIFICATION = 1 "PSK verification",
        PUBLIC_KEY = 2 "public key",
        PK_VERIFICATION = 3 "PK verification",
        DH_INIT = 4 "DH init",
        DH_RESPONSE = 5 "DH response",
        ERROR = 6 "error",
        DHHMAC_INIT = 7 "DHHMAC init",
        DHHMAC_RESPONSE = 8 "DHHMAC response",
        RSA_R_INIT = 9 "RSA-R init",
        RSA_R_RESPONSE = 10 "RSA-R response",
        RESOLVE_INIT_PSK = 16 "resolve init PSK",
        RESOLVE_INIT_PK = 17 "resolve init PK",
        RESOLVE_RESPONSE = 18 "resolve response",
        SAKKE = 26 "SAKKE",
    }
    /// Type of a payload, as the "next payload" of the one before names it. Source: RFC 3830 6.1 and its extensions.
    PayloadType {
        LAST = 0 "last payload",
        KEMAC = 1 "KEMAC",
        PKE = 2 "PKE",
        DH = 3 "DH",
        SIGN = 4 "SIGN",
        T = 5 "T",
        ID = 6 "ID",
        CERT = 7 "CERT",
        CHASH = 8 "CHASH",
        V = 9 "V",
        SP = 10 "SP",
        RAND = 11 "RAND",
        ERR = 12 "ERR",
        TR = 13 "TR",
        IDR = 14 "IDR",
        RANDR = 15 "RANDR",
        TP = 16 "TP",
        TICKET = 17 "TICKET",
        KEY_DATA = 20 "Key data",
        GENERAL_EXTENSION = 21 "General Extension",
        SAKKE = 26 "SAKKE",
    }
    /// PRF of HDR (7 bits). Source: RFC 3830 6.1, RFC 6043 6.1.
    PrfFunc {
        MIKEY_1 = 0 "MIKEY-1",
        HMAC_SHA_256 = 1 "PRF-HMAC-SHA-256",
    }
    /// CS ID map type. Source: RFC 3830 6.1, RFC 4563, RFC 6043 6.1.1.
    MapType {
        SRTP_ID = 0 "SRTP-ID",
        EMPTY = 1 "Empty map",
        GENERIC_ID = 2 "GENERIC-ID",
    }
    /// Encryption of KEMAC. Source: RFC 3830 6.2, RFC 6043 6.3.
    EncrAlg {
        NULL = 0 "NULL",
        AES_CM_128 = 1 "AES-CM-128",
        AES_KW_128 = 2 "AES-KW-128",
        AES_CM_256 = 3 "AES-CM-256",
    }
    /// MAC of KEMAC and V. Source: RFC 3830 6.2, RFC 6043 6.3.
    MacAlg {
        NULL = 0 "NULL",
        HMAC_SHA_1_160 = 1 "HMAC-SHA-1-160",
        HMAC_SHA_256_256 = 2 "HMAC-SHA-256-256",
    }
    /// Group of DH. Source: RFC 3830 6.4.
    DhGroup {
        OAKLEY_5 = 0 "OAKLEY 5",
        OAKLEY_1 = 1 "OAKLEY 1",
        OAKLEY_2 = 2 "OAKLEY 2",
    }
    /// Signature type of SIGN (4 bits). Source: RFC 3830 6.5, RFC 6509 2.1.
    SignType {
        RSA_PKCS1 = 0 "RSA PKCS#1 1.5",
        RSA_PSS = 1 "RSA-PSS",
        ECCSI = 2 "ECCSI",
    }
    /// Timestamp type of T. Source: RFC 3830 6.6, RFC 6043 6.6.
    TsType {
        NTP_UTC = 0 "NTP-UTC",
        NTP = 1 "NTP",
        COUNTER = 2 "COUNTER",
        NTP_UTC_32 = 3 "NTP-UTC-32",
    }
    /// Identity type of ID and IDR. Source: RFC 3830 6.7, RFC 6043 6.7.
    IdType {
        NAI = 0 "NAI",
        URI = 1 "URI",
        OCTETS = 2 "octet string",
    }
    /// Certificate type of CERT. Source: RFC 3830 6.7.
    CertType {
        X509 = 0 "X.509",
        X509_URL = 1 "X.509 URL",
        X509_SIGN = 2 "X.509 sign",
        X509_ENCR = 3 "X.509 encr",
    }
    /// Hash of CHASH. Source: RFC 3830 6.8, RFC 6043.
    HashFunc {
        SHA_1 = 0 "SHA-1",
        MD5 = 1 "MD5",
        SHA_256 = 2 "SHA-256",
    }
    /// Protocol type of SP and of GENERIC-ID. Source: RFC 3830 6.10.
    ProtType {
        SRTP = 0 "SRTP",
    }
    /// Parameter of an SRTP policy. Source: RFC 3830 6.10.1 and its IANA registry.
    SrtpParam {
        ENCR_ALG = 0 "encryption algorithm",
        ENCR_KEY_LENGTH = 1 "encryption key length",
        AUTH_ALG = 2 "authentication algorithm",
        AUTH_KEY_LENGTH = 3 "authentication key length",
        SALT_LENGTH = 4 "salt key length",
        PRF = 5 "SRTP PRF",
        KEY_DERIVATION_RATE = 6 "key derivation rate",
        SRTP_ENCR = 7 "SRTP encryption",
        SRTCP_ENCR = 8 "SRTCP encryption",
        FEC_ORDER = 9 "FEC order",
        SRTP_AUTH = 10 "SRTP authentication",
        TAG_LENGTH = 11 "authentication tag length",
        PREFIX_LENGTH = 12 "SRTP prefix length",
        ROC_RATE = 13 "ROC transmission rate",
        SRTP_TAG_LENGTH = 18 "SRTP authentication tag length",
        SRTCP_TAG_LENGTH = 19 "SRTCP authentication tag length",
        AEAD_TAG_LENGTH = 20 "AEAD tag length",
    }
    /// Error number of ERR. Source: RFC 3830 6.12, RFC 6043 6.9.
    ErrorNo {
        AUTH_FAILURE = 0 "authentication failure",
        INVALID_TS = 1 "invalid timestamp",
        INVALID_PRF = 2 "PRF not supported",
        INVALID_MAC = 3 "MAC algorithm not supported",
        INVALID_ENCR = 4 "encryption algorithm not supported",
        INVALID_HASH = 5 "hash function not supported",
        INVALID_DH = 6 "DH group not supported",
        INVALID_ID = 7 "ID not supported",
        INVALID_CERT = 8 "certificate not supported",
        INVALID_SP = 9 "SP not supported",
        INVALID_SP_PARAMETERS = 10 "SP parameters not supported",
        INVALID_DATA_TYPE = 11 "data type not supported",
        UNSPECIFIED = 12 "unspecified error",
        UNSUPPORTED_MESSAGE = 13 "message type not supported",
        INVALID_TICKET = 14 "invalid ticket",
        INVALID_TICKET_POLICY = 15 "invalid ticket policy",
    }
    /// Role of IDR. Source: RFC 6043 6.6, RFC 6509 2.1, TS 33.180 E.7.
    IdRole {
        INITIATOR = 1 "initiator (IDRi)",
        RESPONDER = 2 "responder (IDRr)",
        KMS = 3 "KMS (IDRkms)",
        PSK = 4 "pre-shared key (IDRpsk)",
        APPLICATION = 5 "application (IDRapp)",
        INITIATOR_KMS = 6 "initiator's KMS (IDRkmsi)",
        RESPONDER_KMS = 7 "responder's KMS (IDRkmsr)",
        INITIATOR_UID = 8 "initiator's UID (IDRuidi)",
        RESPONDER_UID = 9 "responder's UID (IDRuidr)",
    }
    /// Type of a General Extension. Source: RFC 3830 6.15, RFC 4563, RFC 5410, TS 33.180 E.
    ExtensionType {
        VENDOR_ID = 0 "vendor ID",
        SDP_IDS = 1 "SDP IDs",
        TESLA_I_KEY = 2 "TESLA I-Key",
        KEY_ID = 3 "Key ID",
        CSB_ID = 4 "CSB ID",
        OMA_BCAST = 5 "OMA BCAST",
        SAKKE_TO_SELF = 6 "SAKKE-to-self",
        KEY_PARAMETERS = 7 "3GPP key parameters",
    }
    /// Type of an entry of the Key ID extension. Source: RFC 4563.
    KeyIdType {
        MBMS_DOMAIN = 0 "MBMS key domain ID",
        MBMS_SERVICE_KEY = 1 "MBMS service key ID",
        MBMS_TRAFFIC_KEY = 2 "MBMS traffic key ID",
    }
    /// Parameter set of SAKKE. Source: RFC 6509 2.1.
    SakkeParams {
        SET_1 = 1 "parameter set 1",
    }
    /// Identifier scheme of SAKKE. Source: RFC 6509 2.1, TS 33.180 E.
    IdScheme {
        TEL_MONTHLY = 1 "tel URI with monthly keys",
        UID_3GPP = 2 "3GPP hashed UID",
    }
    /// Type of a key (4 bits) in Key data. Source: RFC 3830 6.13, RFC 6043 6.13.
    KeyType {
        TGK = 0 "TGK",
        TGK_SALT = 1 "TGK+SALT",
        TEK = 2 "TEK",
        TEK_SALT = 3 "TEK+SALT",
        GTGK = 4 "GTGK",
        GTGK_SALT = 5 "GTGK+SALT",
        MPK = 6 "MPK",
    }
    /// Key validity type (4 bits). Source: RFC 3830 6.13.
    Kv {
        NULL = 0 "null",
        SPI = 1 "SPI",
        INTERVAL = 2 "interval",
    }
    /// Protection algorithm of wrapped key parameters. Source: TS 33.180 E.6.9 by way of MCData payloads.
    ProtectionAlg {
        AES_128_GCM = 1 "AES-128-GCM",
    }
}

impl MacAlg {
    /// Octets of the MAC; `None` for an unknown algorithm.
    pub fn mac_length(self) -> Option<usize> {
        match self {
            Self::NULL => Some(0),
            Self::HMAC_SHA_1_160 => Some(20),
            Self::HMAC_SHA_256_256 => Some(32),
            _ => None,
        }
    }
}

impl DhGroup {
    /// Octets of a value of the group; `None` for an unknown group.
    pub fn value_length(self) -> Option<usize> {
        match self {
            Self::OAKLEY_5 => Some(192),
            Self::OAKLEY_1 => Some(96),
            Self::OAKLEY_2 => Some(128),
            _ => None,
        }
    }
}

impl HashFunc {
    /// Octets of the hash; `None` for an unknown function.
    pub fn hash_length(self) -> Option<usize> {
        match self {
            Self::SHA_1 => Some(20),
            Self::MD5 => Some(16),
            Self::SHA_256 => Some(32),
            _ => None,
        }
    }
}

impl KeyType {
    /// Whether a salt follows the key; `None` for an unknown type.
    pub fn has_salt(self) -> Option<bool> {
        match self.0 {
            0 | 2 | 4 | 6 => Some(false),
            1 | 3 | 5 => Some(true),
            _ => None,
        }
    }
}
