//! What clients get while a flood rises in steps: real requests, each on a connection of its own, to a real web server.

use std::{thread, time::Duration};

use anyhow::{Context, Result, anyhow};
use lb_userspace::lab::wait_until;

use super::{
    Arguments,
    filter::Filter,
    stand::{Cpus, Fate, Stand, VIP, pin},
};
use crate::rows::progress;

/// What clients got at one step.
pub struct Step {
    /// Packets a second that were wanted; none is as many as the generator can.
    pub wanted: Option<f64>,
    /// Packets a second that were made.
    pub made: f64,
    /// Of all made: what was lost in the ring, and what the filter dropped.
    pub lost_in_ring: f64,
    pub dropped: f64,
    /// Packets of clients that were lost in the ring.
    pub clients_lost: u64,
    /// Requests answered a second.
    pub requests: f64,
}

/// All steps of a filter.
pub struct Goodput {
    pub filter: Filter,
    pub steps: Vec<Step>,
}

impl Goodput {
    /// Requests a second without flood.
    pub fn calm(&self) -> f64 {
        self.steps.first().map_or(0.0, |step| step.requests)
    }

    /// The first step at which goodput is less than half of what it is without flood.
    pub fn halved(&self) -> Option<&Step> {
        self.steps.get(self.halved_step()?)
    }

    /// Which step that is.
    pub fn halved_step(&self) -> Option<usize> {
        self.steps.iter().position(|step| step.requests < self.calm() / 2.0)
    }

    /// What is left of goodput at a step, of what it is without flood.
    pub fn kept(&self, step: usize) -> Option<f64> {
        Some(self.steps.get(step)?.requests / self.calm())
    }
}

/// Packets a second; none is as many as the generator can.
const STEPS: [Option<f64>; 10] = [
    Some(0.0),
    Some(100e3),
    Some(200e3),
    Some(400e3),
    Some(600e3),
    Some(800e3),
    Some(1.0e6),
    Some(2.0e6),
    Some(4.0e6),
    None,
];
const QUICK_STEPS: [Option<f64>; 3] = [Some(0.0), Some(400e3), None];
/// How long the flood goes on longer than clients ask, so that it is there from their first to their last request.
const MARGIN: Duration = Duration::from_millis(300);
/// Connections that clients have at a time.
const CONNECTIONS: &str = "16";

/// Measures one filter after the other, as many times as there are runs; of each step the run counts that is the median by its requests.
pub fn measure(arguments: &Arguments, cpus: Cpus) -> Result<Vec<Goodput>> {
    let steps: &[_] = if arguments.quick { &QUICK_STEPS } else { &STEPS };
    let (runs, seconds) = if arguments.quick { (1, 1) } else { (arguments.runs, arguments.seconds) };
    let filters = arguments.filters();
    let mut measured: Vec<Vec<Vec<Step>>> =
        filters.iter().map(|_| steps.iter().map(|_| Vec::new()).collect()).collect();
    for run in 1..=runs {
        for (filter, measured) in filters.iter().zip(&mut measured) {
            let mut stand = Stand::new(*filter, &format!("good-{}", filter.name()), cpus)?;
            stand.outside.set("net/ipv4/tcp_tw_reuse", 1)?;
            for (wanted, measured) in steps.iter().zip(measured) {
                let rate = wanted.map_or("as many as can be".to_owned(), |rate| rate.to_string());
                progress(&format!("goodput: run {run} of {runs}, {}, {rate} packets/s", filter.name()));
                measured.push(step(&mut stand, *wanted, seconds, cpus)?);
            }
        }
    }
    progress("");
    let all = filters.into_iter().zip(measured);
    Ok(all.map(|(filter, steps)| Goodput { filter, steps: steps.into_iter().filter_map(middle).collect() }).collect())
}

/// The run with the median of requests.
fn middle(mut runs: Vec<Step>) -> Option<Step> {
    runs.sort_by(|a, b| a.requests.total_cmp(&b.requests));
    let middle = runs.len() / 2;
    runs.into_iter().nth(middle)
}

fn step(stand: &mut Stand, wanted: Option<f64>, seconds: u32, cpus: Cpus) -> Result<Step> {
    let time = Duration::from_secs(seconds.into());
    let (before, clients) = (stand.fate()?, stand.clients_lost()?);
    let outside = stand.outside.clone();
    let (made, flood) = (stand.flood.made()?, &mut stand.flood);
    let (flooded, requests) = thread::scope(|scope| {
        let flooding = scope.spawn(|| -> Result<Duration> {
            if wanted == Some(0.0) {
                return Ok(time);
            }
            pin(0, cpus.flooding)?;
            flood.send_at(wanted, time + 2 * MARGIN)
        });
        thread::sleep(MARGIN);
        let requests = ask(&outside, seconds, cpus);
        (flooding.join().map_err(|_| anyhow!("the flooding thread panicked")), requests)
    });
    let flooded = flooded??.as_secs_f64();
    // What it has sent may still lie in the ring.
    let mut fate = Fate::default();
    wait_until("the flood has been dealt with", Duration::from_secs(5), || {
        let now = stand.fate().unwrap_or_default();
        let same = now.made == fate.made && now.dropped == fate.dropped;
        fate = now;
        same && now.made >= made
    })?;
    let fate = fate.since(before);
    let part = |packets: u64| if fate.made == 0 { 0.0 } else { packets as f64 / fate.made as f64 };
    Ok(Step {
        wanted,
        made: fate.made as f64 / flooded,
        lost_in_ring: part(fate.lost_in_ring),
        dropped: part(fate.dropped),
        clients_lost: stand.clients_lost()? - clients,
        requests: requests?,
    })
}

/// Requests answered a second, as wrk counts them.
fn ask(outside: &lb_userspace::lab::Host, seconds: u32, cpus: Cpus) -> Result<f64> {
    let (cpu, time, url) = (cpus.served.to_string(), format!("{seconds}s"), format!("http://{VIP}/"));
    let arguments = ["-c", &cpu, "wrk", "-t1", "-c", CONNECTIONS, "-d", &time, "-H", "Connection: close", &url];
    requests_in(&outside.output("taskset", &arguments)?)
}

/// From a line such as `  7306 requests in 1.10s, 8.81MB read`.
fn requests_in(printed: &str) -> Result<f64> {
    let parsed = printed.lines().find_map(|line| {
        let (requests, rest) = line.trim().split_once(" requests in ")?;
        let time = rest.split(',').next()?;
        let seconds: f64 = match time.strip_suffix("ms") {
            Some(milliseconds) => milliseconds.parse::<f64>().ok()? / 1e3,
            None => time.strip_suffix('s')?.parse().ok()?,
        };
        Some(requests.parse::<f64>().ok()? / seconds)
    });
    parsed.with_context(|| format!("wrk printed no requests: {printed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_wrk_prints_is_understood() {
        for (line, expected) in [
            ("Running 1s test\n  7306 requests in 2.00s, 8.81MB read\nRequests/sec: 1", Some(3653.0)),
            ("  0 requests in 1.10s, 0.00B read", Some(0.0)),
            ("  10 requests in 500.00ms, 1KB read", Some(20.0)),
            ("unable to connect", None),
        ] {
            assert_eq!(requests_in(line).ok(), expected, "{line}");
        }
    }
}
