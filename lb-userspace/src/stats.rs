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
    plan::Description,
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

/// [`VipCounts`], summed over CPUs.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
pub struct VipTotal {
    /// Packets forwarded.
    pub packets: u64,
    /// Their IP bytes.
    pub bytes: u64,
    /// Packets dropped, for any reason.
    pub dropped: u64,
    /// Packets passed to the stack because the backend is this host.
    pub passed: u64,
    /// SYNs with window 0 and no options.
    pub syn_zero_bare: u64,
    /// SYNs with window 0 and only padding.
    pub syn_zero_padding: u64,
    /// SYNs with window 0 and options.
    pub syn_zero_options: u64,
    /// SYNs with a window and no options.
    pub syn_open_bare: u64,
    /// SYNs with a window and only padding.
    pub syn_open_padding: u64,
    /// SYNs with a window and options.
    pub syn_open_options: u64,
    /// ICMP errors among the packets.
    pub icmp_errors: u64,
    /// Of those, too bigs with an MTU that no link may have.
    pub small_mtu: u64,
    /// SYNs whose MSS was lowered.
    pub mss_lowered: u64,
}

impl AddAssign<&VipCounts> for VipTotal {
    fn add_assign(&mut self, counts: &VipCounts) {
        self.packets += counts.packets;
        self.bytes += counts.bytes;
        self.dropped += counts.events.dropped;
        self.passed += counts.events.passed;
        self.syn_zero_bare += counts.events.syn_zero_bare;
        self.syn_zero_padding += counts.events.syn_zero_padding;
        self.syn_zero_options += counts.events.syn_zero_options;
        self.syn_open_bare += counts.events.syn_open_bare;
        self.syn_open_padding += counts.events.syn_open_padding;
        self.syn_open_options += counts.events.syn_open_options;
        self.icmp_errors += counts.events.icmp_errors;
        self.small_mtu += counts.events.small_mtu;
        self.mss_lowered += counts.events.mss_lowered;
    }
}

impl VipTotal {
    fn since(self, earlier: &VipTotal) -> VipTotal {
        VipTotal {
            packets: difference(self.packets, earlier.packets),
            bytes: difference(self.bytes, earlier.bytes),
            dropped: difference(self.dropped, earlier.dropped),
            passed: difference(self.passed, earlier.passed),
            syn_zero_bare: difference(self.syn_zero_bare, earlier.syn_zero_bare),
            syn_zero_padding: difference(self.syn_zero_padding, earlier.syn_zero_padding),
            syn_zero_options: difference(self.syn_zero_options, earlier.syn_zero_options),
            syn_open_bare: difference(self.syn_open_bare, earlier.syn_open_bare),
            syn_open_padding: difference(self.syn_open_padding, earlier.syn_open_padding),
            syn_open_options: difference(self.syn_open_options, earlier.syn_open_options),
            icmp_errors: difference(self.icmp_errors, earlier.icmp_errors),
            small_mtu: difference(self.small_mtu, earlier.small_mtu),
            mss_lowered: difference(self.mss_lowered, earlier.mss_lowered),
        }
    }
}

impl Stats {
    /// Reads all counters.
    pub fn read(datapath: &Datapath, description: &Description) -> Result<Self> {
        let verdicts: Vec<_> = datapath.verdicts()?.into_iter().map(verdict_stats).collect();
        let mut services = Vec::new();
        for service in &description.services {
            let vips = service.vips.iter().map(|vip| vip_stats(&vip.vip, &datapath.vip_counts(vip.id)?));
            let backends = service
                .backends
                .iter()
                .map(|backend| backend_stats(&backend.address.to_string(), &datapath.backend_counts(backend.id)?));
            services.push(ServiceStats {
                service: service.name.clone(),
                vips: vips.collect::<Result<_>>()?,
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
fn of_cpus<T>(counts: &[T]) -> &[T] {
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
