//! Counters: what a packet moves, and sums of them.

use std::collections::BTreeMap;

use lb_common::{
    abi::{BackendCounts, VipCounts},
    filter::Syn,
    verdict::{Action, Verdict},
};

use crate::{cases::Case, expect::ip_packet};

/// Counters by what they belong to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// By label.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// By VIP, as the configuration writes it.
    pub vips: BTreeMap<String, VipCounts>,
    /// By id.
    pub backends: BTreeMap<u32, BackendCounts>,
}

/// The counters that a case moves, given the backend that was chosen.
pub fn of_case(case: &Case, backend: Option<u32>) -> Counted {
    let mut counted = of_frame(&case.frame, case.verdict, case.vip.as_deref(), case.syn, backend);
    for counts in counted.vips.values_mut() {
        counts.icmp_errors = case.marks.icmp_error.into();
        counts.small_mtu = case.marks.small_mtu.into();
        counts.mss_lowered = case.marks.mss_lowered.into();
    }
    counted
}

/// The counters that a frame moves which got this verdict.
pub fn of_frame(frame: &[u8], verdict: Verdict, vip: Option<&str>, syn: Option<Syn>, backend: Option<u32>) -> Counted {
    let sent = matches!(verdict, Verdict::Forwarded | Verdict::Redirected);
    let bytes = if sent { ip_packet(frame).1.len() as u64 } else { 0 };
    let mut counted = Counted { verdicts: [(verdict.label(), 1)].into(), ..Counted::default() };
    if let Some(vip) = vip {
        let mut counts = VipCounts::default();
        match verdict.action() {
            // The answer left, the packet did not.
            _ if verdict == Verdict::TooBigAnswered => counts.dropped = 1,
            Action::Pass => counts.passed = 1,
            Action::Drop => counts.dropped = 1,
            Action::Transmit | Action::Redirect => (counts.packets, counts.bytes) = (1, bytes),
        }
        match syn {
            None => {}
            Some(Syn::ZeroBare) => counts.syn_zero_bare = 1,
            Some(Syn::ZeroPadding) => counts.syn_zero_padding = 1,
            Some(Syn::ZeroOptions) => counts.syn_zero_options = 1,
            Some(Syn::OpenBare) => counts.syn_open_bare = 1,
            Some(Syn::OpenPadding) => counts.syn_open_padding = 1,
            Some(Syn::OpenOptions) => counts.syn_open_options = 1,
        }
        counted.vips.insert(vip.to_owned(), counts);
    }
    if let (true, Some(id)) = (sent, backend) {
        counted.backends.insert(id, BackendCounts { packets: 1, bytes });
    }
    counted
}

impl Counted {
    /// What changed since `before`, without what did not.
    pub fn since(&self, before: &Counted) -> Counted {
        let mut changed = self.clone();
        changed.verdicts.iter_mut().for_each(|(label, count)| *count -= before.verdicts[label]);
        changed
            .vips
            .iter_mut()
            .for_each(|(vip, counts)| *counts = vip_counts(*counts, before.vips[vip], u64::wrapping_sub));
        changed.backends.iter_mut().for_each(|(id, counts)| {
            let earlier = before.backends[id];
            *counts = BackendCounts { packets: counts.packets - earlier.packets, bytes: counts.bytes - earlier.bytes };
        });
        changed.verdicts.retain(|_, count| *count != 0);
        changed.vips.retain(|_, counts| *counts != VipCounts::default());
        changed.backends.retain(|_, counts| *counts != BackendCounts::default());
        changed
    }

    /// Adds what would have been counted `times` times.
    pub fn add(&mut self, other: &Counted, times: u64) {
        if times == 0 {
            return;
        }
        for (label, count) in &other.verdicts {
            *self.verdicts.entry(label).or_default() += count * times;
        }
        for (vip, counts) in &other.vips {
            let sum = self.vips.entry(vip.clone()).or_default();
            *sum = vip_counts(*sum, *counts, |sum, count| sum + count * times);
        }
        for (id, counts) in &other.backends {
            let sum = self.backends.entry(*id).or_default();
            *sum = BackendCounts {
                packets: sum.packets + counts.packets * times,
                bytes: sum.bytes + counts.bytes * times,
            };
        }
    }
}

/// The sum of two.
pub fn add_vip(a: VipCounts, b: VipCounts) -> VipCounts {
    vip_counts(a, b, u64::wrapping_add)
}

/// The sum of two.
pub fn add_backend(a: BackendCounts, b: BackendCounts) -> BackendCounts {
    BackendCounts { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

/// Field by field.
fn vip_counts(a: VipCounts, b: VipCounts, join: impl Fn(u64, u64) -> u64) -> VipCounts {
    VipCounts {
        packets: join(a.packets, b.packets),
        bytes: join(a.bytes, b.bytes),
        dropped: join(a.dropped, b.dropped),
        passed: join(a.passed, b.passed),
        syn_zero_bare: join(a.syn_zero_bare, b.syn_zero_bare),
        syn_zero_padding: join(a.syn_zero_padding, b.syn_zero_padding),
        syn_zero_options: join(a.syn_zero_options, b.syn_zero_options),
        syn_open_bare: join(a.syn_open_bare, b.syn_open_bare),
        syn_open_padding: join(a.syn_open_padding, b.syn_open_padding),
        syn_open_options: join(a.syn_open_options, b.syn_open_options),
        icmp_errors: join(a.icmp_errors, b.icmp_errors),
        small_mtu: join(a.small_mtu, b.small_mtu),
        mss_lowered: join(a.mss_lowered, b.mss_lowered),
    }
}
