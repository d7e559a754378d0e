//! What must be refused, and be without effect.

use std::{process::Output, time::Instant};

use anyhow::{Context, Result, ensure};
use aya::{
    EbpfLoader,
    programs::{Xdp, XdpMode},
};
use lb_userspace::datapath::{Pins, TRAFFIC_OBJECT};

use super::{Seen, ten_and};
use crate::rig::{FIRST_BACKEND, PATIENCE, Rig, start, ten, weir};

/// Files with faults, and one that is half written.
pub fn broken_file(rig: &mut Rig) -> Result<Seen> {
    let good = ten();
    let half = good[..good.len() - 7].to_owned();
    let cut = good[..good.len() / 2].to_owned();
    let broken = [
        (half, "weir.toml:"),
        (cut, "weir.toml:"),
        (String::new(), "interface"),
        (good.replace("10.1.0.13*1", "10.1.0.313*1"), "10.1.0.313"),
        (good.replace("\"eth0\"", "[\"eth0\", \"lo\"]"), "restart the agent"),
        (good.replace("10.1.0.100:80", "10.1.0.1:80"), "10.1.0.1"),
        (good.replace("slots = 8192", "slots = 8191"), "8191"),
    ];
    let before = rig.json(&["ls"])?;
    let (faults, times) = (broken.len() as u64, rig.scale.twenty);
    for number in 0..times * faults {
        let (text, named) = &broken[(number % faults) as usize];
        rig.write(text)?;
        let said = rig.reload("the old configuration stays: ")?;
        ensure!(said.contains(named), "{said:?} does not name {named:?}");
        rig.pace(number + 1, times * faults, rig.scale.frames)?;
    }
    ensure!(rig.json(&["ls"])? == before, "a file that was refused has changed something");
    rig.write(&good)?;
    rig.reload("nothing changes")?;
    Ok(Seen::nothing_lost(format!("{} files refused", times * faults)))
}

/// An arena in which nothing but the service's own ring has room.
pub fn small_arena() -> String {
    format!("arena = 16384\n{}", ten())
}

/// More VIPs, rings and backends than there is room for.
pub fn full_maps(rig: &mut Rig) -> Result<Seen> {
    let service = |name: &str, vips: &str, backends: &str| {
        format!("[service.{name}]\nvip = [{vips}]\nslots = 8192\nbackends = [{backends}]\n")
    };
    let list = |count: u32, item: &dyn Fn(u32) -> String| (0..count).map(item).collect::<Vec<_>>().join(", ");
    let vips = list(4_096, &|n| format!("\"10.3.{}.{}:80\"", n / 256, n % 256));
    let backends = list(8_190, &|n| format!("\"10.4.{}.{}\"", n / 256, n % 256));
    let rings: String = (0..4)
        .map(|n| {
            service(
                &format!("more{n}"),
                &format!("\"10.3.0.{n}:80\""),
                &format!("\"10.1.0.{}\"", FIRST_BACKEND + 1 + n),
            )
        })
        .collect();
    let full = [
        (ten_and(&service("vips", &vips, "\"10.1.0.11\"")), "at most 4096 are possible"),
        (ten_and(&service("backends", "\"10.3.0.1:80\"", &backends)), "at most 8192 are possible"),
        (ten_and(&rings), "arena = "),
    ];
    let before = rig.json(&["ls"])?;
    for (number, (text, named)) in (1..).zip(&full) {
        rig.write(&format!("arena = 131072\n{text}"))?;
        let said = rig.reload("the old configuration stays: ")?;
        ensure!(said.contains(named), "{said:?} does not name {named:?}");
        rig.pace(number, full.len() as u64, rig.scale.frames)?;
    }
    ensure!(rig.json(&["ls"])? == before, "a configuration that was refused has changed something");
    Ok(Seen::nothing_lost("VIPs, backends and rings refused"))
}

/// A second agent, with the first one's pins and with its own.
pub fn two_agents(rig: &mut Rig) -> Result<Seen> {
    let first = rig.agent.pid();
    let times = (rig.scale.twenty / 4).max(1);
    let other = format!("{}-other", rig.balancer.pins().display());
    let program = rig.program()?;
    for number in 0..times {
        // Only the fact that the first has it can stop it.
        let same = rig.weir(&["run", "--config", path(rig)?.as_str()])?;
        refused(&same, &format!("in use by pid {first}"))?;
        let mut command = rig.balancer.command(weir()?);
        let second = command.args(["--pins", &other, "run", "--config"]).arg(path(rig)?).output()?;
        refused(&second, "interface \"eth0\": its XDP hook is taken by program \"weir")?;
        refused(&second, &format!("pid {first}"))?;
        ensure!(!Pins::new(&other).root().exists(), "{other}: left behind");
        rig.pace(number + 1, times, rig.scale.frames)?;
    }
    ensure!(rig.program()? == program, "another program runs");
    Ok(Seen::nothing_lost(format!("{} second agents refused", 2 * times)))
}

fn path(rig: &Rig) -> Result<String> {
    rig.balancer.directory().join("weir.toml").to_str().map(str::to_owned).context("a path that is no UTF-8")
}

fn refused(output: &Output, named: &str) -> Result<()> {
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && said.contains(named),
        "{} does not name {named:?}: {said}",
        output.status
    );
    Ok(())
}

/// Others want the hook: refused. Whoever has the rights takes the program away: loud, and mended.
pub fn foreign_program(rig: &mut Rig) -> Result<Seen> {
    let mut object = EbpfLoader::new().load(TRAFFIC_OBJECT)?;
    let foreign: &mut Xdp = object.program_mut("pass").context("no program pass")?.try_into()?;
    foreign.load()?;
    let index = rig.balancer.index("eth0")?;
    let program = rig.program()?;
    for number in 0..rig.scale.twenty {
        for mode in [XdpMode::Driver, XdpMode::Skb] {
            let attached = rig.balancer.within(|| Ok(foreign.attach_to_if_index(index, mode).is_ok()))?;
            ensure!(!attached, "another program was attached");
        }
        // Refused by the kernel, or without effect.
        let _ = rig.balancer.ip("link set dev eth0 xdp off");
        ensure!(rig.program()? == program, "another program runs");
        rig.pace(number + 1, rig.scale.twenty, rig.scale.frames)?;
    }
    let from = rig.begin_losses();
    force_away(rig)?;
    rig.agent.wait_to_say("the program was taken from it from outside", PATIENCE)?;
    let since = Instant::now();
    let mended = rig.all_resume(since)?;
    let mut allowed_lost = rig.end_losses(from);

    // With nobody there to mend it, `status` is loud until the next agent comes.
    rig.kill()?;
    let from = rig.begin_losses();
    force_away(rig)?;
    let status = rig.json(&["status"])?;
    ensure!(status["warnings"].to_string().contains("no XDP program"), "status is silent: {status}");
    rig.agent = start(&rig.balancer, &ten(), &[])?;
    rig.agent.wait_to_say("services: ", PATIENCE)?;
    rig.all_resume(Instant::now())?;
    allowed_lost += rig.end_losses(from);
    let note = format!("forced away, back {} ms after it was noticed", mended.as_millis());
    Ok(Seen { allowed_lost, note, ..Seen::default() })
}

fn force_away(rig: &Rig) -> Result<()> {
    lb_userspace::datapath::force_away(&rig.balancer.pins().join("links/eth0"))
}
