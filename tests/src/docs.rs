//! The tables of a last run in a document.

use std::fs;

use anyhow::{Context, Result};

const BEGIN: &str = "<!-- The last run: `--write-docs` writes from here -->\n";
const END: &str = "<!-- to here. -->\n";

/// Puts the tables of a run in the place of those before, in a document below docs.
pub fn write(document: &str, tables: &str) -> Result<()> {
    let path = format!("{}/../docs/{document}", env!("CARGO_MANIFEST_DIR"));
    let document = fs::read_to_string(&path).with_context(|| format!("{path}: cannot be read"))?;
    let document = replaced(&document, tables).with_context(|| format!("{path}: no place for the last run"))?;
    fs::write(&path, document).with_context(|| format!("{path}: cannot be written"))
}

fn replaced(document: &str, tables: &str) -> Option<String> {
    let (before, rest) = document.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}```text\n{tables}\n```\n{END}{after}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let document = format!("before\n{BEGIN}old\n{END}after\n");
        let once = replaced(&document, "new").expect("has marks");
        assert_eq!(once, format!("before\n{BEGIN}```text\nnew\n```\n{END}after\n"));
        assert_eq!(replaced(&once, "new"), Some(once.clone()));
        assert_eq!(replaced("no marks", "new"), None);
    }
}
