//! What the demo prints: chapters, and figures that are as they should be or not.

use std::{io::Write, time::Duration};

use anyhow::{Result, ensure};

/// Columns that a line may have.
const WIDTH: usize = 100;

/// Counts what was told.
#[derive(Default)]
pub struct Story {
    chapters: usize,
    figures: usize,
    wrong: usize,
}

impl Story {
    /// Begins with something new.
    pub fn chapter(&mut self, title: &str) {
        self.chapters += 1;
        print(&format!("{}. {title}", self.chapters));
    }

    /// Says something that was not measured.
    pub fn note(&mut self, name: &str, text: &str) {
        print(&format!("   {name:<9} {text}"));
    }

    /// Says what was measured, and if that is wrong, what it should have been.
    pub fn figure(&mut self, name: &str, seen: &str, right: bool, expected: &str) {
        self.figures += 1;
        let line = format!("   {name:<9} {seen}");
        if right {
            print(&format!("{line:<width$}ok", width = WIDTH - 2));
        } else {
            self.wrong += 1;
            print(&format!("{line:<width$}WRONG\n   {:<9} expected: {expected}", "", width = WIDTH - 5));
        }
    }

    /// The last words, and whether all was well.
    pub fn end(&self, took: Duration) -> Result<()> {
        let Story { figures, wrong, .. } = self;
        ensure!(*wrong == 0, "{wrong} of {figures} figures are not as they should be");
        print(&format!("All {figures} figures are as they should be ({} s).", took.as_secs()));
        Ok(())
    }
}

/// A reader that has gone away changes no figure.
fn print(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// A number with commas between its thousands.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commas() {
        let rows = [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")];
        for (number, text) in rows {
            assert_eq!(thousands(number), text);
        }
    }
}
