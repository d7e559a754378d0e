//! What only the host can tell of a configuration. The facts come in as data.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use toml::Spanned;

use super::error::{Diagnostic, Source, closest, quoted};
use super::{Config, Vip};

/// Where the things stand that a host can contradict.
#[derive(Clone, Debug)]
pub struct Spans {
    /// The file.
    pub source: Arc<Source>,
    /// Names of interfaces, in file order.
    pub interfaces: Vec<Spanned<String>>,
    /// VIPs, in file order.
    pub vips: Vec<Spanned<Vip>>,
    /// Programs of checks.
    pub programs: Vec<Spanned<String>>,
}

/// Errors, in file order: interfaces that do not exist, VIPs that are addresses of this host (each address once), programs of
/// checks that do not run (`runs` knows).
pub fn check_host(
    config: &Config,
    have_interfaces: &[String],
    local_addresses: &[IpAddr],
    runs: impl Fn(&str) -> bool,
) -> Vec<Diagnostic> {
    let Spans { source, interfaces, vips, programs } = &*config.spans;
    let missing = interfaces.iter().filter(|name| !have_interfaces.contains(name.get_ref()));
    let mut faults: Vec<Diagnostic> = missing.map(|name| no_such_interface(source, name, have_interfaces)).collect();

    let mut local: BTreeSet<&IpAddr> = local_addresses.iter().collect();
    faults.extend(vips.iter().filter(|vip| local.remove(&vip.get_ref().address)).map(|vip| own_address(source, vip)));
    faults.extend(programs.iter().filter(|program| !runs(program.get_ref())).map(|program| {
        let message = format!("command {}: there is no such program to run", quoted(program.get_ref()));
        Diagnostic::error(source, program.span(), message)
            .help("name one that exists, and make it executable: chmod +x")
    }));
    faults.sort_by_key(Diagnostic::offset);
    faults
}

fn no_such_interface(source: &Arc<Source>, name: &Spanned<String>, have: &[String]) -> Diagnostic {
    let (span, name) = (name.span(), name.get_ref());
    let list = have.join(", ");
    let message = format!("interface {name:?}: no such interface (have: {list})");
    let help = match closest(name, have.iter().map(String::as_str)) {
        Some(close) => format!("did you mean {close:?}?"),
        None => "name one that exists".to_owned(),
    };
    Diagnostic::error(source, span, message).help(help)
}

fn own_address(source: &Arc<Source>, vip: &Spanned<Vip>) -> Diagnostic {
    let (span, vip) = (vip.span(), vip.get_ref());
    let address = vip.address;
    let message = format!("VIP \"{vip}\": {address} is an address of this host");
    let help = format!("remove {address} from its interface (`ip address show to {address}`), or choose another VIP");
    Diagnostic::error(source, span, message).help(help)
}
