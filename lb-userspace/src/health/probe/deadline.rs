//! When a check must have ended, and the words for what went wrong before.

use std::{io, time::Duration};

use tokio::time::{Instant, timeout_at};

use super::{Reason, ReasonKind};

/// When a check must have ended.
#[derive(Clone, Copy)]
pub struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// So much later than now.
    pub fn after(timeout: Duration) -> Self {
        Deadline { at: Instant::now() + timeout, timeout }
    }

    /// A step of a check, which has a name for people; given up when the time is over.
    pub async fn during<T>(self, step: &str, work: impl Future<Output = Result<T, Reason>>) -> Result<T, Reason> {
        match timeout_at(self.at, work).await {
            Ok(done) => done,
            Err(_) => Err(self.over(step)),
        }
    }

    /// A step that has something better to say than that the time is over; none if it is.
    pub async fn until<T>(self, work: impl Future<Output = T>) -> Option<T> {
        timeout_at(self.at, work).await.ok()
    }

    /// Nothing came in time.
    pub fn over(self, step: &str) -> Reason {
        Reason::new(ReasonKind::Timeout, format!("{step}: no answer within {}", in_words(self.timeout)))
    }
}

fn in_words(time: Duration) -> String {
    let ms = time.as_millis();
    if ms.is_multiple_of(1_000) { format!("{} s", ms / 1_000) } else { format!("{ms} ms") }
}

/// What the kernel's error means, in a step that has a name for people.
pub fn fault(step: &str, error: &io::Error) -> Reason {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkUnreachable,
        TimedOut, UnexpectedEof,
    };
    let (kind, words) = match error.kind() {
        ConnectionRefused => (ReasonKind::Refused, "refused"),
        ConnectionReset | ConnectionAborted | BrokenPipe => (ReasonKind::Reset, "reset by the other side"),
        HostUnreachable => (ReasonKind::Unreachable, "host unreachable"),
        NetworkUnreachable => (ReasonKind::Unreachable, "no route"),
        TimedOut => (ReasonKind::Timeout, "no answer"),
        UnexpectedEof => (ReasonKind::Protocol, "closed by the other side"),
        // Of our sockets, permissions and limits.
        _ => return Reason::new(ReasonKind::Local, format!("{step}: this host: {error}")),
    };
    Reason::new(kind, format!("{step}: {words}"))
}

/// What came, as far as it can be shown in one line.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN)]);
    let more = if bytes.len() > SHOWN { "..." } else { "" };
    format!("\"{}{more}\"", text.trim_end().escape_debug())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_said_in_whole_units() {
        assert_eq!(in_words(Duration::from_secs(2)), "2 s");
        assert_eq!(in_words(Duration::from_millis(1_500)), "1500 ms");
    }

    #[test]
    fn what_came_fits_a_line() {
        assert_eq!(shown(b"421 busy\r\n"), "\"421 busy\"");
        assert_eq!(shown(b"a\tb\x00\xff"), "\"a\\tb\\0\u{fffd}\"");
        assert_eq!(shown(&[b'x'; 100]).len(), 65);
    }
}
