//! That no row of the list is forgotten, and that the document shows what the table holds.

use std::{collections::BTreeSet, env, fs, path::Path};

use tests::{
    cases,
    catalogue::{OF_INTERFACES, ROWS, document, of_row},
};

#[test]
fn every_row_has_a_case() {
    let cases = cases::all();
    for (number, subject) in ROWS {
        assert!(of_row(&cases, number).next().is_some(), "row {number}, {subject}: no case");
    }
}

#[test]
fn every_number_is_a_row() {
    let known: BTreeSet<&str> = ROWS.iter().map(|(number, _)| *number).collect();
    for case in cases::all() {
        assert!(case.rows.split(' ').all(|row| known.contains(row)), "{}: no such row", case.title());
    }
    let of_packets_or_interfaces = |number: &String| {
        known.contains(number.as_str()) || OF_INTERFACES.iter().any(|(interface, ..)| interface == number)
    };
    let missing: Vec<_> = (1..=75).map(|n: u32| n.to_string()).filter(|n| !of_packets_or_interfaces(n)).collect();
    assert!(missing.is_empty(), "rows {missing:?} are nowhere");
}

#[test]
fn the_document_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/packets.md");
    let document = document();
    if env::var_os("WEIR_BLESS").is_some_and(|value| value == "1") {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &document).unwrap();
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == document, "docs/packets.md is not what the table says: WEIR_BLESS=1 writes it anew");
}
