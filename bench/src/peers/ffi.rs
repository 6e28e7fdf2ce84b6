//! intel-ipsec-mb and OpenSSL through `peers.c`. The one module of this crate with `unsafe`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr::NonNull;

use pc5_dataplane::cipher::Job;
use pc5_dataplane::suite::Suite;

use super::Peer;
use crate::workload::{Frame, Op, Work, Workload};

/// A loop of `peers.c` over one burst.
type Run = unsafe extern "C" fn(*mut c_void, *mut u8, *const Frame, u32, c_int) -> u32;

// SAFETY: signatures are those of peers.c.
unsafe extern "C" {
    fn pc5_imb_new(kind: c_int, keys: *const u8, n: u32) -> *mut c_void;
    fn pc5_imb_free(state: *mut c_void);
    fn pc5_imb_version() -> *const c_char;
    fn pc5_imb_direct(s: *mut c_void, arena: *mut u8, f: *const Frame, n: u32, open: c_int) -> u32;
    fn pc5_imb_job(s: *mut c_void, arena: *mut u8, f: *const Frame, n: u32, open: c_int) -> u32;
    fn pc5_imb_burst(s: *mut c_void, arena: *mut u8, f: *const Frame, n: u32, open: c_int) -> u32;
    fn pc5_imb_cipher_burst(s: *mut c_void, arena: *mut u8, f: *const Frame, n: u32, open: c_int) -> u32;
    fn pc5_evp_new(kind: c_int, keys: *const u8, n: u32) -> *mut c_void;
    fn pc5_evp_free(state: *mut c_void);
    fn pc5_evp(s: *mut c_void, arena: *mut u8, f: *const Frame, n: u32, open: c_int) -> u32;
}

/// Frames that one call of `peers.c` takes at most.
const MAX_BURST: usize = 128;

/// Version of the library at hand.
pub fn ipsec_mb_version() -> String {
    // SAFETY: the library returns a constant string with a terminator.
    unsafe { CStr::from_ptr(pc5_imb_version()) }.to_string_lossy().into_owned()
}

/// `enum kind` of peers.c.
fn kind(work: Work) -> Option<c_int> {
    Some(match work {
        Work::Suite(Suite::Aes128Gcm) => 0,
        Work::Suite(Suite::Aes256Gcm) => 1,
        Work::Suite(Suite::Eea1) => 2,
        Work::Suite(Suite::Eea2) => 3,
        Work::Suite(Suite::Eea3) => 4,
        Work::Integrity(Suite::Eea1Eia1) => 5,
        Work::Integrity(Suite::Eea2Eia2) => 6,
        Work::Integrity(Suite::Eea3Eia3) => 7,
        Work::Suite(Suite::Eea1Eia1) => 8,
        Work::Suite(Suite::Eea2Eia2) => 9,
        Work::Suite(Suite::Eea3Eia3) => 10,
        _ => return None,
    })
}

/// Every call of these libraries that does the workload's work.
pub(super) fn peers(w: &Workload) -> Vec<Box<dyn Peer>> {
    let Some(kind) = kind(w.work) else { return Vec::new() };
    let gcm_or_ctr = matches!(kind, 0 | 1 | 3);
    let direct = !matches!(kind, 3 | 6 | 8..);
    let calls: [(bool, &'static str, Library, Run); 5] = [
        (direct, "ipsec-mb direct", Library::IpsecMb, pc5_imb_direct),
        (true, "ipsec-mb job", Library::IpsecMb, pc5_imb_job),
        (true, "ipsec-mb burst", Library::IpsecMb, pc5_imb_burst),
        (kind == 3, "ipsec-mb cipher_burst", Library::IpsecMb, pc5_imb_cipher_burst),
        (gcm_or_ctr, "openssl evp", Library::OpenSsl, pc5_evp),
    ];
    let mut peers: Vec<Box<dyn Peer>> = Vec::new();
    for (_, name, library, run) in calls.into_iter().filter(|c| c.0) {
        if let Some(state) = State::new(library, kind, w) {
            peers.push(Box::new(Foreign { name, state, run, keys: w.key_count() as u32 }));
        }
    }
    peers
}

#[derive(Clone, Copy, PartialEq)]
enum Library {
    IpsecMb,
    OpenSsl,
}

/// What a library keeps of a workload's keys.
struct State {
    library: Library,
    at: NonNull<c_void>,
}

impl State {
    fn new(library: Library, kind: c_int, w: &Workload) -> Option<Self> {
        let keys = w.key_octets();
        let n = w.key_count() as u32;
        // SAFETY: `keys` has the 48 octets a key that both read, and they keep no pointer to it.
        let at = unsafe {
            match library {
                Library::IpsecMb => pc5_imb_new(kind, keys.as_ptr(), n),
                Library::OpenSsl => pc5_evp_new(kind, keys.as_ptr(), n),
            }
        };
        NonNull::new(at).map(|at| Self { library, at })
    }
}

impl Drop for State {
    fn drop(&mut self) {
        // SAFETY: made by the same library, freed once.
        unsafe {
            match self.library {
                Library::IpsecMb => pc5_imb_free(self.at.as_ptr()),
                Library::OpenSsl => pc5_evp_free(self.at.as_ptr()),
            }
        }
    }
}

struct Foreign {
    name: &'static str,
    state: State,
    run: Run,
    keys: u32,
}

impl Peer for Foreign {
    fn name(&self) -> String {
        self.name.into()
    }

    fn run(&mut self, op: Op, arena: &mut [u8], _: &mut [Job], frames: &[Frame]) -> usize {
        assert!(frames.len() <= MAX_BURST, "a burst of {} frames", frames.len());
        for f in frames {
            assert!(f.start >= 13 && (f.start + f.len + 16) as usize <= arena.len() && f.key < self.keys);
        }
        // SAFETY: every frame with the 13 octets before it and 16 behind lies in the arena, keys exist, and the state is
        // of the library that `run` belongs to.
        let wrong = unsafe {
            (self.run)(
                self.state.at.as_ptr(),
                arena.as_mut_ptr(),
                frames.as_ptr(),
                frames.len() as u32,
                c_int::from(op == Op::Open),
            )
        };
        wrong as usize
    }
}
