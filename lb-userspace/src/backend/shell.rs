//! What a backend needs, as a shell script that may be run again and again.

use std::net::IpAddr;

use super::{
    needs::{Decapsulation, Device, Needs, Tunnel, list, prefixed, quoted},
    nftables::Table,
};

/// The script.
pub fn script(needs: &Needs) -> String {
    let mut lines = Vec::new();
    header(&mut lines, needs);
    silence(&mut lines, needs);
    lines.push(format!("nft -f - <<'END'\n{}END\n", Table::new(needs)));
    addresses(&mut lines, needs);
    if let Some(tunnel) = &needs.tunnel {
        match tunnel.decapsulation {
            Decapsulation::Weir => strip_by_weir(&mut lines, needs, tunnel),
            Decapsulation::Kernel => strip_by_kernel(&mut lines, tunnel),
        }
    }
    lines.join("\n")
}

/// The command that takes tunnels apart, in parts that belong on a line.
pub fn run_command(needs: &Needs, tunnel: &Tunnel) -> Vec<String> {
    let pins = tunnel.pins.as_ref().map(|pins| format!(" --pins {}", quoted(&pins.display().to_string())));
    let mut command = vec![format!("weir{} backend run", pins.unwrap_or_default())];
    command.push(format!("--interface {}", needs.interface));
    command.extend(tunnel.addresses().iter().map(|vip| format!("--vip {vip}")));
    command.push("--once".into());
    command
}

/// The command that puts a VIP where it belongs.
pub fn address_command(vip: IpAddr, device: &str) -> String {
    // A deprecated address is never chosen as a source: the host's own connections stay its own.
    let options = if vip.is_ipv6() { " nodad preferred_lft 0" } else { "" };
    format!("ip address replace {} dev {device}{options}", prefixed(vip))
}

/// What is said about sizes, a line each.
pub fn size_notes(tunnel: &Tunnel) -> Vec<String> {
    let (outer, path, whole) = (tunnel.outer_bytes(), tunnel.path_mtu, 1500 + tunnel.outer_bytes());
    let mut notes = vec![format!(
        "Sizes: the outer header takes {outer} bytes, so of a path of {path} bytes {} are left for a packet of a client.",
        tunnel.inner_mtu()
    )];
    if path < whole {
        notes.push(format!(
            "Best is an MTU of {whole} or more from balancer to backend, on every switch between too: then say --path-mtu {whole}."
        ));
    }
    let udp = tunnel.vips.iter().any(|vip| vip.protocol == crate::config::Protocol::Udp);
    if udp && path < whole {
        notes.push("UDP has no segments to keep small: longer datagrams are dropped by the balancer (too_big).".into());
    }
    notes
}

fn header(lines: &mut Vec<String>, needs: &Needs) {
    let services: Vec<_> = needs.services.keys().map(String::as_str).collect();
    lines.push("#!/bin/sh".into());
    lines.push(format!("# What a backend of {} needs. Run it as root, as often as you like.", services.join(", ")));
    lines.push("# Nothing of it outlives a reboot: run it at boot, or print files with --format networkd.".into());
    if let Some(tunnel) = &needs.tunnel {
        lines.extend(size_notes(tunnel).iter().map(|note| format!("# {note}")));
    }
    lines.push("set -eu\n".into());
}

fn silence(lines: &mut Vec<String>, needs: &Needs) {
    if !needs.has_4() {
        return;
    }
    lines.push(
        "# Before the VIPs are here: a host that answers ARP for them takes clients away from the balancer.".into(),
    );
    lines.extend(needs.arp_sysctls().iter().map(|sysctl| format!("sysctl -qw {}={}", sysctl.key(), sysctl.value)));
    lines.push(
        "# Loose: strict drops a client whose route leads over another interface. The larger of this and all counts."
            .into(),
    );
    let here = needs.rp_filter_sysctls().into_iter().filter(|sysctl| sysctl.scope == needs.interface);
    lines.extend(here.map(|sysctl| format!("sysctl -qw {}={}", sysctl.key(), sysctl.value)));
    lines.push(String::new());
}

fn addresses(lines: &mut Vec<String>, needs: &Needs) {
    lines.push("# On loopback the stack takes packets for the VIPs, and no link hears of them.".into());
    lines.extend(needs.addresses().iter().map(|vip| address_command(*vip, "lo")));
}

fn strip_by_weir(lines: &mut Vec<String>, needs: &Needs, tunnel: &Tunnel) {
    lines.push("\n# Takes the outer headers off in the driver, before conntrack and the firewall see a packet.".into());
    lines.push(run_command(needs, tunnel).join(" \\\n\t"));
}

fn strip_by_kernel(lines: &mut Vec<String>, tunnel: &Tunnel) {
    for v4 in [true, false] {
        let (ends, devices) = (tunnel.ends_of(v4), tunnel.devices());
        let devices: Vec<_> = devices.into_iter().filter(|device| device.outer_is_4() == v4).collect();
        if devices.is_empty() {
            continue;
        }
        let variable = if v4 { "end4" } else { "end6" };
        let words: Vec<_> = ends.iter().map(IpAddr::to_string).collect();
        lines.push("\n# Tunnels end at the one of these that is an address of this host.".into());
        lines.push(format!("{variable}=\nfor address in {}; do", words.join(" ")));
        lines.push("\t[ -n \"$(ip -o address show to \"$address\")\" ] || continue".into());
        lines.push(format!("\t[ -z \"${variable}\" ] || {{ echo \"two backends here, ${variable} and $address: say --backend\" >&2; exit 1; }}"));
        lines.push(format!("\t{variable}=$address\ndone"));
        lines.push(format!("if [ -n \"${variable}\" ]; then"));
        devices.iter().for_each(|device| add_device(lines, *device, tunnel, variable));
        lines.push("fi".into());
    }
    let found = ["end4", "end6"].map(|variable| format!("${{{variable}:-}}")).concat();
    let none = format!("not an address of this host: {}", list(&tunnel.ends));
    lines.push(format!("[ -n \"{found}\" ] || {{ echo \"{none}\" >&2; exit 1; }}"));
}

fn add_device(lines: &mut Vec<String>, device: Device, tunnel: &Tunnel, variable: &str) {
    let (name, kind) = (device.name(), device.kind());
    let mode = if device == Device::Ip6Tnl { " mode any" } else { "" };
    lines.push(format!("\tip link show dev {name} >/dev/null 2>&1 ||\n\t\tip link add {name} type {kind}{mode} local \"${variable}\" remote any"));
    lines.push(format!("\tip link set dev {name} up"));
    let vips = tunnel.addresses_on(device);
    if !vips.is_empty() {
        lines.push(
            "\t# The VIPs here too: without an IPv4 address the device's packets fail even a loose rp_filter.".into(),
        );
        lines.extend(vips.iter().map(|vip| format!("\t{}", address_command(*vip, name))));
        lines.push(format!("\tsysctl -qw net.ipv4.conf.{name}.rp_filter=2"));
    }
}
