//! One measurement: the generator in front of three programs that take turns, pinned to one CPU.

use std::io;

use anyhow::{Context, Result, ensure};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{Array, MapData, ProgramArray},
    programs::{ProgramFd, Xdp},
};
use lb_common::{
    abi::{BENCH_FRAME, BENCH_PROGRAMS, BENCH_SEGMENTS, BenchTraffic, BenchTurn},
    verdict::Action,
};
use lb_userspace::datapath::Plain;
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// Whether a barrier stands between what the generator writes and what a program reads.
pub const BARRIER: bool = false;

/// Whether null pays for putting the head of a frame back too, or only who moved it.
pub const ALWAYS_RESTORE: bool = false;

/// Packets that a program gets before it is the next one's turn, about a millisecond: what disturbs the machine lasts longer
/// or is rarer. The same for all, because a long segment meets more interrupts than a short one.
pub const SEGMENT: u32 = 1 << 14;

/// What the generator does besides generating; `cargo xtask bench --help` explains.
#[derive(Clone, Copy)]
pub struct Generator {
    pub barrier: bool,
    pub always_restore: bool,
}

/// The object with the generator and what Weir is compared with.
pub struct Bench {
    object: Ebpf,
    under_test: ProgramArray<MapData>,
    traffic: Array<MapData, Plain<BenchTraffic>>,
    turn: Array<MapData, Plain<BenchTurn>>,
    times: Array<MapData, u64>,
}

/// A program and what it gets.
pub struct Contender {
    pub program: ProgramFd,
    pub traffic: BenchTraffic,
}

/// How many take turns.
pub const CONTENDERS: usize = BENCH_PROGRAMS as usize;

/// ns a packet, of each contender, generator included.
pub type Times = [f64; CONTENDERS];

/// Programs of the bench itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reference {
    Null,
    Swap,
    BareIpip,
}

impl Bench {
    pub fn load(generator: Generator) -> Result<Self> {
        let mut object = load_object(generator)?;
        for name in ["generate", "null", "swap", "bare_ipip"] {
            program(&mut object, name)?.load()?;
        }
        Ok(Bench {
            under_test: ProgramArray::try_from(object.take_map("UNDER_TEST").context("no map UNDER_TEST")?)?,
            traffic: Array::try_from(object.take_map("TRAFFIC").context("no map TRAFFIC")?)?,
            turn: Array::try_from(object.take_map("TURN").context("no map TURN")?)?,
            times: Array::try_from(object.take_map("TIMES").context("no map TIMES")?)?,
            object,
        })
    }

    pub fn reference(&mut self, reference: Reference) -> Result<ProgramFd> {
        let name = match reference {
            Reference::Null => "null",
            Reference::Swap => "swap",
            Reference::BareIpip => "bare_ipip",
        };
        Ok(program(&mut self.object, name)?.fd()?.try_clone()?)
    }

    /// Makes the contenders ready.
    pub fn prepare(&mut self, contenders: &[Contender; CONTENDERS]) -> Result<()> {
        for (number, contender) in (0..).zip(contenders) {
            self.under_test.set(number, &contender.program, 0)?;
            self.traffic.set(number, Plain(contender.traffic), 0)?;
        }
        Ok(())
    }

    /// What becomes of the first packet of the last contender (`XDP_*`).
    pub fn first(&mut self) -> Result<u32> {
        self.generate(BenchTurn { program: BENCH_PROGRAMS - 1, left: 1, ..BenchTurn::default() }, 1)
    }

    /// Runs so many rounds of segments; the flows go on where the last run ended. None if a signal, such as one that stops us
    /// for a while, cut it short.
    pub fn run(&mut self, rounds: u32) -> Result<Option<Times>> {
        let segments = rounds * BENCH_PROGRAMS;
        ensure!(segments < BENCH_SEGMENTS, "{rounds} rounds at a time are too many");
        // The first packet only ends the segment of nobody before it, the last one that of the last program.
        let packets = segments * SEGMENT + 1;
        let before = self.generated()?;
        let turn = BenchTurn { program: BENCH_PROGRAMS - 1, segment: SEGMENT, ..BenchTurn::default() };
        match self.generate(turn, packets) {
            Err(error) if interrupted(&error) => return Ok(None),
            done => done?,
        };
        let timed = self.turn.get(&0, 0)?.0.timed;
        ensure!(timed == segments + 1, "{timed} segments were timed, not {}", segments + 1);
        let generated = self.generated()? - before;
        ensure!(generated == u64::from(packets), "{generated} packets were generated, not {packets}");
        let mut times = [0.0; CONTENDERS];
        for (number, time) in (0..).zip(&mut times) {
            let segments = (0..rounds).map(|round| Ok(self.times.get(&(1 + round * BENCH_PROGRAMS + number), 0)?));
            *time = undisturbed(segments.collect::<Result<_>>()?, 20) / f64::from(SEGMENT);
        }
        Ok(Some(times))
    }

    /// Generates packets; returns what became of the last.
    fn generate(&mut self, turn: BenchTurn, packets: u32) -> Result<u32> {
        self.turn.set(0, Plain(turn), 0)?;
        let frame = [0; BENCH_FRAME];
        let options = TestRunOptions { data_in: Some(&frame), repeat: packets, ..TestRunOptions::default() };
        let generate = program(&mut self.object, "generate")?;
        Ok(generate.test_run(options).context("the kernel did not run the generator")?.return_value)
    }

    fn generated(&self) -> Result<u64> {
        (0..BENCH_PROGRAMS).try_fold(0, |sum, number| Ok(sum + self.traffic.get(&number, 0)?.0.generated))
    }
}

/// The object with the bench's own programs.
pub fn load_object(Generator { barrier, always_restore }: Generator) -> Result<Ebpf> {
    Ok(EbpfLoader::new()
        .override_global("BARRIER", &u32::from(barrier), true)
        .override_global("ALWAYS_RESTORE", &u32::from(always_restore), true)
        .load(&tests::objects::read("bench")?)?)
}

/// Stays on the last CPU that it may use, the first having most of the interrupts, and before everything else there if
/// that is allowed.
pub fn take_one_cpu() -> Result<()> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this)?;
    let last = (0..CpuSet::count()).rfind(|cpu| allowed.is_set(*cpu).unwrap_or(false)).context("no CPU to run on")?;
    let mut cpus = CpuSet::new();
    cpus.set(last)?;
    sched_setaffinity(this, &cpus).context("cannot pin to one CPU")?;
    let parameters = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters outlive the call. A refusal only means more noise.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) };
    Ok(())
}

fn interrupted(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|cause| cause.kind() == io::ErrorKind::Interrupted)
}

/// A program of an object.
pub fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// `XDP_*`.
pub fn kernel_action(action: Action) -> u32 {
    match action {
        Action::Drop => 1,
        Action::Pass => 2,
        Action::Transmit => 3,
        Action::Redirect => 4,
    }
}

/// The time below which one in so many lies: as long as as many of them met no disturbance, which only ever adds time, it does not
/// show.
pub fn undisturbed(mut times: Vec<u64>, one_in: usize) -> f64 {
    times.sort_unstable();
    times[times.len() / one_in] as f64
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
