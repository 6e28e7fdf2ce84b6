//! What became of a frame. The same enumeration indexes the counters, so that counters always add up.

use std::fmt;

macro_rules! verdicts {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)+) => {
        /// Fate of one frame: still under way, accepted, or dropped for a named cause.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[repr(u8)]
        pub enum Verdict { $($(#[$doc])* $variant,)+ }

        impl Verdict {
            /// All of them; `ALL[v as usize] == v`.
            pub const ALL: &[Self] = &[$(Self::$variant,)+];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// Name in reports, metrics and `pc5 show drops`.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }
        }
    };
}

verdicts! {
    /// No stage has decided yet.
    Pending = "pending",
    /// Sealed, or opened and verified.
    Accepted = "accepted",
    /// EtherType is not that of PC5 frames.
    NotPc5 = "not_pc5",
    /// Address outside the PC5 prefixes, or a group address as source.
    Address = "address",
    /// Fewer octets than the headers, or than headers and MAC field.
    Short = "short",
    /// SL and the frame's length contradict each other.
    Padding = "padding",
    /// Version, LCID, SDU type, index bits or key id of a reserved value.
    Reserved = "reserved",
    /// A frame of our own coming back.
    OwnSource = "own_source",
    /// Unicast for somebody else, or a group that nobody here belongs to.
    NotForUs = "not_for_us",
    /// No link with this source.
    UnknownSender = "unknown_sender",
    /// No KD-sess of this id, or no PGK of this index.
    UnknownKey = "unknown_key",
    /// The PGK is one that this sender may not send under.
    SenderNotPermitted = "sender_not_permitted",
    /// The PGK's time is over.
    KeyExpired = "key_expired",
    /// PTK identity older than the contexts kept of this sender.
    TooOldKey = "too_old_key",
    /// PTK identity too far ahead of the newest verified one.
    PtkTooFar = "ptk_too_far",
    /// Unknown PTK identity beyond the budget for trying such.
    PtkBudget = "ptk_budget",
    /// User data on a context that may carry signalling only, or anything on a phase that does not receive it.
    Phase = "phase",
    /// SN seen before under this key.
    Replayed = "replayed",
    /// SN older than the window.
    TooOld = "too_old",
    /// The MAC field is wrong.
    Forged = "forged",
    /// Sending: no key for this destination.
    NoKey = "no_key",
    /// Sending: the key has no COUNT left.
    Exhausted = "exhausted",
    /// Sending: no PTK identity granted, or all granted ones used.
    NoGrant = "no_grant",
    /// Bridging: no member has the destination; such frames are never flooded.
    UnknownDestination = "unknown_destination",
    /// Bridging: the inner source address belongs to another member.
    InnerSource = "inner_source",
    /// Bridging: opened one-to-many; only what was opened on a link is forwarded.
    NotForwarded = "not_forwarded",
    /// Bridging: it would go back to where it came from.
    Hairpin = "hairpin",
    /// Does not fit the frame size of the way out.
    TooLong = "too_long",
    /// The way out is full; new data gives way to what is under way.
    Overload = "overload",
    /// The link of the way out is down or gone.
    LinkDown = "link_down",
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Frames by verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Counters([u64; Verdict::COUNT]);

impl Counters {
    /// All zero.
    pub const fn new() -> Self {
        Self([0; Verdict::COUNT])
    }

    /// One more.
    #[inline]
    pub fn count(&mut self, verdict: Verdict) {
        self.0[verdict as usize] += 1;
    }

    /// So many more.
    #[inline]
    pub fn count_many(&mut self, verdict: Verdict, frames: u64) {
        self.0[verdict as usize] += frames;
    }

    /// Frames of one verdict.
    pub const fn get(&self, verdict: Verdict) -> u64 {
        self.0[verdict as usize]
    }

    /// Adds another worker's.
    pub fn add(&mut self, other: &Self) {
        for (a, b) in self.0.iter_mut().zip(other.0) {
            *a += b;
        }
    }

    /// Frames of all verdicts.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Frames that were dropped, whatever the cause.
    pub fn dropped(&self) -> u64 {
        self.total() - self.get(Verdict::Accepted) - self.get(Verdict::Pending)
    }

    /// Causes with at least one frame.
    pub fn drops(&self) -> impl Iterator<Item = (Verdict, u64)> + '_ {
        Verdict::ALL
            .iter()
            .map(|&v| (v, self.get(v)))
            .filter(|&(v, n)| n > 0 && v != Verdict::Accepted && v != Verdict::Pending)
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self::new()
    }
}
