//! `weir backend run`: brings the second program onto an interface, and in the foreground keeps its addresses true.

use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result, bail};
use lb_common::verdict::Stripping;
use tracing::{info, warn};

use crate::{
    datapath::{
        self, Pins,
        backend::{Addresses, Decapsulator},
        requirements,
    },
    links::{self, Link, Mode},
    netlink::Notifications,
    stop::Stop,
};

/// What changes the addresses of a host: `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR`.
const GROUPS: [u32; 3] = [1, 5, 9];

/// What was asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// The interface that tunnelled packets arrive by.
    pub interface: String,
    /// The VIPs served here.
    pub vips: BTreeSet<IpAddr>,
    /// This mode or none.
    pub mode: Option<Mode>,
    /// Attach and leave.
    pub once: bool,
}

/// What became of packets, and how many.
pub type Counts = Vec<(Stripping, u64)>;

/// Attaches, replacing what an earlier run left without a gap. In the foreground it then stays until SIGTERM or SIGINT,
/// detaches, and returns what was counted.
pub async fn run(pins: &Pins, options: &Options) -> Result<Option<Counts>> {
    // Both listened for before anything is read or attached: nothing that happens meanwhile is lost.
    let mut stop = Stop::listen()?;
    let mut changes = Notifications::subscribe(&GROUPS).context("cannot follow the addresses of this host")?;
    let kernel = requirements::check()?;
    kernel.lacks().iter().for_each(|lack| info!("{lack}"));
    let link = links::find(&options.interface)?;
    links::check_attachable(&link)?;
    let addresses = Addresses::new(&options.vips, links::local_addresses()?);
    pins.prepare()?;
    let _lock = pins.lock()?;

    let loaded = datapath::backend::load(pins, kernel, &link, &addresses)?;
    let (mut decapsulator, mode) = loaded.attach(options.mode)?;
    say_attached(&link, mode, &addresses);
    if options.once {
        return Ok(None);
    }
    let followed = tokio::select! {
        followed = follow(&mut decapsulator, &mut changes, &link, addresses) => followed,
        () = stop.wait() => Ok(()),
    };
    let counts = decapsulator.counts();
    datapath::detach(pins)?;
    followed?;
    info!("stopped, detached");
    counts.map(Some)
}

fn say_attached(link: &Link, mode: Mode, addresses: &Addresses) {
    match mode {
        Mode::Native => info!("interface {}: attached in native mode", link.name),
        Mode::Generic => warn!("interface {}: attached in generic mode, which is much slower than native", link.name),
    }
    let Addresses { vips, ends } = addresses;
    info!("takes outer headers off for {} VIPs, in tunnels to {} addresses of this host", vips.len(), ends.len());
}

/// Follows the addresses of this host; an error if the interface goes away.
async fn follow(
    decapsulator: &mut Decapsulator,
    changes: &mut Notifications,
    link: &Link,
    mut known: Addresses,
) -> Result<()> {
    loop {
        changes.next().await.context("cannot follow the addresses of this host")?;
        let links = links::list()?;
        if links.iter().all(|there| there.index != link.index) {
            bail!("interface {:?}: it is gone", link.name);
        }
        let addresses = Addresses::new(&known.vips, links.into_iter().flat_map(|link| link.addresses));
        if addresses == known {
            continue;
        }
        match decapsulator.set_addresses(&addresses) {
            Ok(()) => say_changed(&known, &addresses),
            Err(error) => warn!("tunnels to the addresses known before: {error:#}"),
        }
        known = addresses;
    }
}

fn say_changed(before: &Addresses, now: &Addresses) {
    now.ends.difference(&before.ends).for_each(|end| info!("{end}: tunnels to it end here now"));
    before.ends.difference(&now.ends).for_each(|end| info!("{end}: no longer an address of this host"));
}
