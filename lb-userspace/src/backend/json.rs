//! What a backend needs, as an object for configuration management.

use serde_json::{Value, json};

use super::{
    needs::{Decapsulation, Device, Needs, Tunnel, prefixed},
    nftables::Table,
    shell::{run_command, size_notes},
};

/// The object, without its version.
pub fn object(needs: &Needs) -> Value {
    let addresses = needs.addresses().into_iter().map(|vip| json!({ "address": prefixed(vip), "device": "lo" }));
    let sysctls = needs.arp_sysctls().into_iter().chain(needs.rp_filter_sysctls());
    let sysctls: serde_json::Map<_, _> = sysctls.map(|sysctl| (sysctl.key(), sysctl.value.into())).collect();
    json!({
        "services": needs.services,
        "interface": needs.interface,
        "vips": needs.vips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "addresses": addresses.collect::<Vec<_>>(),
        "sysctls": sysctls,
        "nftables": Table::new(needs).to_string(),
        "tunnel": needs.tunnel.as_ref().map(|tunnel| tunnel_object(needs, tunnel)),
    })
}

fn tunnel_object(needs: &Needs, tunnel: &Tunnel) -> Value {
    let command = (tunnel.decapsulation == Decapsulation::Weir).then(|| run_command(needs, tunnel).join(" "));
    let device = |device: Device| {
        json!({
            "name": device.name(),
            "kind": device.kind(),
            "local": tunnel.ends_of(device.outer_is_4()),
            "remote": "any",
            "addresses": tunnel.addresses_on(device).into_iter().map(prefixed).collect::<Vec<_>>(),
        })
    };
    json!({
        "ends": tunnel.ends,
        "path_mtu": tunnel.path_mtu,
        "outer_bytes": tunnel.outer_bytes(),
        "notes": size_notes(tunnel),
        "command": command,
        "devices": tunnel.devices().into_iter().map(device).collect::<Vec<_>>(),
    })
}
