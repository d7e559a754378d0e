//! How much of the processor's core is ours. Its other thread may belong to somebody else's virtual machine, which nothing in
//! /proc shows, and programs that do several things a cycle then take up to twice as long.

use std::{arch::asm, time::Instant};

/// Turns of each loop: some 50 us, short beside a row.
const TURNS: u32 = 3_000;
/// A core of one's own does about four or more.
const ALONE: f64 = 3.3;

/// What was seen of it from row to row, additions a cycle.
#[derive(Default)]
pub struct Share(Vec<f64>);

impl Share {
    /// Looks once.
    pub fn look(&mut self) {
        self.0.push(additions_a_cycle());
    }

    /// One line, if the core was not ours alone most of the time.
    pub fn warning(mut self) -> Option<String> {
        self.0.sort_by(f64::total_cmp);
        let median = *self.0.get(self.0.len() / 2)?;
        (median < ALONE).then(|| {
            format!(
                "the core is shared: it mostly did {median:.1} additions a cycle, alone it does about 4; another thread of it, \
                 outside this machine perhaps, was busy: meanwhile Weir's rows cost up to twice as much, bare_ipip hardly more"
            )
        })
    }
}

/// Additions that do not wait for each other, by the time that multiplications take which do: three cycles each.
fn additions_a_cycle() -> f64 {
    let mut number = 3u64;
    let multiplied = timed(|| {
        // Each turn waits for the one before it, too.
        // SAFETY: arithmetic in a register that is told of.
        unsafe { asm!(".rept 16", "imul {x}, {x}", ".endr", x = inout(reg) number) }
    });
    let added = timed(|| {
        // SAFETY: as above.
        unsafe {
            asm!(
                ".rept 16", "add {a}, 1", "add {b}, 1", "add {c}, 1", "add {d}, 1", ".endr",
                a = inout(reg) 0u64 => _, b = inout(reg) 0u64 => _, c = inout(reg) 0u64 => _, d = inout(reg) 0u64 => _,
            )
        }
    });
    let (cycles_multiplying, additions) = (16.0 * 3.0, 16.0 * 4.0);
    additions / (added / multiplied * cycles_multiplying)
}

/// The shortest of a few times, ns: a disturbance only ever adds.
fn timed(mut step: impl FnMut()) -> f64 {
    let mut once = || {
        let begin = Instant::now();
        (0..TURNS).for_each(|_| step());
        begin.elapsed().as_secs_f64() * 1e9
    };
    (0..5).map(|_| once()).fold(f64::INFINITY, f64::min)
}
