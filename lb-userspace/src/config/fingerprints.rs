//! The SYNs of common systems, as facts from the sources named, so that nobody drops them unawares. Lengths are those over IPv4, whose header is
//! 20 bytes shorter than IPv6's.

use lb_common::{abi, filter::Options};

/// What the SYNs of a system look like; ranges with both their ends.
pub struct Fingerprint {
    /// The system.
    pub system: &'static str,
    /// Where that is known from.
    pub source: &'static str,
    /// The window. Where it is a multiple of the MSS, for an MSS from 536 to 1460.
    pub window: (u16, u16),
    /// A bit of [`Options`].
    pub options: u8,
    /// Bytes of the IPv4 packet.
    pub length: (u16, u16),
    /// The TTL that it begins with; 0 if it begins with any.
    pub ttl: u8,
    /// Whether something may follow the header, as bits of [`abi::Signature::payload`].
    pub payload: u8,
    /// It probes networks: that it looks like a flood is no accident.
    pub probes: bool,
}

/// A way that no packet outlives takes less from the TTL.
const HOPS: u8 = 40;

const P0F: &str = "p0f 3.09, p0f.fp, [tcp:request]";
const MASSCAN: &str = "masscan, src/templ-pkt.c, default_tcp_template";
const ZMAP: &str = "zmap, src/probe_modules/module_tcp_synscan.c and packet.c";
const ATLAS: &str = "ripe-atlas-software-probe, eperd/traceroute.c, send_pkt; a text may follow the header";
const RUN: &str = "observed, Debian 12's package";

/// All of them.
pub const FINGERPRINTS: &[Fingerprint] = &[
    stack("Linux 3 and later", P0F, (5_360, 64_240), 60, 64),
    stack("Linux 2.6", P0F, (2_144, 5_840), 60, 64),
    stack("Linux 2.4", P0F, (2_144, 5_840), 60, 64),
    stack("Linux without timestamps", P0F, (2_144, 64_240), 52, 64),
    stack("Linux with an MSS alone", P0F, (2_144, 64_240), 44, 64),
    stack("Android", P0F, (23_584, 65_535), 60, 64),
    stack("Windows XP", P0F, (16_384, 65_535), 48, 128),
    stack("Windows 7 and 8", P0F, (8_192, 8_192), 52, 128),
    stack("Windows 7 and 8 without scaling", P0F, (8_192, 8_192), 48, 128),
    stack("Windows 10 and 11", "p0f 3.09's rule for any NT kernel", (8_192, 65_535), 52, 128),
    stack("macOS", P0F, (65_535, 65_535), 64, 64),
    stack("iOS", P0F, (65_535, 65_535), 64, 64),
    stack("FreeBSD", P0F, (65_535, 65_535), 60, 64),
    stack("OpenBSD", P0F, (16_384, 16_384), 64, 64),
    stack("Solaris 10", P0F, (18_224, 49_640), 52, 64),
    stack("Tru64", P0F, (32_768, 32_768), 48, 64),
    stack("OpenVMS", P0F, (2_920, 61_440), 48, 128),
    stack("BlackBerry", P0F, (65_535, 65_535), 60, 128),
    stack("Nintendo 3DS and Wii", P0F, (32_768, 32_768), 48, 64),
    stack("lwIP", "lwIP, src/include/lwip/opt.h, TCP_WND of 4 MSS; a SYN has the MSS", (2_144, 5_840), 44, 255),
    stack("uIP", "uIP, uip/uipopt.h, UIP_RECEIVE_WINDOW of one MSS; a SYN has the MSS", (48, 1_460), 44, 64),
    probe("nmap -sS", P0F, (1_024, 4_096), Options::SOME, (44, 44), 0),
    probe("nmap -O", P0F, (1, 31_337), Options::SOME, (52, 60), 0),
    probe("masscan", MASSCAN, (1_024, 1_024), Options::SOME, (44, 44), 255),
    probe("masscan, early", MASSCAN, (0, 0), Options::NONE, (40, 40), 255),
    probe("zmap", ZMAP, (65_535, 65_535), Options::SOME, (44, 60), 255),
    probe("zmap, early", ZMAP, (65_535, 65_535), Options::NONE, (40, 40), 255),
    probe("hping3 -S", RUN, (512, 512), Options::NONE, (40, 40), 64),
    probe("scamper ping -P tcp-syn", RUN, (65_535, 65_535), Options::NONE, (40, 40), 64),
    probe("scamper trace -P TCP", RUN, (0, 0), Options::NONE, (40, 40), 0),
    probe("RIPE Atlas traceroute over TCP", ATLAS, (0, 0), Options::NONE, (40, 4_136), 0),
    probe("tcptraceroute", RUN, (0, 0), Options::NONE, (40, 40), 0),
];

const fn stack(system: &'static str, source: &'static str, window: (u16, u16), length: u16, ttl: u8) -> Fingerprint {
    Fingerprint {
        system,
        source,
        window,
        options: Options::SOME,
        length: (length, length),
        ttl,
        payload: 1,
        probes: false,
    }
}

const fn probe(
    system: &'static str,
    source: &'static str,
    window: (u16, u16),
    options: u8,
    length: (u16, u16),
    ttl: u8,
) -> Fingerprint {
    // What is longer than its header has something behind it.
    let payload = if length.1 > 100 { 3 } else { 1 };
    Fingerprint { system, source, window, options, length, ttl, payload, probes: true }
}

impl Fingerprint {
    /// Whether a signature matches a SYN of this system, over either IP version.
    pub fn is_matched(&self, signature: &abi::Signature) -> bool {
        let overlaps = |span: abi::Span16, (low, high): (u16, u16)| low <= span.low + span.width && span.low <= high;
        let (shortest, longest) = self.length;
        let ttl = if self.ttl == 0 { (1, u8::MAX) } else { (self.ttl - HOPS, self.ttl) };
        overlaps(signature.window, self.window)
            && signature.options & self.options != 0
            && (overlaps(signature.length, self.length) || overlaps(signature.length, (shortest + 20, longest + 20)))
            && signature.ttl_low <= ttl.1
            && ttl.0 <= signature.ttl_low.saturating_add(signature.ttl_width)
            && signature.payload & self.payload != 0
            // A client picks its port where its system picks them.
            && (self.probes || overlaps(signature.source_port, (1_024, u16::MAX)))
    }
}
