//! Where packets for each backend go: interface, MAC and MTU of its next hop, kept true while routes and neighbours
//! change.
//!
//! [`Resolver`] is the edge: it asks the kernel and listens to it. What follows from the answers is decided by
//! `table`, which knows neither sockets nor clocks.

mod kernel;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use crate::links::{self, Link};
use crate::netlink::{Notification, Notifications, Requests};
use table::{Hop, Route, Said, Table};

/// Routes rarely change alone: all are looked up again once they have been quiet, or changing, for this long.
const DEBOUNCE: Duration = Duration::from_millis(50);
/// Looking up all routes may take one part in so many of the time, on a host whose routes change all day.
const LOOKUP_SHARE: u32 = 10;
/// Timers closer together than this are served together.
const TIMER_STEP: Duration = Duration::from_millis(10);
/// Until the kernel is asked again after it could not answer.
const PAUSE: Duration = Duration::from_secs(1);

/// Everything that a next hop depends on.
const GROUPS: [u32; 9] = [
    libc::RTNLGRP_LINK,
    libc::RTNLGRP_NEIGH,
    libc::RTNLGRP_IPV4_IFADDR,
    libc::RTNLGRP_IPV4_ROUTE,
    libc::RTNLGRP_IPV4_RULE,
    libc::RTNLGRP_IPV6_IFADDR,
    libc::RTNLGRP_IPV6_ROUTE,
    libc::RTNLGRP_IPV6_RULE,
    libc::RTNLGRP_NEXTHOP,
];

/// Where packets for a backend go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NextHop {
    /// Nowhere.
    Unreachable {
        /// One sentence.
        reason: String,
    },
    /// The backend is this host.
    Local,
    /// The way is known, the MAC at its end is not: nobody answered yet, or nobody answers any more.
    Resolving {
        /// The kernel's index of the interface.
        interface: u32,
        /// Whose MAC is asked for: the gateway, or the backend itself.
        via: IpAddr,
    },
    /// To this MAC.
    Known {
        /// The kernel's index of the interface.
        interface: u32,
        /// Whose MAC it is: the gateway's, or the backend's own.
        via: IpAddr,
        /// The MAC.
        mac: [u8; 6],
        /// Bytes of the largest IP packet that this way takes: the route's limit or the interface's, the smaller.
        mtu: u16,
        /// The address that this host would send from.
        source: Option<IpAddr>,
    },
}

impl NextHop {
    /// The kernel's index of the interface that packets leave by.
    pub fn interface(&self) -> Option<u32> {
        match self {
            NextHop::Resolving { interface, .. } | NextHop::Known { interface, .. } => Some(*interface),
            NextHop::Unreachable { .. } | NextHop::Local => None,
        }
    }
}

/// Looks up once by which interface packets leave for each of these addresses; those that no way leads to are missing.
pub fn interfaces_to(addresses: &[IpAddr]) -> Result<Vec<(IpAddr, u32)>> {
    let mut requests = Requests::open().context("cannot ask the kernel for routes")?;
    let links = links::dump(&mut requests).context("cannot list the interfaces")?;
    let ways = addresses.iter().filter_map(|address| match kernel::route(&mut requests, &links, *address) {
        Route::Via { hop, .. } => Some((*address, hop.interface)),
        Route::Unreachable { .. } | Route::Local => None,
    });
    Ok(ways.collect())
}

/// Interfaces whose neighbours are an instance's own: those that it is attached to, and VLANs on them.
pub fn own_interfaces(links: &[Link], is_attached: impl Fn(&Link) -> bool) -> BTreeSet<u32> {
    let attached: BTreeSet<u32> = links.iter().filter(|link| is_attached(link)).map(|link| link.index).collect();
    let is_on_one = |link: &&Link| link.vlan.is_some_and(|vlan| attached.contains(&vlan.parent));
    let on_them: Vec<u32> = links.iter().filter(is_on_one).map(|link| link.index).collect();
    attached.into_iter().chain(on_them).collect()
}

/// Deletes the neighbour entries that resolving has made on these interfaces.
pub fn forget(interfaces: &BTreeSet<u32>) -> io::Result<()> {
    kernel::sweep(&mut Requests::open()?, |hop| interfaces.contains(&hop.interface))
}

/// Keeps the next hops of a set of backends.
pub struct Resolver {
    requests: Requests,
    notifications: Notifications,
    backends: BTreeSet<IpAddr>,
    links: BTreeMap<u32, Link>,
    table: Table,
    /// When all routes are to be looked up again.
    lookup_at: Option<Instant>,
    /// Whether notifications were lost, so that the neighbours are to be read again too.
    lost: bool,
    /// Neighbours that are no longer needed, and when to try again to delete them.
    left: BTreeSet<Hop>,
    sweep_at: Option<Instant>,
    debounce: Duration,
    /// Whether the kernel refused a kick when last tried: said once.
    refused: bool,
}

impl Resolver {
    /// Looks up the way to every backend and begins to resolve those that are not known. To be called inside a tokio
    /// runtime, in the network namespace meant.
    pub async fn start(backends: Vec<IpAddr>) -> Result<Resolver> {
        // The subscription comes first: what changes during the first look is not missed.
        let notifications = Notifications::subscribe(&GROUPS).context("cannot follow routes and neighbours")?;
        let requests = Requests::open().context("cannot ask the kernel for routes")?;
        let mut resolver = Resolver {
            requests,
            notifications,
            backends: backends.into_iter().collect(),
            links: BTreeMap::new(),
            table: Table::default(),
            lookup_at: None,
            lost: false,
            left: BTreeSet::new(),
            sweep_at: None,
            debounce: DEBOUNCE,
            refused: false,
        };
        resolver.look_up().context("cannot look up the routes to the backends")?;
        resolver.kick();
        Ok(resolver)
    }

    /// Waits for the next changes: every backend whose next hop differs from what this said of it before. At first it
    /// has said nothing, so the first call gives all backends. May be dropped while it waits (`select!`).
    pub async fn changed(&mut self) -> Vec<(IpAddr, NextHop)> {
        loop {
            self.work();
            let changes = self.table.take_changes();
            if !changes.is_empty() {
                return changes;
            }
            self.wait().await;
        }
    }

    /// Waits until nothing is being resolved any more, for `at_most` this long.
    pub async fn settle(&mut self, at_most: Duration) {
        let settled = async {
            self.work();
            while !self.table.settled() {
                self.wait().await;
                self.work();
            }
        };
        // Time over is one of the two ways this ends.
        tokio::time::timeout(at_most, settled).await.ok();
    }

    /// Waits until nothing is being resolved for these backends, for `at_most` this long.
    pub async fn settle_some(&mut self, backends: &BTreeSet<IpAddr>, at_most: Duration) {
        let settled = async {
            self.work();
            while self.table.resolving().any(|backend| backends.contains(&backend)) {
                self.wait().await;
                self.work();
            }
        };
        // Time over is one of the two ways this ends.
        tokio::time::timeout(at_most, settled).await.ok();
    }

    /// Every backend's next hop as it is now, by address.
    pub fn snapshot(&self) -> Vec<(IpAddr, NextHop)> {
        self.table.snapshot()
    }

    /// Replaces the backends. What is known of those that stay is kept, and only those that come are looked up.
    pub fn set_backends(&mut self, backends: Vec<IpAddr>) {
        let backends: BTreeSet<_> = backends.into_iter().collect();
        if backends == self.backends {
            return;
        }
        let mut routes = self.table.routes().clone();
        routes.retain(|backend, _| backends.contains(backend));
        for backend in backends.difference(&self.backends) {
            routes.insert(*backend, kernel::route(&mut self.requests, &self.links, *backend));
        }
        self.backends = backends;
        let now = Instant::now();
        if self.table.set_routes(routes, now) {
            match kernel::neighbours(&mut self.requests) {
                Ok(neighbours) => self.table.neighbours(&neighbours, now),
                // Looked at again together with the routes.
                Err(_) => (self.lost, self.lookup_at) = (true, Some(now)),
            }
        }
        self.work();
    }

    /// Does all that is due, without waiting.
    fn work(&mut self) {
        self.sweep();
        if self.lookup_at.is_some_and(|at| at <= Instant::now())
            && let Err(error) = self.look_up()
        {
            tracing::warn!("cannot look up the routes to the backends, trying again: {error}");
            self.lost = true;
            self.lookup_at = Some(Instant::now() + PAUSE);
        }
        self.kick();
    }

    /// Waits until something happens or is due, and takes note of it.
    async fn wait(&mut self) {
        let wake = self
            .table
            .wake()
            .map(|at| at.max(Instant::now() + TIMER_STEP))
            .into_iter()
            .chain(self.lookup_at)
            .chain(self.sweep_at)
            .min();
        let timer = async {
            match wake {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let notifications = tokio::select! {
            notifications = self.notifications.next() => notifications,
            () = timer => return,
        };
        match notifications {
            Ok(notifications) => {
                let now = Instant::now();
                notifications.iter().for_each(|notification| self.note(notification, now));
            }
            Err(error) => {
                tracing::warn!("cannot follow routes and neighbours, looking again: {error}");
                self.lost = true;
                self.lookup_at = Some(Instant::now() + PAUSE);
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    fn note(&mut self, notification: &Notification, now: Instant) {
        match notification {
            Notification::Message(RouteNetlinkMessage::NewNeighbour(message)) => {
                if let Some((hop, said)) = kernel::read_neighbour(message) {
                    self.table.neighbour(hop, said, now);
                }
            }
            Notification::Message(RouteNetlinkMessage::DelNeighbour(message)) => {
                if let Some((hop, _)) = kernel::read_neighbour(message) {
                    self.table.neighbour(hop, Said::Gone, now);
                }
            }
            // Many messages about a link say nothing new of it.
            Notification::Message(RouteNetlinkMessage::NewLink(message))
                if links::read(message).is_none_or(|link| self.links.get(&link.index) == Some(&link)) => {}
            Notification::Message(RouteNetlinkMessage::DelLink(message))
                if message.header.interface_family != AddressFamily::Unspec => {}
            Notification::Message(_) | Notification::Unknown => {
                self.lookup_at.get_or_insert(now + self.debounce);
            }
            Notification::Overrun => {
                tracing::debug!("notifications of the kernel were lost: reading routes and neighbours again");
                self.lost = true;
                self.lookup_at.get_or_insert(now + self.debounce);
            }
        }
    }

    fn look_up(&mut self) -> io::Result<()> {
        let begin = Instant::now();
        self.links = links::dump(&mut self.requests)?;
        let routes = self
            .backends
            .iter()
            .map(|backend| (*backend, kernel::route(&mut self.requests, &self.links, *backend)))
            .collect();
        let new = self.table.set_routes(routes, begin);
        if new || self.lost {
            let neighbours = kernel::neighbours(&mut self.requests)?;
            self.table.neighbours(&neighbours, begin);
        }
        self.lost = false;
        self.lookup_at = None;
        self.debounce = DEBOUNCE.max(begin.elapsed() * LOOKUP_SHARE);
        Ok(())
    }

    /// Deletes what an earlier agent has left on these interfaces and nobody needs now.
    pub fn sweep_left_over(&mut self, interfaces: &BTreeSet<u32>) {
        let goes = |hop: &Hop| interfaces.contains(&hop.interface) && !self.table.needs(hop);
        if let Err(error) = kernel::sweep(&mut self.requests, goes) {
            tracing::warn!("cannot delete neighbours that an earlier agent has left: {error}");
        }
    }

    /// Deletes the entries of neighbours that are no longer needed.
    fn sweep(&mut self) {
        self.left.extend(self.table.take_left());
        let now = Instant::now();
        if self.left.is_empty() || self.sweep_at.is_some_and(|at| now < at) {
            return;
        }
        match kernel::sweep(&mut self.requests, |hop| self.left.contains(hop) && !self.table.needs(hop)) {
            Ok(()) => (self.sweep_at, self.left) = (None, BTreeSet::new()),
            Err(error) => {
                tracing::warn!("cannot delete neighbours that are no longer needed, trying again: {error}");
                self.sweep_at = Some(now + PAUSE);
            }
        }
    }

    fn kick(&mut self) {
        let now = Instant::now();
        let hops = self.table.kicks(now);
        let mut refusal = None;
        for hop in &hops {
            if let Err(error) = kernel::kick(&mut self.requests, *hop) {
                self.table.refused(*hop, now);
                refusal = Some((hop.via, error));
            }
        }
        if let Some((via, error)) = refusal.as_ref().filter(|_| !self.refused) {
            tracing::warn!("the kernel does not resolve {via} and perhaps others, trying again every second: {error}");
        }
        self.refused = refusal.is_some() || (self.refused && hops.is_empty());
    }
}
