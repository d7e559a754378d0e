//! What a packet gets, and why: one enum, from which counters, metric labels and the words of `weir explain`
//! all come.

/// What the kernel does with a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Up the stack, untouched.
    Pass,
    /// Gone.
    Drop,
    /// Out of the interface it came in by.
    Transmit,
    /// Out of another attached interface.
    Redirect,
}

macro_rules! verdicts {
    ($(#[$doc:meta])* $enum:ident { $($name:ident $label:literal $action:ident $why:literal,)* }) => {
        $(#[$doc])*
        #[repr(u32)]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum $enum {
            $(#[doc = $why] $name,)*
        }

        impl $enum {
            /// Every one, in the order of their numbers.
            pub const ALL: &[$enum] = &[$($enum::$name,)*];
            /// How many there are.
            pub const COUNT: usize = Self::ALL.len();

            /// The one of a number, if there is one.
            #[inline(always)]
            pub fn from_number(number: u32) -> Option<Self> {
                // SAFETY: they have the numbers from 0 on, without a gap, and this is one of them. Not looked up in `ALL`: of a table
                // the verifier would want to see once more that the number lies within it.
                ((number as usize) < Self::COUNT).then(|| unsafe { core::mem::transmute::<u32, Self>(number) })
            }

            /// The name in counters, metrics and output.
            pub const fn label(self) -> &'static str {
                match self { $($enum::$name => $label,)* }
            }

            /// One line on why a packet gets this.
            pub const fn why(self) -> &'static str {
                match self { $($enum::$name => $why,)* }
            }

            /// What the kernel does with the packet.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $($enum::$name => Action::$action,)* }
            }
        }
    };
}

verdicts! {
    /// The one named verdict of a packet.
    Verdict {
        // The first is what a zeroed number means, so it must be harmless.
        NotIp            "not_ip"            Pass     "neither IPv4 nor IPv6, nor an ARP request for a VIP",
        ShortFrame       "short_frame"       Pass     "the frame ends before the destination address is known",
        NotOurs          "not_ours"          Pass     "the destination MAC is not this interface's",
        NotAVip          "not_a_vip"         Pass     "the destination is not a VIP",
        NotAService      "not_a_service"     Pass     "the destination is a VIP, but no service is on that port",
        OtherProtocol    "other_protocol"    Pass     "the destination is a VIP, but the protocol is not balanced",
        NeighbourPassed  "neighbour_passed"  Pass     "neighbour discovery that is the host's own to answer",
        LocalBackend     "local_backend"     Pass     "the backend chosen is this host",
        NotReady         "not_ready"         Pass     "the tables are not filled",
        Forwarded        "forwarded"         Transmit "sent to a backend by the interface it came in by",
        Redirected       "redirected"        Redirect "sent to a backend by another attached interface",
        ArpAnswered      "arp_answered"      Transmit "an ARP request for a VIP, answered",
        NdAnswered       "nd_answered"       Transmit "a neighbour solicitation for a VIP, answered",
        EchoAnswered     "echo_answered"     Transmit "an echo request to a VIP with a live service, answered",
        TooBigAnswered   "too_big_answered"  Transmit "longer than the path's MTU, which an ICMP error tells the client",
        Malformed        "malformed"         Drop     "lengths, offsets or ports that contradict each other",
        Martian          "martian"           Drop     "a source address that nothing can be answered to",
        TtlExpired       "ttl_expired"       Drop     "TTL or hop limit 0",
        Fragment         "fragment"          Drop     "a fragment that no service can be found for",
        BadFlags         "bad_flags"         Drop     "TCP flags that no stack sends together",
        SynFlood         "syn_flood"         Drop     "a SYN that matches a signature which the service drops",
        NoBackend        "no_backend"        Drop     "no backend has a slot in the service's ring",
        NoNeighbour      "no_neighbour"      Drop     "the MAC of the backend's next hop is not known",
        NoHeadroom       "no_headroom"       Drop     "the driver left no room for the outer header",
        TooBig           "too_big"           Drop     "with its outer header, longer than the path's MTU",
        SynCapped        "syn_capped"        Drop     "a SYN beyond the service's syn_rate",
        Reset            "reset"             Transmit "a segment for a service without a backend, answered by a reset",
    }
}

verdicts! {
    /// What the second program, on a backend, made of a packet.
    Stripping {
        NotATunnel "not_a_tunnel" Pass "no IPv4 or IPv6 inside IPv4 or IPv6",
        NotOurs    "not_ours"     Pass "a tunnel to an address that is not this interface's",
        NotAVip    "not_a_vip"    Pass "what is inside is not for a VIP served here",
        Fragment   "fragment"     Pass "a fragment of a tunnel packet: the stack may reassemble it",
        Malformed  "malformed"    Drop "what is inside ends before its header does",
        Stripped   "stripped"     Pass "the outer header is gone, the stack gets the inner packet",
        Congested  "congested"    Drop "the outer header is marked congested, and the inner packet cannot carry the mark",
    }
}

impl Verdict {
    /// Whether a backend gets the packet.
    #[inline(always)]
    pub const fn is_forwarded(self) -> bool {
        matches!(self, Verdict::Forwarded | Verdict::Redirected)
    }

    /// Whether the kernel passes the packet. By a bit of a constant, not by a table, as above.
    #[inline(always)]
    pub const fn passes(self) -> bool {
        (const { Verdict::with(Action::Pass) }) >> self as u32 & 1 != 0
    }

    /// Whether the kernel drops the packet, in the same way.
    #[inline(always)]
    pub const fn drops(self) -> bool {
        (const { Verdict::with(Action::Drop) }) >> self as u32 & 1 != 0
    }

    /// A bit for each verdict with this action.
    const fn with(action: Action) -> u32 {
        let (mut bits, mut number) = (0, 0);
        while number < Verdict::COUNT {
            bits |= ((Verdict::ALL[number].action() as u32 == action as u32) as u32) << number;
            number += 1;
        }
        bits
    }
}

impl Action {
    /// The name in output.
    pub const fn label(self) -> &'static str {
        match self {
            Action::Pass => "pass",
            Action::Drop => "drop",
            Action::Transmit => "transmit",
            Action::Redirect => "redirect",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_say_what_actions_do() {
        for verdict in Verdict::ALL {
            assert_eq!(verdict.passes(), verdict.action() == Action::Pass, "{verdict:?}");
            assert_eq!(verdict.drops(), verdict.action() == Action::Drop, "{verdict:?}");
        }
    }

    #[test]
    fn numbers_and_labels_are_distinct() {
        for (i, verdict) in Verdict::ALL.iter().enumerate() {
            assert_eq!(*verdict as usize, i);
            assert_eq!(Verdict::from_number(i as u32), Some(*verdict));
            assert!(Verdict::ALL[i + 1..].iter().all(|other| other.label() != verdict.label()));
        }
        assert_eq!(Verdict::from_number(Verdict::COUNT as u32), None);
    }
}
