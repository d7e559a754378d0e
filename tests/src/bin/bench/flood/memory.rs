//! Memory before, during and after a flood.

use std::{
    fmt::Write as _,
    fs,
    io::{ErrorKind, Read, Seek, SeekFrom},
    net::Ipv4Addr,
    os::unix::fs::OpenOptionsExt,
};

use anyhow::{Context, Result, ensure};

use super::{
    Arguments,
    filter::Filter,
    stand::{Cpus, Stand, VIP, pin},
};
use crate::rows::progress;

/// What is occupied at a moment.
#[derive(Clone, Copy, Default, Debug)]
pub struct Occupied {
    /// Bytes in the slab caches of networking: sockets, requests, buffers, connections.
    pub network_slab: u64,
    /// Bytes in all slab caches of the host.
    pub slab: u64,
    /// Bytes of Weir's maps.
    pub maps: u64,
    /// Bytes of the agent that are in memory.
    pub agent: u64,
    /// Connections that the stack inside tracks.
    pub connections: u64,
}

/// A flood, and what it left.
pub struct Memory {
    pub filter: Filter,
    /// Connections of clients that stand from before.
    pub customers: u64,
    /// Packets that were sent.
    pub packets: u64,
    pub before: Occupied,
    /// The most at any time.
    pub during: Occupied,
    pub after: Occupied,
    /// Lines in the kernel's log that say so.
    pub table_full: usize,
}

/// Packets between two looks.
const CHUNK: u64 = 1 << 18;
/// Who has none of Weir gets no more than this: enough to fill a table of connections.
const OTHERS: u64 = 2_000_000;
/// The first address of clients that stand connected; no packet comes from there.
const CLIENTS: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
/// What the names of networking's slab caches begin with.
const NETWORK: [&str; 12] = [
    "skbuff",
    "TCP",
    "request_sock_TCP",
    "tw_sock_TCP",
    "sock_inode",
    "nf_conntrack",
    "xt_hashlimit",
    "ip_dst",
    "ip_fib",
    "UDP",
    "RAW",
    "inet_peer",
];

/// Sends each filter its flood, with a stack behind it that tracks connections; then once more to who is best and who is worst,
/// while clients' connections fill nine tenths of the stack's table.
pub fn measure(arguments: &Arguments, cpus: Cpus) -> Result<Vec<Memory>> {
    let filters = arguments.filters().into_iter().filter(|filter| *filter != Filter::None);
    let calm = filters.clone().map(|filter| (filter, arguments.packets(), false));
    let busy = filters.filter(|filter| matches!(filter, Filter::WeirNative | Filter::Conntrack));
    let busy = busy.map(|filter| (filter, arguments.packets().min(OTHERS), true));
    calm.chain(busy).map(|(filter, packets, busy)| of(filter, packets, busy, cpus)).collect()
}

fn of(filter: Filter, packets: u64, busy: bool, cpus: Cpus) -> Result<Memory> {
    let packets = if filter == Filter::WeirNative { packets } else { packets.min(OTHERS) };
    let mut stand = Stand::new(filter, &format!("memory-{}", filter.name()), cpus)?;
    filter.track_behind(&stand.inside)?;
    let customers = if busy { most_connections()? / 10 * 9 } else { 0 };
    progress(&format!("memory: {}, {customers} connections of clients", filter.name()));
    connect(&stand, customers)?;
    // The first packets fill caches that then stay.
    stand.flood.send_at_once(1 << 12)?;
    let log = KernelLog::now()?;
    let before = occupied(&stand)?;
    let mut during = before;
    let made = stand.flood.made()?;
    std::thread::scope(|scope| {
        // On a thread of its own, as it stays where it is pinned.
        let flooding = scope.spawn(|| -> Result<()> {
            pin(0, cpus.flooding)?;
            let mut left = packets;
            while left > 0 {
                let chunk = left.min(CHUNK);
                stand.flood.send_at_once(chunk as u32)?;
                left -= chunk;
                during = during.most(occupied(&stand)?);
                progress(&format!("memory: {}, {left} packets left", filter.name()));
            }
            Ok(())
        });
        flooding.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    progress("");
    let after = occupied(&stand)?;
    let packets = stand.flood.made()? - made;
    Ok(Memory { filter, customers, packets, before, during, after, table_full: log.lines_with("table full")? })
}

/// How many connections a table takes; known once some stack tracks any.
fn most_connections() -> Result<u64> {
    const FILE: &str = "/proc/sys/net/netfilter/nf_conntrack_max";
    Ok(fs::read_to_string(FILE).with_context(|| format!("cannot read {FILE}"))?.trim().parse()?)
}

/// Enters so many connections into the table inside, as they stand there once both sides have sent something.
fn connect(stand: &Stand, customers: u64) -> Result<()> {
    if customers == 0 {
        return Ok(());
    }
    let mut entries = String::new();
    for number in 0..customers as u32 {
        let (client, port) = (Ipv4Addr::from_bits(CLIENTS.to_bits() + number / 50_000), 1024 + number % 50_000);
        writeln!(
            entries,
            "-I -p tcp -s {client} -d {VIP} --sport {port} --dport 80 -t 3600 --state ESTABLISHED -u ASSURED,SEEN_REPLY"
        )?;
    }
    let file = stand.inside.directory().join("connections");
    fs::write(&file, entries).with_context(|| format!("cannot write {}", file.display()))?;
    stand.inside.output("conntrack", &["-R", &file.to_string_lossy()])?;
    let entered = occupied(stand)?.connections;
    ensure!(entered >= customers, "the table has {entered} connections, not the {customers} that were entered");
    Ok(())
}

impl Occupied {
    fn most(self, other: Occupied) -> Occupied {
        Occupied {
            network_slab: self.network_slab.max(other.network_slab),
            slab: self.slab.max(other.slab),
            maps: self.maps.max(other.maps),
            agent: self.agent.max(other.agent),
            connections: self.connections.max(other.connections),
        }
    }
}

fn occupied(stand: &Stand) -> Result<Occupied> {
    let connections = stand.inside.within(|| {
        let count = fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count")?;
        Ok(count.trim().parse()?)
    })?;
    let agent = match &stand.agent {
        Some(agent) => kilobytes(&format!("/proc/{}/status", agent.pid()), "VmRSS:")?,
        None => 0,
    };
    Ok(Occupied {
        network_slab: network_slab(&fs::read_to_string("/proc/slabinfo")?),
        slab: kilobytes("/proc/meminfo", "Slab:")?,
        maps: stand.filter.maps(&stand.inside)?,
        agent,
        connections,
    })
}

/// Bytes in use in networking's slab caches: objects times their size.
fn network_slab(slabinfo: &str) -> u64 {
    let lines = slabinfo.lines().skip(2).filter(|line| NETWORK.iter().any(|name| line.starts_with(name)));
    let bytes = lines.filter_map(|line| {
        let mut words = line.split_whitespace().skip(1);
        let active: u64 = words.next()?.parse().ok()?;
        let size: u64 = words.nth(1)?.parse().ok()?;
        Some(active * size)
    });
    bytes.sum()
}

/// A number of kB behind a name, as bytes.
fn kilobytes(path: &str, name: &str) -> Result<u64> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let number = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse::<u64>().ok());
    Ok(number.with_context(|| format!("{path}: has no {name}"))? * 1024)
}

/// The kernel's log from a moment on.
struct KernelLog(fs::File);

impl KernelLog {
    fn now() -> Result<KernelLog> {
        let mut log = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open("/dev/kmsg")?;
        log.seek(SeekFrom::End(0))?;
        Ok(KernelLog(log))
    }

    /// Records since then with these words.
    fn lines_with(mut self, words: &str) -> Result<usize> {
        let (mut record, mut found) = (vec![0; 8192], 0);
        loop {
            match self.0.read(&mut record) {
                Ok(0) => return Ok(found),
                Ok(length) => found += usize::from(String::from_utf8_lossy(&record[..length]).contains(words)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(found),
                // Some were overwritten before we came to them.
                Err(error) if error.raw_os_error() == Some(libc::EPIPE) => {}
                Err(error) => return Err(error).context("cannot read the kernel's log"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_caches_of_networking_count() {
        let text = "slabinfo - version: 2.1\n# name <active_objs> <num_objs> <objsize>\n\
                    nf_conntrack 10 20 320 4 1\nTCP 2 2 2432 1 1\ndentry 5 5 192 1 1\n";
        assert_eq!(network_slab(text), 10 * 320 + 2 * 2432);
    }
}
