//! `cargo +nightly fuzz run read` in `pcap/`. The body is `pc5_pcap::fuzz::read`; `tests/corpus.rs` replays the corpus.
#![no_main]

libfuzzer_sys::fuzz_target!(|octets: &[u8]| pc5_pcap::fuzz::read(octets));
