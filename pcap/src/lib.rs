//! Streaming capture files: pcap and pcapng, read and written with bounded memory.
//!
//! ```text
//!  file, pipe, any Read                                      file, any Write
//!        | blocks of 1 MiB (stream)                                 ^ blocks of 1 MiB (stream)
//!        v                                                          |
//!     Reader --- next() / next_chunk() ---> Record<'_> ---> Writer::write()
//!                                              |
//!                                           Pacer::due()
//! ```
//!
//! * [`Reader`] recognises the format by content (pcap of both byte orders with micro- or nanoseconds, pcapng
//!   of both byte orders with any number of sections and interfaces), parses blocks where they lie and lends
//!   out [`Record`]s: no allocation, no copy and no call into the system for a record. Everything before a
//!   defect is delivered, then a [`PcapError`] names the octet, what was found and what was expected.
//! * [`Writer`] writes either format; timestamps and original lengths survive exactly.
//! * [`stream`] moves the blocks: from the page cache at once, else `io_uring` on a thread of its own where the kernel
//!   allows it, plain `read(2)` and `write(2)` elsewhere; [`Reader::io_path`] and [`Writer::io_path`] say which and why.
//! * [`replay`] says when the next frame is due.
//!
//! ```
//! # fn main() -> Result<(), pc5_pcap::PcapError> {
//! use pc5_pcap::{Format, Interface, Reader, Writer};
//!
//! let mut writer = Writer::to_write(Vec::new(), Format::PcapNg);
//! let port = writer.add_interface(&Interface::ethernet())?;
//! writer.write(port, 1_700_000_000_000_000_000, 60, &[0; 60])?;
//! let (file, _) = writer.finish()?;
//!
//! let mut reader = Reader::from_read(file.as_slice())?;
//! while let Some(record) = reader.next()? {
//!     assert_eq!(record.data.len(), 60);
//!     assert_eq!(record.timestamp_ns, 1_700_000_000_000_000_000);
//! }
//! assert_eq!(reader.interfaces().len(), 1);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]

pub mod format;
#[doc(hidden)]
pub mod fuzz;
pub mod replay;
pub mod stream;

mod error;
mod interface;
mod parse;
mod read;
mod write;

pub use error::{Expected, PcapError};
pub use format::Format;
pub use interface::{Carried, Interface, LinkType, NotCarried, Resolution};
pub use read::{Chunk, Memory, ReadStats, Reader, Record};
pub use replay::{Pace, Pacer};
pub use stream::{FileSink, FileSource, IoChoice, ReadSource, WriteSink};
pub use write::{Records, WriteStats, Writer};
