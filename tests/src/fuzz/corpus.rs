//! Frames that are worth running again: every case, and those that once showed a mistake or reached code that no other did.
//!
//! `tests/corpus/frames.txt` has one input a line: the name of a setup and one or more frames in hexadecimal.

use std::fmt::Write;

use super::{input::Input, setups::VARIATIONS};
use crate::cases;

/// The file, as it was when this was compiled.
const FRAMES: &str = include_str!("../../corpus/frames.txt");

/// What the file holds.
pub fn checked_in() -> Vec<Input> {
    let lines = FRAMES.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines.map(|line| parse(line).unwrap_or_else(|| panic!("corpus/frames.txt: {line}: no setup and frames"))).collect()
}

/// The frame of every case and those that came before it, under the case's setup.
pub fn of_cases() -> Vec<Input> {
    let number = |name: &str| VARIATIONS.iter().position(|variation| variation.setup.name == name);
    let input = |case: cases::Case| {
        let variation = number(case.setup.name).unwrap_or_else(|| panic!("{}: no such variation", case.setup.name));
        Input { variation, frames: [case.before, vec![case.frame]].concat() }
    };
    cases::all().into_iter().map(input).collect()
}

/// A line of the file.
pub fn line(input: &Input) -> String {
    let frames: Vec<_> = input.frames.iter().map(|frame| hex(frame)).collect();
    format!("{} {}", VARIATIONS[input.variation].setup.name, frames.join(" "))
}

/// The inverse of [`line()`].
pub fn parse(line: &str) -> Option<Input> {
    let mut words = line.split_whitespace();
    let name = words.next()?;
    let variation = VARIATIONS.iter().position(|variation| variation.setup.name == name)?;
    Some(Input { variation, frames: words.map(unhex).collect::<Option<_>>()? })
}

/// Bytes in hexadecimal; `-` for none.
pub fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "-".to_owned();
    }
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The inverse.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if text == "-" {
        return Some(Vec::new());
    }
    let digits: Vec<u8> =
        text.chars().map(|digit| digit.to_digit(16).map(|digit| digit as u8)).collect::<Option<_>>()?;
    let (pairs, rest) = digits.as_chunks::<2>();
    rest.is_empty().then(|| pairs.iter().map(|[high, low]| high << 4 | low).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_back() {
        let input = Input { variation: 2, frames: vec![vec![0, 0xff, 0x12], vec![], vec![1]] };
        assert_eq!(line(&input), "prefixes 00ff12 - 01");
        assert_eq!(parse(&line(&input)), Some(input));
        for wrong in ["", "nothing 00", "standard 0", "standard zz", "standard äb"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
