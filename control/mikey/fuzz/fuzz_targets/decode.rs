//! `cargo +nightly fuzz run decode` in `control/mikey/`. The body is `mikey_sakke::fuzz::decode`; `tests/corpus.rs` replays the
//! corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mikey_sakke::fuzz::decode(octets));
