//! `cargo +nightly fuzz run open` in `control/mikey/`. The body is `mikey_sakke::fuzz::open`; `tests/corpus.rs` replays the
//! corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| mikey_sakke::fuzz::open(octets));
