//! What the command line prints, word for word: help, faults of configurations, nothing loaded. None of it needs root.

#[test]
fn command_line() {
    trycmd::TestCases::new()
        .register_bin("weir", trycmd::cargo::cargo_bin!("weir"))
        .env("COLUMNS", "100")
        .case("tests/cli/*.trycmd");
}
