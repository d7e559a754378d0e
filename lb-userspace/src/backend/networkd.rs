//! What a backend needs, as files: of systemd-networkd, of sysctl.d, and a unit for the rest.

use std::net::IpAddr;

use anyhow::{Result, ensure};

use super::{
    needs::{Device, Needs, Tunnel, list, prefixed},
    nftables::Table,
    shell::{run_command, size_notes},
};

const RULES: &str = "/etc/weir/backend.nft";

/// A file: where it belongs and what is in it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct File {
    /// Its path.
    pub path: String,
    /// What is in it.
    pub content: String,
}

/// All files, each behind a line that names its path.
pub fn text(needs: &Needs) -> Result<String> {
    let files = files(needs)?;
    let file = |file: &File| format!("# {}\n{}", file.path, file.content);
    Ok(files.iter().map(file).collect::<Vec<_>>().join("\n").trim_end().to_owned())
}

/// The files.
pub fn files(needs: &Needs) -> Result<Vec<File>> {
    let mut files = Vec::new();
    if needs.has_4() {
        files.push(File { path: "/etc/sysctl.d/90-weir-backend.conf".into(), content: sysctls(needs) });
    }
    files.push(File { path: "/etc/systemd/network/10-weir-lo.network".into(), content: loopback(needs) });
    if let Some(tunnel) = &needs.tunnel {
        for device in tunnel.devices() {
            files.extend(device_files(tunnel, device)?);
        }
    }
    files.push(File { path: RULES.into(), content: Table::new(needs).to_string() });
    files.push(File { path: "/etc/systemd/system/weir-backend.service".into(), content: unit(needs) });
    Ok(files)
}

fn sysctls(needs: &Needs) -> String {
    let text = |sysctls: Vec<super::needs::Sysctl>| {
        sysctls.iter().map(|sysctl| format!("{} = {}\n", sysctl.key(), sysctl.value)).collect::<String>()
    };
    format!(
        "# This host has the VIPs and must not say so: no answers to ARP for them, no questions in their name.\n{}\
         # Loose: strict drops a client whose route leads over another interface. The larger of this and all counts.\n{}",
        text(needs.arp_sysctls()),
        text(needs.rp_filter_sysctls())
    )
}

fn loopback(needs: &Needs) -> String {
    let addresses: Vec<_> = needs.addresses().into_iter().map(address).collect();
    format!(
        "# On loopback the stack takes packets for the VIPs, and no link hears of them.\n[Match]\nName=lo\n\n{}",
        addresses.join("\n")
    )
}

fn address(vip: IpAddr) -> String {
    // A deprecated address is never chosen as a source.
    let more = if vip.is_ipv6() { "DuplicateAddressDetection=none\nPreferredLifetime=0\n" } else { "" };
    format!("[Address]\nAddress={}\n{more}", prefixed(vip))
}

/// A device and its addresses. It has to know its end, which differs from backend to backend.
fn device_files(tunnel: &Tunnel, device: Device) -> Result<[File; 2]> {
    let ends = tunnel.ends_of(device.outer_is_4());
    ensure!(
        ends.len() == 1,
        "{} backends: a tunnel device of systemd-networkd names its own: say which with --backend (have: {})",
        ends.len(),
        list(&tunnel.ends)
    );
    let (name, kind) = (device.name(), device.kind());
    let mode = if device == Device::Ip6Tnl { "Mode=any\n" } else { "" };
    let netdev = format!(
        "[NetDev]\nName={name}\nKind={kind}\n\n[Tunnel]\nLocal={}\nRemote=any\n{mode}Independent=yes\n",
        ends[0]
    );
    let addresses =
        tunnel.addresses_on(device).into_iter().map(|vip| format!("\n{}", address(vip))).collect::<String>();
    let why = if addresses.is_empty() {
        ""
    } else {
        "# The VIPs here too: without an IPv4 address the device's packets fail even a loose rp_filter.\n"
    };
    let network = format!("{why}[Match]\nName={name}\n\n[Network]\nLinkLocalAddressing=no\n{addresses}");
    let path = |suffix| format!("/etc/systemd/network/10-{name}.{suffix}");
    Ok([File { path: path("netdev"), content: netdev }, File { path: path("network"), content: network }])
}

fn unit(needs: &Needs) -> String {
    let mut start = vec![format!("/usr/sbin/nft -f {RULES}")];
    let mut stop = String::new();
    let mut notes = String::new();
    if let Some(tunnel) = &needs.tunnel {
        notes = size_notes(tunnel).iter().map(|note| format!("# {note}\n")).collect();
        if tunnel.devices().is_empty() {
            let command = run_command(needs, tunnel);
            start.push(format!("/usr/bin/{}", command.join(" \\\n    ").replace('%', "%%")));
            let other = command[0].trim_end_matches("run").replace('%', "%%");
            stop = format!("ExecStop=/usr/bin/{other}stop\n");
        }
    }
    let lines = |name: &str| start.iter().map(|command| format!("{name}={command}\n")).collect::<String>();
    format!(
        "{notes}[Unit]\nDescription=Backend of {}\nWants=network-online.target\nAfter=network-online.target\n\n\
         [Service]\nType=oneshot\nRemainAfterExit=yes\n{}\
         # Rules, program and addresses are replaced without a gap.\n{}{stop}\n[Install]\nWantedBy=multi-user.target\n",
        needs.services.keys().map(String::as_str).collect::<Vec<_>>().join(", "),
        lines("ExecStart"),
        lines("ExecReload"),
    )
}
