//! Sessions of others: whom they are believed from, and until when. Source: `go-mode.md` section 9.

use std::time::Duration;

use pc5_dataplane::ids::{Layer2Id, PgkId};
use pc5_dataplane::keys::{Command, GroupKey, PermittedSender, UnixSeconds};

use super::{GroupPsk, Other, Sessions};
use crate::clock::Now;
use crate::codec::entry::SessionProof;
use crate::codec::go::SessionKey;
use crate::credential::key::{SignRole, verify};
use crate::credential::{Identity, Leaf, Role};
use crate::group_owner::join::Refused;
use crate::group_owner::schedule::{SessionContext, hash, session_bind, session_pgk, session_wrap};
use crate::group_owner::{self, Notice};
use crate::reject::Reject;

impl Sessions {
    /// Whether no other talker has the index.
    pub(super) fn is_free(&self, id: PgkId) -> bool {
        self.others.values().all(|o| o.pgk_id.index() != id.index())
    }

    /// In this order: GK, whether it is known, time, opens, certificate, signature, newer than the last.
    pub(super) fn on_session_key(
        &mut self,
        source: Layer2Id,
        m: &SessionKey,
        now: Now,
    ) -> Result<(), Refused> {
        let group = self.policy.group;
        let key = (source, m.session_id);
        let psk = self.keys.iter().find(|k| k.id == m.gk_id && k.valid(now));
        let Some(psk) = psk else { return Ok(()) };
        if self.others.contains_key(&key) && !m.end {
            return Ok(());
        }
        if now.unix_millis().abs_diff(m.time) > CLOCKS_APART {
            return Err(Refused::new(Reject::NotAuthentic, "SESSION_KEY more than 30 s from our time"));
        }
        self.ended.retain(|_, until| *until > now.unix_millis());
        if self.ended.contains_key(&key) {
            return Ok(());
        }
        let bind = session_bind(group, source);
        let header = m.header();
        let wrap = session_wrap(&psk.gk, &m.nonce, &[&bind, &header]);
        // Outsiders end here, before any signature is looked at.
        let Some(opened) = wrap.open(&m.sealed) else {
            return Err(Refused::new(Reject::NotAuthentic, "SESSION_KEY does not open"));
        };
        if !self.tokens.take(now.monotonic) {
            return Err(Reject::Busy.into());
        }
        let (proof, length, signature) =
            SessionProof::decode_signed(&opened, source).map_err(|e| Refused::new(Reject::Protocol, e))?;
        let leaf = self.device.judge(&proof.credential.chain, Role::Member, group, now)?;
        let h = hash(&[&bind, &header, opened.get(..length).unwrap_or_default()]);
        if !verify(&leaf.public_key, SignRole::Session, &h, &signature) {
            return Err(Refused::new(Reject::NotAuthentic, "signature of the initiator"));
        }
        let identity = (leaf.identity.clone(), m.session_id);
        if self.newest.get(&identity).is_some_and(|&last| m.time <= last) {
            return Ok(());
        }
        if !self.policy.suites.contains(&proof.suite) {
            return Err(Reject::SuiteBelowPolicy.into());
        }
        group_owner::raise_floor(&self.device, &mut *self.store, leaf.newest, &mut self.out);
        if leaf.crl_in_grace {
            self.out.notice(Notice::CrlInGrace(leaf.identity.clone()));
        }
        self.remember(identity, m.time, now);
        if m.end {
            match self.others.remove(&key) {
                Some(other) => self.void(key, other, group_owner::Ended::Left, now),
                None => self.remember_ended(key, now),
            }
            return Ok(());
        }
        let index = proof.pgk_id.index();
        if self.own.as_ref().is_some_and(|own| own.pgk_id.index() == index) {
            // The one with the smaller Layer-2 id keeps it, while there are others to be had.
            let others = (1..=31).map(PgkId).any(|id| id.index() != index && self.is_free(id));
            self.index_taken = source < self.policy.layer2 && others;
        }
        self.install(key, leaf, &proof, psk_end(&self.keys, m.gk_id), now);
        Ok(())
    }

    /// For this sender only.
    fn install(
        &mut self,
        key: (Layer2Id, [u8; 8]),
        leaf: Leaf,
        proof: &SessionProof,
        key_ends: UnixSeconds,
        now: Now,
    ) {
        let ((source, session_id), group) = (key, self.policy.group);
        let local = self.policy.layer2;
        // A talker has one session: a new one replaces the one before. Its index may be any.
        let before: Vec<_> = self.others.keys().filter(|(s, _)| *s == source).copied().collect();
        for old in before {
            if let Some(other) = self.others.remove(&old) {
                self.void(old, other, group_owner::Ended::Replaced, now);
            }
        }
        if self.others.len() >= SESSIONS {
            return self.out.ignored(source, "more sessions than are kept");
        }
        let not_after =
            now.unix_seconds().saturating_add(proof.lifetime.into()).min(key_ends).min(leaf.path_not_after);
        let context = SessionContext { initiator: &leaf.identity, group, layer2: source, session_id };
        self.out.install(Command::InstallGroup(GroupKey {
            local,
            group,
            pgk_id: proof.pgk_id,
            pgk: session_pgk(context, proof.pgk_id, proof.suite, &proof.s_s),
            suite: proof.suite,
            senders: PermittedSender::Only(source),
            not_before: 0,
            not_after: now.key_time_of(not_after),
            grant: None,
            floors: vec![proof.floor],
        }));
        self.out.notice(Notice::Joined {
            group,
            local,
            peer: source,
            identity: leaf.identity.clone(),
            suite: proof.suite,
            until: not_after,
        });
        let left = Duration::from_secs(not_after.saturating_sub(now.unix_seconds()).saturating_add(1));
        let until = now.monotonic.saturating_add(left);
        self.others.insert(key, Other { leaf, pgk_id: proof.pgk_id, until });
    }

    /// Erases the key of one talker's session; another's may have the same id.
    pub(super) fn void_key(&mut self, talker: Layer2Id, pgk_id: PgkId) {
        let (local, group) = (self.policy.layer2, self.policy.group);
        let senders = PermittedSender::Only(talker);
        self.out.install(Command::VoidGroup { local, group, pgk_id, senders });
    }

    /// A session of another is over and does not come back. Who was refused may: it is judged anew each time.
    pub(super) fn void(&mut self, key: (Layer2Id, [u8; 8]), other: Other, why: group_owner::Ended, now: Now) {
        let ((source, _), local, group) = (key, self.policy.layer2, self.policy.group);
        if !matches!(why, group_owner::Ended::Refused(_)) {
            self.remember_ended(key, now);
        }
        self.void_key(source, other.pgk_id);
        let identity = other.leaf.identity;
        self.out.notice(Notice::Ended { group, local, peer: source, identity, why });
    }

    /// Until nothing that was recorded of it could be accepted any more: its SESSION_KEYs would bring the key back with a
    /// floor of then and empty replay windows. What its talker sent by now is at most [`CLOCKS_APART`] ahead of our clock.
    fn remember_ended(&mut self, key: (Layer2Id, [u8; 8]), now: Now) {
        self.ended.insert(key, now.unix_millis().saturating_add(2 * CLOCKS_APART));
    }

    /// Times are remembered as long as an older message could be accepted.
    fn remember(&mut self, identity: (Identity, [u8; 8]), time: u64, now: Now) {
        let oldest = now.unix_millis().saturating_sub(CLOCKS_APART);
        if self.newest.len() >= REMEMBERED {
            self.newest.retain(|_, t| *t >= oldest);
        }
        self.newest.insert(identity, time);
    }

    /// After a change of roots or CRLs every talker is judged again.
    pub(super) fn follow_trust(&mut self, now: Now) {
        let generation = self.device.trust.read().generation;
        if std::mem::replace(&mut self.trust_generation, generation) == generation {
            return;
        }
        let group = self.policy.group;
        let mut refused = Vec::new();
        for (key, other) in &self.others {
            if let Err(e) = self.device.judge_again(&other.leaf, Role::Member, group, now) {
                refused.push((*key, Reject::from(&e)));
            }
        }
        for (key, cause) in refused {
            if let Some(other) = self.others.remove(&key) {
                self.void(key, other, group_owner::Ended::Refused(cause), now);
            }
        }
    }
}

fn psk_end(keys: &[GroupPsk], id: u16) -> UnixSeconds {
    keys.iter().find(|k| k.id == id).map_or(0, |k| k.not_after)
}

/// Clocks of members may differ by this, milliseconds.
const CLOCKS_APART: u64 = 30_000;

/// Sessions of others.
const SESSIONS: usize = 1_024;

/// Identities whose newest time is remembered before the oldest ones are dropped.
const REMEMBERED: usize = 4_096;
