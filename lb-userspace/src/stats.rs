//! What the counters say, summed and named: plain data that reading verbs print.

use std::ops::AddAssign;

use anyhow::Result;
use lb_common::{
    abi::Forwarded,
    verdict::{Action, Verdict},
};
use serde::Serialize;

use crate::{
    datapath::{Datapath, VipCounts},
    plan::{DescribedService, Description},
};

/// One reading of all counters.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stats {
    /// Packets that the program saw: all verdicts together.
    pub packets: u64,
    /// By verdict.
    pub verdicts: Vec<VerdictStats>,
    /// By service.
    pub services: Vec<ServiceStats>,
}

/// How often a verdict was given.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct VerdictStats {
    /// Its name.
    pub verdict: &'static str,
    /// pass, drop, transmit or redirect.
    pub action: &'static str,
    /// On all CPUs.
    pub packets: u64,
    /// On each CPU.
    pub per_cpu: Vec<u64>,
    /// What it means.
    pub why: &'static str,
}

/// The counters of a service.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ServiceStats {
    /// Its name.
    pub service: String,
    /// By VIP entry.
    pub vips: Vec<VipStats>,
    /// By signature, in the order in which they are tried.
    pub signatures: Vec<SignatureStats>,
    /// By backend. One that several services share by the same method counts for all of them together.
    pub backends: Vec<BackendStats>,
}

/// The counters of a VIP entry.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct VipStats {
    /// As in the configuration.
    pub vip: String,
    /// On all CPUs.
    #[serde(flatten)]
    pub total: VipTotal,
    /// Packets forwarded on each CPU.
    pub per_cpu: Vec<u64>,
}

/// What became of a signature at a service.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct SignatureStats {
    /// Its name.
    pub signature: String,
    /// SYNs that match it and none before it.
    pub matched: u64,
    /// Whether those are dropped now, but for the budget.
    pub dropping: bool,
}

/// The counters of a backend.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct BackendStats {
    /// Its address.
    pub backend: String,
    /// Packets sent to it.
    pub packets: u64,
    /// Their IP bytes, without what a tunnel adds.
    pub bytes: u64,
    /// Packets on each CPU.
    pub per_cpu: Vec<u64>,
}

/// Declares [`VipTotal`], and with it what is called by which name wherever counters are shown.
macro_rules! vip_counters {
    ($($name:ident $why:literal = $of_cpu:expr,)+) => {
        /// [`VipCounts`], summed over CPUs.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
        pub struct VipTotal {
            $(#[doc = $why] pub $name: u64,)+
        }

        impl VipTotal {
            /// Every counter, in their order.
            pub const COUNTERS: &[VipCounter] = &[
                $(VipCounter { name: stringify!($name), why: $why, read: |total| total.$name },)+
            ];

            fn since(self, earlier: &VipTotal) -> VipTotal {
                VipTotal { $($name: difference(self.$name, earlier.$name),)+ }
            }
        }

        impl AddAssign<&VipCounts> for VipTotal {
            fn add_assign(&mut self, counts: &VipCounts) {
                $(
                    let of_cpu: fn(&VipCounts) -> u64 = $of_cpu;
                    self.$name += of_cpu(counts);
                )+
            }
        }
    };
}

vip_counters! {
    packets           "Packets forwarded."                            = |counts| counts.packets,
    bytes             "IP bytes forwarded, without what a tunnel adds." = |counts| counts.bytes,
    dropped           "Packets dropped, for any reason."              = |counts| counts.events.dropped,
    passed            "Packets passed to the stack because the backend is this host." = |counts| counts.events.passed,
    syn_zero_bare     "SYNs with window 0 and no options."            = |counts| counts.events.syn_zero_bare,
    syn_zero_padding  "SYNs with window 0 and only padding."          = |counts| counts.events.syn_zero_padding,
    syn_zero_options  "SYNs with window 0 and options."               = |counts| counts.events.syn_zero_options,
    syn_open_bare     "SYNs with a window and no options."            = |counts| counts.events.syn_open_bare,
    syn_open_padding  "SYNs with a window and only padding."          = |counts| counts.events.syn_open_padding,
    syn_open_options  "SYNs with a window and options."               = |counts| counts.events.syn_open_options,
    icmp_errors       "ICMP errors among the packets."                = |counts| counts.events.icmp_errors,
    small_mtu         "Too bigs with an MTU that no link may have, among the ICMP errors." = |counts| counts.events.small_mtu,
    mss_lowered       "SYNs whose MSS was lowered."                   = |counts| counts.events.mss_lowered,
    syn_dropped       "SYNs dropped for matching a signature."        = |counts| counts.events.syn_dropped,
    syn_let           "SYNs that match a signature, let through within the budget." = |counts| counts.events.syn_let,
    syn_allowed       "SYNs that match a signature, from a prefix that is never dropped." = |counts| counts.events.syn_allowed,
    syn_capped        "SYNs dropped for being more than syn_rate."    = |counts| counts.events.syn_capped,
}

/// One of the counters of a VIP entry.
#[derive(Clone, Copy, Debug)]
pub struct VipCounter {
    /// Its name in JSON and, with more around it, in metrics.
    pub name: &'static str,
    /// What it counts: a sentence.
    pub why: &'static str,
    /// Reads it.
    pub read: fn(&VipTotal) -> u64,
}

impl Stats {
    /// Reads all counters.
    pub fn read(datapath: &Datapath, description: &Description) -> Result<Self> {
        let verdicts: Vec<_> = datapath.verdicts()?.into_iter().map(verdict_stats).collect();
        let mut services = Vec::new();
        let now = datapath.path_now()?;
        for service in &description.services {
            let vips = service.vips.iter().map(|vip| vip_stats(&vip.vip, &datapath.vip_counts(vip.id)?));
            let backends = service
                .backends
                .iter()
                .map(|backend| backend_stats(&backend.address.to_string(), &datapath.backend_counts(backend.id)?));
            services.push(ServiceStats {
                service: service.name.clone(),
                vips: vips.collect::<Result<_>>()?,
                signatures: signature_stats(datapath, service, now),
                backends: backends.collect::<Result<_>>()?,
            });
        }
        Ok(Stats { packets: verdicts.iter().map(|verdict| verdict.packets).sum(), verdicts, services })
    }

    /// What services and backends counted since an earlier reading. Where one began anew between the two, what
    /// is known is what has been counted since.
    pub fn since(mut self, earlier: &Stats) -> Stats {
        for (service, earlier) in self.services.iter_mut().zip(&earlier.services) {
            for (vip, earlier) in service.vips.iter_mut().zip(&earlier.vips) {
                vip.total = vip.total.since(&earlier.total);
                subtract(&mut vip.per_cpu, &earlier.per_cpu);
            }
            for (signature, earlier) in service.signatures.iter_mut().zip(&earlier.signatures) {
                signature.matched = difference(signature.matched, earlier.matched);
            }
            for (backend, earlier) in service.backends.iter_mut().zip(&earlier.backends) {
                backend.packets = difference(backend.packets, earlier.packets);
                backend.bytes = difference(backend.bytes, earlier.bytes);
                subtract(&mut backend.per_cpu, &earlier.per_cpu);
            }
        }
        self
    }

    /// Packets that were dropped, for any reason.
    pub fn dropped(&self) -> u64 {
        let drop = Action::Drop.label();
        self.verdicts.iter().filter(|verdict| verdict.action == drop).map(|verdict| verdict.packets).sum()
    }

    /// How often a verdict was given.
    pub fn verdict(&self, verdict: Verdict) -> u64 {
        self.verdicts[verdict as usize].packets
    }

    /// How many CPUs count.
    pub fn cpus(&self) -> usize {
        self.verdicts.first().map_or(0, |verdict| verdict.per_cpu.len())
    }
}

fn difference(now: u64, earlier: u64) -> u64 {
    now.checked_sub(earlier).unwrap_or(now)
}

fn subtract(now: &mut [u64], earlier: &[u64]) {
    now.iter_mut().zip(earlier).for_each(|(now, earlier)| *now = difference(*now, *earlier));
}

/// Without what was carried over from tables before, which no CPU of these has counted.
pub fn of_cpus<T>(counts: &[T]) -> &[T] {
    counts.split_last().map_or(&[], |(_, counts)| counts)
}

fn verdict_stats((verdict, per_cpu): (Verdict, Vec<u64>)) -> VerdictStats {
    VerdictStats {
        verdict: verdict.label(),
        action: verdict.action().label(),
        packets: per_cpu.iter().sum(),
        per_cpu: of_cpus(&per_cpu).to_vec(),
        why: verdict.why(),
    }
}

fn vip_stats(vip: &str, counts: &[VipCounts]) -> Result<VipStats> {
    let mut total = VipTotal::default();
    counts.iter().for_each(|counts| total += counts);
    Ok(VipStats { vip: vip.into(), total, per_cpu: of_cpus(counts).iter().map(|counts| counts.packets).collect() })
}

fn signature_stats(datapath: &Datapath, service: &DescribedService, now: u64) -> Vec<SignatureStats> {
    let counted = datapath.matches(service).into_iter().zip(datapath.dropping(service, now));
    let named = service.syn_filter.signatures.iter().cloned().zip(counted);
    named.map(|(signature, (matched, dropping))| SignatureStats { signature, matched, dropping }).collect()
}

fn backend_stats(backend: &str, counts: &[Forwarded]) -> Result<BackendStats> {
    Ok(BackendStats {
        backend: backend.into(),
        packets: counts.iter().map(|counts| counts.packets).sum(),
        bytes: counts.iter().map(|counts| counts.bytes).sum(),
        per_cpu: of_cpus(counts).iter().map(|counts| counts.packets).collect(),
    })
}

/// Packets and bytes, as `weir ls` shows them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets.
    pub packets: u64,
    /// IP bytes.
    pub bytes: u64,
}

impl From<&VipStats> for Traffic {
    fn from(vip: &VipStats) -> Self {
        Traffic { packets: vip.total.packets, bytes: vip.total.bytes }
    }
}

impl From<&BackendStats> for Traffic {
    fn from(backend: &BackendStats) -> Self {
        Traffic { packets: backend.packets, bytes: backend.bytes }
    }
}
