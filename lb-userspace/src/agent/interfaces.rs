//! The attached interfaces: what becomes of them while the agent runs.

use std::net::IpAddr;

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::Agent;
use crate::{
    announce,
    links::{Link, mac_text},
};

impl Agent {
    /// Keeps the MACs of the attached interfaces true: frames to another MAC are not ours. An interface that is gone took
    /// the program with it, which is an error; one that comes up again tells the network where the VIPs are.
    pub(super) fn interfaces_changed(&mut self, links: &[Link]) -> Result<()> {
        for (number, old) in (0..).zip(&mut self.attached) {
            let name = &old.name;
            let new = links.iter().find(|link| link.index == old.index);
            let new = new.with_context(|| format!("interface {name:?}: is gone, and the program with it"))?;
            if new.mac != old.mac {
                info!("interface {name}: its MAC is now {}", mac_text(new.mac));
                self.datapath.set_mac(number, new.mac);
            }
            if old.works() && !new.works() {
                warn!("interface {name}: is down, nothing is forwarded");
            }
            let announces = self.datapath.interfaces().get(number as usize).is_some_and(|entry| entry.announce != 0);
            if !old.works() && new.works() {
                info!("interface {name}: is up again");
            }
            if announces && new.works() && (!old.works() || new.mac != old.mac) {
                tell_network(std::slice::from_ref(new), &self.running.vips);
            }
            if old.xdp.is_some() && new.xdp.is_none() {
                warn!("interface {name}: the XDP program was detached from outside (weir run attaches it)");
            }
            *old = new.clone();
        }
        Ok(())
    }
}

/// Tells switches and neighbours where the VIPs are now; twice, the second time a moment later.
pub fn tell_network(attached: &[Link], vips: &[IpAddr]) {
    for link in attached {
        let (link, vips) = (link.clone(), vips.to_vec());
        tokio::spawn(async move {
            if let Err(error) = announce::announce(&link, &vips).await {
                warn!("interface {}: cannot announce the VIPs: {error:#}", link.name);
            }
        });
    }
}
