//! What is known of the way to a backend, turned into entries of the tables.

use std::{collections::BTreeMap, net::IpAddr};

use lb_common::{
    abi::{self, Encapsulation},
    steer,
    wire::ETHERTYPE_VLAN,
};
use tracing::{debug, warn};

use crate::{
    datapath::{Datapath, Way},
    health::Checker,
    links::{Link, mac_text},
    next_hops::NextHop,
    plan::Allocation,
};

/// The numbers that interfaces and backends have in the tables.
pub struct Ways {
    /// Which attached interface an index of the kernel's stands for, and which VLAN on it; a VLAN on one stands for that one, because
    /// the program keeps the tags that packets came with.
    interfaces: BTreeMap<u32, (u16, u16)>,
    /// Numbers in the backends' table by address, and whether packets are to reach it by their MAC alone.
    ids: BTreeMap<IpAddr, Vec<(u16, bool)>>,
    /// Checks go the same ways.
    checker: Checker,
}

const NO_WAY: Way = Way { next_hop: abi::NextHop(0), interface: 0, vlan: 0, mtu: u16::MAX };

impl Ways {
    /// For tables that use these numbers.
    pub fn new(links: &[Link], attached: &[Link], allocation: &Allocation, checker: &Checker) -> Self {
        let mut ids: BTreeMap<IpAddr, Vec<(u16, bool)>> = BTreeMap::new();
        for ((address, encapsulation), id) in allocation.backends() {
            ids.entry(address).or_default().push((id, encapsulation == Encapsulation::L2));
        }
        Ways { interfaces: numbers(links, attached), ids, checker: checker.clone() }
    }

    /// Interfaces are others now, by the kernel's numbers.
    pub fn renumber(&mut self, links: &[Link], attached: &[Link]) {
        self.interfaces = numbers(links, attached);
    }

    /// Writes what is known now of the ways to some backends.
    pub fn apply(&self, datapath: &Datapath, changes: &[(IpAddr, NextHop)]) {
        let ways = changes.iter().flat_map(|(backend, next_hop)| {
            let ids = self.ids.get(backend).into_iter().flatten();
            ids.map(move |(id, l2)| (*id, self.way(*backend, next_hop, *l2)))
        });
        let ways = ways.collect::<Vec<_>>();
        datapath.set_next_hops(&ways);
        ways.iter().for_each(|(id, way)| self.checker.knows_way(steer::mark(*id), way.next_hop != NO_WAY.next_hop));
    }

    fn way(&self, backend: IpAddr, next_hop: &NextHop, l2: bool) -> Way {
        match next_hop {
            NextHop::Local => Way { next_hop: abi::NextHop(abi::NextHop::LOCAL), ..NO_WAY },
            NextHop::Unreachable { reason } => {
                warn!("backend {backend}: {reason}");
                NO_WAY
            }
            NextHop::Resolving { via, .. } => {
                debug!("backend {backend}: asking for the MAC of {via}");
                NO_WAY
            }
            // The gateway would route a packet for the VIP back here, and so on until its TTL is used up.
            NextHop::Known { via, .. } if l2 && *via != backend => {
                warn!("backend {backend}: behind gateway {via}, where forward = \"l2\" does not reach: use \"ipip\"");
                NO_WAY
            }
            NextHop::Known { interface, via, mac, mtu, .. } => match self.interfaces.get(interface) {
                Some((number, vlan)) => {
                    debug!("backend {backend}: next hop {via} at {}", mac_text(*mac));
                    Way { next_hop: abi::NextHop::resolved(*mac), interface: *number, vlan: *vlan, mtu: *mtu }
                }
                None => {
                    warn!(
                        "backend {backend}: its next hop {via} is not on an attached interface: add that to `interface`"
                    );
                    NO_WAY
                }
            },
        }
    }
}

/// Which attached interface an index of the kernel's stands for, and which VLAN (802.1Q) on it.
fn numbers(links: &[Link], attached: &[Link]) -> BTreeMap<u32, (u16, u16)> {
    let mut numbers: BTreeMap<_, _> =
        attached.iter().zip(0..).map(|(link, number)| (link.index, (number, 0))).collect();
    for link in links {
        if let Some(vlan) = link.vlan
            && let Some((number, _)) = numbers.get(&vlan.parent).copied()
        {
            // Two tags are not made.
            let is_one_tag = attached.iter().any(|below| below.index == vlan.parent);
            let id = if is_one_tag && vlan.protocol == ETHERTYPE_VLAN.get() { vlan.id } else { 0 };
            numbers.insert(link.index, (number, id));
        }
    }
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::links::Vlan;

    #[test]
    fn a_vlan_stands_for_the_interface_below_it() {
        let link = |index, vlan| Link { vlan, ..Link::working(index) };
        let on = |parent, id, protocol| Some(Vlan { parent, id, protocol });
        let links = [
            link(2, None),
            link(3, None),
            link(4, on(3, 10, 0x8100)),
            link(5, on(3, 10, 0x88a8)),
            link(6, on(9, 10, 0x8100)),
            link(7, on(4, 20, 0x8100)),
        ];
        let attached = [links[0].clone(), links[1].clone()];
        assert_eq!(
            numbers(&links, &attached),
            [(2, (0, 0)), (3, (1, 0)), (4, (1, 10)), (5, (1, 0)), (7, (1, 0))].into()
        );
    }
}
