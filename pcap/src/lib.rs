//! Streaming capture files: pcap and pcapng, read and written with bounded memory.
#![forbid(unsafe_code)]
