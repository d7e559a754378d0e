//! The examples of docs/api.md: what is typed, and what is printed.

use std::path::Path;

use serde_json::Value;

const MANUAL: &str = include_str!("../../../docs/api.md");
const SOCKET: &str = "/run/weir/weir.sock";

/// Commands, as they are for this socket, and what they print.
pub fn examples(socket: &Path) -> Vec<(String, Value)> {
    let blocks = MANUAL.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands = blocks.flat_map(|block| block.split("$ ").filter(|example| !example.trim().is_empty()));
    let example = commands.map(|example| {
        let (command, printed) = example.split_once('\n').unwrap();
        assert!(command.contains(SOCKET), "{command}");
        (command.replace(SOCKET, socket.to_str().unwrap()), serde_json::from_str(printed).expect(printed))
    });
    example.collect()
}

/// The same keys with the same kinds of values, wherever the manual shows any; errors in the same words.
pub fn assert_alike(expected: &Value, said: &Value, place: &str) {
    match (expected, said) {
        (Value::Object(expected), Value::Object(said)) => {
            for (key, expected) in expected {
                let said = said.get(key).unwrap_or_else(|| panic!("{place}: no {key:?} in {said:?}"));
                assert_alike(expected, said, &format!("{place} {key}"));
                assert!(key != "error" || expected == said, "{place}: {said}");
            }
        }
        (Value::Array(expected), Value::Array(said)) => {
            for (expected, said) in expected.iter().zip(said) {
                assert_alike(expected, said, place);
            }
            assert!(expected.is_empty() || !said.is_empty(), "{place}: nothing");
        }
        _ => assert_eq!(
            std::mem::discriminant(expected),
            std::mem::discriminant(said),
            "{place}: {said} where the manual has {expected}"
        ),
    }
}
