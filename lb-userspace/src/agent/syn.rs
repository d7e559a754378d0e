//! What the SYN filter does by itself, seen and told: the kernel decides, with or without an agent.

use std::collections::{BTreeMap, BTreeSet};

use super::{Agent, command::Kind};
use crate::{
    datapath::Datapath,
    notify::{Notice, Subject},
    plan::DescribedService,
};

/// What it was last seen doing.
#[derive(Default)]
pub struct Seen {
    /// All dropping is stopped.
    pub off: bool,
    /// Of each signature of a service in mode auto: which state it has, how much had matched, and whether that was too many.
    signatures: BTreeMap<(String, String), (u16, u64, bool)>,
}

impl Seen {
    /// As it is now.
    pub fn now(datapath: &Datapath, services: &[DescribedService]) -> Self {
        let mut seen = Seen { off: datapath.syn_is_off(), signatures: BTreeMap::new() };
        let now = match datapath.path_now() {
            Ok(now) => now,
            Err(error) => {
                tracing::warn!("what the SYN filter does is not known: {error:#}");
                return seen;
            }
        };
        for service in services.iter().filter(|service| service.syn == "auto") {
            let (number, state) = (service.syn_filter.state, datapath.syn_state(service));
            for (name, state) in service.syn_filter.signatures.iter().zip(state.signatures) {
                seen.signatures.insert((service.name.clone(), name.clone()), (number, state.total, state.until > now));
            }
        }
        seen
    }
}

impl Seen {
    /// The services that SYNs are dropped for.
    fn dropping(&self) -> BTreeSet<&str> {
        let drops = self.signatures.iter().filter(|(_, (.., drops))| *drops && !self.off);
        drops.map(|((service, _), _)| &service[..]).collect()
    }
}

impl Agent {
    /// Tells of what has changed since a second ago.
    pub(super) fn watch_syns(&mut self) {
        let seen = Seen::now(&self.datapath, self.running.services());
        let before = std::mem::replace(&mut self.syn, seen);
        let mut told = Vec::new();
        if before.off != self.syn.off {
            let verb = format!("syn {}", if self.syn.off { "off" } else { "on" });
            told.push((verb, crate::show::syn_text(self.syn.off)));
        }
        for ((service, signature), (number, total, drops)) in &self.syn.signatures {
            let (was, earlier, dropped) =
                before.signatures.get(&(service.clone(), signature.clone())).copied().unwrap_or_default();
            if dropped == *drops {
                continue;
            }
            let result = if *drops {
                let would = if self.syn.off { "would be dropped but for `weir syn off`" } else { "dropped" };
                format!("{would} from here on, {} matched in the last second", total.saturating_sub(earlier))
            } else if was == *number {
                "counted again, a minute has passed below the threshold".to_owned()
            } else {
                "counted again, it asks for something else now".to_owned()
            };
            told.push((format!("syn {service} {signature}"), result));
        }
        let (was, is) = (before.dropping(), self.syn.dropping());
        let begun = |service: &&str| Notice::bad(Subject::Flood((**service).to_owned()), "SYNs are dropped as a flood");
        let ended = |service: &&str| Notice::good(Subject::Flood((**service).to_owned()), "the flood of SYNs is over");
        let notices = is.difference(&was).map(begun).chain(was.difference(&is).map(ended)).collect();
        self.notifier.tell(notices);
        for (verb, result) in told {
            self.note(Kind::Filter, None, &verb, "", Ok(result));
        }
    }
}
