//! Weir with the tables of a row.

use std::fmt::Write as _;

use anyhow::Result;
use aya::programs::ProgramFd;
use lb_common::{
    abi::{self, NextHop, mac_bits},
    verdict::Action,
};
use lb_userspace::{
    config,
    datapath::{self, Attachment, Loaded, Pins, Way, requirements::Kernel},
    links::Mode,
    plan::{NodeAddresses, plan},
};

use crate::{
    frames::{self, Family, Kind},
    plan::{Forward, Plan},
};

/// Weir, loaded with the tables of a row.
pub struct Weir {
    configuration: Configuration,
    loaded: Loaded,
    pins: Pinned,
}

/// All that have been loaded so far, attached to nothing.
#[derive(Default)]
pub struct Weirs(Vec<Weir>);

impl Weirs {
    /// The one with the tables that a row wants; loads it if there is none.
    pub fn of(&mut self, plan: &Plan) -> Result<&Weir> {
        let configuration = Configuration::of(plan);
        let found = self.0.iter().position(|weir| weir.configuration == configuration);
        let index = match found {
            Some(index) => index,
            None => {
                self.0.push(Weir::load(plan, &self.0.len().to_string(), "none", 1)?);
                self.0.len() - 1
            }
        };
        Ok(&self.0[index])
    }
}

impl Weir {
    /// Loads it with the tables that a row wants, for an interface; `name` becomes part of where its pins are.
    pub fn load(of: &Plan, name: &str, interface: &str, index: u32) -> Result<Self> {
        let configuration = Configuration::of(of);
        let config = config::parse("bench", &configuration.text())?;
        let node =
            NodeAddresses { v4: Some([192, 0, 2, 1].into()), v6: Some([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1].into()) };
        let tables = plan(&config, node)?;
        let entry = abi::Interface { mac: mac_bits(frames::OUR_MAC), index, ..abi::Interface::default() };
        let pins = Pins::new(format!("/sys/fs/bpf/weir-{}-bench-{name}", std::process::id()));
        pins.prepare()?;
        let pins = Pinned(pins);
        let interface = Attachment { name: interface.into(), entry, xdp: None };
        let loaded = datapath::load(&pins.0, Kernel::running()?, &tables, vec![interface])?;
        for id in 0..tables.backends.len() as u16 {
            let mac = [2, 0, 0, 1, (id >> 8) as u8, id as u8];
            let way = Way { next_hop: NextHop::resolved(mac), interface: 0, vlan: 0, mtu: 1500 };
            loaded.datapath().set_next_hops(&[(id, way)]);
        }
        Ok(Weir { configuration, loaded, pins })
    }

    /// Packets that ended by this action so far.
    pub fn seen(&self, action: Action) -> Result<u64> {
        let verdicts = self.loaded.datapath().verdicts()?;
        let of_action = verdicts.iter().filter(|(verdict, _)| verdict.action() == action);
        Ok(of_action.flat_map(|(_, packets)| packets).sum())
    }

    pub fn program(&self) -> Result<ProgramFd> {
        Ok(self.loaded.program()?.fd()?.try_clone()?)
    }

    /// Attaches it natively to its interface, in this thread's namespace.
    pub fn attach(self) -> Result<Pinned> {
        self.loaded.attach(Some(Mode::Native))?;
        Ok(self.pins)
    }
}

/// What is pinned, for as long as this value lives.
pub struct Pinned(Pins);

impl Drop for Pinned {
    fn drop(&mut self) {
        // What is left, `cargo xtask sweep` removes.
        let _ = self.0.remove();
    }
}

/// What differs between the configurations of rows.
#[derive(PartialEq, Eq)]
struct Configuration {
    forward: Forward,
    family: Family,
    port: &'static str,
    services: u32,
    backends: u32,
}

impl Configuration {
    fn of(plan: &Plan) -> Self {
        let Plan { forward, family, services, backends, .. } = *plan;
        let port = if matches!(plan.kind, Kind::Udp | Kind::Fragment) { "53/udp" } else { "80" };
        Configuration { forward, family, port, services, backends }
    }

    fn text(&self) -> String {
        let Configuration { forward, family, port, services, backends } = self;
        let method = if *forward == Forward::L2 { "l2" } else { "ipip" };
        let backend = |i: u32| match forward {
            Forward::L2 | Forward::Ipip => format!("\"10.200.{}.{}\"", i >> 8, i & 255),
            Forward::Ip6 => format!("\"2001:db8:b::{i:x}\""),
        };
        let backends = (1..=*backends).map(backend).collect::<Vec<_>>().join(", ");
        let mut text = "interface = \"bench\"\n".to_owned();
        for service in 0..*services {
            let (high, low) = (1 + (service >> 8), service & 255);
            let vip = match family {
                Family::Ipv4 => format!("172.16.{high}.{low}:{port}"),
                Family::Ipv6 => format!("[2001:db8::ac10:{:x}]:{port}", high << 8 | low),
            };
            // Writing into a string cannot fail.
            let _ = write!(
                text,
                "[service.s{service}]\nvip = \"{vip}\"\nbackends = [{backends}]\nforward = \"{method}\"\nsyn = {{ mode = \"drop\", budget = \"0/s\" }}\n"
            );
        }
        text
    }
}
