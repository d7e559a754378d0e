//! The service manager that started the agent, if one did: what it asks for by SIGHUP, and what it is told by the socket
//! that `NOTIFY_SOCKET` names, as systemd has it.

use anyhow::Result;
use sd_notify::NotifyState;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    time::{Interval, MissedTickBehavior, interval},
};
use tracing::warn;

/// The service manager, or nobody.
pub struct Service {
    hangup: Signal,
    /// When to say that the loop turns; none if nobody wants to know.
    beat: Option<Interval>,
}

impl Service {
    /// Listens: from here on SIGHUP does not end the process.
    pub fn listen() -> Result<Self> {
        // Twice as often as asked for: one that comes late is not the last.
        let beat = sd_notify::watchdog_enabled().filter(|period| !period.is_zero()).map(|period| {
            let mut beat = interval(period / 2);
            beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            beat
        });
        Ok(Service { hangup: signal(SignalKind::hangup())?, beat })
    }

    /// Returns when a reload is asked for, and meanwhile says that the loop turns whenever that is due. To be waited for in
    /// the loop and nowhere else, so that one that is stuck is noticed.
    pub async fn asks_for_reload(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => return,
                () = due(&mut self.beat) => tell(&[NotifyState::Watchdog]),
            }
        }
    }

    /// Packets are forwarded, from now on.
    pub fn ready(&self, status: &str) {
        tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// A reload has begun; [`Service::reloaded`] ends it, however it went.
    pub fn reloading(&self) {
        // Without the time newer service managers end a service that reloads.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => tell(&[NotifyState::Reloading, now]),
            Err(error) => warn!("cannot read the clock for the service manager: {error}"),
        }
    }

    /// A reload has ended.
    pub fn reloaded(&self) {
        tell(&[NotifyState::Ready]);
    }

    /// The end has begun.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }
}

async fn due(beat: &mut Option<Interval>) {
    match beat {
        Some(beat) => _ = beat.tick().await,
        None => std::future::pending().await,
    }
}

fn tell(states: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!("cannot tell the service manager {states:?}: {error}");
    }
}
