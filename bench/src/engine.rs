//! A sending and a receiving engine over links, with the bare kernel on the very same frames beside them.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::cipher::{Cipher, Job, Kernel, KeyIndex};
use pc5_dataplane::crypto;
use pc5_dataplane::engine::{Engine, EngineConfig, Now};
use pc5_dataplane::ids::{KdSessId, Lcid, LinkRole, SduType};
use pc5_dataplane::kdf::{FrameKeys, KdSess};
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::keys::{Command, LinkKey, LinkPhase};
use pc5_dataplane::pdu::Address;
use pc5_dataplane::suite::Suite;
use pc5_dataplane::testkit::ue;
use pc5_dataplane::verdict::Verdict;

/// Names and frame lengths of the workloads: fixed ones, and IMIX (7:4:1 of 64, 576 and 1,420 octets).
pub fn sizes() -> Vec<(&'static str, Vec<usize>)> {
    let mut imix = vec![64; 7];
    imix.extend([576; 4]);
    imix.push(1_420);
    // Spread, so that no length comes in a block.
    imix.rotate_left(3);
    imix.swap(0, 6);
    imix.swap(2, 9);
    vec![("64", vec![64]), ("256", vec![256]), ("1024", vec![1_024]), ("1420", vec![1_420]), ("imix", imix)]
}

const OWNER: u32 = 0xfffffe;

fn kd_sess(link: usize, run: u16) -> KdSess {
    let mut key = [0x42; 32];
    key[..8].copy_from_slice(&(link as u64).to_be_bytes());
    key[8..10].copy_from_slice(&run.to_be_bytes());
    KdSess::new(key)
}

/// One end protects, the other verifies; `keys` links.
pub struct Pair {
    suite: Suite,
    kernel: Kernel,
    keys: usize,
    batch_slots: usize,
    sender: Engine,
    receiver: Engine,
    batches: Vec<Batch>,
    used: usize,
    sent: usize,
    /// One to seal and one to open, each with keys of its own as the two engines have: keys that are met twice a round would be nearer
    /// than theirs.
    bare: [Box<dyn Cipher>; 2],
    bare_keys: Vec<KeyIndex>,
    arenas: Vec<(Vec<u8>, Vec<Job>)>,
}

impl Pair {
    /// Links between UEs and one owner, all on one kernel.
    ///
    /// # Panics
    /// When the kernel is not there for the suite.
    pub fn new(suite: Suite, kernel: Kernel, keys: usize, batch_slots: usize) -> Self {
        let (sender, receiver) = engines(suite, kernel, keys);
        let mut bare =
            [(); 2].map(|()| crypto::cipher(suite, kernel).expect("kernel chosen from those available"));
        let insert = |k| {
            let keys = FrameKeys::from_kd_sess(&kd_sess(k, 1), suite);
            let [seal, open] = bare.each_mut().map(|cipher| cipher.insert(&keys));
            assert_eq!(seal, open, "both number keys alike");
            seal
        };
        let bare_keys = (0..keys).map(insert).collect();
        Self {
            suite,
            kernel,
            keys,
            batch_slots,
            sender,
            receiver,
            batches: Vec::new(),
            used: 0,
            sent: 0,
            bare,
            bare_keys,
            arenas: Vec::new(),
        }
    }

    /// Lays out at least `frames` SDUs in batches, and the same frames for the bare kernel. Not timed.
    ///
    /// # Panics
    /// Never: batches are made as large as the frames need.
    pub fn prepare(&mut self, lens: &[usize], frames: usize) {
        self.used = frames.div_ceil(self.batch_slots);
        while self.batches.len() < self.used {
            self.batches.push(Batch::new(self.batch_slots));
            self.arenas.push((Vec::new(), Vec::new()));
        }
        // Engines with fresh keys before a key is half used: what rekeying costs is not measured here.
        if self.sent + frames > 30_000 * self.keys {
            (self.sender, self.receiver) = engines(self.suite, self.kernel, self.keys);
            self.sent = 0;
        }
        let longest = *lens.iter().max().expect("at least one length");
        let sdu = vec![0x5a; longest];
        // As a batch lays frames out: each at the beginning of a cache line, with room around it.
        let room = |len: usize| (len + 64).next_multiple_of(64) + 64;
        let mut n = 0;
        for (batch, (arena, jobs)) in self.batches[..self.used].iter_mut().zip(&mut self.arenas) {
            batch.clear();
            jobs.clear();
            if arena.len() < 128 + self.batch_slots * room(longest) {
                arena.resize(128 + self.batch_slots * room(longest), 0);
            }
            let mut at = arena.as_ptr().align_offset(64).min(64) + 64;
            for i in 0..self.batch_slots {
                // One round goes on with the keys where the one before ended, so that all are met, and each as late as can be.
                let (len, key) = (lens[n % lens.len()], (self.sent + n) % self.keys);
                // As near as what the engine is about to seal.
                arena[at..at + len].copy_from_slice(&sdu[..len]);
                let address = Address::link(ue(OWNER), ue(key as u32 + 1));
                batch.push_sdu(address, Lcid::USER, SduType::NonIp, &sdu[..len], Meta::default());
                jobs.push(Job {
                    aad: [1; 16],
                    start: at as u32,
                    len: len as u32,
                    key: self.bare_keys[key],
                    count: n as u32,
                    bearer_direction: Job::pack_bearer_direction(1, 0),
                    clear_data: false,
                    verified: false,
                    slot: i as u16,
                });
                at += room(len);
                n += 1;
            }
        }
        self.sent += n;
    }

    /// Seals what was prepared.
    ///
    /// # Panics
    /// When a frame is refused: nothing here should be.
    pub fn protect(&mut self) -> Duration {
        let now = Now::default();
        let began = Instant::now();
        for batch in &mut self.batches[..self.used] {
            self.sender.protect(batch, now).expect("kernel is there");
        }
        let spent = began.elapsed();
        let sealed = |b: &Batch| b.slots().iter().all(|s| s.verdict == Verdict::Accepted);
        assert!(self.batches[..self.used].iter().all(sealed), "every frame is sealed");
        spent
    }

    /// Opens what was sealed.
    ///
    /// # Panics
    /// When a frame is refused: nothing here should be.
    pub fn verify(&mut self) -> Duration {
        let now = Now::default();
        self.batches[..self.used].iter_mut().for_each(Batch::loop_back);
        let began = Instant::now();
        for batch in &mut self.batches[..self.used] {
            self.receiver.open(batch, now).expect("kernel is there");
        }
        let spent = began.elapsed();
        let opened = |b: &Batch| b.slots().iter().all(|s| s.verdict == Verdict::Accepted);
        assert!(self.batches[..self.used].iter().all(opened), "every frame verifies");
        spent
    }

    /// The kernel alone, on frames of the same lengths and keys.
    pub fn bare_seal(&mut self) -> Duration {
        let began = Instant::now();
        for (arena, jobs) in &mut self.arenas[..self.used] {
            self.bare[0].seal(arena, jobs);
        }
        began.elapsed()
    }

    /// The kernel alone, opening what [`Self::bare_seal`] sealed.
    ///
    /// # Panics
    /// When a frame does not verify.
    pub fn bare_open(&mut self) -> Duration {
        let began = Instant::now();
        for (arena, jobs) in &mut self.arenas[..self.used] {
            self.bare[1].open(arena, jobs);
        }
        let spent = began.elapsed();
        assert!(
            self.arenas[..self.used].iter().all(|a| a.1.iter().all(|j| j.verified)),
            "every frame verifies"
        );
        spent
    }
}

/// Nanoseconds a frame, medians of rounds.
#[derive(Clone, Copy, Debug)]
pub struct Medians {
    /// The sending engine, from SDU to frame.
    pub protect: f64,
    /// Its kernel alone.
    pub bare_seal: f64,
    /// The receiving engine, from frame to SDU.
    pub verify: f64,
    /// Its kernel alone.
    pub bare_open: f64,
}

impl Pair {
    /// Engine and bare kernel in turns, `rounds` times `frames` frames, so that what else goes on meets all alike.
    pub fn in_turns(&mut self, lens: &[usize], frames: usize, rounds: usize) -> Medians {
        let mut spent: [Vec<Duration>; 4] = Default::default();
        for _ in 0..rounds.max(1) {
            self.prepare(lens, frames);
            for (all, one) in
                spent.iter_mut().zip([Self::protect, Self::bare_seal, Self::verify, Self::bare_open])
            {
                all.push(one(self));
            }
        }
        let [protect, bare_seal, verify, bare_open] = spent.map(|mut s| {
            s.sort_unstable();
            s[s.len() / 2].as_nanos() as f64 / (self.used * self.batch_slots) as f64
        });
        Medians { protect, bare_seal, verify, bare_open }
    }
}

fn engines(suite: Suite, kernel: Kernel, keys: usize) -> (Engine, Engine) {
    let side = |owner: bool| {
        let mut table = KeyTable::new();
        for k in 0..keys {
            let (ue, owner_id) = (ue(k as u32 + 1), ue(OWNER));
            let (local, peer) = if owner { (owner_id, ue) } else { (ue, owner_id) };
            let role = if owner { LinkRole::Ue2 } else { LinkRole::Ue1 };
            let id = KdSessId::new(0x0101).expect("not 0");
            let key = LinkKey { local, peer, id, kd_sess: kd_sess(k, 1), suite, role };
            table.apply(Command::AddLocal(local)).expect("a local id is always taken");
            table.apply(Command::InstallLink(key, LinkPhase::Active)).expect("links differ");
        }
        table.publish();
        Engine::new(table.shared(), EngineConfig { kernel: Some(kernel), ..Default::default() })
    };
    (side(false), side(true))
}

/// Addresses of `n` links.
pub fn addresses(n: usize) -> Vec<Address> {
    (0..n).map(|k| Address::link(ue(OWNER), ue(k as u32 + 1))).collect()
}

/// A map as the engine's tables are.
pub fn address_map(n: usize) -> HashMap<Address, u32, foldhash::fast::RandomState> {
    addresses(n).into_iter().zip(0..).collect()
}
