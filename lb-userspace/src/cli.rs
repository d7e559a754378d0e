//! What can be typed, and nothing else: clap types.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

/// Weir, an L4 load balancer in the network driver
///
/// Forwards every packet for a VIP to a backend chosen by consistent hash, by direct server return, without a connection
/// table.
///
/// Exit codes: 0 done, 1 failed, 2 usage, 3 invalid configuration, 4 plan has changes.
#[derive(Debug, Parser)]
#[command(name = "weir", version, max_term_width = 100)]
pub struct Cli {
    /// Where programs and tables are pinned; one directory an instance [default: /sys/fs/bpf/weir, of `weir backend`
    /// /sys/fs/bpf/weir-backend]
    #[arg(long, global = true, value_name = "DIR", env = "WEIR_PINS")]
    pub pins: Option<PathBuf>,
    /// Where the agent is asked [default: /run/weir/weir.sock; of other pins than the default /run/weir/NAME.sock, where NAME is
    /// that of their directory]
    #[arg(long, global = true, value_name = "PATH", env = "WEIR_SOCKET")]
    pub socket: Option<PathBuf>,
    /// How to print, errors included
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Text)]
    pub output: Output,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs; an object with a version
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Load, attach and look after a configuration until stopped
    ///
    /// The files `conf.d/*.toml` beside it are part of it. Stopping leaves forwarding in place: `weir detach` ends it.
    Run(Run),
    /// Say whether a configuration is valid, with a caret under each mistake
    ///
    /// The files `conf.d/*.toml` beside it are part of it.
    Check {
        /// The configuration
        file: PathBuf,
    },
    /// Show what a configuration would change, to the slot; changes nothing
    ///
    /// Exit code 4 if anything would change, 0 if nothing would.
    Plan {
        /// The configuration
        #[arg(default_value = "/etc/weir/weir.toml")]
        file: PathBuf,
        /// Compare with this configuration instead of what runs
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
        /// Where overrides are kept; they count with what runs, not with --from
        #[arg(long, value_name = "DIR", env = "WEIR_STATE", default_value = crate::overrides::file::DEFAULT_DIRECTORY,
              conflicts_with = "from")]
        state: PathBuf,
    },
    /// Put a configuration into effect, whole or not at all
    ///
    /// Asks the agent. Prints what changed, and what part of established connections it cost.
    Apply {
        /// The configuration, which the agent goes by from then on; without it, its own file is read again
        file: Option<PathBuf>,
        /// Go back after this time, such as 60s or 5m, unless `weir confirm` comes before
        #[arg(long, value_name = "TIME", value_parser = time)]
        confirm: Option<Duration>,
    },
    /// Keep what `weir apply --confirm` put into effect
    Confirm,
    /// Add a backend to a service, beyond the configuration
    ///
    /// At once; survives restart and reload, until `weir revert`. One that `weir rm` took away comes back.
    Add {
        /// Which one
        #[command(flatten)]
        target: Target,
        /// Its weight [default: 1, or the configuration's]
        weight: Option<u16>,
    },
    /// Take a backend out of a service
    ///
    /// At once; survives restart and reload, until `weir revert`. Connections established with the backend end.
    Rm {
        /// Which one
        #[command(flatten)]
        target: Target,
    },
    /// Give a backend another weight
    ///
    /// At once; survives restart and reload, until `weir revert`.
    Weight {
        /// Which one
        #[command(flatten)]
        target: Target,
        /// The weight
        weight: u16,
    },
    /// Move a backend's slots away, over some time if wanted
    ///
    /// In equal steps; survives restart and reload, until `weir ready` or `weir revert`. Connections established in a slot that
    /// moves end, until backends can hand packets on: --over spreads that, it does not spare it.
    Drain {
        /// Which one
        #[command(flatten)]
        target: Target,
        /// How long it takes, such as 30s, 5m or 2h [default: at once]
        #[arg(long, value_name = "TIME", value_parser = time)]
        over: Option<Duration>,
        /// In how many steps [default: by the time]
        #[arg(long, value_name = "N", requires = "over", value_parser = clap::value_parser!(u32).range(1..))]
        steps: Option<u32>,
    },
    /// Take a backend out of service at once, keeping it listed
    ///
    /// Survives restart and reload, until `weir ready` or `weir revert`. Connections established with the backend end.
    Maint {
        /// Which one
        #[command(flatten)]
        target: Target,
    },
    /// End a backend's drain or maintenance
    Ready {
        /// Which one
        #[command(flatten)]
        target: Target,
    },
    /// Clear what the verbs said: of one backend, of one service, or all
    Revert {
        /// Only of this service
        service: Option<String>,
        /// Only of this backend
        backend: Option<IpAddr>,
    },
    /// Show who asked the agent for what, and what came of it
    ///
    /// The last 1,000; the agent keeps them while it runs, the log longer.
    Events {
        /// Go on until interrupted
        #[arg(short, long)]
        follow: bool,
    },
    /// Show whether all is well: attachment, mode, agent, what is unresolved
    Status,
    /// List services, backends, weights, shares and next hops
    Ls {
        /// Only this service
        service: Option<String>,
        /// With packets and bytes
        #[arg(long, conflicts_with = "rate")]
        stats: bool,
        /// With packets and bytes a second, measured over one second
        #[arg(long)]
        rate: bool,
    },
    /// Show what was forwarded and dropped, and why
    Stats {
        /// A column for each CPU
        #[arg(long)]
        per_cpu: bool,
        /// Again every so many seconds, until interrupted
        #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "1",
              value_parser = clap::value_parser!(u64).range(1..))]
        watch: Option<u64>,
    },
    /// Show which backend a flow reaches, and why
    ///
    /// The kernel decides, by the same path over the live tables, on a packet made for the question; nothing is counted.
    Explain {
        /// The client, as `ADDRESS:PORT` or `[ADDRESS]:PORT`
        source: SocketAddr,
        /// The VIP, as `ADDRESS:PORT`, with `/udp` behind for UDP
        vip: Destination,
    },
    /// Write samples of packets into a pcapng file, each with its verdict and why
    ///
    /// As they left: with the MACs and outer headers that weir gave them, the first 256 bytes. At most 10,000 a second on each CPU; what is
    /// lost is counted and shown at the end. tcpdump and tshark read the file; `-Y frame.comment` or `-e frame.comment` shows why.
    Capture {
        /// Where to; - is standard output
        #[arg(short, long, value_name = "FILE")]
        write: PathBuf,
        /// Only of this verdict, as `weir stats` names them, or of this action (pass, drop, transmit, redirect); may be repeated
        #[arg(long, value_name = "VERDICT")]
        verdict: Vec<String>,
        /// Only of this service: not what was judged before its service could be found
        #[arg(long, value_name = "SERVICE")]
        service: Option<String>,
        /// End after so many packets
        #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        count: Option<u64>,
    },
    /// Answer ARP and neighbour solicitations for the VIPs, or stop (for keepalived's notify)
    Announce {
        /// Whether to
        state: Switch,
    },
    /// Stop all dropping of SYNs at once, or let it go on
    ///
    /// One store: holds for all services, whatever their mode, and survives reload and restart until `weir syn on`. What matches
    /// a signature goes on being counted.
    Syn {
        /// Whether services drop what their configuration says
        state: Filter,
    },
    /// Detach from all interfaces and remove all tables
    Detach,
    /// The backends' side
    #[command(subcommand)]
    Backend(Backend),
    /// Show the main job in network namespaces of its own: clients, balancer, three backends
    Demo,
    /// Print what makes a shell complete this command line
    ///
    /// bash: weir completions bash > /etc/bash_completion.d/weir
    Completions {
        /// The shell
        shell: Shell,
    },
    /// Write the man pages
    #[command(hide = true)]
    Man {
        /// Where to
        directory: PathBuf,
    },
}

/// Which backend a verb is for.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// The service
    pub service: String,
    /// The backend's address
    pub backend: IpAddr,
}

/// Reads a time such as `60s`, `5m` or `2h`.
fn time(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let seconds = match &text[digits.len()..] {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("not a time (write it as 60s, 5m or 2h)".to_owned()),
    };
    let number: u64 = digits.parse().map_err(|_| "not a time (write it as 60s, 5m or 2h)".to_owned())?;
    let all = number.checked_mul(seconds).filter(|all| *all <= LONGEST.as_secs());
    all.map(Duration::from_secs).ok_or_else(|| format!("too long (at most {}h)", LONGEST.as_secs() / 3_600))
}

/// The longest time that a verb may take.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3_600);

/// Arguments of `run`.
#[derive(Clone, Debug, Args)]
pub struct Run {
    /// The configuration
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub config: PathBuf,
    /// Where overrides are kept
    #[arg(long, value_name = "DIR", env = "WEIR_STATE", default_value = crate::overrides::file::DEFAULT_DIRECTORY)]
    pub state: PathBuf,
    /// Attach in this mode or not at all; without it as it runs already, else natively, else generically
    #[arg(long)]
    pub mode: Option<Mode>,
    /// Detach when stopped
    #[arg(long)]
    pub detach_on_exit: bool,
    /// Start even where the hardware merges packets (LRO): what it merged is dropped or harmed, and `status` keeps saying so
    #[arg(long)]
    pub force: bool,
    /// Where to log; without it to the journal if standard error leads there, else to standard error
    #[arg(long, value_enum)]
    pub log: Option<Log>,
}

/// How the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// In the driver
    Native,
    /// In the stack: any driver, much slower
    Generic,
}

/// Where to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// Standard error
    Terminal,
    /// The journal
    Journald,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// Answer, and tell the network at once
    On,
    /// Be silent
    Off,
}

/// On or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Filter {
    /// Drop what the configuration says
    On,
    /// Drop no SYN
    Off,
}

/// A VIP and a protocol, as typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address and port.
    pub address: SocketAddr,
    /// UDP rather than TCP.
    pub udp: bool,
}

impl std::str::FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (address, udp) = match text.rsplit_once('/') {
            None => (text, false),
            Some((address, "tcp")) => (address, false),
            Some((address, "udp")) => (address, true),
            Some((_, other)) => return Err(format!("protocol {other:?}: must be tcp or udp")),
        };
        let address = address.parse().map_err(|_| format!("{address:?}: not ADDRESS:PORT or [ADDRESS]:PORT"))?;
        Ok(Destination { address, udp })
    }
}

fn unicast(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text.parse().map_err(|_| "not an IP address".to_owned())?;
    let odd = address.is_unspecified() || address.is_multicast() || address.is_loopback();
    if odd || address.to_canonical() != address { Err("not a unicast address".into()) } else { Ok(address) }
}

/// The backends' side.
#[derive(Debug, Subcommand)]
pub enum Backend {
    /// Print what a backend of a service needs, or check that this host has it
    Setup(Setup),
    /// Take the outer header off tunnelled packets for VIPs served here
    ///
    /// Runs until stopped and follows the addresses of this host; then detaches and prints what it counted. What runs
    /// already is replaced without a gap.
    Run {
        /// The interface that tunnelled packets arrive by
        #[arg(long, value_name = "NAME")]
        interface: String,
        /// A VIP served here; may be given often
        #[arg(long, required = true, value_name = "ADDRESS", value_parser = unicast)]
        vip: Vec<IpAddr>,
        /// Attach in this mode or not at all
        #[arg(long)]
        mode: Option<Mode>,
        /// Attach and leave: nothing needs to stay, but an address that this host gets later needs another run
        #[arg(long)]
        once: bool,
    },
    /// Show what was stripped
    Stats,
    /// Detach the program of `backend run`
    Stop,
}

/// Arguments of `backend setup`.
#[derive(Debug, Args)]
pub struct Setup {
    /// The services of this backend, all of them: what is printed replaces what was set up before
    #[arg(required = true, value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The configuration that they stand in
    #[arg(short, long, value_name = "FILE", default_value = "/etc/weir/weir.toml")]
    pub config: PathBuf,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Shell, conflicts_with = "check")]
    pub format: Format,
    /// The backend's interface that packets arrive by
    #[arg(long, value_name = "NAME", default_value = "eth0")]
    pub interface: String,
    /// Only what concerns this one of the backends
    #[arg(long, value_name = "ADDRESS")]
    pub backend: Option<IpAddr>,
    /// Bytes of the largest packet that the way from balancer to backend takes, for tunnels
    #[arg(long, value_name = "BYTES", default_value_t = crate::backend::needs::DEFAULT_PATH_MTU,
          value_parser = clap::value_parser!(u16).range(1280..))]
    pub path_mtu: u16,
    /// Who takes tunnels apart
    #[arg(long, value_enum, default_value_t = Decapsulation::Weir)]
    pub decapsulation: Decapsulation,
    /// Say what this host lacks instead, and fail if that is anything
    #[arg(long)]
    pub check: bool,
}

/// What `backend setup` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Commands
    Shell,
    /// Files of systemd-networkd and others
    Networkd,
    /// An object for configuration management
    Json,
}

/// Who takes tunnels apart on a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Decapsulation {
    /// `weir backend run`
    Weir,
    /// The kernel's tunnel devices
    Kernel,
}
