//! Who is compared: each filter is set up in a namespace of its own and says how many packets it has dropped.

use std::{
    fs,
    os::fd::{AsFd, AsRawFd},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use lb_common::verdict::Verdict;
use lb_userspace::{
    datapath::{Access, Datapath, Pins},
    lab::{Host, Running},
};
use serde_json::Value;

/// Longer than an agent takes to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// What stands before the web server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Filter {
    /// Nothing.
    None,
    /// Weir in the driver.
    WeirNative,
    /// Weir in the stack.
    WeirGeneric,
    /// A rule of nftables in a chain of the device.
    NftIngress,
    /// The same rule in a chain before connections are tracked.
    NftRaw,
    /// The rule that operators used.
    IptablesRaw,
    /// Nothing, and the stack tracks connections.
    Conntrack,
}

/// The flood's signature, as nftables puts it.
const NFT_RULE: &str = "ip length 40 tcp flags & (fin|syn|rst|ack) == syn tcp window 0 counter drop";
/// The same for iptables: length, and the 16 bits of the window in the word 32 bytes into a packet without IP options.
const IPTABLES_RULE: &[&str] = &[
    "-t",
    "raw",
    "-A",
    "PREROUTING",
    "-p",
    "tcp",
    "--syn",
    "-m",
    "length",
    "--length",
    "40",
    "-m",
    "u32",
    "--u32",
    "32&0xFFFF=0x0",
    "-j",
    "DROP",
];
/// Makes the stack track connections.
const TRACK: &str = "add table inet track; add chain inet track in { type filter hook prerouting priority 0; }; \
                     add rule inet track in ct state new counter";

impl Filter {
    pub const ALL: [Filter; 7] = [
        Filter::None,
        Filter::WeirNative,
        Filter::WeirGeneric,
        Filter::NftIngress,
        Filter::NftRaw,
        Filter::IptablesRaw,
        Filter::Conntrack,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Filter::None => "none",
            Filter::WeirNative => "weir_native",
            Filter::WeirGeneric => "weir_generic",
            Filter::NftIngress => "nft_ingress",
            Filter::NftRaw => "nft_raw",
            Filter::IptablesRaw => "iptables_raw",
            Filter::Conntrack => "conntrack",
        }
    }

    /// Whether it is meant to drop the flood at all.
    pub fn drops(self) -> bool {
        !matches!(self, Filter::None | Filter::Conntrack)
    }

    fn is_weir(self) -> bool {
        matches!(self, Filter::WeirNative | Filter::WeirGeneric)
    }

    /// Puts it in place; returns the agent, if it has one.
    pub fn set_up(self, host: &Host, vip: &str) -> Result<Option<Running>> {
        match self {
            Filter::None => {}
            Filter::WeirNative => return run_weir(host, vip, "native").map(Some),
            Filter::WeirGeneric => return run_weir(host, vip, "generic").map(Some),
            Filter::NftIngress => {
                nft(host, "add table netdev flood")?;
                let hook = "type filter hook ingress device \"eth0\" priority 0;";
                nft(host, &format!("add chain netdev flood in {{ {hook} }}; add rule netdev flood in {NFT_RULE}"))?;
            }
            Filter::NftRaw => {
                nft(host, "add table ip flood")?;
                let hook = "type filter hook prerouting priority raw;";
                nft(host, &format!("add chain ip flood in {{ {hook} }}; add rule ip flood in {NFT_RULE}"))?;
            }
            Filter::IptablesRaw => drop(host.output("iptables", IPTABLES_RULE)?),
            Filter::Conntrack => track(host)?,
        }
        Ok(None)
    }

    /// Packets that it has dropped so far.
    pub fn dropped(self, host: &Host) -> Result<u64> {
        match self {
            Filter::None | Filter::Conntrack => Ok(0),
            Filter::WeirNative | Filter::WeirGeneric => {
                let verdicts = Datapath::open(&Pins::new(host.pins()), Access::Read)?.verdicts()?;
                let flood = verdicts.iter().filter(|(verdict, _)| *verdict == Verdict::SynFlood);
                Ok(flood.flat_map(|(_, counts)| counts).sum())
            }
            Filter::NftIngress | Filter::NftRaw => counter(&host.output("nft", &["-j", "list", "ruleset"])?),
            Filter::IptablesRaw => {
                let listed = host.output("iptables", &["-t", "raw", "-nvxL", "PREROUTING"])?;
                let rule = listed.lines().find(|line| line.contains("DROP"));
                let packets = rule.and_then(|line| line.split_whitespace().next()?.parse().ok());
                packets.with_context(|| format!("`iptables -L` printed no rule: {listed}"))
            }
        }
    }

    /// Makes the stack behind it track connections, if it does not yet.
    pub fn track_behind(self, host: &Host) -> Result<()> {
        if matches!(self, Filter::None | Filter::Conntrack) { Ok(()) } else { track(host) }
    }

    /// Bytes of the maps, as the kernel accounts them.
    pub fn maps(self, host: &Host) -> Result<u64> {
        if !self.is_weir() {
            return Ok(0);
        }
        let directory = Pins::new(host.pins()).tables();
        let mut bytes = 0;
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let map = aya::maps::MapData::from_pin(entry?.path())?;
            let fd = map.fd().as_fd().as_raw_fd();
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{fd}"))?;
            let locked = info.lines().find_map(|line| line.strip_prefix("memlock:")?.trim().parse::<u64>().ok());
            bytes += locked.context("fdinfo has no memlock")?;
        }
        Ok(bytes)
    }
}

fn nft(host: &Host, commands: &str) -> Result<()> {
    host.output("nft", &[commands]).map(drop)
}

fn track(host: &Host) -> Result<()> {
    nft(host, TRACK)
}

/// The counter of the one rule that has `drop`.
fn counter(ruleset: &str) -> Result<u64> {
    let json: Value = serde_json::from_str(ruleset)?;
    let objects = json["nftables"].as_array().context("`nft -j` printed no array")?;
    let rules = objects.iter().filter_map(|object| object["rule"]["expr"].as_array());
    let mut dropping = rules.filter(|rule| rule.iter().any(|part| part.get("drop").is_some()));
    let rule = dropping.next().context("`nft -j` printed no rule that drops")?;
    let packets = rule.iter().find_map(|part| part["counter"]["packets"].as_u64());
    packets.context("the rule that drops has no counter")
}

fn run_weir(host: &Host, vip: &str, mode: &str) -> Result<Running> {
    let file = host.directory().join("weir.toml");
    let backend = super::stand::INSIDE;
    let text = format!(
        "interface = \"eth0\"\nannounce = \"none\"\nhash_key = \"000102030405060708090a0b0c0d0e0f\"\n\n\
         [service.web]\nvip = \"{vip}:80\"\nbackends = [\"{backend}\"]\n\
         syn = {{ mode = \"drop\", budget = \"0/s\" }}\n"
    );
    fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))?;
    let mut command = host.command(weir()?);
    command.arg("--pins").arg(host.pins()).args(["run", "--mode", mode, "--config"]).arg(file);
    command.arg("--state").arg(host.directory());
    let mut agent = host.spawn("weir", &mut command)?;
    agent.wait_to_say("services: ", PATIENCE)?;
    Ok(agent)
}

/// The binary, beside this one.
fn weir() -> Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name("weir");
    ensure!(path.exists(), "{}: not there: run `cargo xtask build`", path.display());
    Ok(path)
}
