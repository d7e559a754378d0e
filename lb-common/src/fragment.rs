//! Fragments of datagrams: only the first has ports, and all of them must reach one backend.
//!
//! Where an address has one ring for all of UDP, nothing needs to be known. Elsewhere first fragments leave their ports in
//! FRAGMENTS, a table of fixed size that later ones read: it is overwritten by whoever comes next, so that no amount of
//! fragments fills it, and a later fragment that overtakes its first is dropped.

use crate::{
    abi::{FRAGMENT_ENTRIES, Match, Service},
    balance::{Flow, Network, Path, is_balanced},
    family::Family,
    packet::Tables,
    verdict::Verdict,
    wire::{PROTOCOL_TCP, PROTOCOL_UDP},
};

/// What tells fragments apart.
#[derive(Clone, Copy)]
pub(crate) struct Fragment {
    /// It begins the datagram.
    pub(crate) is_first: bool,
    /// It begins 8 bytes into it, where the flags of a TCP header lie that was cut in two.
    pub(crate) at_one: bool,
    /// The datagram's identification, as loaded.
    pub(crate) id: u32,
}

/// Leaves the ports of a datagram for the fragments to come.
#[inline(always)]
pub(crate) fn remember<T: Tables, F: Family>(path: &Path<T>, network: &Network<F>, id: u32, ports: u32) {
    let place = Place::of(path, network, id);
    path.tables.remember(place.index, (place.tag as u64) << 32 | ports as u64);
}

/// The flow of a fragment that is not the first: by the ports that the first had, or without ports and with the address in
/// place of a service.
#[inline(always)]
pub(crate) fn later<'a, T: Tables, F: Family>(
    path: &Path<'a, T>,
    network: &Network<F>,
    fragment: Fragment,
) -> Result<(Flow<F>, Option<&'a Service>), Verdict> {
    let address = path.find(network.destination, Match::address(F::VERSION)).ok_or(Verdict::NotAVip)?;
    let protocol = network.protocol;
    if !is_balanced(protocol) {
        return Err(Verdict::OtherProtocol);
    }
    if protocol == PROTOCOL_TCP && fragment.at_one {
        return Err(Verdict::Malformed);
    }
    let flow = |ports| Flow { client: network.source, ports, protocol };
    if protocol == PROTOCOL_UDP && address.flags & Service::UDP_RING != 0 {
        return Ok((flow(0), Some(address)));
    }
    let place = Place::of(path, network, fragment.id);
    let element = path.tables.recall(place.index);
    if (element >> 32) as u32 != place.tag {
        return Err(Verdict::Fragment);
    }
    Ok((flow(element as u32), None))
}

/// Where the ports of a datagram are kept.
struct Place {
    index: u32,
    /// Which of all datagrams that are kept there it is; never 0, which stands for none.
    tag: u32,
}

impl Place {
    #[inline(always)]
    fn of<T: Tables, F: Family>(path: &Path<T>, network: &Network<F>, id: u32) -> Self {
        let key = &path.half.settings.hash_key;
        let hash = F::datagram(key, network.source, network.destination, id, network.protocol);
        Place { index: (hash >> 32) as u32 & (FRAGMENT_ENTRIES - 1), tag: (hash as u32).max(1) }
    }
}
