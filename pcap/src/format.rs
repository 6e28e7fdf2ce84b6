//! Numbers of the two formats.
//!
//! Source: draft-ietf-opsawg-pcap (pcap), draft-ietf-opsawg-pcapng (pcapng).

/// Which of the two formats a capture has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// Classic pcap: one header, one interface.
    Pcap,
    /// pcapng: sections of blocks, any number of interfaces.
    PcapNg,
}

impl Format {
    /// The usual name of the format.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pcap => "pcap",
            Self::PcapNg => "pcapng",
        }
    }
}

/// Values fixed by the formats' descriptions.
pub(crate) mod spec {
    /// pcap, timestamps in microseconds.
    pub(crate) const MAGIC_MICRO: u32 = 0xA1B2_C3D4;
    /// pcap, timestamps in nanoseconds.
    pub(crate) const MAGIC_NANO: u32 = 0xA1B2_3C4D;
    /// pcap of Alexey Kuznetzov's modified libpcap: a longer record header.
    pub(crate) const MAGIC_MODIFIED: u32 = 0xA1B2_CD34;
    /// pcap of IXIA hardware captures.
    pub(crate) const MAGIC_IXIA_HARDWARE: u32 = 0x1C00_01AC;
    /// pcap of IXIA software captures.
    pub(crate) const MAGIC_IXIA_SOFTWARE: u32 = 0x1C00_01AB;
    /// The only version of pcap in use.
    pub(crate) const PCAP_VERSION: (u16, u16) = (2, 4);
    /// Octets of the pcap file header.
    pub(crate) const PCAP_HEADER_LEN: usize = 24;
    /// Octets of a pcap record header.
    pub(crate) const PCAP_RECORD_LEN: usize = 16;

    /// Section Header Block; the same in both byte orders.
    pub(crate) const SECTION_HEADER: u32 = 0x0A0D_0D0A;
    /// Byte-Order Magic of a Section Header Block.
    pub(crate) const BYTE_ORDER: u32 = 0x1A2B_3C4D;
    /// Interface Description Block.
    pub(crate) const INTERFACE_DESCRIPTION: u32 = 1;
    /// Packet Block, obsolete.
    pub(crate) const PACKET: u32 = 2;
    /// Simple Packet Block.
    pub(crate) const SIMPLE_PACKET: u32 = 3;
    /// Enhanced Packet Block.
    pub(crate) const ENHANCED_PACKET: u32 = 6;
    /// Octets of the shortest Section Header Block.
    pub(crate) const SECTION_HEADER_LEN: usize = 28;
    /// Octets of the shortest Interface Description Block.
    pub(crate) const INTERFACE_DESCRIPTION_LEN: usize = 20;
    /// Octets of a Simple Packet Block without its data.
    pub(crate) const SIMPLE_PACKET_LEN: usize = 16;
    /// Octets of an Enhanced Packet Block, and of a Packet Block, without data and options.
    pub(crate) const ENHANCED_PACKET_LEN: usize = 32;
    /// Octets of a block with an empty body.
    pub(crate) const BLOCK_LEN: usize = 12;

    /// End of a list of options.
    pub(crate) const OPT_END: u16 = 0;
    /// Interface name, UTF-8.
    pub(crate) const IF_NAME: u16 = 2;
    /// Interface description, UTF-8.
    pub(crate) const IF_DESCRIPTION: u16 = 3;
    /// Timestamp resolution, one octet.
    pub(crate) const IF_TSRESOL: u16 = 9;
    /// Frame check sequence length, one octet.
    pub(crate) const IF_FCSLEN: u16 = 13;
    /// Seconds added to every timestamp, signed 64 bits.
    pub(crate) const IF_TSOFFSET: u16 = 14;
}

/// Our own choices.
pub mod limits {
    /// Octets of a file asked of the system at once, by a thread of its own.
    pub const BLOCK_LEN: usize = 1 << 20;
    /// Octets asked of a pipe at once, in the parser's own thread: it gives less anyway, and what was just copied is
    /// still in the core's second cache when it is parsed.
    pub const PIPE_BLOCK_LEN: usize = 256 << 10;
    /// Largest snap length of tcpdump, octets.
    pub const SNAP_LEN: u32 = 262_144;
    /// Longest frame, octets: one of the largest snap length with what protecting it adds.
    pub const MAX_FRAME_LEN: u32 = SNAP_LEN + 64;
    /// Longest pcapng block that is looked into (packets, section headers, interface descriptions), octets. Other
    /// blocks are passed over whatever their length.
    pub const MAX_PARSED_LEN: usize = 512 << 10;
    /// Most interfaces of a capture, over all its sections.
    pub const MAX_INTERFACES: usize = 131_072;
    /// From so many interfaces on, one that is described exactly like the one at its place in the section before is
    /// taken for the same, so that small captures strung together without end stay readable.
    pub const REUSE_INTERFACES_FROM: usize = 65_536;
    /// Most octets kept of all interfaces' names and descriptions.
    pub const MAX_INTERFACE_TEXT_LEN: usize = 16 << 20;
}
