//! What replay writes: protected frames on Ethernet interfaces, or SDUs as they were captured.

use std::collections::VecDeque;
use std::path::Path;
use std::time::Instant;

use pc5_dataplane::batch::Meta;
use pc5_pcap::{Format, Interface, IoChoice};

use super::lane::StageTime;
use super::part::{Part, in_order};
use super::plan::Output;

/// The capture being written. Everything has its place by the sequence of frames, so that the file does not hang on when
/// threads came to what.
pub(crate) struct Writer {
    file: pc5_pcap::Writer,
    /// What goes between frames: each before the frame of that sequence.
    between: VecDeque<(u64, Between)>,
    /// PC5-S frames written.
    signalling: u64,
    /// Time of writing rounds.
    time: StageTime,
}

/// What goes between frames, before it is with the [`Writer`].
pub(crate) enum Between {
    Interface(Interface),
    Signalling(Vec<u8>, Meta),
}

/// A capture that was written whole.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    /// Of user data.
    pub frames: u64,
    /// PC5-S frames among them in the file.
    pub signalling: u64,
    pub octets: u64,
    pub io_path: String,
}

impl Writer {
    /// Begins a pcapng file; the name appears when it is complete.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        let file = pc5_pcap::Writer::create_with(path, Format::PcapNg, IoChoice::Here)?;
        Ok(Self { file, between: VecDeque::new(), signalling: 0, time: StageTime::default() })
    }
}

impl Between {
    /// The output interface of an input interface.
    pub(crate) fn interface(interface: &Interface, output: Output, from_protected: bool) -> Self {
        let written = match (output, from_protected) {
            (Output::Frames, false) => interface.carrier(),
            (Output::Frames, true) | (Output::Sdus, false) => interface.clone(),
            (Output::Sdus, true) => match interface.carried() {
                Some(carried) => Interface {
                    link_type: carried.link_type,
                    snap_len: carried.snap_len,
                    description: None,
                    ..interface.clone()
                },
                None => interface.clone(),
            },
        };
        Self::Interface(written)
    }
}

impl Writer {
    /// Puts something before the frame of a sequence, behind what was put there earlier.
    pub(crate) fn add(&mut self, before: u64, between: Between) {
        // Control asks in order, but for what was read ahead of it.
        let i = self.between.partition_point(|(sequence, _)| *sequence <= before);
        self.between.insert(i, (before, between));
    }

    /// Writes what the lanes rendered of a round, in order of arrival.
    pub(crate) fn write(&mut self, parts: &[Box<Part>]) -> anyhow::Result<()> {
        let began = Instant::now();
        let runs = in_order(parts.len(), |p, i| parts[p].written.get(i).copied());
        for (p, mut run) in runs {
            let part = &parts[p];
            while let Some(&(before, _)) = self.between.front()
                && before <= part.written[run.end - 1]
            {
                let first = run.start + part.written[run.clone()].partition_point(|s| *s < before);
                self.file.write_records(&part.records, run.start..first)?;
                run.start = first;
                self.write_between()?;
            }
            self.file.write_records(&part.records, run)?;
        }
        let frames = parts.iter().map(|p| p.notes().len() as u64).sum();
        self.time.add(&StageTime { spent: began.elapsed(), frames, octets: 0 });
        Ok(())
    }

    /// Time of writing rounds.
    pub(crate) fn time(&self) -> StageTime {
        self.time
    }

    fn write_between(&mut self) -> anyhow::Result<()> {
        match self.between.pop_front() {
            Some((_, Between::Interface(interface))) => {
                self.file.add_interface(&interface)?;
            }
            Some((_, Between::Signalling(frame, at))) => {
                self.file.write(at.interface, at.timestamp, frame.len() as u32, &frame)?;
                self.signalling += 1;
            }
            None => {}
        }
        Ok(())
    }

    /// Completes the file and gives it its name.
    pub(crate) fn finish(mut self) -> anyhow::Result<Written> {
        while !self.between.is_empty() {
            self.write_between()?;
        }
        let io_path = self.file.io_path().to_owned();
        let (_, stats) = self.file.finish()?;
        let (frames, signalling) = (stats.records - self.signalling, self.signalling);
        Ok(Written { frames, signalling, octets: stats.octets, io_path })
    }
}
