//! Makes a disagreement small: fewer frames, shorter ones, more zeros.

/// The smallest frames found that still fail; `fails` is asked at most `tries` times.
pub fn shrink(frames: &[Vec<u8>], mut tries: usize, mut fails: impl FnMut(&[Vec<u8>]) -> bool) -> Vec<Vec<u8>> {
    let mut best = frames.to_vec();
    let mut attempt = |candidate: Vec<Vec<u8>>, best: &mut Vec<Vec<u8>>| {
        if tries == 0 || candidate == *best {
            return false;
        }
        tries -= 1;
        let failed = fails(&candidate);
        if failed {
            *best = candidate;
        }
        failed
    };
    // The last frame alone, mostly; otherwise without as many of the others as possible.
    let last = best[best.len() - 1..].to_vec();
    attempt(last, &mut best);
    let mut share = best.len() / 2;
    while share > 0 && best.len() > 1 {
        let mut at = 0;
        while at < best.len() - 1 {
            let mut fewer = best.clone();
            fewer.drain(at..(at + share).min(best.len() - 1));
            if !attempt(fewer, &mut best) {
                at += share;
            }
        }
        share /= 2;
    }
    loop {
        let before = best.clone();
        for number in 0..best.len() {
            shorten(number, &mut best, &mut attempt);
            for blank in [32, 8, 2, 1] {
                zero(number, blank, &mut best, &mut attempt);
            }
        }
        if best == before {
            return best;
        }
    }
}

type Frames = Vec<Vec<u8>>;

/// Drops bytes at the end, as many as possible at once.
fn shorten(number: usize, best: &mut Frames, attempt: &mut impl FnMut(Frames, &mut Frames) -> bool) {
    let mut cut = best[number].len();
    while cut > 0 {
        let mut shorter = best.clone();
        let length = shorter[number].len().saturating_sub(cut);
        shorter[number].truncate(length);
        if !attempt(shorter, best) || best[number].is_empty() {
            cut /= 2;
        }
    }
}

/// Replaces bytes by zeros, so many at once.
fn zero(number: usize, blank: usize, best: &mut Frames, attempt: &mut impl FnMut(Frames, &mut Frames) -> bool) {
    for at in (0..best[number].len()).step_by(blank) {
        let mut blanked = best.clone();
        let end = (at + blank).min(blanked[number].len());
        blanked[number][at..end].fill(0);
        attempt(blanked, best);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_matters_stays() {
        let noise: Vec<u8> = (0..200).map(|n| n as u8 | 1).collect();
        let mut guilty = noise.clone();
        (guilty[20], guilty[33]) = (0xab, 0xcd);
        let frames = [vec![noise.clone(); 9], vec![guilty], vec![noise; 3]].concat();
        let fails = |frames: &[Vec<u8>]| {
            frames.iter().any(|frame| frame.get(20) == Some(&0xab) && frame.get(33) == Some(&0xcd))
                && frames.last().is_some_and(|last| last.len() > 2)
        };
        let small = shrink(&frames, 100_000, fails);
        let mut expected = vec![0; 34];
        (expected[20], expected[33]) = (0xab, 0xcd);
        assert_eq!(small, [expected, vec![0; 3]]);
    }

    #[test]
    fn tries_are_counted() {
        let mut asked = 0;
        shrink(&[vec![7; 500]], 40, |_| {
            asked += 1;
            true
        });
        assert!(asked <= 40, "{asked}");
    }
}
