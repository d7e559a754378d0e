//! A connection is accepted.

use tokio::net::TcpStream;

use super::{
    Reason,
    deadline::{Deadline, fault},
    dial::Way,
};

/// Connects.
pub async fn connect(way: &Way, deadline: Deadline) -> Result<TcpStream, Reason> {
    deadline.during("connect", async { way.connect().await.map_err(|error| fault("connect", &error)) }).await
}
