//! libFuzzer over the reference and the path on the host. `cargo xtask fuzz` builds it with coverage and runs it; all that
//! it does is in `tests::fuzz::guided`.
#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use tests::fuzz::guided::Guided;

thread_local! {
    static GUIDED: RefCell<Guided> = RefCell::new(prepare());
}

fn prepare() -> Guided {
    // A panic of the path is a disagreement: it must unwind to where that is said, not abort at once.
    std::panic::set_hook(Box::new(|_| {}));
    Guided::default()
}

fuzz_target!(|data: &[u8]| {
    if let Err(finding) = GUIDED.with_borrow_mut(|guided| guided.run(data)) {
        eprintln!("{finding}");
        std::process::abort();
    }
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    // By turns what libFuzzer thinks of, bytes that comparisons asked for among it, and what frames are made of.
    if seed & 1 == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let changed = GUIDED.with_borrow(|guided| guided.mutate(&data[..size], max_size, seed));
    data[..changed.len()].copy_from_slice(&changed);
    changed.len()
});
