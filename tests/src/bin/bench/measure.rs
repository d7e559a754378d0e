//! One measurement: the generator in front of a program, so many times, pinned to one CPU.

use anyhow::{Context, Result, bail};
use aya::{
    Ebpf, EbpfLoader, TestRun as _, TestRunOptions,
    maps::{Array, ProgramArray},
    programs::{ProgramFd, Xdp},
};
use lb_common::abi::{BENCH_FRAME, BenchTraffic};
use lb_userspace::datapath::Plain;
use nix::sched::{CpuSet, sched_setaffinity};

/// The object with the generator and what Weir is compared with.
pub struct Bench {
    object: Ebpf,
    under_test: ProgramArray<aya::maps::MapData>,
    traffic: Array<aya::maps::MapData, Plain<BenchTraffic>>,
}

/// Programs of the bench itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reference {
    Null,
    Swap,
    BareIpip,
}

impl Bench {
    pub fn load() -> Result<Self> {
        let mut cpus = CpuSet::new();
        cpus.set(0)?;
        sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus).context("cannot pin to one CPU")?;
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bpf-objects/bench.o");
        let path = std::env::var("WEIR_OBJECTS").map_or(path.to_owned(), |directory| format!("{directory}/bench.o"));
        let bytes = std::fs::read(&path).with_context(|| format!("{path}: run `cargo xtask build`"))?;
        let mut object = EbpfLoader::new().load(&bytes)?;
        for name in ["generate", "null", "swap", "bare_ipip"] {
            program(&mut object, name)?.load()?;
        }
        let under_test = ProgramArray::try_from(object.take_map("UNDER_TEST").context("no map UNDER_TEST")?)?;
        let traffic = Array::try_from(object.take_map("TRAFFIC").context("no map TRAFFIC")?)?;
        Ok(Bench { object, under_test, traffic })
    }

    pub fn reference(&mut self, reference: Reference) -> Result<ProgramFd> {
        let name = match reference {
            Reference::Null => "null",
            Reference::Swap => "swap",
            Reference::BareIpip => "bare_ipip",
        };
        Ok(program(&mut self.object, name)?.fd()?.try_clone()?)
    }

    /// ns a run, generator included. Fails if the program did not end with `action`.
    pub fn run(
        &mut self,
        program_under_test: &ProgramFd,
        traffic: &BenchTraffic,
        packets: u32,
        action: u32,
    ) -> Result<f64> {
        self.under_test.set(0, program_under_test, 0)?;
        self.traffic.set(0, Plain(*traffic), 0)?;
        let generate = program(&mut self.object, "generate")?;
        let frame = [0; BENCH_FRAME];
        let options = TestRunOptions { data_in: Some(&frame), repeat: packets, ..TestRunOptions::default() };
        let result = generate.test_run(options).context("the kernel did not run the generator")?;
        if result.return_value != action {
            bail!("the last packet got action {}, not {action}", result.return_value);
        }
        let generated = self.traffic.get(&0, 0)?.0.generated;
        if generated != u64::from(packets) {
            bail!("{generated} packets were generated, not {packets}");
        }
        // The kernel tells the mean in whole ns; that is too coarse only for the cheapest rows.
        Ok(result.duration.as_secs_f64() * 1e9)
    }
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    Ok(object.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?)
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
