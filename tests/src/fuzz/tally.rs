//! What the counters must show after many frames.

use lb_common::{abi::Forwarded, filter::Syn};
use lb_userspace::datapath::VipCounts;

use crate::{
    counted::Counted,
    reference::{Action, Judgement, Options, SynKind, Verdict},
};

/// Sums, by numbers.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    counted: Counted,
}

impl Tally {
    /// Adds a frame; `vips` are names by number.
    pub fn add(&mut self, judgement: &Judgement, vips: &[String]) {
        let sent = matches!(judgement.verdict, Verdict::Forwarded | Verdict::Redirected);
        *self.counted.verdicts.entry(judgement.verdict.label()).or_default() += 1;
        if let Some(service) = judgement.service {
            let counts = match self.counted.vips.get_mut(&vips[service]) {
                Some(counts) => counts,
                None => self.counted.vips.entry(vips[service].clone()).or_default(),
            };
            count(counts, judgement, sent);
        }
        if let (true, Some(backend)) = (sent, judgement.backend) {
            let counts: &mut Forwarded = self.counted.backends.entry(backend as u32).or_default();
            counts.packets += 1;
            counts.bytes += judgement.bytes;
        }
    }

    /// The sums, and nothing from now on.
    pub fn take(&mut self) -> Counted {
        std::mem::take(&mut self.counted)
    }
}

fn count(counts: &mut VipCounts, judgement: &Judgement, sent: bool) {
    match judgement.verdict.action() {
        _ if sent => {
            counts.packets += 1;
            counts.bytes += judgement.bytes;
            counts.events.icmp_errors += u64::from(judgement.icmp_error);
            counts.events.small_mtu += u64::from(judgement.small_mtu);
            counts.events.mss_lowered += u64::from(judgement.mss_lowered);
        }
        Action::Pass => counts.events.passed += 1,
        // Answered instead of sent on: the packet itself got nowhere.
        Action::Drop | Action::Transmit | Action::Redirect => counts.events.dropped += 1,
    }
    counts.events.syn_allowed += u64::from(judgement.syn_allowed);
    counts.events.syn_dropped += u64::from(judgement.verdict == Verdict::SynFlood);
    if let Some(syn) = judgement.syn {
        *kind_of(syn).counter(&mut counts.events) += 1;
    }
}

/// The path's name of a kind of SYN.
pub fn kind_of(syn: SynKind) -> Syn {
    match (syn.zero, syn.options) {
        (true, Options::Bare) => Syn::ZeroBare,
        (true, Options::Padding) => Syn::ZeroPadding,
        (true, Options::Real) => Syn::ZeroOptions,
        (false, Options::Bare) => Syn::OpenBare,
        (false, Options::Padding) => Syn::OpenPadding,
        (false, Options::Real) => Syn::OpenOptions,
    }
}
