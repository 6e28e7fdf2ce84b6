//! Sending through AF_XDP, over the `xdp` crate. Its rules - packets do not outlive their memory, memory does not go before
//! the socket - are kept by one type that owns all of them.

use std::error::Error;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use xdp::nic::NicIndex;
use xdp::slab::{Slab, StackSlab};
use xdp::socket::{XdpSocket, XdpSocketBuilder};
use xdp::umem::{FrameSize, UmemCfgBuilder};
use xdp::{RingConfigBuilder, Umem};

/// A socket that sends on one queue of an interface. Fields are dropped in order: the socket before its memory.
pub(crate) struct XdpSender {
    socket: XdpSocket,
    tx: xdp::TxRing,
    completion: xdp::CompletionRing,
    /// Never filled: nothing is received here. The kernel wants it all the same.
    _fill: xdp::FillRing,
    umem: Umem,
}

/// Frames under way at most, a power of two; the rings have as many entries, so that they never fill up before. Two bursts, and
/// about half of what a processor's backlog takes (`net.core.netdev_max_backlog`, 1,000): where frames go there, as on veth
/// with receive packet steering, a sender waits for room instead of having them dropped.
const FRAMES: u32 = 512;
/// Octets that the crate leaves free before each frame.
const RESERVED: usize = 256;
/// Frames put into the ring at a time.
const GROUP: usize = 64;
/// Frames that a call sends at most by default; newer kernels let us raise it.
const SOL_XDP: libc::c_int = 283;
const XDP_MAX_TX_SKB_BUDGET: libc::c_int = 9;

impl XdpSender {
    /// Longest frame that a place in the shared memory holds.
    pub(crate) const MAX_FRAME: usize = 4_096 - RESERVED;

    /// Binds to a queue, for frames of at most `longest` octets. Copy mode works with every driver; zero copy takes the
    /// queue over, receiving included.
    pub(crate) fn open(interface: u32, queue: u32, longest: usize, zero_copy: bool) -> io::Result<Self> {
        let frame_size = if longest + RESERVED <= 2_048 { FrameSize::TwoK } else { FrameSize::FourK };
        let config = UmemCfgBuilder { frame_size, frame_count: FRAMES, ..Default::default() };
        let umem = Umem::map(config.build().map_err(io::Error::other)?)?;
        let mut builder = XdpSocketBuilder::new().map_err(cause)?;
        let rings =
            RingConfigBuilder { rx_count: 0, tx_count: FRAMES, fill_count: 64, completion_count: FRAMES };
        let (rings, mut flags) =
            builder.build_rings(&umem, rings.build().map_err(io::Error::other)?).map_err(cause)?;
        if zero_copy {
            flags.force_zerocopy();
        } else {
            flags.force_copy();
        }
        let socket = builder.bind(NicIndex::new(interface), queue, flags).map_err(cause)?;
        let tx = rings.tx_ring.ok_or_else(|| io::Error::other("no ring to send from"))?;
        let it = Self { socket, tx, completion: rings.completion_ring, _fill: rings.fill_ring, umem };
        // Only saves calls; kernels before 6.17 send 32 frames a call.
        let _ = super::sys::set_option(it.fd(), SOL_XDP, XDP_MAX_TX_SKB_BUDGET, 512);
        Ok(it)
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the socket's, which lives as long as the borrow of `self`.
        unsafe { BorrowedFd::borrow_raw(self.socket.as_raw_fd()) }
    }

    /// Takes back what the kernel has sent; says how many frames have room.
    pub(crate) fn reclaim(&mut self) -> usize {
        self.completion.dequeue(&mut self.umem, FRAMES as usize);
        self.umem.allocatable()
    }

    /// Puts frames into the ring, each given as parts one behind the other, until there is no room; says how many. They
    /// must not be longer than announced.
    pub(crate) fn put<'a>(&mut self, mut frames: impl Iterator<Item = [&'a [u8]; 3]>) -> usize {
        let mut total = 0;
        loop {
            let mut group = StackSlab::<GROUP>::new();
            while group.available() > 0 && self.umem.allocatable() > 0 {
                let Some(parts) = frames.next() else { break };
                // SAFETY: the packet goes into the ring or back into the memory within this call; `self` owns both.
                let Some(mut packet) = (unsafe { self.umem.alloc() }) else { break };
                for part in parts {
                    // Too long for its place: cut off. The caller has seen to it that this does not happen.
                    let _ = packet.append(part);
                }
                if let Some(packet) = group.push_front(packet) {
                    self.umem.free_packet(packet);
                    break;
                }
            }
            let wanted = group.len();
            if wanted == 0 {
                return total;
            }
            // SAFETY: the memory that owns the packets outlives the socket, see the order of the fields.
            let sent = unsafe { self.tx.send(&mut group) };
            total += sent;
            while let Some(packet) = group.pop_back() {
                self.umem.free_packet(packet);
            }
            if sent < wanted {
                return total;
            }
        }
    }

    /// Lets the kernel send what is in the ring.
    pub(crate) fn kick(&self) -> io::Result<()> {
        rustix::net::send(self.fd(), &[], rustix::net::SendFlags::DONTWAIT)?;
        Ok(())
    }
}

/// The system's error inside one of the crate.
fn cause(e: xdp::socket::SocketError) -> io::Error {
    match e.source().and_then(|s| s.downcast_ref::<io::Error>()).and_then(io::Error::raw_os_error) {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::other(e.to_string()),
    }
}
