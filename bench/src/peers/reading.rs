//! Reading captures beside `pcap-parser`: every frame's octets, time and lengths are looked at by both, and both must come to the
//! same sums before the clock starts.

use std::fs::{self, File};
use std::hint::black_box;
use std::io::Read;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use pc5_pcap::stream::BlockSource;
use pc5_pcap::{Format, Interface, IoChoice, Reader, Writer};
use pcap_parser::traits::PcapReaderIterator;
use pcap_parser::{Block, LegacyPcapReader, PcapBlockOwned, PcapError, PcapNGReader};

use super::Figure;
use super::measure::median;

/// Octets of frames in a capture: more than the caches hold.
const CAPTURED: usize = 64 << 20;

/// What both must agree on.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
struct Sums {
    frames: u64,
    /// Octets of all frames.
    octets: u64,
    /// Of first octets, times and original lengths, order counting.
    check: u64,
}

impl Sums {
    #[inline(always)]
    fn look(&mut self, data: &[u8], time: u64, original_len: u32) {
        self.frames += 1;
        self.octets += data.len() as u64;
        let first = data.first().copied().unwrap_or_default();
        let seen = u64::from(first) + time + u64::from(original_len);
        self.check = self.check.wrapping_mul(3).wrapping_add(seen);
    }
}

/// Times reading a capture of frames of `len` octets: from a file that lies in the page cache, or from memory. Ours first.
///
/// # Errors
/// Folder `at` cannot be written, or the readers disagree.
pub fn measure_reading(
    at: &Path,
    format: Format,
    in_file: bool,
    len: usize,
    rounds: usize,
) -> Result<Vec<Figure>> {
    let octets = capture(format, len)?;
    let path = at.join("reading.tmp");
    if in_file {
        fs::write(&path, &octets).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let open = |choice| -> Result<Sums> { chunks(Reader::open_with(&path, choice)?) };
    let memory = octets.as_slice();
    type Way<'a> = (&'static str, Box<dyn Fn() -> Result<Sums> + 'a>);
    let ways: Vec<Way<'_>> = if in_file {
        vec![
            ("pc5", Box::new(|| open(IoChoice::Auto))),
            ("pc5 io_uring ahead", Box::new(|| open(IoChoice::Ahead))),
            ("pc5 read ahead", Box::new(|| open(IoChoice::Plain))),
            ("pcap-parser", Box::new(|| parser(format, File::open(&path)?))),
        ]
    } else {
        vec![
            ("pc5", Box::new(|| chunks(Reader::from_read(black_box(memory))?))),
            ("pcap-parser", Box::new(|| parser(format, black_box(memory)))),
        ]
    };
    let expected = Sums { frames: (CAPTURED / len) as u64, ..ways[0].1()? };
    for (name, way) in &ways {
        let sums = way()?;
        if sums != expected {
            bail!("{name} reads {sums:?} where others read {expected:?}");
        }
    }
    let mut times = vec![Vec::with_capacity(rounds); ways.len()];
    for round in 0..rounds {
        for turn in 0..ways.len() {
            let i = (turn + round) % ways.len();
            let began = Instant::now();
            black_box(ways[i].1()?);
            times[i].push(began.elapsed().as_nanos() as f64 / expected.frames as f64);
        }
    }
    if in_file {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(ways.iter().zip(times).map(|((n, _), t)| Figure { peer: (*n).into(), ns: median(t) }).collect())
}

fn capture(format: Format, len: usize) -> Result<Vec<u8>> {
    let mut writer = Writer::to_write(Vec::new(), format);
    let port = writer.add_interface(&Interface::ethernet())?;
    let mut data = vec![0; len];
    for n in 0..(CAPTURED / len) as u64 {
        data[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        writer.write(port, 1_700_000_000_000_000_000 + n * 1_000, len as u32, &data)?;
    }
    Ok(writer.finish()?.0)
}

fn chunks<S: BlockSource>(mut reader: Reader<S>) -> Result<Sums> {
    let mut sums = Sums::default();
    while let Some(chunk) = reader.next_chunk()? {
        for record in chunk {
            sums.look(record.data, record.ticks, record.original_len);
        }
    }
    Ok(sums)
}

/// `pcap-parser`'s own loop, with a buffer that suits it: larger ones were slower.
fn parser(format: Format, input: impl Read) -> Result<Sums> {
    let opened = |e| anyhow::anyhow!("pcap-parser does not begin: {e:?}");
    match format {
        Format::Pcap => parser_loop(LegacyPcapReader::new(1 << 16, input).map_err(opened)?),
        Format::PcapNg => parser_loop(PcapNGReader::new(1 << 16, input).map_err(opened)?),
    }
}

fn parser_loop(mut reader: impl PcapReaderIterator) -> Result<Sums> {
    let mut sums = Sums::default();
    loop {
        match reader.next() {
            Ok((len, block)) => {
                match block {
                    PcapBlockOwned::Legacy(record) => {
                        // The captures are of nanoseconds.
                        let time = u64::from(record.ts_sec) * 1_000_000_000 + u64::from(record.ts_usec);
                        sums.look(&record.data[..record.caplen as usize], time, record.origlen);
                    }
                    PcapBlockOwned::NG(Block::EnhancedPacket(record)) => {
                        let time = u64::from(record.ts_high) << 32 | u64::from(record.ts_low);
                        sums.look(&record.data[..record.caplen as usize], time, record.origlen);
                    }
                    _ => {}
                }
                reader.consume(len);
            }
            Err(PcapError::Eof) => return Ok(sums),
            Err(PcapError::Incomplete(_)) => {
                reader.refill().map_err(|e| anyhow::anyhow!("pcap-parser does not go on: {e:?}"))?;
            }
            Err(error) => bail!("pcap-parser: {error:?}"),
        }
    }
}
