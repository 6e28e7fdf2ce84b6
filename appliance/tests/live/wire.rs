//! What is on the wire, as somebody without keys sees it; and what a key log says of it.

use std::collections::{HashMap, HashSet};
use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, KeyInit};
use pc5_dataplane::ids::{Lcid, PtkId, SduType};
use pc5_dataplane::io::netns::Namespace;
use pc5_dataplane::kdf::{FrameKeys, ptk};
use pc5_dataplane::keylog::{self, KeyLogLine};
use pc5_dataplane::pdu::{Address, Destination, Header, associated_data, parse, short_length, spec};
use pc5_dataplane::suite::Suite;
use socket2::{Domain, Protocol, Socket, Type};

/// Everything on the wire.
pub(crate) struct Eavesdropper {
    stop: Arc<AtomicBool>,
    thread: std::thread::JoinHandle<Vec<Vec<u8>>>,
}

impl Eavesdropper {
    pub(crate) fn new(space: &Namespace) -> Self {
        let all = 3u16; // ETH_P_ALL
        let socket = space
            .inside(|| {
                let s = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(i32::from(all.to_be()))))
                    .unwrap();
                // Root may have more than the system's limit; without, what there is.
                let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&s, 256 << 20);
                s.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
                s
            })
            .unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let ends = stop.clone();
        let thread = std::thread::spawn(move || {
            let (mut frames, mut buffer) = (Vec::new(), vec![0; 65_536]);
            while !ends.load(Ordering::Relaxed) {
                if let Ok(n) = (&socket).read(&mut buffer) {
                    frames.push(buffer[..n].to_vec());
                }
            }
            frames
        });
        Self { stop, thread }
    }

    pub(crate) fn frames(self) -> Vec<Vec<u8>> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap()
    }
}

/// Runs of 8 octets of a secret in frames.
pub(crate) fn readable(secret: &[u8], frames: &[Vec<u8>]) -> usize {
    let runs: HashSet<&[u8]> = secret.windows(8).collect();
    frames.iter().flat_map(|f| f.windows(8)).filter(|w| runs.contains(w)).count()
}

/// A frame that a key of the log opens.
pub(crate) struct Opened {
    pub(crate) header: Header,
    /// Which key, as octets.
    pub(crate) key: [u8; 32],
    /// 1: sent by the owner's side of a link.
    pub(crate) direction: u8,
}

/// Opens frames with a key log, by nothing of the engine but key derivation and the reading of headers.
pub(crate) struct Decoder {
    groups: HashMap<u32, Vec<GroupKey>>,
    links: HashMap<(u32, u32, u16), Vec<[u8; 32]>>,
    ready: HashMap<([u8; 32], u32, u16), Ready>,
}

/// Cipher and salt.
type Ready = (Aes256Gcm, [u8; 12]);

struct GroupKey {
    index: u8,
    octets: [u8; 32],
    key: pc5_dataplane::kdf::Pgk,
}

impl Decoder {
    pub(crate) fn new(key_log: &str) -> Self {
        let (mut groups, mut links) =
            (HashMap::<u32, Vec<GroupKey>>::new(), HashMap::<_, Vec<[u8; 32]>>::new());
        for line in keylog::parse(key_log).unwrap() {
            match line {
                KeyLogLine::Group { group, pgk_id, suite, pgk } => {
                    assert_eq!(suite, Suite::Aes256Gcm);
                    let keys = groups.entry(group.get()).or_default();
                    let octets = *pgk.expose();
                    if keys.iter().all(|k| k.octets != octets) {
                        keys.push(GroupKey { index: pgk_id.0 & 0x1f, octets, key: pgk });
                    }
                }
                KeyLogLine::Link { ue1, ue2, id, suite, kd_sess } => {
                    assert_eq!(suite, Suite::Aes256Gcm);
                    let keys = links.entry((ue1.get(), ue2.get(), id.get())).or_default();
                    if !keys.contains(kd_sess.expose()) {
                        keys.push(*kd_sess.expose());
                    }
                }
            }
        }
        Self { groups, links, ready: HashMap::new() }
    }

    /// Whether any key of the log opens a frame, whatever ids the frame has and the key was logged with: each is tried as
    /// the key of a link, both ways, and as a group's.
    pub(crate) fn opens_by_any_means(&self, frame: &[u8]) -> bool {
        let Ok(header) = parse(frame) else { return false };
        let groups = self.groups.values().flatten().map(|k| k.octets);
        let all: HashSet<[u8; 32]> = self.links.values().flatten().copied().chain(groups).collect();
        all.into_iter().any(|octets| {
            let kd_sess = pc5_dataplane::kdf::KdSess::new(octets);
            let mut ready = vec![cipher(&FrameKeys::from_kd_sess(&kd_sess, Suite::Aes256Gcm))];
            if let (Some(id), Destination::Group(group)) =
                (PtkId::new(header.key_id), header.address.destination())
            {
                let pgk = pc5_dataplane::kdf::Pgk::new(octets);
                let ptk = ptk(&pgk, header.address.source(), id, group);
                ready.push(cipher(&FrameKeys::from_ptk(&ptk, Suite::Aes256Gcm)));
            }
            ready.iter().any(|r| [0, 1].into_iter().any(|d| open(r, frame, &header, d).is_some()))
        })
    }

    /// Opens a protected frame; `None` when no key of the log fits.
    pub(crate) fn open(&mut self, frame: &[u8]) -> Option<Opened> {
        let header = parse(frame).ok()?;
        let source = header.address.source();
        match header.address.destination() {
            Destination::Group(group) => {
                let keys = self.groups.get(&group.get())?;
                // The newest first: an index comes back after 31 epochs.
                for k in keys.iter().rev().filter(|k| k.index == header.index) {
                    let ready =
                        self.ready.entry((k.octets, source.get(), header.key_id)).or_insert_with(|| {
                            let ptk = ptk(&k.key, source, PtkId::new(header.key_id).unwrap(), group);
                            cipher(&FrameKeys::from_ptk(&ptk, Suite::Aes256Gcm))
                        });
                    if open(ready, frame, &header, 0).is_some() {
                        return Some(Opened { header, key: k.octets, direction: 0 });
                    }
                }
                None
            }
            Destination::Ue(destination) => {
                for direction in [0, 1] {
                    let ends = if direction == 0 { (source, destination) } else { (destination, source) };
                    let keys = self.links.get(&(ends.0.get(), ends.1.get(), header.key_id));
                    for k in keys.into_iter().flatten().rev() {
                        let ready = self.ready.entry((*k, 0, 0)).or_insert_with(|| {
                            let kd_sess = pc5_dataplane::kdf::KdSess::new(*k);
                            cipher(&FrameKeys::from_kd_sess(&kd_sess, Suite::Aes256Gcm))
                        });
                        if open(ready, frame, &header, direction).is_some() {
                            return Some(Opened { header, key: *k, direction });
                        }
                    }
                }
                None
            }
        }
    }
}

fn cipher(keys: &FrameKeys) -> Ready {
    (Aes256Gcm::new_from_slice(keys.pek()).unwrap(), *keys.salt())
}

/// Source: `design.md` section 4, AES-GCM.
fn nonce(salt: &[u8; 12], lcid: Lcid, direction: u8, key_id: u16, sn: u16) -> [u8; 12] {
    let mut nonce = *salt;
    let count = u32::from(key_id) << 16 | u32::from(sn);
    nonce[0] ^= lcid.get() << 3 | direction << 2;
    nonce.iter_mut().skip(8).zip(count.to_be_bytes()).for_each(|(n, c)| *n ^= c);
    nonce
}

/// A frame of user data as whoever has these keys makes it: an IP packet under `index`, `key_id` and `sn`.
pub(crate) fn seal(
    keys: &FrameKeys,
    address: Address,
    (index, key_id, sn): (u8, u16, u16),
    direction: u8,
    packet: &[u8],
) -> Vec<u8> {
    let (aead, salt) = cipher(keys);
    let lcid_and_sl = [Lcid::USER.get(), short_length(packet.len() + 16)];
    let ([a, b], [c, d]) = (key_id.to_be_bytes(), sn.to_be_bytes());
    let pdcp = [(SduType::Ip as u8) << 5 | index, a, b, c, d];
    let aad = associated_data(address, lcid_and_sl, pdcp);
    let nonce = nonce(&salt, Lcid::USER, direction, key_id, sn);
    let payload = Payload { msg: packet, aad: &aad[..13] };
    let sealed = aead.encrypt((&nonce).into(), payload).unwrap();
    let mut frame = [&address.ethernet_header()[..], &lcid_and_sl, &pdcp, &sealed].concat();
    frame.resize(frame.len().max(spec::MIN_FRAME), 0);
    frame
}

fn open((aead, salt): &Ready, frame: &[u8], h: &Header, direction: u8) -> Option<Vec<u8>> {
    let nonce = nonce(salt, h.lcid, direction, h.key_id, h.sn);
    let head = spec::HEADER_LEN + usize::from(h.tag_len);
    let pdcp = *frame[head - 5..].first_chunk().unwrap();
    let aad = associated_data(h.address, h.lcid_and_sl.to_be_bytes(), pdcp);
    let payload = Payload { msg: &frame[head..h.end as usize], aad: &aad[..13] };
    aead.decrypt((&nonce).into(), payload).ok()
}

/// What a key log tells of a capture.
#[derive(Default, Debug)]
pub(crate) struct Judged {
    /// Protected frames that a key opened.
    pub(crate) opened: usize,
    /// PC5-S in clear.
    pub(crate) clear: usize,
    /// Protected frames that none opened.
    pub(crate) unknown: usize,
    /// (key, DIRECTION, COUNT) sent with two contents, or twice.
    pub(crate) repeated: usize,
    /// Different keys that protected something.
    pub(crate) keys: usize,
    /// Frames of other EtherTypes.
    pub(crate) others: usize,
}

/// Opens everything and looks for COUNTs that come twice. The rule is (key, LCID, DIRECTION, COUNT); here the stronger
/// one without LCID: one SN sequence serves all.
pub(crate) fn judge(frames: &[Vec<u8>], key_log: &str) -> Judged {
    let mut decoder = Decoder::new(key_log);
    let (mut judged, mut seen, mut keys) = (Judged::default(), HashSet::new(), HashSet::new());
    for frame in frames {
        if frame.get(12..14) != Some(&[0x88, 0xb5]) {
            judged.others += 1;
            continue;
        }
        let header =
            parse(frame).unwrap_or_else(|v| panic!("a frame of ours is dropped as {v:?}: {frame:02x?}"));
        if header.key_id == 0 {
            judged.clear += 1;
            continue;
        }
        match decoder.open(frame) {
            None => {
                judged.unknown += 1;
                eprintln!("no key opens {header:?}");
            }
            Some(o) => {
                judged.opened += 1;
                keys.insert(o.key);
                let source = o.header.address.source().get();
                // Group frames of two senders have PTKs of their own.
                if !seen.insert((o.key, source, o.direction, o.header.key_id, o.header.sn)) {
                    judged.repeated += 1;
                    eprintln!("COUNT came twice: {:?}", o.header);
                }
            }
        }
    }
    judged.keys = keys.len();
    judged
}
