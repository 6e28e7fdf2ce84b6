//! The member's live link: group keys, re-keying, keepalive, release.

use std::time::Duration;

use bytes::Bytes;
use pc5_dataplane::ids::{KdSessId, Layer2Id, Lcid, LinkRole};
use pc5_dataplane::keys::{Command, LinkKey, LinkPhase};
use pc5_dataplane::suite::Suite;
use rand_core::CryptoRng;

use super::Core;
use crate::clock::{Now, earlier};
use crate::codec::Body;
use crate::codec::direct::{Keepalive, Release, ReleaseReason};
use crate::codec::entry::decode_entries;
use crate::codec::go::{GroupKeyRequest, GroupKeyUpdate, RekeyCommand, Wrapped};
use crate::credential::Leaf;
use crate::group_owner::contexts::Contexts;
use crate::group_owner::distribution::{KeyRing, KeySource, group_key_notice};
use crate::group_owner::join::Refused;
use crate::group_owner::join::member::ExpectConfirm;
use crate::group_owner::rekeying::{Ask, ExpectCommand, RUNS};
use crate::group_owner::repeat::{CRL_COPIES, Due, Repeat, T_REKEY, T4101, T4103};
use crate::group_owner::schedule::{Bind, LinkRoot, group_info, hash, hpke_context};
use crate::group_owner::{Ended, Notice, Queue};
use crate::hpke;
use crate::reject::Reject;

/// A confirmed link.
pub(super) struct Link {
    pub bind: Bind,
    pub owner: Leaf,
    suite: Suite,
    root: LinkRoot,
    /// In use, and replaced.
    pub contexts: Contexts,
    /// Our clock minus the owner's, seconds.
    offset: i64,
    kd_since: Duration,
    kd_lifetime: Duration,
    runs: u32,
    rekey: Option<ExpectCommand>,
    /// Hash of the last REKEY_COMMAND, and REKEY_COMPLETE for repeats of it.
    completed: Option<([u8; 32], KdSessId, Vec<Bytes>)>,
    keepalive_period: Duration,
    keepalive_at: Duration,
    keepalive: Option<Repeat>,
    /// When the keepalive under way was sent first.
    keepalive_since: Duration,
    /// Last message of the owner that verified.
    heard: Duration,
    counter: u32,
    request: Option<Repeat>,
    last_hint: Option<Duration>,
    crls: Vec<Repeat>,
    leaving: Option<Repeat>,
    /// End of the owner's certificates, on our monotonic clock.
    until: Duration,
}

/// What is left of a link that we ended: one context, for RELEASE.
pub(super) struct Parting {
    local: Layer2Id,
    pub peer: Layer2Id,
    id: KdSessId,
    repeat: Repeat,
}

impl Parting {
    pub(super) fn deadline(&self) -> Duration {
        self.repeat.deadline()
    }

    /// Whether it goes on.
    pub(super) fn due(&mut self, now: Now, out: &mut Queue) -> bool {
        match self.repeat.due(now.monotonic) {
            Due::NotYet => true,
            Due::SendAgain => {
                out.repeat(self.local, self.peer, &self.repeat);
                true
            }
            Due::Over => false,
        }
    }

    pub(super) fn remove(self, out: &mut Queue) {
        out.install(Command::RemoveLink { local: self.local, peer: self.peer, id: self.id });
    }
}

impl Link {
    /// Confirmed. The contexts of the link before still receive for a while, where it was with the same owner.
    pub(super) fn new(
        state: ExpectConfirm,
        offset: i64,
        before: Option<Self>,
        now: Now,
        out: &mut Queue,
    ) -> Self {
        let ExpectConfirm { bind, agreed, owner, kd_lifetime, keepalive_period, .. } = state;
        let left = owner.path_not_after.saturating_sub(now.unix_seconds());
        let former: Vec<KdSessId> = match &before {
            Some(before) if before.bind == bind => before.contexts.ids().collect(),
            other => {
                other.iter().for_each(|other| other.remove_all(out));
                Vec::new()
            }
        };
        let contexts = Contexts::new(bind.member, bind.owner, agreed.id, former, now.monotonic);
        Self {
            bind,
            owner,
            suite: agreed.suite,
            root: agreed.root,
            contexts,
            offset,
            kd_since: now.monotonic,
            kd_lifetime: kd_lifetime.clamp(SHORTEST_KD, LONGEST_KD),
            runs: 0,
            rekey: None,
            completed: None,
            keepalive_period,
            keepalive_at: now.monotonic.saturating_add(keepalive_period),
            keepalive: None,
            keepalive_since: now.monotonic,
            heard: now.monotonic,
            counter: 0,
            request: None,
            last_hint: None,
            crls: Vec::new(),
            leaving: None,
            until: now.monotonic.saturating_add(Duration::from_secs(left)),
        }
    }

    pub(super) fn remove_all(&self, out: &mut Queue) {
        self.contexts.ids().for_each(|id| self.contexts.remove(id, out));
    }

    /// We end it of our own accord. The owner is to know: we erase what it gave, and it must not go on as if we held that,
    /// neither now nor when we join again.
    pub(super) fn part(&self, core: &mut Core, now: Now) -> Parting {
        let (Bind { member: local, owner: peer, .. }, id) = (self.bind, self.contexts.in_use());
        self.contexts.remove_retiring(&mut core.out);
        // Nothing but PC5-S any more, both ways.
        core.out.install(Command::SetLinkPhase { local, peer, id, phase: LinkPhase::Pending });
        let sdus = core.sdus(peer, Body::Release(Release { reason: ReleaseReason::NotAllowed }));
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, Some(id), T4103, now.monotonic);
        core.out.repeat(local, peer, &repeat);
        Parting { local, peer, id, repeat }
    }

    pub(super) fn is_settled(&self) -> bool {
        self.rekey.is_none() && self.request.is_none() && self.leaving.is_none() && self.crls.is_empty()
    }

    pub(super) fn is_leaving(&self) -> bool {
        self.leaving.is_some()
    }

    pub(super) fn deadline(&self) -> Duration {
        let retiring = self.contexts.deadline();
        if let Some(leaving) = &self.leaving {
            // Nothing else is done any more, however long it is due.
            return retiring.map_or(self.until, |d| d.min(self.until)).min(leaving.deadline());
        }
        let rekey = self.rekey.as_ref().map(|r| &r.repeat);
        let repeats = [rekey, self.keepalive.as_ref(), self.request.as_ref()];
        let repeat = repeats.into_iter().flatten().chain(&self.crls).map(Repeat::deadline).min();
        let keepalive = if self.keepalive.is_none() { Some(self.keepalive_at) } else { None };
        let refresh = if self.rekey.is_none() { Some(self.refresh_due()) } else { None };
        [repeat, retiring, keepalive, refresh]
            .into_iter()
            .fold(None, earlier)
            .map_or(self.until, |d| d.min(self.until))
    }

    fn refresh_due(&self) -> Duration {
        self.kd_since.saturating_add(self.kd_lifetime / 4 * 3)
    }

    /// Asks for re-keying. What is under way already serves.
    pub(super) fn start_rekey<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        refresh: bool,
        now: Now,
        rng: &mut R,
    ) {
        if self.rekey.is_some() || self.leaving.is_some() {
            return;
        }
        let refresh = refresh || self.runs + 1 >= RUNS || self.refresh_due() <= now.monotonic;
        let mut msb = core.next_msb();
        while self.contexts.ids().any(|id| (id.get() >> 8) as u8 == msb) {
            msb = core.next_msb();
        }
        let (seq, sdu) = (core.next_seq(), core.policy.sdu);
        let ask = Ask { refresh, msb, route: &core.policy.route, seq, sdu, now: now.monotonic };
        match ExpectCommand::start(&ask, rng) {
            Ok(state) => {
                core.out.repeat(self.bind.member, self.bind.owner, &state.repeat);
                self.rekey = Some(state);
            }
            Err(refused) => core.out.ignored(self.bind.owner, refused.detail),
        }
    }

    pub(super) fn stop_rekey(&mut self) {
        self.rekey = None;
    }

    /// Whether the run under way has this nonce.
    pub(super) fn asked(&self, nonce_1: &[u8; 16]) -> bool {
        self.rekey.as_ref().is_some_and(|r| r.nonce_1 == *nonce_1)
    }

    /// REKEY_COMMAND.
    pub(super) fn on_command(
        &mut self,
        core: &mut Core,
        canonical: &[u8],
        m: &RekeyCommand,
        pending: usize,
        now: Now,
    ) {
        let Bind { member: local, owner: peer, .. } = self.bind;
        let to = pc5_dataplane::pdu::Destination::Ue(peer);
        let command = hash(&[canonical]);
        if let Some((_, id, sdus)) = self.completed.as_ref().filter(|(c, ..)| *c == command) {
            return core.out.send(local, to, Lcid::SIGNALLING, Some(*id), sdus);
        }
        let Some(state) = &self.rekey else { return };
        let run = match state.on_command(canonical, m, &self.bind, &self.root, &*core.device.key) {
            Ok(run) if self.contexts.ids().any(|id| id == run.id) => {
                return core.out.ignored(peer, "REKEY_COMMAND with an id that lives");
            }
            Ok(run) => run,
            Err(Refused { detail, .. }) => return core.out.ignored(peer, detail),
        };
        self.rekey = None;
        self.contexts.make_room(pending, &mut core.out);
        let (id, suite) = (run.id, self.suite);
        let key = LinkKey { local, peer, id, kd_sess: run.kd_sess, suite, role: LinkRole::Ue1 };
        core.out.install(Command::InstallLink(key, LinkPhase::Active));
        self.contexts.replace(id);
        self.runs = self.runs.saturating_add(1);
        let refreshed = run.root.is_some();
        if let Some(root) = run.root {
            self.root = root;
            self.runs = 0;
            self.kd_since = now.monotonic;
        }
        let sdus = core.sdus(peer, Body::RekeyComplete(run.confirm_m));
        core.out.send(local, to, Lcid::SIGNALLING, Some(id), &sdus);
        self.completed = Some((command, id, sdus));
        core.out.notice(Notice::Rekeyed { local, peer, id, refreshed });
    }

    /// GROUP_KEY_UPDATE.
    pub(super) fn on_update(&mut self, core: &mut Core, ring: &mut KeyRing, m: GroupKeyUpdate, now: Now) {
        let peer = self.bind.owner;
        let lowest_valid = m.lowest_valid_epoch;
        let entries = match m.keys {
            Wrapped::Link(_) if self.suite.mac_len() < 16 => {
                return core.out.ignored(peer, "group keys that only a MAC of 4 octets protects");
            }
            Wrapped::Link(entries) => entries,
            Wrapped::Certificate { n, sealed } => {
                let info = group_info(self.root.dksi, lowest_valid, n);
                let psk = self.root.group_psk();
                let context = hpke_context(&info, &psk);
                let opened = hpke::open(&*core.device.key, context, &sealed.enc, &sealed.ciphertext);
                let entries = opened
                    .map_err(|e| e.to_string())
                    .and_then(|o| decode_entries(n, &o).map_err(|e| e.to_string()));
                match entries {
                    Ok(entries) => entries,
                    Err(what) => return core.out.ignored(peer, format!("GROUP_KEY_UPDATE: {what}")),
                }
            }
        };
        if entries.iter().any(|e| core.policy.allows_group(e.suite).is_err()) {
            return core.out.ignored(peer, "group key of a suite that was not offered");
        }
        let newest_before = ring.newest();
        let exclusive = lowest_valid > ring.lowest_valid;
        let source = KeySource { owner: &self.owner.identity, owner_layer2: peer, offset: self.offset };
        match ring.take(entries, lowest_valid, &source, now, &mut core.out) {
            Ok(()) => {
                let newest = ring.newest();
                if newest > newest_before {
                    core.out.notice(group_key_notice(core.policy.group, newest, exclusive));
                }
                self.request = None;
                core.send(peer, None, Body::GroupKeyAck(newest));
            }
            Err(Reject::Protocol) => core.out.ignored(peer, "an epoch that is held, with other content"),
            Err(other) => core.out.ignored(peer, other),
        }
    }

    /// GROUP_KEY_REQUEST.
    pub(super) fn ask(&mut self, core: &mut Core, newest_epoch: u64, grant: bool, floors: bool, now: Now) {
        if self.request.is_some() || self.leaving.is_some() {
            return;
        }
        let peer = self.bind.owner;
        let sdus = core.sdus(peer, Body::GroupKeyRequest(GroupKeyRequest { newest_epoch, grant, floors }));
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, None, T_REKEY, now.monotonic);
        core.out.repeat(self.bind.member, peer, &repeat);
        self.request = Some(repeat);
    }

    /// What an unverified frame suggests is followed at most once a second.
    pub(super) fn hint_due(&mut self, now: Now) -> bool {
        let due = self.last_hint.is_none_or(|last| now.monotonic.saturating_sub(last) >= HINTS_APART);
        if due {
            self.last_hint = Some(now.monotonic);
        }
        due
    }

    /// A message of the owner verified, whatever it says.
    pub(super) fn hear(&mut self, now: Now) {
        self.heard = now.monotonic;
    }

    pub(super) fn on_keepalive_ack(&mut self, counter: u32, now: Now) {
        if counter == self.counter {
            self.keepalive = None;
            self.keepalive_at = now.monotonic.saturating_add(self.keepalive_period);
        }
    }

    /// RELEASE; the link ends with its answer, or without it after a while.
    pub(super) fn leave(&mut self, core: &mut Core, now: Now) {
        if self.leaving.is_some() {
            return;
        }
        let (peer, reason) = (self.bind.owner, ReleaseReason::NotNeeded);
        let sdus = core.sdus(peer, Body::Release(Release { reason }));
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, None, T4103, now.monotonic);
        core.out.repeat(self.bind.member, peer, &repeat);
        self.rekey = None;
        self.keepalive = None;
        self.leaving = Some(repeat);
    }

    pub(super) fn hand_on_crl(&mut self, core: &mut Core, der: &[u8], now: Now) {
        let sdus = core.sdus(self.bind.owner, Body::CrlUpdate(der.to_vec()));
        let repeat = Repeat::new(sdus, Lcid::SIGNALLING, None, CRL_COPIES, now.monotonic);
        core.out.repeat(self.bind.member, self.bind.owner, &repeat);
        self.crls.push(repeat);
    }

    /// What the clock brings; why the link ends, when it does.
    pub(super) fn due<R: CryptoRng + ?Sized>(
        &mut self,
        core: &mut Core,
        now: Now,
        rng: &mut R,
    ) -> Option<Ended> {
        let at = now.monotonic;
        let Bind { member: local, owner: peer, .. } = self.bind;
        self.contexts.remove_due(at, &mut core.out);
        if self.until <= at || self.kd_since.saturating_add(self.kd_lifetime).saturating_add(KD_GRACE) <= at {
            return Some(Ended::Refused(Reject::LifetimeOver));
        }
        if let Some(leaving) = &mut self.leaving {
            match leaving.due(at) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(local, peer, leaving),
                Due::Over => return Some(Ended::Left),
            }
            return None;
        }
        let mut again = None;
        if let Some(rekey) = &mut self.rekey {
            match rekey.repeat.due(at) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(local, peer, &rekey.repeat),
                Due::Over => again = Some(rekey.refreshes()),
            }
        }
        if let Some(refresh) = again {
            self.rekey = None;
            self.start_rekey(core, refresh, now, rng);
        } else if self.refresh_due() <= at {
            self.start_rekey(core, true, now, rng);
        }
        if let Some(request) = &mut self.request {
            match request.due(at) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(local, peer, request),
                Due::Over => self.request = None,
            }
        }
        self.crls.retain_mut(|repeat| match repeat.due(at) {
            Due::NotYet => true,
            Due::SendAgain => {
                core.out.repeat(local, peer, repeat);
                true
            }
            Due::Over => false,
        });
        match &mut self.keepalive {
            Some(keepalive) => match keepalive.due(at) {
                Due::NotYet => {}
                Due::SendAgain => core.out.repeat(local, peer, keepalive),
                // Whoever is heard otherwise lives, even if the answer was lost each time.
                Due::Over if self.heard > self.keepalive_since => {
                    self.keepalive = None;
                    self.keepalive_at = at;
                }
                Due::Over => return Some(Ended::Lost),
            },
            None if self.keepalive_at <= at => {
                self.counter = self.counter.wrapping_add(1);
                let body = Keepalive { counter: self.counter, maximum_inactivity_period: None };
                let sdus = core.sdus(peer, Body::Keepalive(body));
                let repeat = Repeat::new(sdus, Lcid::SIGNALLING, None, T4101, at);
                core.out.repeat(local, peer, &repeat);
                self.keepalive = Some(repeat);
                self.keepalive_since = at;
            }
            None => {}
        }
        None
    }
}

/// KD lifetimes that an owner may ask for.
const SHORTEST_KD: Duration = Duration::from_secs(60);
const LONGEST_KD: Duration = Duration::from_secs(24 * 3_600);
/// A refresh under way at the end of KD's lifetime may come to its end.
const KD_GRACE: Duration = Duration::from_secs(60);
/// Hints are followed this far apart.
const HINTS_APART: Duration = Duration::from_secs(1);
