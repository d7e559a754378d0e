//! Which backend a flow reaches, and why: a packet made for the question, and what the kernel says of it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, bail};
use etherparse::PacketBuilder;
use lb_common::{abi::mac_from_bits, verdict::Verdict};
use serde::Serialize;

use crate::{
    datapath::Datapath,
    links::mac_text,
    plan::{DescribedBackend, DescribedService, Description},
};

/// A flow asked about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    /// The client.
    pub source: SocketAddr,
    /// The VIP.
    pub vip: SocketAddr,
    /// UDP rather than TCP.
    pub udp: bool,
}

/// What the kernel decided.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Answer {
    /// The verdict's name.
    pub verdict: &'static str,
    /// What happens to the packet.
    pub action: &'static str,
    /// What the verdict means.
    pub why: &'static str,
    /// The service and the VIP entry, if one matched.
    pub service: Option<String>,
    /// As in the configuration.
    pub vip: Option<String>,
    /// The flow's hash.
    pub hash: Option<u32>,
    /// The slot in the service's ring.
    pub slot: Option<u32>,
    /// How many slots the ring has.
    pub slots: Option<u32>,
    /// The backend that owns the slot.
    pub backend: Option<String>,
    /// Its weight.
    pub weight: Option<u16>,
    /// How packets reach it.
    pub forward: Option<String>,
    /// The MAC that its packets go to, if known.
    pub next_hop: Option<String>,
    /// The interface that they leave by.
    pub interface: Option<String>,
    /// Who would have the flow if that backend left.
    pub next: Option<String>,
}

/// Asks the kernel.
pub fn explain(datapath: &Datapath, question: Question) -> Result<Answer> {
    let description = datapath.description()?;
    let interface = datapath.interfaces().first().copied().context("no interface is attached")?;
    let (explanation, _) = datapath.explain(&frame(question, mac_from_bits(interface.mac))?)?;
    let verdict = Verdict::from_number(explanation.verdict)
        .with_context(|| format!("verdict {} is none that this weir knows", { explanation.verdict }))?;
    let some = |number: u32| (number != u32::MAX).then_some(number);

    let found = some(explanation.vip).and_then(|id| service_of(&description, id as u16));
    let service = found.map(|(service, _)| service);
    let backend = some(explanation.backend).map(|id| id as u16);
    let described = backend.and_then(|id| backend_of(service?, id));
    let slot = some(explanation.slot);
    let second = slot
        .and_then(|slot| datapath.slot(explanation.vip as u16, slot))
        .and_then(|slot| backend_of(service?, slot.second));
    let entry = backend.map(|id| datapath.backend(id));
    Ok(Answer {
        verdict: verdict.label(),
        action: verdict.action().label(),
        why: verdict.why(),
        service: service.map(|service| service.name.clone()),
        vip: found.map(|(_, vip)| vip.to_owned()),
        hash: slot.map(|_| explanation.hash),
        slot,
        slots: slot.and(service).map(|service| service.slots),
        backend: described.map(|backend| backend.address.to_string()),
        weight: described.map(|backend| backend.weight),
        forward: backend.and(service).map(|service| service.forward.clone()),
        next_hop: entry.and_then(|entry| entry.next_hop.mac()).map(mac_text),
        interface: entry
            .filter(|entry| entry.next_hop.mac().is_some())
            .and_then(|entry| description.interfaces.get(entry.interface as usize).cloned()),
        next: second.map(|backend| backend.address.to_string()),
    })
}

fn service_of(description: &Description, id: u16) -> Option<(&DescribedService, &str)> {
    description
        .services
        .iter()
        .find_map(|service| service.vips.iter().find(|vip| vip.id == id).map(|vip| (service, vip.vip.as_str())))
}

fn backend_of(service: &DescribedService, id: u16) -> Option<&DescribedBackend> {
    service.backends.iter().find(|backend| backend.id == id)
}

/// A frame of the flow: a TCP segment in an established connection, or a UDP datagram.
fn frame(question: Question, mac: [u8; 6]) -> Result<Vec<u8>> {
    const ASKER: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
    let Question { source, vip, udp } = question;
    let builder = PacketBuilder::ethernet2(ASKER, mac);
    let builder = match (source.ip(), vip.ip()) {
        (IpAddr::V4(source), IpAddr::V4(vip)) => builder.ipv4(source.octets(), vip.octets(), 64),
        (IpAddr::V6(source), IpAddr::V6(vip)) => builder.ipv6(source.octets(), vip.octets(), 64),
        (source, vip) => bail!("{source} -> {vip}: one is IPv4, the other IPv6"),
    };
    let mut frame = Vec::new();
    if udp {
        builder.udp(source.port(), vip.port()).write(&mut frame, &[0; 8])?;
    } else {
        builder.tcp(source.port(), vip.port(), 1, 65_535).ack(1).write(&mut frame, &[])?;
    }
    Ok(frame)
}
