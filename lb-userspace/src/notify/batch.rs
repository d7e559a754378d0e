//! What goes into a message, and when it goes out. Pure: the time is passed in, since whenever.

use std::{collections::BTreeMap, time::Duration};

use super::{
    Notice, Subject,
    message::{Change, Changes},
};

/// A message goes out once nothing more has come for this long,
const QUIET: Duration = Duration::from_millis(400);
/// or for this long while more is expected: checks of backends that fail together decide one after the other,
const EXPECTING: Duration = Duration::from_millis(2_500);
/// or the first of it is this old,
const PATIENCE: Duration = Duration::from_secs(8);
/// but of many messages no more than these at once,
const BURST: u32 = 5;
/// and then one in so long. What comes meanwhile goes with it.
const PACE: Duration = Duration::from_secs(30);
/// Changes that a message lists; of others it says how many there are.
const LISTED: usize = 1_000;
/// Subjects that are remembered: as something lasts, and as something waits.
const REMEMBERED: usize = 20_000;

/// What waits, and what has been told.
#[derive(Default)]
pub struct Batcher {
    waiting: BTreeMap<Subject, Change>,
    /// What waits beyond what is remembered.
    more: u64,
    first: Option<Duration>,
    last: Duration,
    /// More may follow that belongs to it.
    expecting: bool,
    /// What was told and is not over.
    lasting: BTreeMap<Subject, Change>,
    /// Messages that may still go at once; none of them is used yet.
    spent: u32,
    /// Since when one more may go every [`PACE`].
    refilled: Duration,
}

impl Batcher {
    /// Something has changed.
    pub fn note(&mut self, now: Duration, time_ms: u64, notice: Notice) {
        let Notice { subject, ok, text } = notice;
        // What is right and was never said to be otherwise is no news.
        let known = self.waiting.contains_key(&subject) || self.lasting.contains_key(&subject);
        if ok && !known {
            return;
        }
        self.first.get_or_insert(now);
        self.last = now;
        if !known && self.waiting.len() >= REMEMBERED {
            self.more += 1;
            return;
        }
        let new = Change { subject: subject.clone(), ok, text, since_ms: time_ms, times: 0 };
        let change = self.waiting.entry(subject).or_insert_with(|| new.clone());
        let is_same = change.times > 0 && change.ok == new.ok;
        let since_ms = if is_same { change.since_ms } else { new.since_ms };
        *change = Change { times: change.times + u32::from(!is_same), since_ms, ..new };
    }

    /// Whether more may follow that belongs to what has changed last.
    pub fn expect(&mut self, more: bool) {
        self.expecting = more;
    }

    /// When the next message goes out, if one will.
    pub fn due(&self) -> Option<Duration> {
        let first = self.first?;
        let quiet = if self.expecting { EXPECTING } else { QUIET };
        let ready = (self.last + quiet).min(first + PATIENCE);
        let allowed = if self.spent < BURST { Duration::ZERO } else { self.refilled + PACE };
        Some(ready.max(allowed))
    }

    /// What goes out now, if it is time.
    pub fn take(&mut self, now: Duration) -> Option<Changes> {
        if self.due()? > now {
            return None;
        }
        self.refill(now);
        self.spent += 1;
        self.first = None;
        let waiting = std::mem::take(&mut self.waiting);
        let more = std::mem::take(&mut self.more);
        for (subject, change) in &waiting {
            if change.ok {
                self.lasting.remove(subject);
            } else if self.lasting.len() < REMEMBERED {
                let since_ms = self.lasting.get(subject).map_or(change.since_ms, |before| before.since_ms);
                self.lasting.insert(subject.clone(), Change { since_ms, ..change.clone() });
            }
        }
        Some(listed(waiting.into_values(), more))
    }

    /// What was told and is not over.
    pub fn lasting(&self) -> Changes {
        listed(self.lasting.values().cloned(), 0)
    }

    fn refill(&mut self, now: Duration) {
        if self.spent == 0 {
            self.refilled = now;
        }
        let paces = (now.saturating_sub(self.refilled).as_millis() / PACE.as_millis()) as u32;
        self.spent = self.spent.saturating_sub(paces);
        self.refilled += PACE * paces;
    }
}

/// The first of them, those that are bad before the others.
fn listed(changes: impl Iterator<Item = Change>, more: u64) -> Changes {
    let (good, mut changes): (Vec<_>, Vec<_>) = changes.partition(|change| change.ok);
    changes.extend(good);
    let left_out = more + changes.len().saturating_sub(LISTED) as u64;
    changes.truncate(LISTED);
    Changes { changes, left_out }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn backend(number: u32) -> Subject {
        Subject::Backend("web".into(), IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number)))
    }

    fn down(number: u32) -> Notice {
        Notice::bad(backend(number), "connect: refused")
    }

    fn up(number: u32) -> Notice {
        Notice::good(backend(number), "up")
    }

    /// Lets time pass until a message goes out; returns when.
    fn next(batcher: &mut Batcher) -> (Duration, Changes) {
        let due = batcher.due().expect("something waits");
        assert_eq!(batcher.take(due - MS), None, "not before its time");
        (due, batcher.take(due).expect("it is time"))
    }

    #[test]
    fn what_happens_together_is_one_message() {
        let mut batcher = Batcher::default();
        assert_eq!(batcher.due(), None);
        // As their checks decide, spread over two seconds.
        (0..200).for_each(|number| batcher.note(10 * number * MS, 7, down(number)));
        batcher.expect(true);
        assert_eq!(batcher.due(), Some(1_990 * MS + EXPECTING));
        batcher.note(3_000 * MS, 7, down(199));
        batcher.expect(false);
        let (at, message) = next(&mut batcher);
        assert_eq!(at, 3_000 * MS + QUIET);
        assert_eq!((message.changes.len(), message.left_out), (200, 0));
        assert_eq!((batcher.due(), batcher.lasting().changes.len()), (None, 200));
    }

    #[test]
    fn one_change_is_told_at_once() {
        let mut batcher = Batcher::default();
        batcher.note(1_000 * MS, 7, down(1));
        let (at, message) = next(&mut batcher);
        assert_eq!(at, 1_000 * MS + QUIET);
        let change = Change { subject: backend(1), ok: false, text: "connect: refused".into(), since_ms: 7, times: 1 };
        assert_eq!(message, Changes { changes: vec![change], left_out: 0 });
    }

    #[test]
    fn what_never_ends_is_told_meanwhile() {
        let mut batcher = Batcher::default();
        (0..1_000).for_each(|number| batcher.note(100 * number * MS, 7, down(number)));
        assert_eq!(batcher.due(), Some(PATIENCE));
    }

    #[test]
    fn flapping_is_few_messages() {
        let mut batcher = Batcher::default();
        let (mut messages, mut changes) = (0, 0);
        // An hour of a backend that goes down and up every two seconds.
        for second in (0..3_600).step_by(2) {
            let now = Duration::from_secs(second);
            messages += u64::from(batcher.take(now).is_some_and(|message| {
                changes += message.changes[0].times;
                true
            }));
            batcher.note(now, 7, if second % 4 == 0 { down(1) } else { up(1) });
        }
        assert!(messages <= u64::from(BURST) + 3_600 / PACE.as_secs(), "{messages}");
        assert!(messages >= 3_600 / PACE.as_secs() - 1 && changes > 1_700, "{messages}, {changes}");
    }

    #[test]
    fn a_burst_is_forgotten_in_time() {
        let mut batcher = Batcher::default();
        let mut times = Vec::new();
        for number in 0..8 {
            batcher.note(times.last().copied().unwrap_or_default(), 7, down(number));
            times.push(next(&mut batcher).0);
        }
        assert!(times[4] < 15_000 * MS, "{times:?}");
        assert!(times[5] > PACE && times[6] > 2 * PACE && times[7] > 3 * PACE, "{times:?}");
        let later = times[7] + 10 * PACE;
        batcher.note(later, 7, up(1));
        assert_eq!(next(&mut batcher).0, later + QUIET);
    }

    #[test]
    fn what_is_right_and_was_never_wrong_is_no_news() {
        let mut batcher = Batcher::default();
        batcher.note(MS, 7, up(1));
        assert_eq!(batcher.due(), None);
        batcher.note(MS, 7, down(1));
        batcher.note(2 * MS, 8, up(1));
        let (_, message) = next(&mut batcher);
        assert_eq!((message.changes[0].ok, message.changes[0].times, message.changes[0].since_ms), (true, 2, 8));
        assert_eq!(batcher.lasting().changes, []);
        batcher.note(MS, 7, up(1));
        assert_eq!(batcher.due(), None);
    }

    #[test]
    fn the_bad_comes_first_and_the_rest_is_counted() {
        let mut batcher = Batcher::default();
        (0..10).for_each(|number| batcher.note(MS, 7, down(number)));
        next(&mut batcher);
        (0..10).for_each(|number| batcher.note(MS, 7, up(number)));
        (10..5_000).for_each(|number| batcher.note(MS, 7, down(number)));
        let (_, message) = next(&mut batcher);
        assert_eq!((message.changes.len(), message.left_out), (LISTED, 4_000));
        assert!(message.changes.iter().all(|change| !change.ok));
        (0..2 * REMEMBERED as u32).for_each(|number| batcher.note(MS, 7, down(10_000 + number)));
        let (_, message) = next(&mut batcher);
        assert_eq!(message.left_out as usize, 2 * REMEMBERED - LISTED);
        assert!(batcher.lasting.len() <= REMEMBERED && batcher.waiting.is_empty());
    }
}
