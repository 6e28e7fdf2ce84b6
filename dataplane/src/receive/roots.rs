//! What commands change: links, groups, our own ids; and what time ends.

use super::*;

impl Receivers {
    pub(crate) fn add_link(&mut self, root: &LinkRoot, ciphers: &mut Ciphers) -> Result<(), KernelError> {
        let address = Address::link(root.local, root.peer);
        let key = ciphers.insert(root.suite, &FrameKeys::from_kd_sess(&root.kd_sess, root.suite))?;
        let id = ReceiveKey::new(address, 0, root.id.get());
        let context = self.contexts.insert(ReceiveContext {
            address: id.address,
            tag: id.tag,
            key,
            suite: root.suite,
            mac_len: root.suite.mac_len() as u8,
            direction: root.role.receives() as u8,
            standing: Standing::Entered,
            phase: root.phase,
            first_seen: false,
            usual_end: 0,
            window: Window::new(self.limits.window),
        });
        self.enter_beside(id, context);
        *self.links.entry(address).or_insert(0) += 1;
        Ok(())
    }

    pub(crate) fn update_link(&mut self, root: &LinkRoot) {
        let id = ReceiveKey::new(Address::link(root.local, root.peer), 0, root.id.get());
        if let Some(context) = self.find(id) {
            self.contexts[context].phase = root.phase;
        }
    }

    pub(crate) fn remove_link(&mut self, root: &LinkRoot, ciphers: &mut Ciphers) {
        let address = Address::link(root.local, root.peer);
        if let Some(context) = self.find(ReceiveKey::new(address, 0, root.id.get())) {
            self.erase(context, ciphers);
        }
        if let Some(n) = self.links.get_mut(&address) {
            *n -= 1;
            if *n == 0 {
                self.links.remove(&address);
            }
        }
    }

    pub(crate) fn set_locals(&mut self, locals: Arc<BTreeSet<Layer2Id>>) {
        self.locals = locals;
    }

    pub(crate) fn set_group(&mut self, root: &Arc<GroupRoot>, is_new: bool, ciphers: &mut Ciphers) {
        let roots = self.groups.entry(root.group).or_default();
        let held = if is_new { None } else { roots.iter_mut().find(|r| r.serial == root.serial) };
        match held {
            Some(r) => *r = root.clone(),
            None => roots.push(root.clone()),
        }
        self.expiry = self.expiry.min(root.not_after);
        for floor in root.floors.iter().filter(|f| root.permits(f.sender)) {
            let address = Address::group(root.group, floor.sender);
            if let Some(state) = self.senders.get_mut(&(address, root.pgk_id)) {
                // What was verified here has its window and goes on; what never was, and lies below, is a replay.
                let told = floor.ptk_id.get();
                if told >= state.newest && state.kept.iter().all(|k| k.0 != told) {
                    state.newest = told;
                    state.oldest = state.oldest.max(state.newest);
                    // So is what comes under a PTK that was derived ahead and nothing was verified under.
                    for context in std::mem::take(&mut state.ahead) {
                        self.erase(context, ciphers);
                    }
                }
            }
        }
    }

    /// Takes a context out of the table, and erases its key.
    fn erase(&mut self, context: u32, ciphers: &mut Ciphers) {
        self.leave(context);
        if let Some(c) = self.contexts.remove(context) {
            ciphers.remove(c.suite, c.key);
        }
    }

    pub(crate) fn remove_group(&mut self, root: &GroupRoot, ciphers: &mut Ciphers) {
        if let Some(roots) = self.groups.get_mut(&root.group) {
            roots.retain(|r| r.serial != root.serial);
            let same = |r: &Arc<GroupRoot>| {
                r.pgk_id == root.pgk_id && r.senders == root.senders && *r.pgk == *root.pgk
            };
            if roots.iter().any(same) {
                return; // another of our UEs holds the same PGK
            }
            if roots.is_empty() {
                self.groups.remove(&root.group);
            }
        }
        self.forget_senders(root, ciphers);
    }

    /// Erases what there is of those who may send under a PGK. Another sender's PGK with the same index keeps its contexts:
    /// with them would go what is known as seen.
    fn forget_senders(&mut self, root: &GroupRoot, ciphers: &mut Ciphers) {
        let of_root =
            |a: &Address| a.destination() == Destination::Group(root.group) && root.permits(a.source());
        self.remember(root, of_root);
        self.senders.retain(|(address, id), _| !(of_root(address) && *id == root.pgk_id));
        let stale: Vec<u32> = self
            .contexts
            .iter()
            .filter(|(_, c)| of_root(&c.id().address) && c.id().index() == root.pgk_id.index())
            .map(|(i, _)| i)
            .collect();
        for context in stale {
            self.erase(context, ciphers);
        }
    }

    /// Drops the contexts of PGKs whose time is over; the roots stay, so that such frames are named.
    pub(crate) fn expire(&mut self, now: UnixSeconds, ciphers: &mut Ciphers) {
        if now <= self.expiry {
            return;
        }
        let over: Vec<Arc<GroupRoot>> =
            self.groups.values().flatten().filter(|r| now > r.not_after).cloned().collect();
        for root in over {
            self.forget_senders(&root, ciphers);
        }
        let ahead = self.groups.values().flatten().map(|r| r.not_after).filter(|&t| t >= now);
        self.expiry = ahead.min().unwrap_or(u64::MAX);
    }

    /// Newest verified identity and next SN of every sender under a PGK.
    pub(crate) fn floors(&self, group: GroupId, pgk_id: PgkId) -> Vec<Floor> {
        let mut floors = Vec::new();
        for ((address, id), state) in &self.senders {
            if *id == pgk_id
                && state.met
                && address.destination() == Destination::Group(group)
                && let Some(ptk_id) = PtkId::new(state.newest)
            {
                let kept = state.kept.iter().find(|k| k.0 == state.newest);
                let next_sn = kept.map_or(0, |k| self.contexts[k.1].window.next());
                floors.push(Floor { sender: address.source(), ptk_id, next_sn });
            }
        }
        floors.sort_by_key(|f| f.sender);
        floors
    }
}
