//! A dialogue in lines: what is said, and what some line of the answer must begin with.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{
    Reason, ReasonKind,
    deadline::{Deadline, fault, shown},
};
use crate::config::Line;

/// As much is read for each step at most, bytes.
const ANSWER: usize = 16 * 1024;

/// Goes through all steps.
pub async fn talk(stream: &mut TcpStream, line: &Line, deadline: Deadline) -> Result<(), Reason> {
    for step in &line.steps {
        if !step.send.is_empty() {
            let sending =
                async { stream.write_all(step.send.as_bytes()).await.map_err(|error| fault(line.name, &error)) };
            deadline.during(line.name, sending).await?;
        }
        if !step.expect.is_empty() {
            expect(stream, line.name, step.expect.as_bytes(), deadline).await?;
        }
    }
    Ok(())
}

async fn expect(stream: &mut TcpStream, name: &str, wanted: &[u8], deadline: Deadline) -> Result<(), Reason> {
    let mut read = Vec::with_capacity(512);
    let ended = deadline.until(async {
        loop {
            let room = ANSWER - read.len();
            if room == 0 {
                return Err(Reason::new(
                    ReasonKind::Protocol,
                    format!("{name}: over {ANSWER} bytes without what is wanted"),
                ));
            }
            match (&mut *stream).take(room as u64).read_buf(&mut read).await {
                Ok(0) => return Err(Reason::new(ReasonKind::Protocol, format!("{name}: closed by the other side"))),
                Ok(_) if begins_some_line(&read, wanted) => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(fault(name, &error)),
            }
        }
    });
    match ended.await {
        Some(Ok(())) => Ok(()),
        // Something else came, which says more than how long was waited.
        _ if last_line(&read).is_some() => {
            let came = shown(last_line(&read).unwrap_or_default());
            Err(Reason::new(ReasonKind::Mismatch, format!("{name}: {came}, wanted {}", shown(wanted))))
        }
        Some(Err(reason)) => Err(reason),
        None => Err(deadline.over(name)),
    }
}

fn begins_some_line(text: &[u8], wanted: &[u8]) -> bool {
    text.split(|byte| *byte == b'\n').any(|line| line.starts_with(wanted))
}

/// The last line that holds anything.
fn last_line(text: &[u8]) -> Option<&[u8]> {
    text.split(|byte| *byte == b'\n').rfind(|line| !line.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_line_must_begin_so() {
        let banner = b"220-welcome\r\n220 ready\r\n";
        assert!(begins_some_line(banner, b"220 ") && begins_some_line(banner, b"220-w"));
        assert!(!begins_some_line(banner, b"ready") && !begins_some_line(b"", b"220"));
        assert_eq!(last_line(b"421-a\r\n421 busy\r\n\r\n"), Some(&b"421 busy\r"[..]));
        assert_eq!(last_line(b"\r\n"), None);
    }
}
