//! What `weir status` shows of the agent's report.

use crate::report::{Port, Receiver, Report};

/// Lines of the table: a name and what there is to say.
pub fn lines(report: &Report, now_ms: u64) -> Vec<(&'static str, String)> {
    let Report { metrics, receivers, .. } = report;
    let mut lines = Vec::new();
    if metrics.is_empty() {
        lines.push(("metrics", "off".to_owned()));
    }
    lines.extend(metrics.iter().filter(|port| port.error.is_none()).map(|port| ("metrics", port_text(port))));
    lines.extend(receivers.iter().map(|receiver| ("notify", receiver_text(receiver, now_ms))));
    lines
}

/// What is not as it should be, a sentence each.
pub fn warnings(report: &Report) -> Vec<String> {
    let mut warnings = Vec::new();
    warnings.extend(report.metrics.iter().filter_map(|port| port.error.clone()));
    if let Some(error) = &report.reload.error {
        warnings.push(format!("the last configuration that was read is not in effect: {error}"));
    }
    warnings.extend(report.steering.clone());
    for Receiver { name, error, .. } in &report.receivers {
        warnings.extend(error.iter().map(|error| format!("notify: {name}: {error}")));
    }
    warnings
}

/// The text of `GET /v1/agent`.
pub fn text(report: &Report, now_ms: u64) -> String {
    let lines = lines(report, now_ms).into_iter().map(|(name, value)| format!("{name}: {value}"));
    let warnings = warnings(report).into_iter().map(|warning| format!("warning: {warning}"));
    lines.chain(warnings).collect::<Vec<_>>().join("\n")
}

fn port_text(port: &Port) -> String {
    format!("http://{}/metrics", port.address)
}

fn receiver_text(receiver: &Receiver, now_ms: u64) -> String {
    let Receiver { name, sent, failed, dropped, last_ms, error } = receiver;
    let mut counts = vec![format!("{sent} sent")];
    counts.extend(
        [(failed, "failed"), (dropped, "dropped")]
            .iter()
            .filter(|(count, _)| **count > 0)
            .map(|(count, what)| format!("{count} {what}")),
    );
    let last = last_ms.map(|last_ms| {
        let fate = if error.is_none() { "taken" } else { "not taken" };
        format!(", the last {fate} {} s ago", now_ms.saturating_sub(last_ms) / 1_000)
    });
    format!("{name}: {}{}", counts.join(", "), last.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Reload;

    #[test]
    fn what_is_wrong_is_said_and_what_is_right_listed() {
        let port = |address: &str, error: Option<&str>| Port { address: address.into(), error: error.map(Into::into) };
        let receiver = |name: &str| Receiver { name: name.into(), ..Receiver::default() };
        let mut report = Report {
            metrics: vec![port("127.0.0.1:9580", None), port("10.0.0.1:9580", Some("metrics 10.0.0.1:9580: taken"))],
            receivers: vec![
                receiver("webhook http://a"),
                Receiver {
                    sent: 3,
                    failed: 1,
                    last_ms: Some(5_000),
                    error: Some("connect: refused".into()),
                    ..receiver("command /b")
                },
            ],
            reload: Reload { done_ms: 0, error: Some("a fault".into()) },
            ..Report::default()
        };
        assert_eq!(
            text(&report, 8_000),
            "metrics: http://127.0.0.1:9580/metrics\nnotify: webhook http://a: 0 sent\n\
             notify: command /b: 3 sent, 1 failed, the last not taken 3 s ago\n\
             warning: metrics 10.0.0.1:9580: taken\n\
             warning: the last configuration that was read is not in effect: a fault\n\
             warning: notify: command /b: connect: refused"
        );
        report = Report::default();
        assert_eq!(text(&report, 0), "metrics: off");
    }
}
