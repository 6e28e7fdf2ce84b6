//! What the two ends of a pair do: move frames that are there, or protect before sending and verify what comes.

use pc5_dataplane::batch::{Batch, Meta};
use pc5_dataplane::engine::{Engine, EngineConfig, Now};
use pc5_dataplane::ids::{KdSessId, Layer2Id, Lcid, LinkRole, SduType};
use pc5_dataplane::kdf::KdSess;
use pc5_dataplane::keys::table::KeyTable;
use pc5_dataplane::keys::{Command, LinkKey, LinkPhase};
use pc5_dataplane::pdu::{Address, spec};
use pc5_dataplane::suite::Suite;
use pc5_dataplane::verdict::Verdict;

use crate::Fallible;

/// Frames of a burst.
pub(crate) const BURST: usize = 256;
/// Links between the ends: a key covers 65,536 frames, and a round should not end with the keys.
pub(crate) const LINKS: usize = 256;
/// The suite that is the default everywhere.
pub(crate) const SUITE: Suite = Suite::Aes256Gcm;

/// Layer-2 id of the receiver.
pub(crate) fn receiver() -> Layer2Id {
    Layer2Id::from_octets([0xff, 0xff, 0xfe])
}

/// Layer-2 id of a sender.
pub(crate) fn sender(link: usize) -> Layer2Id {
    let [_, id @ ..] = (link as u32 + 1).to_be_bytes();
    Layer2Id::from_octets(id)
}

/// Destination of a link's frames: one id where all links are of one peer, else one an id a peer.
pub(crate) fn destination(link: usize, peers: usize) -> Layer2Id {
    match peers {
        1 => receiver(),
        _ => Layer2Id::from_octets([0xff, 0, (link % peers) as u8]),
    }
}

/// Lengths of frames, from the first octet to the end of the MAC field.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Lengths(pub(crate) String, Vec<usize>);

impl Lengths {
    /// All of one length.
    pub(crate) fn equal(len: usize) -> Self {
        Self(format!("{len} octets"), vec![len])
    }

    /// 7 : 4 : 1 of 64, 576 and 1,420 octets, spread.
    pub(crate) fn imix() -> Self {
        Self("IMIX".to_owned(), vec![64, 576, 64, 64, 576, 64, 1_420, 64, 576, 64, 576, 64])
    }

    fn of(&self, i: usize) -> usize {
        self.1[i % self.1.len()]
    }
}

/// Where frames come from.
pub(crate) enum Source {
    /// The same burst again and again, as if it had been sealed.
    Made(Box<Batch>),
    /// SDUs, sealed anew each time.
    Protected(Box<Protecting>),
}

/// An engine that protects bursts of SDUs.
pub(crate) struct Protecting {
    engine: Engine,
    batch: Batch,
    sdu: Vec<u8>,
    lengths: Lengths,
    peers: usize,
    sent: usize,
}

impl Source {
    /// Frames that are there.
    pub(crate) fn made(lengths: &Lengths, peers: usize) -> Fallible<Self> {
        let mut batch = Batch::new(BURST);
        for i in 0..BURST {
            let link = i % LINKS;
            let mut frame = Address::link(destination(link, peers), sender(link)).ethernet_header().to_vec();
            frame.extend([1, 0, 0x60, 0, 1, 0, 0]);
            frame.resize(lengths.of(i), 0xa5);
            let slot = batch.push_frame(&frame, Meta::default()).ok_or("the burst does not fit a batch")?;
            let slot = &mut batch.slots_mut()[slot];
            slot.len = (frame.len() - spec::HEADER_LEN) as u32;
            slot.verdict = Verdict::Accepted;
        }
        Ok(Self::Made(Box::new(batch)))
    }

    /// SDUs under fresh keys.
    pub(crate) fn protected(lengths: &Lengths, peers: usize) -> Fallible<Self> {
        Ok(Self::Protected(Box::new(Protecting {
            engine: engine(LinkRole::Ue1, peers)?,
            batch: Batch::new(BURST),
            sdu: vec![0x5a; 2_048],
            lengths: lengths.clone(),
            peers,
            sent: 0,
        })))
    }

    /// The next burst; `None` when the keys are used up.
    pub(crate) fn next(&mut self) -> Fallible<Option<&Batch>> {
        match self {
            Self::Made(batch) => Ok(Some(batch)),
            Self::Protected(it) => it.next(),
        }
    }
}

impl Protecting {
    fn next(&mut self) -> Fallible<Option<&Batch>> {
        if self.sent + BURST > LINKS * 65_000 {
            return Ok(None);
        }
        self.batch.clear();
        for i in 0..BURST {
            let link = (self.sent + i) % LINKS;
            let address = Address::link(destination(link, self.peers), sender(link));
            let sdu = &self.sdu[..self.lengths.of(i) - SUITE.mac_len() - spec::HEADER_LEN];
            self.batch.push_sdu(address, Lcid::USER, SduType::NonIp, sdu, Meta::default());
        }
        self.sent += BURST;
        self.engine.protect(&mut self.batch, Now::default()).map_err(|e| e.to_string())?;
        if self.batch.slots().iter().any(|s| s.verdict != Verdict::Accepted) {
            return Err("a frame was not sealed".to_owned());
        }
        Ok(Some(&self.batch))
    }
}

/// Where frames go.
pub(crate) enum Sink {
    /// They are counted.
    Counted,
    /// Those that verify are counted.
    Verified(Box<Engine>),
}

impl Sink {
    /// Verifies what [`Source::protected`] sends.
    pub(crate) fn verified(peers: usize) -> Fallible<Self> {
        engine(LinkRole::Ue2, peers).map(|e| Self::Verified(Box::new(e)))
    }

    /// Takes a burst; says how many frames count.
    pub(crate) fn take(&mut self, batch: &mut Batch) -> Fallible<u64> {
        let Self::Verified(engine) = self else { return Ok(batch.len() as u64) };
        engine.open(batch, Now::default()).map_err(|e| e.to_string())?;
        Ok(batch.slots().iter().filter(|s| s.verdict == Verdict::Accepted).count() as u64)
    }
}

fn engine(role: LinkRole, peers: usize) -> Fallible<Engine> {
    let mut table = KeyTable::new();
    for link in 0..LINKS {
        let (near, far) = (sender(link), destination(link, peers));
        let (local, peer) = if role == LinkRole::Ue1 { (near, far) } else { (far, near) };
        let mut kd_sess = [0x42; 32];
        kd_sess[..8].copy_from_slice(&(link as u64).to_be_bytes());
        let id = KdSessId::new(0x0101).ok_or("0 is no KD-sess id")?;
        let key = LinkKey { local, peer, id, kd_sess: KdSess::new(kd_sess), suite: SUITE, role };
        table.apply(Command::AddLocal(local)).map_err(|e| e.to_string())?;
        table.apply(Command::InstallLink(key, LinkPhase::Active)).map_err(|e| e.to_string())?;
    }
    table.publish();
    Ok(Engine::new(table.shared(), EngineConfig::default()))
}
