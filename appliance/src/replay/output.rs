//! What replay writes: protected frames on Ethernet interfaces, or SDUs as they were captured.

use std::path::Path;

use pc5_dataplane::batch::{Batch, Meta};
use pc5_pcap::{Format, Interface};

use super::plan::Output;

/// The capture being written.
pub(crate) struct Writer(pc5_pcap::Writer);

/// A capture that was written whole.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub frames: u64,
    pub octets: u64,
    pub io_path: String,
}

impl Writer {
    /// Begins a pcapng file; the name appears when it is complete.
    pub(crate) fn create(path: &Path) -> anyhow::Result<Self> {
        Ok(Self(pc5_pcap::Writer::create(path, Format::PcapNg)?))
    }

    /// One output interface an input interface.
    pub(crate) fn add_interface(
        &mut self,
        interface: &Interface,
        output: Output,
        from_protected: bool,
    ) -> anyhow::Result<()> {
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
        self.0.add_interface(&written)?;
        Ok(())
    }

    /// Writes one slot of a batch; its original length grows by what its captured length grew.
    #[inline]
    pub(crate) fn write(&mut self, batch: &Batch, slot: usize, output: Output) -> anyhow::Result<()> {
        let octets = match output {
            Output::Frames => batch.frame(slot),
            Output::Sdus => batch.data(slot),
        };
        let meta = &batch.meta()[slot];
        let original_len = meta.uncaptured.wrapping_add(octets.len() as u32);
        self.0.write(meta.interface, meta.timestamp, original_len, octets)?;
        Ok(())
    }

    /// Writes a PC5-S frame at the time and on the interface of a user-data frame.
    pub(crate) fn write_signalling(&mut self, frame: &[u8], at: Meta) -> anyhow::Result<()> {
        self.0.write(at.interface, at.timestamp, frame.len() as u32, frame)?;
        Ok(())
    }

    /// Completes the file and gives it its name.
    pub(crate) fn finish(self) -> anyhow::Result<Written> {
        let io_path = self.0.io_path().to_owned();
        let (_, stats) = self.0.finish()?;
        Ok(Written { frames: stats.records, octets: stats.octets, io_path })
    }
}
