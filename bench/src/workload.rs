//! What is measured: bursts of frames in an arena laid out as the pipeline lays out a batch.

use pc5_dataplane::cipher::{Job, KeyIndex};
use pc5_dataplane::kdf::FrameKeys;
use pc5_dataplane::suite::Suite;

/// An operation with the algorithm it exercises. An EIA alone is the suite's frame with data that is not ciphered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Work {
    /// Ciphering, integrity, or both, as the suite has them.
    Suite(Suite),
    /// The integrity algorithm of a suite alone.
    Integrity(Suite),
}

impl Work {
    /// Suite that does it.
    pub const fn suite(self) -> Suite {
        match self {
            Self::Suite(s) | Self::Integrity(s) => s,
        }
    }

    /// Name in reports.
    pub fn name(self) -> String {
        match self {
            Self::Suite(s) => s.to_string(),
            Self::Integrity(s) => s.name().split('-').next_back().unwrap_or_default().into(),
        }
    }
}

/// Data lengths of the frames.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Size {
    /// All alike.
    Octets(usize),
    /// 7 : 4 : 1 of 64, 576 and 1,420 octets, in a fixed irregular order.
    Imix,
}

impl Size {
    /// The sizes of the tables.
    pub const ALL: [Self; 7] = [
        Self::Octets(64),
        Self::Octets(128),
        Self::Octets(256),
        Self::Octets(512),
        Self::Octets(1024),
        Self::Octets(1420),
        Self::Imix,
    ];

    /// Name in reports.
    pub fn name(self) -> String {
        match self {
            Self::Octets(n) => n.to_string(),
            Self::Imix => "imix".into(),
        }
    }

    fn of(self, i: usize) -> usize {
        match self {
            Self::Octets(n) => n,
            Self::Imix => [64, 576, 64, 64, 576, 64, 1420, 64, 576, 64, 64, 576][i % 12],
        }
    }
}

/// Sealing or opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    /// Protect.
    Seal,
    /// Verify.
    Open,
}

impl Op {
    /// Name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Seal => "seal",
            Self::Open => "open",
        }
    }
}

/// A frame as peers are given it: nonces ready made. Layout shared with C.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Frame {
    /// Offset of the data.
    pub start: u32,
    /// Octets of data.
    pub len: u32,
    /// Index of the key.
    pub key: u32,
    unused: u32,
    /// GCM nonce (12 octets) or counter block of an EEA.
    pub iv: [u8; 16],
    /// IV of an EIA that has one.
    pub hash_iv: [u8; 16],
    /// 13 octets of associated data.
    pub aad: [u8; 16],
}

/// Frames that one pass takes in all.
pub const FRAMES: usize = 1024;

/// One measured situation.
pub struct Workload {
    /// What is done.
    pub work: Work,
    /// Sizes of its frames.
    pub size: Size,
    /// Frames a call.
    pub burst: usize,
    /// Octets of each key: 32 of PEK, then 16 of PIK, then 12 of salt.
    keys: Vec<[u8; 60]>,
    /// Jobs of all bursts; neighbours in order make a burst.
    pub jobs: Vec<Job>,
    /// The same frames for peers.
    pub frames: Vec<Frame>,
    /// The arena before sealing.
    pub plain: Vec<u8>,
    /// Bursts that lie in the arena side by side; later ones take the same places again.
    pub resident: usize,
}

impl Workload {
    /// Lays out a situation. The arena stays within 256 KiB, as that of a worker's batches does.
    pub fn new(work: Work, size: Size, keys: usize, burst: usize) -> Self {
        let suite = work.suite();
        let mut random = 0x9e37_79b9_7f4a_7c15_u64;
        let mut octet = || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            (random >> 32) as u8
        };
        let keys: Vec<[u8; 60]> = (0..keys).map(|_| std::array::from_fn(|_| octet())).collect();
        let (mut jobs, mut frames, mut plain) = (Vec::new(), Vec::new(), Vec::new());
        let mut resident = 0;
        for i in 0..FRAMES {
            // Places are given until the arena is full; then they are given again.
            let place = if resident == 0 { i } else { i % (resident * burst) };
            let len = size.of(place);
            let start = if place == i {
                // Header room of a slot, then the data on a line of its own.
                let start = plain.len().next_multiple_of(64) + 64;
                plain.resize(start + len, 0);
                for o in &mut plain[start..] {
                    *o = octet();
                }
                plain.resize(start + len + 16, 0);
                start
            } else {
                jobs_start(&jobs, place)
            };
            let key = i * 5 % keys.len(); // 5 is prime to 1,024: every key comes once in 1,024 frames
            let mut aad = [0; 16];
            aad[..Job::AAD_LEN].fill_with(&mut octet);
            let job = Job {
                aad,
                start: start as u32,
                len: len as u32,
                key: KeyIndex(key as u32),
                count: (i as u32 + 1) * 77,
                bearer_direction: Job::pack_bearer_direction(3, 1),
                clear_data: matches!(work, Work::Integrity(_)),
                verified: false,
                slot: (i % burst) as u16,
            };
            frames.push(Frame {
                start: job.start,
                len: job.len,
                key: key as u32,
                unused: 0,
                iv: iv(suite, &job, &keys[key]),
                hash_iv: hash_iv(suite, &job),
                aad,
            });
            jobs.push(job);
            if resident == 0
                && (i + 1) % burst == 0
                && plain.len() + (plain.len() / (i + 1) * burst) > 256 << 10
            {
                resident = (i + 1) / burst;
            }
        }
        if resident == 0 {
            resident = FRAMES / burst;
        }
        plain.resize(plain.len() + 64, 0);
        let mut w = Self { work, size, burst, keys, jobs, frames, plain, resident };
        w.write_headers();
        w
    }

    /// The 13 octets before the data: what a CMAC begins with, then the PDCP header. They depend on the frame, so all
    /// bursts that share a place share COUNT too.
    fn write_headers(&mut self) {
        let places = self.resident * self.burst;
        for i in 0..FRAMES {
            if i >= places {
                self.jobs[i].count = self.jobs[i % places].count;
                self.frames[i].iv =
                    iv(self.work.suite(), &self.jobs[i], &self.keys[self.frames[i].key as usize]);
                self.frames[i].hash_iv = hash_iv(self.work.suite(), &self.jobs[i]);
                continue;
            }
            let start = self.jobs[i].start as usize;
            self.plain[start - 13..start - 5].copy_from_slice(&self.jobs[i].count_bearer_direction());
            self.plain[start - 5..start].copy_from_slice(&[0x80, 1, 2, 3, i as u8]);
        }
    }

    /// Keys for our ciphers, in order.
    pub fn frame_keys(&self) -> impl Iterator<Item = FrameKeys> {
        let pek_len = self.work.suite().pek_len();
        self.keys.iter().map(move |k| {
            let (mut pik, mut salt) = ([0; 16], [0; 12]);
            pik.copy_from_slice(&k[32..48]);
            salt.copy_from_slice(&k[48..]);
            FrameKeys::from_parts(&k[..pek_len], pik, salt)
        })
    }

    /// Keys for peers: 32 octets of PEK each, then 16 of PIK each.
    pub fn key_octets(&self) -> Vec<u8> {
        let peks = self.keys.iter().flat_map(|k| k[..32].to_vec());
        peks.chain(self.keys.iter().flat_map(|k| k[32..48].to_vec())).collect()
    }

    /// How many keys.
    pub fn key_count(&self) -> usize {
        self.keys.len()
    }
}

fn jobs_start(jobs: &[Job], place: usize) -> usize {
    jobs[place].start as usize
}

fn iv(suite: Suite, job: &Job, key: &[u8; 60]) -> [u8; 16] {
    let mut iv = [0; 16];
    match suite {
        Suite::Aes128Gcm | Suite::Aes256Gcm => {
            for ((o, n), s) in iv.iter_mut().zip(job.gcm_nonce_input()).zip(&key[48..]) {
                *o = n ^ s;
            }
        }
        Suite::Eea2 | Suite::Eea2Eia2 => iv[..8].copy_from_slice(&job.count_bearer_direction()),
        // SNOW 3G in the peer's order, and ZUC: both are COUNT, BEARER and DIRECTION twice.
        _ => {
            iv[..8].copy_from_slice(&job.count_bearer_direction());
            iv[8..].copy_from_slice(&job.count_bearer_direction());
        }
    }
    iv
}

/// Source: TS 35.215 3.4, TS 35.221 4.3.
fn hash_iv(suite: Suite, job: &Job) -> [u8; 16] {
    let mut iv = [0; 16];
    let count = job.count.to_be_bytes();
    match suite {
        Suite::Eea1Eia1 => {
            // IV3 = COUNT, IV2 = FRESH, IV1 = COUNT ^ DIRECTION << 31, IV0 = FRESH ^ DIRECTION << 15.
            iv[..4].copy_from_slice(&count);
            iv[4] = job.bearer() << 3;
            iv[8..12].copy_from_slice(&count);
            iv[8] ^= job.direction() << 7;
            iv[12] = job.bearer() << 3;
            iv[14] ^= job.direction() << 7;
        }
        Suite::Eea3Eia3 => {
            iv[..4].copy_from_slice(&count);
            iv[4] = job.bearer() << 3;
            iv.copy_within(..8, 8);
            iv[8] ^= job.direction() << 7;
            iv[14] ^= job.direction() << 7;
        }
        _ => {}
    }
    iv
}
