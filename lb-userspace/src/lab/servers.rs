//! The smallest servers that a test or the demo can do with: HTTP and a UDP echo, each a thread that ends with its value.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result};
use socket2::SockRef;

use super::Host;

/// How long a client may keep a server waiting.
const PATIENCE: Duration = Duration::from_secs(2);

/// An HTTP server that answers every request with the same text, after it has read what comes with it.
pub struct Http {
    listener: Arc<TcpListener>,
    thread: Option<JoinHandle<()>>,
}

impl Http {
    /// Starts one in a host, on all its addresses.
    pub fn start(host: &Host, port: u16, answer: &str) -> Result<Http> {
        let address = SocketAddr::from(([0u16; 8], port));
        let listener = host.within(|| {
            TcpListener::bind(address).with_context(|| format!("{}: cannot listen on port {port}", host.name()))
        })?;
        let listener = Arc::new(listener);
        let answer =
            format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        let accepting = listener.clone();
        let thread = thread::spawn(move || {
            // Ends when the listener is shut down.
            while let Ok((stream, _)) = accepting.accept() {
                // A client that goes away is its own affair.
                let _ = serve(stream, answer.as_bytes());
            }
        });
        Ok(Http { listener, thread: Some(thread) })
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        let _ = SockRef::from(&*self.listener).shutdown(Shutdown::Both);
        self.thread.take().map(JoinHandle::join);
    }
}

fn serve(mut stream: TcpStream, answer: &[u8]) -> std::io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream);
    let (mut length, mut line) = (0, String::new());
    while reader.read_line(&mut line)? > 2 {
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().unwrap_or(0);
        }
        if line.to_ascii_lowercase().starts_with("expect:") {
            (&stream).write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        line.clear();
    }
    std::io::copy(&mut reader.take(length), &mut std::io::sink())?;
    stream.write_all(answer)?;
    stream.shutdown(Shutdown::Write)
}

/// A UDP server that answers each datagram with a name and the datagram, from the address that it was sent to.
pub struct Echo {
    end: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Echo {
    /// Starts one in a host, on one address of its.
    pub fn start(host: &Host, address: IpAddr, port: u16, name: &str) -> Result<Echo> {
        let socket = host.within(|| {
            UdpSocket::bind((address, port)).with_context(|| format!("{}: cannot bind {address}:{port}", host.name()))
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let end = Arc::new(AtomicBool::new(false));
        let (ended, name) = (end.clone(), name.to_owned());
        let thread = thread::spawn(move || {
            let mut datagram = vec![0; 65_535];
            while !ended.load(Ordering::Relaxed) {
                // A time-out is a look at `ended`.
                let Ok((length, from)) = socket.recv_from(&mut datagram) else { continue };
                let answer = [name.as_bytes(), b" ", &datagram[..length]].concat();
                let _ = socket.send_to(&answer, from);
            }
        });
        Ok(Echo { end, thread: Some(thread) })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.end.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join);
    }
}
