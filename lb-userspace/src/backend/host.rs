//! What a host has of what backends need: gathered, not judged.

use std::{collections::BTreeMap, fs, io, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::{
    needs::{Needs, Sysctl},
    nftables,
};
use crate::{
    datapath::{
        Pins,
        backend::{Addresses, Decapsulator},
    },
    links::{self, Link},
};

/// A host.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its interfaces.
    pub links: Vec<Link>,
    /// Settings by their path below /proc/sys.
    pub sysctls: BTreeMap<String, u8>,
    /// The kernel tracks connections, or would as soon as a rule asked for it.
    pub conntrack: bool,
    /// The table of rules for the VIPs.
    pub rules: Rules,
    /// The second program, if it is loaded.
    pub program: Option<Program>,
}

/// What nft says of the table.
#[derive(Clone, Debug)]
pub enum Rules {
    /// There is no nft.
    NoNft,
    /// nft failed, saying this.
    Unreadable(String),
    /// There is no table.
    None,
    /// The table, as JSON.
    Listed(Value),
}

/// The second program, as it is pinned.
#[derive(Clone, Debug)]
pub struct Program {
    /// The addresses it knows.
    pub addresses: Addresses,
    /// The interfaces it was attached to.
    pub interfaces: Vec<String>,
}

/// Gathers what `needs` asks for.
pub fn gather(needs: &Needs, pins: &Pins) -> Result<Host> {
    ensure!(
        nix::unistd::geteuid().is_root(),
        "not root: rules and pinned tables can be read by root alone (sudo weir ...)"
    );
    let links = links::list()?;
    let names = links.iter().map(|link| link.name.as_str()).chain(["all"]);
    Ok(Host {
        sysctls: names.flat_map(sysctls).collect(),
        conntrack: Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists(),
        rules: rules()?,
        program: if needs.tunnel.is_some() { program(pins)? } else { None },
        links,
    })
}

fn sysctls(scope: &str) -> Vec<(String, u8)> {
    let read = |name| {
        let path = Sysctl { scope: scope.to_owned(), name, value: 0 }.path();
        let text = fs::read_to_string(Path::new("/proc/sys").join(&path)).ok()?;
        Some((path, text.trim().parse().ok()?))
    };
    ["arp_ignore", "arp_announce", "rp_filter"].into_iter().filter_map(read).collect()
}

fn rules() -> Result<Rules> {
    let output = match Command::new("nft").args(["-j", "list", "table", "inet", nftables::NAME]).output() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Rules::NoNft),
        output => output.context("cannot run nft")?,
    };
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout)
            .map_or_else(|error| Rules::Unreadable(format!("its JSON: {error}")), Rules::Listed));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    if said.contains("No such file or directory") {
        return Ok(Rules::None);
    }
    Ok(Rules::Unreadable(said.lines().next().unwrap_or("no reason given").to_owned()))
}

fn program(pins: &Pins) -> Result<Option<Program>> {
    if !pins.tables().exists() {
        return Ok(None);
    }
    Ok(Some(Program { addresses: Decapsulator::open(pins)?.addresses()?, interfaces: pins.linked() }))
}
