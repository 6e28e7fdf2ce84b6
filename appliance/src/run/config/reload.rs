//! What differs between a running configuration and a new one: what changes at once, and what waits for a restart.

use pc5_control::group_owner::Order;
use pc5_control::policy::GroupPolicy;

use super::{Config, Station};

/// Differences, by key.
#[derive(Default)]
pub(crate) struct Changes {
    /// Changed at once.
    pub applied: Vec<String>,
    /// Named, and without effect until a restart.
    pub restart: Vec<String>,
    /// What the procedures are told.
    pub orders: Vec<Order>,
}

impl Changes {
    fn applies(&mut self, differs: bool, what: &str) {
        if differs {
            self.applied.push(what.to_owned());
        }
    }

    fn waits(&mut self, differs: bool, what: &str) {
        if differs {
            self.restart.push(what.to_owned());
        }
    }

    fn group(&mut self, old: &GroupPolicy, new: &GroupPolicy) {
        let living = old.with_living(new);
        if living != *old {
            self.applied.push(format!("group {}", old.group));
            self.orders.push(Order::Policy(Box::new(living.clone())));
        }
        self.waits(
            living != *new,
            &format!("ids, suite, transmit, keepalive or lost_after of group {}", old.group),
        );
    }
}

impl Config {
    /// What a new configuration changes.
    pub(crate) fn changes(&self, new: &Self) -> Changes {
        let mut c = Changes::default();
        c.applies(self.freshness != new.freshness, "crl_freshness");
        c.applies(self.trust != new.trust, "[[trust]]");
        c.applies(self.log != new.log, "log");
        c.waits(self.workers != new.workers, "workers");
        c.waits(self.kernel != new.kernel, "kernel");
        c.waits(self.receive != new.receive, "replay_window or kept_ptks");
        c.waits(self.user != new.user, "user");
        c.waits(self.admin != new.admin, "admin");
        c.waits(self.state != new.state, "state");
        c.waits(self.metrics != new.metrics, "metrics");
        c.waits(self.key_log != new.key_log, "key_log");
        c.waits(self.port != new.port, "[port]");
        c.waits(self.credential != new.credential, "[credential]");
        c.waits(self.est != new.est, "[est]");
        match (&self.station, &new.station) {
            (Station::Owner(old), Station::Owner(new)) => {
                for group in &old.groups {
                    match new.groups.iter().find(|g| g.group == group.group) {
                        Some(new) => c.group(group, new),
                        None => c.waits(true, &format!("removal of group {}", group.group)),
                    }
                }
                for group in &new.groups {
                    let known = old.groups.iter().any(|g| g.group == group.group);
                    c.waits(!known, &format!("new group {}", group.group));
                }
                c.waits(old.networks != new.networks, "networks");
                c.waits(old.addresses != new.addresses, "[[member]]");
                c.waits(old.cookie_always != new.cookie_always, "cookie_always");
                c.waits(old.announce != new.announce, "announce");
            }
            (Station::Ue(old), Station::Ue(new)) => {
                c.waits(old.len() != new.len(), "[[membership]]");
                for (old, new) in old.iter().zip(new) {
                    let group = old.policy.group;
                    let ue = old.policy != new.policy || old.group_keys != new.group_keys;
                    c.waits(ue, &format!("[ue] or [[membership]] of group {group}"));
                    c.waits(old.tun != new.tun, &format!("[tun] of group {group}"));
                }
            }
            _ => c.waits(true, "role"),
        }
        c
    }

    /// Takes over what was changed at once; what waits for a restart is found different again next time.
    pub(crate) fn take_living(&mut self, new: &Self) {
        self.freshness = new.freshness;
        self.trust.clone_from(&new.trust);
        self.log.clone_from(&new.log);
        if let (Station::Owner(old), Station::Owner(new)) = (&mut self.station, &new.station) {
            for group in &mut old.groups {
                if let Some(new) = new.groups.iter().find(|g| g.group == group.group) {
                    *group = group.with_living(new);
                }
            }
        }
    }
}
