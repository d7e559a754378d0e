//! Verdicts, and what becomes of frames that get them.

/// What a frame gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash, PartialOrd, Ord)]
#[allow(missing_docs, reason = "their labels are the documentation of packets")]
pub enum Verdict {
    NotIp,
    ShortFrame,
    NotOurs,
    NotAVip,
    NotAService,
    OtherProtocol,
    NeighbourPassed,
    LocalBackend,
    Forwarded,
    Redirected,
    ArpAnswered,
    NdAnswered,
    EchoAnswered,
    TooBigAnswered,
    Malformed,
    Martian,
    TtlExpired,
    Fragment,
    BadFlags,
    SynFlood,
    NoBackend,
    NoNeighbour,
    NoHeadroom,
    TooBig,
    Reset,
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    /// Up the stack, untouched.
    Pass,
    /// Gone.
    Drop,
    /// Out of the interface that it came in by.
    Transmit,
    /// Out of another one.
    Redirect,
}

impl Verdict {
    /// Every one.
    pub const ALL: &[Verdict] = &[
        Verdict::NotIp,
        Verdict::ShortFrame,
        Verdict::NotOurs,
        Verdict::NotAVip,
        Verdict::NotAService,
        Verdict::OtherProtocol,
        Verdict::NeighbourPassed,
        Verdict::LocalBackend,
        Verdict::Forwarded,
        Verdict::Redirected,
        Verdict::ArpAnswered,
        Verdict::NdAnswered,
        Verdict::EchoAnswered,
        Verdict::TooBigAnswered,
        Verdict::Malformed,
        Verdict::Martian,
        Verdict::TtlExpired,
        Verdict::Fragment,
        Verdict::BadFlags,
        Verdict::SynFlood,
        Verdict::NoBackend,
        Verdict::NoNeighbour,
        Verdict::NoHeadroom,
        Verdict::TooBig,
        Verdict::Reset,
    ];

    /// The name in counters.
    pub fn label(self) -> &'static str {
        match self {
            Verdict::NotIp => "not_ip",
            Verdict::ShortFrame => "short_frame",
            Verdict::NotOurs => "not_ours",
            Verdict::NotAVip => "not_a_vip",
            Verdict::NotAService => "not_a_service",
            Verdict::OtherProtocol => "other_protocol",
            Verdict::NeighbourPassed => "neighbour_passed",
            Verdict::LocalBackend => "local_backend",
            Verdict::Forwarded => "forwarded",
            Verdict::Redirected => "redirected",
            Verdict::ArpAnswered => "arp_answered",
            Verdict::NdAnswered => "nd_answered",
            Verdict::EchoAnswered => "echo_answered",
            Verdict::TooBigAnswered => "too_big_answered",
            Verdict::Malformed => "malformed",
            Verdict::Martian => "martian",
            Verdict::TtlExpired => "ttl_expired",
            Verdict::Fragment => "fragment",
            Verdict::BadFlags => "bad_flags",
            Verdict::SynFlood => "syn_flood",
            Verdict::NoBackend => "no_backend",
            Verdict::NoNeighbour => "no_neighbour",
            Verdict::NoHeadroom => "no_headroom",
            Verdict::TooBig => "too_big",
            Verdict::Reset => "reset",
        }
    }

    /// What becomes of the frame.
    pub fn action(self) -> Action {
        match self {
            Verdict::NotIp
            | Verdict::ShortFrame
            | Verdict::NotOurs
            | Verdict::NotAVip
            | Verdict::NotAService
            | Verdict::OtherProtocol
            | Verdict::NeighbourPassed
            | Verdict::LocalBackend => Action::Pass,
            Verdict::Forwarded
            | Verdict::ArpAnswered
            | Verdict::NdAnswered
            | Verdict::EchoAnswered
            | Verdict::TooBigAnswered
            | Verdict::Reset => Action::Transmit,
            Verdict::Redirected => Action::Redirect,
            Verdict::Malformed
            | Verdict::Martian
            | Verdict::TtlExpired
            | Verdict::Fragment
            | Verdict::BadFlags
            | Verdict::SynFlood
            | Verdict::NoBackend
            | Verdict::NoNeighbour
            | Verdict::NoHeadroom
            | Verdict::TooBig => Action::Drop,
        }
    }
}

/// A SYN by its window and its options.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SynKind {
    /// The window is 0.
    pub zero: bool,
    /// What stands behind the header.
    pub options: Options,
}

/// What options a SYN has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Options {
    /// None.
    Bare,
    /// Nothing but padding.
    Padding,
    /// Some.
    Real,
}
