//! Which backend each flow of the stream belongs to, by tables.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context, Result, bail};
use lb_common::{
    abi::{Address, STREAM_NETWORK},
    hash,
};
use lb_userspace::datapath::{Access, Datapath, Pins};

use crate::{
    ledger::{FLOWS, Owners},
    rig::{FIRST_BACKEND, PORT, SERVICE, VIP},
    wire::SOURCE_PORT,
};

/// What the tables in use say.
pub struct Tables {
    hash_key: [u32; 12],
    /// The place of the owner of each slot; 0 is none.
    pub slots: Vec<u8>,
}

impl Tables {
    /// Reads them.
    pub fn read(pins: &Pins) -> Result<Self> {
        let datapath = Datapath::open(pins, Access::Read)?;
        let description = datapath.description()?;
        let service = description.services.iter().find(|service| service.name == SERVICE).context("no such service")?;
        let mut places = vec![0; 1 << 16];
        for backend in service.backends.iter() {
            places[usize::from(backend.id)] = place(backend.address)?;
        }
        let slots = datapath.ring(service).into_iter().map(|slot| places[usize::from(slot.first)]).collect();
        Ok(Tables { hash_key: datapath.settings().hash_key, slots })
    }

    /// The owner of each flow.
    pub fn owners(&self) -> Owners {
        let word = |octets: [u8; 4]| Address::from(Ipv4Addr::from(octets)).0[3];
        let ports = u32::from(SOURCE_PORT.to_be()) | u32::from(PORT.to_be()) << 16;
        let [a, b] = STREAM_NETWORK;
        let owner = |flow: usize| {
            let [high, low] = (flow as u16).to_be_bytes();
            let hash = hash::flow4(&self.hash_key, word([a, b, high, low]), word(VIP), ports, TCP);
            self.slots[hash as usize & (self.slots.len() - 1)]
        };
        Owners((0..FLOWS).map(owner).collect())
    }
}

const TCP: u32 = 6;

/// The place of a backend, by its address.
fn place(backend: IpAddr) -> Result<u8> {
    match backend {
        IpAddr::V4(address) if address.octets()[..3] == [10, 1, 0] => Ok(address.octets()[3] - FIRST_BACKEND),
        _ => bail!("backend {backend}: none of the network's"),
    }
}
