//! What turns a host into a backend.

use std::path::Path;

use anyhow::{Context, Result};

use super::Host;
use crate::config;

/// Makes a host a backend of a service.
pub fn set_up_backend(host: &Host, _weir: &Path, config: &Path, service: &str) -> Result<()> {
    let config = config::load(config)?;
    let service = config.services.get(service).with_context(|| format!("service {service:?}: no such service"))?;
    host.set("net/ipv4/conf/all/arp_ignore", 1)?;
    host.set("net/ipv4/conf/all/arp_announce", 2)?;
    for vip in &service.vips {
        let length = if vip.address.is_ipv4() { 32 } else { 128 };
        host.ip(&format!("addr replace {}/{length} dev lo", vip.address))?;
    }
    Ok(())
}
