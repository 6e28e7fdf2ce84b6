//! System calls that no maintained crate offers safely: packet socket options, `sendmmsg` and `recvmmsg` on arrays that are
//! made once and used for every burst.
//!
//! Nothing here keeps a pointer from one call to the next: headers are filled in from borrowed slices right before the
//! call that reads them.

use std::io;
use std::mem::{size_of, zeroed};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::ptr;

use socket2::{SockAddr, SockAddrStorage, SockFilter};

/// Types that `setsockopt` may read: any octets of them are initialised and they hold no pointer of ours.
///
/// # Safety
/// `repr(C)`, without padding.
unsafe trait Plain: Copy {}
// SAFETY: an integer.
unsafe impl Plain for libc::c_int {}
// SAFETY: `repr(C)`, four-octet fields only.
unsafe impl Plain for libc::tpacket_req {}
// SAFETY: `repr(C)`, four-octet fields only.
unsafe impl Plain for libc::tpacket_req3 {}
// SAFETY: `repr(C)`: 4 + 2 + 2 + 8 octets, no padding.
unsafe impl Plain for libc::packet_mreq {}

fn set<T: Plain>(fd: BorrowedFd<'_>, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: `value` is valid for `size_of::<T>()` octets, all initialised (`Plain`); the kernel only reads them.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// A packet socket option with an integer value.
pub(crate) fn set_packet_option(fd: BorrowedFd<'_>, name: libc::c_int, value: i32) -> io::Result<()> {
    set(fd, libc::SOL_PACKET, name, &value)
}

/// An option of any level with an integer value.
pub(crate) fn set_option(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    value: i32,
) -> io::Result<()> {
    set(fd, level, name, &value)
}

/// One of a socket's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Buffer {
    /// Of received messages.
    Receive,
    /// Of messages to send.
    Send,
}

/// Asks for a buffer of `octets`: beyond the system's limit where we may, else up to it.
pub(crate) fn grow_buffer(fd: BorrowedFd<'_>, buffer: Buffer, octets: usize) -> io::Result<()> {
    let (force, polite) = match buffer {
        Buffer::Receive => (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        Buffer::Send => (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    };
    let octets = i32::try_from(octets).unwrap_or(i32::MAX);
    set(fd, libc::SOL_SOCKET, force, &octets).or_else(|_| set(fd, libc::SOL_SOCKET, polite, &octets))
}

/// A packet socket option with an integer value, read.
pub(crate) fn packet_option(fd: BorrowedFd<'_>, name: libc::c_int) -> io::Result<i32> {
    let mut value: libc::c_int = 0;
    let mut len = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `value` is valid for writes of `len` octets and any octets are an integer.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            name,
            ptr::from_mut(&mut value).cast(),
            &raw mut len,
        )
    };
    if rc == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Makes the receive ring of frames (TPACKET_V2).
pub(crate) fn set_frame_ring(fd: BorrowedFd<'_>, request: &libc::tpacket_req) -> io::Result<()> {
    set_packet_option(fd, libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V2 as i32)?;
    set(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, request)
}

/// Makes the receive ring of blocks (TPACKET_V3).
pub(crate) fn set_block_ring(fd: BorrowedFd<'_>, request: &libc::tpacket_req3) -> io::Result<()> {
    set_packet_option(fd, libc::PACKET_VERSION, libc::tpacket_versions::TPACKET_V3 as i32)?;
    set(fd, libc::SOL_PACKET, libc::PACKET_RX_RING, request)
}

/// Takes frames for any address on the interface, as long as the socket is open.
pub(crate) fn set_promiscuous(fd: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let request = libc::packet_mreq {
        mr_ifindex: interface as i32,
        mr_type: libc::PACKET_MR_PROMISC as u16,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)
}

/// Frames that the socket's filter passed, and of these what the kernel had no room for, since the last call.
pub(crate) fn take_packet_statistics(fd: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    // The block ring's answer has one field more; the kernel writes what its ring version has.
    let mut stats = [0u32; 3];
    let mut len = size_of_val(&stats) as libc::socklen_t;
    // SAFETY: `stats` is valid for writes of `len` octets and any octets are integers.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            stats.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if rc == 0 { Ok((stats[0].into(), stats[1].into())) } else { Err(io::Error::last_os_error()) }
}

/// Messages that the kernel dropped at a socket since it was made, modulo 2^32.
pub(crate) fn socket_drops(fd: BorrowedFd<'_>) -> io::Result<u32> {
    const DROPS: usize = libc::SK_MEMINFO_DROPS as usize;
    let mut info = [0u32; DROPS + 1];
    let mut len = size_of_val(&info) as libc::socklen_t;
    // SAFETY: `info` is valid for writes of `len` octets and any octets are integers.
    let rc = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_MEMINFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if rc == 0 { Ok(info[DROPS]) } else { Err(io::Error::last_os_error()) }
}

/// Gives a classic BPF program to an option other than `SO_ATTACH_FILTER`, which socket2 has.
pub(crate) fn set_program(
    fd: BorrowedFd<'_>,
    level: libc::c_int,
    name: libc::c_int,
    program: &[SockFilter],
) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: program.len() as u16,
        // `SockFilter` is a transparent `sock_filter`; the kernel does not write to it.
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `program` and the instructions it points at live through the call; the kernel copies them.
    let rc = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            name,
            ptr::from_ref(&program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    if rc == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The address that binds a packet socket to an interface and an EtherType; 0 for sending only.
pub(crate) fn link_address(interface: u32, ethertype: u16) -> SockAddr {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: `sockaddr_ll` is smaller than the storage, aligned no stricter, and valid for any octets.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = ethertype.to_be();
    address.sll_ifindex = interface as i32;
    // SAFETY: the storage holds a `sockaddr_ll` of that length.
    unsafe { SockAddr::new(storage, size_of::<libc::sockaddr_ll>() as libc::socklen_t) }
}

/// MTU of an interface, octets without the Ethernet header.
pub(crate) fn interface_mtu(fd: BorrowedFd<'_>, name: &str) -> io::Result<u32> {
    let request = query(fd, name, libc::SIOCGIFMTU as _)?;
    // SAFETY: the call filled in this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu } as u32)
}

/// Ethernet address of an interface.
pub(crate) fn interface_address(fd: BorrowedFd<'_>, name: &str) -> io::Result<[u8; 6]> {
    let request = query(fd, name, libc::SIOCGIFHWADDR as _)?;
    // SAFETY: the call filled in this member of the union.
    let [a, b, c, d, e, f, ..] = unsafe { request.ifr_ifru.ifru_hwaddr }.sa_data.map(|octet| octet as u8);
    Ok([a, b, c, d, e, f])
}

/// Whether an interface is set up and has a carrier.
pub(crate) fn interface_is_running(fd: BorrowedFd<'_>, name: &str) -> io::Result<bool> {
    let request = query(fd, name, libc::SIOCGIFFLAGS as _)?;
    // SAFETY: the call filled in this member of the union.
    let flags = i32::from(unsafe { request.ifr_ifru.ifru_flags });
    Ok(flags & libc::IFF_UP != 0 && flags & libc::IFF_RUNNING != 0)
}

/// Asks about an interface with one of the `SIOCGIF...` calls, which write within `ifreq`.
fn query(fd: BorrowedFd<'_>, name: &str, what: libc::Ioctl) -> io::Result<libc::ifreq> {
    let mut request = interface_request(name)?;
    // SAFETY: the kernel reads the name and writes an answer within `request`.
    let rc = unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut request) };
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(request) }
}

/// A request about an interface, otherwise zero.
fn interface_request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { zeroed() };
    if name.len() >= request.ifr_name.len() || name.as_bytes().contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not an interface name"));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

/// Makes an opened `/dev/net/tun` a device without offloads and packet information; says its name.
pub(crate) fn make_tun(fd: BorrowedFd<'_>, name: &str, ethernet: bool) -> io::Result<String> {
    let mut request = interface_request(name)?;
    let kind = if ethernet { libc::IFF_TAP } else { libc::IFF_TUN };
    request.ifr_ifru.ifru_flags = (kind | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the kernel reads name and flags, and writes the name, within `request`.
    if unsafe { libc::ioctl(fd.as_raw_fd(), libc::TUNSETIFF as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let octets = request.ifr_name.iter().map(|&c| c as u8).take_while(|&c| c != 0).collect();
    String::from_utf8(octets).map_err(io::Error::other)
}

/// Sets an interface's MTU and sets it up.
pub(crate) fn bring_up(name: &str, mtu: usize) -> io::Result<()> {
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::DGRAM, None)?;
    let mut request = interface_request(name)?;
    request.ifr_ifru.ifru_mtu = i32::try_from(mtu).map_err(io::Error::other)?;
    // SAFETY: the kernel reads name and MTU within `request`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFMTU as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    let mut request = query(socket.as_fd(), name, libc::SIOCGIFFLAGS as _)?;
    // SAFETY: the call filled in this member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    request.ifr_ifru.ifru_flags = flags | libc::IFF_UP as libc::c_short;
    // SAFETY: the kernel reads name and flags within `request`.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// One message of a burst to send.
#[derive(Clone, Copy)]
pub(crate) struct Outgoing<'a> {
    /// Sent one behind the other.
    pub(crate) parts: [&'a [u8]; 3],
    /// Where to; `None` on a bound packet socket.
    pub(crate) to: Option<SocketAddr>,
    /// The kernel cuts the message into datagrams of this many octets.
    pub(crate) segment: Option<u16>,
}

const PARTS: usize = 3;
/// Octets of control data: one header and an integer, aligned.
const CONTROL: usize = 64;

/// Room for one control message, aligned as its header wants.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// Arrays for `sendmmsg`.
pub(crate) struct SendBurst {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<[libc::iovec; PARTS]>,
    names: Vec<SockAddr>,
    control: Vec<Control>,
}

// SAFETY: the pointers in the arrays are written before each call and never read after it.
unsafe impl Send for SendBurst {}

impl SendBurst {
    /// Room for `capacity` messages a call, at least one.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        // SAFETY: all zero is a valid `mmsghdr`.
        let header: libc::mmsghdr = unsafe { zeroed() };
        let vector = libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 };
        Self {
            headers: vec![header; capacity],
            vectors: vec![[vector; PARTS]; capacity],
            names: Vec::with_capacity(capacity),
            control: vec![Control([0; CONTROL]); capacity],
        }
    }

    /// Sends `messages`, or the first of them up to the capacity; says how many went.
    ///
    /// # Errors
    /// That of the first message, none having been sent.
    pub(crate) fn send<'a>(
        &mut self,
        fd: BorrowedFd<'_>,
        messages: impl Iterator<Item = Outgoing<'a>>,
    ) -> io::Result<usize> {
        let mut n = 0;
        self.names.clear();
        for m in messages.take(self.headers.len()) {
            let vectors = &mut self.vectors[n];
            for (v, part) in vectors.iter_mut().zip(m.parts) {
                *v = libc::iovec { iov_base: part.as_ptr().cast_mut().cast(), iov_len: part.len() };
            }
            let used = m.parts.iter().rposition(|p| !p.is_empty()).map_or(0, |p| p + 1);
            let header = &mut self.headers[n].msg_hdr;
            header.msg_iov = vectors.as_mut_ptr();
            header.msg_iovlen = used as _;
            header.msg_name = ptr::null_mut();
            header.msg_namelen = 0;
            if let Some(to) = m.to {
                // Within capacity: the array does not move, so the pointer stays good until the call.
                self.names.push(to.into());
                if let Some(name) = self.names.last() {
                    header.msg_name = name.as_ptr().cast_mut().cast();
                    header.msg_namelen = name.len();
                }
            }
            header.msg_control = ptr::null_mut();
            header.msg_controllen = 0;
            if let Some(segment) = m.segment {
                let control = &mut self.control[n];
                header.msg_control = control.0.as_mut_ptr().cast();
                header.msg_controllen = write_segment(control, segment) as _;
            }
            n += 1;
        }
        if n == 0 {
            return Ok(0);
        }
        // SAFETY: the first `n` headers point at vectors, names and control data of `self` and at parts borrowed for `'a`,
        // all alive through the call; the kernel reads the parts and writes only `msg_len`.
        let sent = unsafe {
            libc::sendmmsg(fd.as_raw_fd(), self.headers.as_mut_ptr(), n as libc::c_uint, libc::MSG_DONTWAIT)
        };
        if sent >= 0 { Ok(sent as usize) } else { Err(io::Error::last_os_error()) }
    }
}

/// Writes a control message that asks for segmentation; says its octets.
fn write_segment(control: &mut Control, segment: u16) -> usize {
    let header_len = size_of::<libc::cmsghdr>();
    // SAFETY: all zero is a valid `cmsghdr`.
    let mut header: libc::cmsghdr = unsafe { zeroed() };
    header.cmsg_len = (header_len + size_of::<u16>()) as _;
    header.cmsg_level = libc::SOL_UDP;
    header.cmsg_type = libc::UDP_SEGMENT;
    control.0.fill(0);
    // SAFETY: the control data is longer than a header and aligned for it.
    unsafe { control.0.as_mut_ptr().cast::<libc::cmsghdr>().write(header) };
    control.0[header_len..header_len + 2].copy_from_slice(&segment.to_ne_bytes());
    header_len + 8
}

/// One received message.
#[derive(Clone, Copy)]
pub(crate) struct Received<'a> {
    /// Its octets.
    pub(crate) data: &'a [u8],
    /// Whether there were more than the buffer holds.
    pub(crate) truncated: bool,
    /// Where it came from, on UDP.
    pub(crate) from: Option<SocketAddr>,
    /// The kernel joined datagrams of this many octets into it (the last may be shorter).
    pub(crate) segment: Option<usize>,
}

/// Arrays and buffers for `recvmmsg`.
pub(crate) struct ReceiveBurst {
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_storage>,
    control: Vec<Control>,
    buffers: Vec<u8>,
    stride: usize,
}

// SAFETY: the pointers in the arrays are written before each call and never read after it.
unsafe impl Send for ReceiveBurst {}

impl ReceiveBurst {
    /// Room for `capacity` messages a call, of at most `longest` octets.
    pub(crate) fn new(capacity: usize, longest: usize) -> Self {
        let (capacity, stride) = (capacity.max(1), longest.next_multiple_of(64));
        // SAFETY: all zero is a valid `mmsghdr`.
        let header: libc::mmsghdr = unsafe { zeroed() };
        // SAFETY: all zero is a valid `sockaddr_storage`.
        let name: libc::sockaddr_storage = unsafe { zeroed() };
        Self {
            headers: vec![header; capacity],
            vectors: vec![libc::iovec { iov_base: ptr::null_mut(), iov_len: 0 }; capacity],
            names: vec![name; capacity],
            control: vec![Control([0; CONTROL]); capacity],
            buffers: vec![0; capacity * stride],
            stride,
        }
    }

    /// Receives what is there, at most `limit` messages; says how many.
    ///
    /// # Errors
    /// `WouldBlock` when there is none, and the socket's own.
    pub(crate) fn receive(&mut self, fd: BorrowedFd<'_>, limit: usize) -> io::Result<usize> {
        let n = self.headers.len().min(limit);
        for i in 0..n {
            let buffer = &mut self.buffers[i * self.stride..][..self.stride];
            self.vectors[i] = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
            let header = &mut self.headers[i].msg_hdr;
            header.msg_iov = &raw mut self.vectors[i];
            header.msg_iovlen = 1;
            header.msg_name = ptr::from_mut(&mut self.names[i]).cast();
            header.msg_namelen = size_of::<libc::sockaddr_storage>() as _;
            header.msg_control = self.control[i].0.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
            header.msg_flags = 0;
        }
        // SAFETY: the first `n` headers point at distinct buffers, names and control data of `self`, valid for writes of the
        // lengths given and alive through the call.
        let got = unsafe {
            libc::recvmmsg(
                fd.as_raw_fd(),
                self.headers.as_mut_ptr(),
                n as libc::c_uint,
                libc::MSG_DONTWAIT,
                ptr::null_mut(),
            )
        };
        if got >= 0 { Ok(got as usize) } else { Err(io::Error::last_os_error()) }
    }

    /// Message `i` of the last burst.
    pub(crate) fn get(&self, i: usize) -> Received<'_> {
        let header = &self.headers[i];
        let len = (header.msg_len as usize).min(self.stride);
        Received {
            data: &self.buffers[i * self.stride..][..len],
            truncated: header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0,
            from: socket_address(&self.names[i], header.msg_hdr.msg_namelen as usize),
            segment: self.joined(i),
        }
    }

    /// Size of the datagrams that the kernel joined. The control data of the sockets here never holds anything else first.
    fn joined(&self, i: usize) -> Option<usize> {
        let header_len = size_of::<libc::cmsghdr>();
        let control = &self.control[i].0;
        if self.headers[i].msg_hdr.msg_controllen < header_len + size_of::<i32>() {
            return None;
        }
        // SAFETY: the control data is longer than a header, aligned for it, and any octets are one.
        let header = unsafe { control.as_ptr().cast::<libc::cmsghdr>().read() };
        if header.cmsg_level != libc::SOL_UDP || header.cmsg_type != libc::UDP_GRO {
            return None;
        }
        let value = control.get(header_len..)?.first_chunk::<4>()?;
        usize::try_from(i32::from_ne_bytes(*value)).ok().filter(|&n| n > 0)
    }
}

/// Reads an Internet address that the kernel wrote.
fn socket_address(name: &libc::sockaddr_storage, len: usize) -> Option<SocketAddr> {
    match i32::from(name.ss_family) {
        libc::AF_INET if len >= size_of::<libc::sockaddr_in>() => {
            // SAFETY: the storage is longer than `sockaddr_in`, aligned for it, and any octets are one.
            let a = unsafe { ptr::from_ref(name).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(a.sin_addr.s_addr.to_ne_bytes());
            Some(SocketAddrV4::new(ip, u16::from_be(a.sin_port)).into())
        }
        libc::AF_INET6 if len >= size_of::<libc::sockaddr_in6>() => {
            // SAFETY: the storage is longer than `sockaddr_in6`, aligned for it, and any octets are one.
            let a = unsafe { ptr::from_ref(name).cast::<libc::sockaddr_in6>().read() };
            let ip = Ipv6Addr::from(a.sin6_addr.s6_addr);
            Some(SocketAddrV6::new(ip, u16::from_be(a.sin6_port), 0, a.sin6_scope_id).into())
        }
        _ => None,
    }
}
