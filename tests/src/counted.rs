//! Counters: what a packet moves, and sums of them.

use std::collections::BTreeMap;

use lb_common::{
    abi::{Forwarded, VipEvents},
    filter::Syn,
    verdict::{Action, Verdict},
};
use lb_userspace::datapath::VipCounts;

use crate::{cases::Case, expect::ip_packet};

/// Counters by what they belong to.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counted {
    /// By label.
    pub verdicts: BTreeMap<&'static str, u64>,
    /// By VIP, as the configuration writes it.
    pub vips: BTreeMap<String, VipCounts>,
    /// By id.
    pub backends: BTreeMap<u32, Forwarded>,
}

/// The counters that a case moves, given the backend that was chosen.
pub fn of_case(case: &Case, backend: Option<u32>) -> Counted {
    let mut counted = of_frame(&case.frame, case.verdict, case.vip.as_deref(), case.syn, backend);
    for counts in counted.vips.values_mut() {
        counts.events.icmp_errors = case.marks.icmp_error.into();
        counts.events.small_mtu = case.marks.small_mtu.into();
        counts.events.mss_lowered = case.marks.mss_lowered.into();
        counts.events.syn_allowed = case.marks.syn_allowed.into();
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
            _ if matches!(verdict, Verdict::TooBigAnswered | Verdict::Reset) => counts.events.dropped = 1,
            Action::Pass => counts.events.passed = 1,
            Action::Drop => counts.events.dropped = 1,
            Action::Transmit | Action::Redirect => (counts.packets, counts.bytes) = (1, bytes),
        }
        match syn {
            None => {}
            Some(Syn::ZeroBare) => counts.events.syn_zero_bare = 1,
            Some(Syn::ZeroPadding) => counts.events.syn_zero_padding = 1,
            Some(Syn::ZeroOptions) => counts.events.syn_zero_options = 1,
            Some(Syn::OpenBare) => counts.events.syn_open_bare = 1,
            Some(Syn::OpenPadding) => counts.events.syn_open_padding = 1,
            Some(Syn::OpenOptions) => counts.events.syn_open_options = 1,
        }
        counts.events.syn_dropped = u64::from(verdict == Verdict::SynFlood);
        counted.vips.insert(vip.to_owned(), counts);
    }
    if let (true, Some(id)) = (sent, backend) {
        counted.backends.insert(id, Forwarded { packets: 1, bytes });
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
            *counts = Forwarded { packets: counts.packets - earlier.packets, bytes: counts.bytes - earlier.bytes };
        });
        changed.verdicts.retain(|_, count| *count != 0);
        changed.vips.retain(|_, counts| *counts != VipCounts::default());
        changed.backends.retain(|_, counts| *counts != Forwarded::default());
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
            *sum = Forwarded { packets: sum.packets + counts.packets * times, bytes: sum.bytes + counts.bytes * times };
        }
    }
}

/// The sum of two.
pub fn add_vip(a: VipCounts, b: VipCounts) -> VipCounts {
    vip_counts(a, b, u64::wrapping_add)
}

/// The sum of two.
pub fn add_backend(a: Forwarded, b: Forwarded) -> Forwarded {
    Forwarded { packets: a.packets + b.packets, bytes: a.bytes + b.bytes }
}

/// Field by field.
fn vip_counts(a: VipCounts, b: VipCounts, join: impl Fn(u64, u64) -> u64) -> VipCounts {
    let (left, right) = (a.events, b.events);
    VipCounts {
        packets: join(a.packets, b.packets),
        bytes: join(a.bytes, b.bytes),
        events: VipEvents {
            dropped: join(left.dropped, right.dropped),
            passed: join(left.passed, right.passed),
            syn_zero_bare: join(left.syn_zero_bare, right.syn_zero_bare),
            syn_zero_padding: join(left.syn_zero_padding, right.syn_zero_padding),
            syn_zero_options: join(left.syn_zero_options, right.syn_zero_options),
            syn_open_bare: join(left.syn_open_bare, right.syn_open_bare),
            syn_open_padding: join(left.syn_open_padding, right.syn_open_padding),
            syn_open_options: join(left.syn_open_options, right.syn_open_options),
            icmp_errors: join(left.icmp_errors, right.icmp_errors),
            small_mtu: join(left.small_mtu, right.small_mtu),
            mss_lowered: join(left.mss_lowered, right.mss_lowered),
            syn_dropped: join(left.syn_dropped, right.syn_dropped),
            syn_let: join(left.syn_let, right.syn_let),
            syn_allowed: join(left.syn_allowed, right.syn_allowed),
            syn_capped: join(left.syn_capped, right.syn_capped),
            bare_dropped: join(left.bare_dropped, right.bare_dropped),
        },
    }
}
