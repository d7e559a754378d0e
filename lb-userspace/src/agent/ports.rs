//! Where metrics are served: sockets that the agent opens, so that one that cannot be opened refuses a change like any other
//! fault, and hands to whoever serves them.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use anyhow::{Context, Result};
use socket2::{Domain, Socket, Type};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{config::Metrics, report};

/// Clients that wait to be accepted.
const BACKLOG: i32 = 16;

/// An open socket.
#[derive(Clone, Debug)]
pub struct Port {
    /// Where.
    pub address: SocketAddr,
    /// Does not block.
    pub listener: Arc<TcpListener>,
}

impl Port {
    /// Whether it is the same socket.
    pub fn is(&self, other: &Port) -> bool {
        Arc::ptr_eq(&self.listener, &other.listener)
    }
}

/// Where the sockets that are open can be found.
pub type Open = watch::Receiver<Sockets>;

/// The sockets of an agent, those that clones have too.
#[derive(Clone, Debug)]
pub struct Ports(watch::Sender<Sockets>);

/// Sockets that a configuration wants.
#[derive(Clone, Debug, Default)]
pub struct Sockets {
    /// Those that are open.
    pub open: Vec<Port>,
    /// Those that could not be opened, and why.
    pub lacking: Vec<(SocketAddr, String)>,
}

impl Ports {
    /// None yet; and where they will be found.
    pub fn new() -> (Ports, Open) {
        let (sender, receiver) = watch::channel(Sockets::default());
        (Ports(sender), receiver)
    }

    /// Opens what is missing. An error if one that was asked for cannot be had.
    pub fn prepare(&self, wanted: &Metrics) -> Result<Sockets> {
        let mut prepared = Sockets::default();
        for address in &wanted.addresses {
            let have = self.0.borrow().open.iter().find(|port| port.address == *address).cloned();
            match have.map_or_else(|| open(*address), Ok) {
                Ok(port) => prepared.open.push(port),
                Err(error) if wanted.asked => return Err(error),
                Err(error) => prepared.lacking.push((*address, format!("{error:#}"))),
            }
        }
        Ok(prepared)
    }

    /// Has these served, and no others.
    pub fn serve(&self, sockets: Sockets) {
        let before = self.0.send_replace(sockets.clone());
        for port in sockets.open.iter().filter(|port| !before.open.iter().any(|open| open.is(port))) {
            info!("metrics: http://{}/metrics", port.address);
        }
        for (_, error) in sockets.lacking.iter().filter(|lack| !before.lacking.contains(lack)) {
            warn!("{error}; tried again every second");
        }
    }

    /// Whether something is lacking that may be had by now.
    pub fn lacks(&self) -> bool {
        !self.0.borrow().lacking.is_empty()
    }

    /// For the report.
    pub fn report(&self) -> Vec<report::Port> {
        let sockets = self.0.borrow();
        let open = sockets.open.iter().map(|port| (port.address, None));
        let lacking = sockets.lacking.iter().map(|(address, error)| (*address, Some(error.clone())));
        let port = |(address, error): (SocketAddr, _)| report::Port { address: address.to_string(), error };
        open.chain(lacking).map(port).collect()
    }
}

fn open(address: SocketAddr) -> Result<Port> {
    let open = || -> std::io::Result<TcpListener> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
        if address.is_ipv6() {
            // So that it means the same whatever a sysctl says, and stands beside 0.0.0.0.
            socket.set_only_v6(true)?;
        }
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        socket.set_nonblocking(true)?;
        Ok(socket.into())
    };
    let listener = open().with_context(|| {
        format!("metrics {address}: cannot listen there (metrics = \"ADDRESS:PORT\" names another place, \"off\" none)")
    })?;
    Ok(Port { address, listener: Arc::new(listener) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An address that nobody has at the moment.
    fn free() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    fn wanted(addresses: &[SocketAddr], asked: bool) -> Metrics {
        Metrics { addresses: addresses.to_vec(), asked }
    }

    #[test]
    fn what_stays_is_not_opened_again() {
        let (ports, open) = Ports::new();
        let (one, other) = (free(), free());
        ports.serve(ports.prepare(&wanted(&[one], true)).unwrap());
        let first = open.borrow().open[0].listener.clone();
        ports.serve(ports.prepare(&wanted(&[one, other], true)).unwrap());
        assert!(Arc::ptr_eq(&open.borrow().open[0].listener, &first));
        assert_eq!(ports.report().len(), 2);
        ports.serve(ports.prepare(&wanted(&[], true)).unwrap());
        assert!(open.borrow().open.is_empty());
        drop(first);
        TcpListener::bind(one).unwrap();
    }

    #[test]
    fn a_place_that_is_taken_refuses_only_who_asked() {
        let (ports, open) = Ports::new();
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        let error = ports.prepare(&wanted(&[address], true)).err().unwrap();
        let error = format!("{error:#}");
        assert!(error.contains(&format!("metrics {address}: cannot listen there")), "{error}");
        assert!(error.contains("in use") && error.contains("names another place"), "{error}");
        ports.serve(ports.prepare(&wanted(&[address], false)).unwrap());
        assert!(ports.lacks() && open.borrow().open.is_empty());
        assert!(ports.report()[0].error.as_ref().unwrap().contains("in use"));
        drop(taken);
        ports.serve(ports.prepare(&wanted(&[address], false)).unwrap());
        assert!(!ports.lacks());
        assert_eq!(open.borrow().open[0].address, address);
    }
}
