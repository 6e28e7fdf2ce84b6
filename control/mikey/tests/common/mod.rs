//! Reading vectors, and small makers that several tests use.
#![allow(dead_code, unreachable_pub)]

pub mod generate;
pub mod world;

use mikey_sakke::NtpTime;
use serde_json::Value;

/// A file of `tests/vectors`.
pub fn vectors(file: &str) -> Value {
    let path = format!("{}/tests/vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

pub fn octets(v: &Value) -> Vec<u8> {
    hex::decode(v.as_str().unwrap()).unwrap()
}

pub fn text(v: &Value) -> &str {
    v.as_str().unwrap()
}

pub fn number(v: &Value) -> u64 {
    v.as_u64().unwrap()
}

/// A number given as hexadecimal octets.
pub fn hex_number(v: &Value) -> u64 {
    u64::from_str_radix(v.as_str().unwrap(), 16).unwrap()
}

pub fn list(v: &Value) -> &[Value] {
    v.as_array().unwrap()
}

/// T of every published message.
pub fn published_time() -> NtpTime {
    NtpTime::from_wire(0xec89_8da8_0000_0000)
}
