//! The attached interfaces: what becomes of them while the agent runs.

use std::net::IpAddr;

use anyhow::anyhow;
use tokio::task::JoinHandle;
use tracing::{error, info, warn};

use super::{Agent, command::Kind, host};
use crate::{
    announce, datapath,
    links::{Link, mac_text},
    notify::{Notice, Subject},
    overrides,
};

impl Agent {
    /// Keeps what the tables know of interfaces true, and the program on them: one that was made anew gets it again, and so does
    /// one that somebody took it from.
    pub(super) fn interfaces_changed(&mut self, links: &[Link]) {
        let before = self.attached.clone();
        for (number, old) in before.iter().enumerate() {
            let same = links.iter().find(|link| link.index == old.index && link.name == old.name);
            match same.or_else(|| links.iter().find(|link| link.name == old.name)) {
                Some(new) => self.interface_is(number, old, new.clone()),
                None => self.interface_is_gone(number, old),
            }
        }
        self.note_interfaces(&before);
        if self.attached.iter().map(|link| link.index).ne(before.iter().map(|link| link.index)) {
            self.ways.renumber(links, &self.attached);
            self.ways.apply(&self.datapath, &self.resolver.snapshot());
        }
    }

    /// Tells which of them work no longer, or again.
    fn note_interfaces(&mut self, before: &[Link]) {
        let works = |link: &Link| link.index != 0 && link.works();
        let changed = before.iter().zip(&self.attached).filter(|(old, new)| works(old) != works(new));
        let changed: Vec<_> = changed.map(|(_, new)| (new.name.clone(), works(new))).collect();
        for (name, works) in &changed {
            let verb = format!("interface {name}");
            let lost = anyhow!("is gone, down or without weir's program: nothing is forwarded there");
            let result = if *works { Ok("works again".to_owned()) } else { Err(&lost) };
            self.note(Kind::Interface, None, &verb, "", result);
        }
        let notice = |(name, works)| {
            let subject = Subject::Interface(name);
            if works {
                Notice::good(subject, "works again")
            } else {
                Notice::bad(subject, "nothing is forwarded there")
            }
        };
        self.notifier.tell(changed.into_iter().map(notice).collect());
    }

    fn interface_is_gone(&mut self, number: usize, old: &Link) {
        if old.index != 0 {
            error!("interface {}: is gone, nothing is forwarded there until it is back", old.name);
        }
        // No interface has this index: whichever comes is another one.
        self.attached[number] = Link { index: 0, up: false, carrier: false, xdp: None, ..old.clone() };
    }

    fn interface_is(&mut self, number: usize, old: &Link, mut new: Link) {
        let name = &new.name;
        let held = old.index == new.index && self.pins.hold(name, new.index);
        if !held {
            // The pinned program knows its number, which stays.
            self.show_interface(number, &new);
            let attachment = host::attachment(&self.wanted.config, &new, self.announces());
            match datapath::attach_again(&self.pins, &attachment, self.options.mode) {
                Ok(mode) => warn!("interface {name}: {}, the program is attached again ({mode:?})", why(old, &new)),
                Err(error) => {
                    // Said once; tried every second.
                    let said =
                        format!("interface {name}: {}, and it cannot be attached again: {error:#}", why(old, &new));
                    if self.complaint.as_ref() != Some(&said) {
                        error!("{said}");
                        self.complaint = Some(said);
                    }
                    new.up = false;
                    self.attached[number] = Link { index: 0, ..new };
                    return;
                }
            }
            self.complaint = None;
        } else if new.mac != old.mac {
            info!("interface {name}: its MAC is now {}", mac_text(new.mac));
            self.datapath.set_mac(number as u32, new.mac);
        }
        if old.works() && !new.works() {
            warn!("interface {name}: is down, nothing is forwarded");
        }
        if !old.works() && new.works() {
            info!("interface {name}: is up again");
        }
        if self.announces() && new.works() && (!held || !old.works() || new.mac != old.mac) {
            let vips = self.running.told();
            self.tell(std::slice::from_ref(&new), &vips);
        }
        if new.index != old.index {
            // The program that steers checks is gone with the old one.
            (self.steered, self.slow_ms) = (None, Some(overrides::now_ms()));
        }
        self.attached[number] = new;
    }

    fn show_interface(&self, number: usize, link: &Link) {
        let entry = host::attachment(&self.wanted.config, link, self.announces()).entry;
        self.datapath.set_interface(number as u32, entry);
    }
}

fn why(old: &Link, new: &Link) -> &'static str {
    if old.index != new.index { "was made anew" } else { "the program was taken from it from outside" }
}

impl Agent {
    /// Tells the network where VIPs are now.
    pub(super) fn tell(&mut self, attached: &[Link], vips: &[IpAddr]) {
        self.telling.retain(|telling| !telling.is_finished());
        self.telling.extend(tell_network(attached, vips));
    }

    /// Says no more.
    pub(super) fn stop_telling(&mut self) {
        self.telling.drain(..).for_each(|telling| telling.abort());
    }

    /// Some VIPs are no longer here; of the others it is said again.
    pub(super) fn tell_anew(&mut self) {
        self.stop_telling();
        let (attached, vips) = (self.attached.clone(), self.running.told());
        self.tell(&attached, &vips);
    }
}

/// Tells switches and neighbours where the VIPs are now; twice, the second time a moment later.
fn tell_network(attached: &[Link], vips: &[IpAddr]) -> Vec<JoinHandle<()>> {
    let tell = |link: &Link| {
        let (link, vips) = (link.clone(), vips.to_vec());
        tokio::spawn(async move {
            if let Err(error) = announce::announce(&link, &vips).await {
                warn!("interface {}: cannot announce the VIPs: {error:#}", link.name);
            }
        })
    };
    attached.iter().map(tell).collect()
}
