//! What operators say, and what comes of it.

use std::{fs, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::config;

const FILE: &str = "interface = \"eth0\"\n[service.web]\nvip = \"192.0.2.10:80\"\nbackends = [\"10.0.0.11-12\", \"10.0.0.13*0\"]\n\
[service.dns]\nvip = \"192.0.2.53:53/udp\"\nbackends = \"10.0.0.21\"\n";
const NOW: u64 = 1_700_000_000_000;

fn parsed(text: &str) -> Config {
    config::parse("weir.toml", text).unwrap_or_else(|error| panic!("{error}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

fn verb(text: &str) -> Verb {
    match text.split_once(' ').unwrap_or((text, "")) {
        ("add", "") => Verb::Add { weight: None },
        ("add", weight) => Verb::Add { weight: Some(weight.parse().expect("a weight")) },
        ("rm", _) => Verb::Remove,
        ("weight", weight) => Verb::Weight(weight.parse().expect("a weight")),
        ("drain", over) => Verb::Drain { over: Duration::from_secs(over.parse().unwrap_or(0)), steps: Some(5) },
        ("maint", _) => Verb::Maint,
        _ => Verb::Ready,
    }
}

/// Says these one after the other, `SERVICE BACKEND VERB`.
fn said(sayings: &[&str]) -> Overrides {
    let (config, mut overrides) = (parsed(FILE), Overrides::default());
    for saying in sayings {
        let [service, backend, what] = saying.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{saying}") };
        let result = overrides.change(&config, service, ip(backend), verb(what), NOW);
        result.unwrap_or_else(|refused| panic!("{saying}: {refused}"));
    }
    overrides
}

/// The backends of `web` in effect: address, weight, part in percent, what overrides say.
fn web(overrides: &Overrides, now: u64) -> Vec<String> {
    let (config, _) = overrides.apply(&parsed(FILE), now);
    let service = &config.services["web"];
    let backends = service.backends.iter().map(|backend| {
        let percent = 100 * u64::from(backend.part) / u64::from(WHOLE);
        let Overridden { added, file_weight, state } = backend.overridden.unwrap_or_default();
        let words = [
            added.then(|| " added".to_owned()),
            file_weight.map(|weight| format!(" file:{weight}")),
            state.map(|state| format!(" {state}")),
        ];
        format!("{}*{} {percent}%{}", backend.address, backend.weight, words.into_iter().flatten().collect::<String>())
    });
    backends.chain(service.removed.iter().map(|address| format!("{address} removed"))).collect()
}

#[test]
fn verbs_do_what_they_say() {
    const TABLE: &[(&[&str], &[&str])] = &[
        (&[], &["10.0.0.11*1 100%", "10.0.0.12*1 100%", "10.0.0.13*0 100%"]),
        (
            &["web 10.0.0.2 add", "web 10.0.0.99 add 7"],
            &[
                "10.0.0.2*1 100% added",
                "10.0.0.11*1 100%",
                "10.0.0.12*1 100%",
                "10.0.0.13*0 100%",
                "10.0.0.99*7 100% added",
            ],
        ),
        (&["web 10.0.0.12 rm"], &["10.0.0.11*1 100%", "10.0.0.13*0 100%", "10.0.0.12 removed"]),
        (&["web 10.0.0.12 rm", "web 10.0.0.12 add"], &["10.0.0.11*1 100%", "10.0.0.12*1 100%", "10.0.0.13*0 100%"]),
        (
            &["web 10.0.0.12 rm", "web 10.0.0.12 add 3"],
            &["10.0.0.11*1 100%", "10.0.0.12*3 100% file:1", "10.0.0.13*0 100%"],
        ),
        (&["web 10.0.0.9 add", "web 10.0.0.9 rm"], &["10.0.0.11*1 100%", "10.0.0.12*1 100%", "10.0.0.13*0 100%"]),
        (&["web 10.0.0.13 weight 9"], &["10.0.0.11*1 100%", "10.0.0.12*1 100%", "10.0.0.13*9 100% file:0"]),
        (&["web 10.0.0.11 maint"], &["10.0.0.11*1 0% maint", "10.0.0.12*1 100%", "10.0.0.13*0 100%"]),
        (
            &["web 10.0.0.11 maint", "web 10.0.0.11 ready"],
            &["10.0.0.11*1 100%", "10.0.0.12*1 100%", "10.0.0.13*0 100%"],
        ),
        (&["web 10.0.0.11 drain"], &["10.0.0.11*1 0% drain", "10.0.0.12*1 100%", "10.0.0.13*0 100%"]),
        (
            &["web 10.0.0.11 weight 4", "web 10.0.0.11 drain 8"],
            &["10.0.0.11*4 80% file:1 drain", "10.0.0.12*1 100%", "10.0.0.13*0 100%"],
        ),
        // Out of service, it does not come back to drain slowly.
        (
            &["web 10.0.0.11 maint", "web 10.0.0.11 drain 8"],
            &["10.0.0.11*1 0% drain", "10.0.0.12*1 100%", "10.0.0.13*0 100%"],
        ),
    ];
    for (sayings, expected) in TABLE {
        let found: Vec<_> = web(&said(sayings), NOW).iter().map(|line| line.replace(" 79%", " 80%")).collect();
        assert_eq!(&found, expected, "{sayings:?}");
    }
}

#[test]
fn a_drain_goes_on_by_the_clock() {
    let overrides = said(&["web 10.0.0.11 drain 8", "dns 10.0.0.21 drain 2"]);
    let mut now = NOW;
    let mut seen = Vec::new();
    while let Some(next) = overrides.next_step_ms(now) {
        now = next;
        let (config, _) = overrides.apply(&parsed(FILE), now);
        seen.push((
            (now - NOW) / 100,
            config.services["web"].backends[0].part * 5 / WHOLE,
            config.services["dns"].backends[0].part * 5 / WHOLE,
        ));
    }
    // Five equal steps each, the first at once.
    assert_eq!(seen, [(5, 3, 2), (10, 3, 1), (15, 3, 0), (20, 2, 0), (40, 1, 0), (60, 0, 0), (80, 0, 0)]);
    assert!(web(&overrides, now)[0].starts_with("10.0.0.11*1 0% drain"));
    assert!(said(&["web 10.0.0.11 maint", "web 10.0.0.12 drain"]).next_step_ms(NOW).is_none());
}

#[test]
fn refusals_name_the_way_out() {
    let mut overrides = said(&["web 10.0.0.9 add", "web 10.0.0.12 rm"]);
    let before = overrides.clone();
    const TABLE: &[(&str, &str, &str, &str)] = &[
        ("webb", "10.0.0.11", "maint", "service \"webb\": no such service (have: dns, web)"),
        (
            "web",
            "10.0.0.8",
            "drain",
            "backend 10.0.0.8 is not in service \"web\" (have: 10.0.0.11, 10.0.0.13, 10.0.0.9; weir add web 10.0.0.8 adds it)",
        ),
        (
            "web",
            "10.0.0.12",
            "weight 2",
            "backend 10.0.0.12 is not in service \"web\" (have: 10.0.0.11, 10.0.0.13, 10.0.0.9; weir add web 10.0.0.12 adds it)",
        ),
        (
            "web",
            "10.0.0.11",
            "add",
            "backend 10.0.0.11 is in service \"web\" already (weir weight web 10.0.0.11 N changes its weight)",
        ),
        (
            "web",
            "192.0.2.10",
            "add",
            "backend 192.0.2.10 is the VIP of service \"web\" itself: name the backend by an address of its own",
        ),
        ("web", "10.0.0.11", "weight 257", "weight 257: out of range (a weight is 0 to 256, and 0 drains)"),
        ("web", "10.0.0.7", "add 300", "weight 300: out of range (a weight is 0 to 256, and 0 drains)"),
    ];
    for (service, backend, what, expected) in TABLE {
        let refused =
            overrides.change(&parsed(FILE), service, ip(backend), verb(what), NOW).expect_err("it is refused");
        assert_eq!(refused.to_string(), *expected);
        assert_eq!(overrides, before);
    }
    let none = overrides.revert(Some("dns"), None).expect_err("nothing was said of it");
    assert_eq!(none.to_string(), "service \"dns\": no overrides (have: web)");
    let none = overrides.revert(Some("web"), Some(ip("10.0.0.11"))).expect_err("nothing was said of it");
    assert_eq!(none.to_string(), "backend 10.0.0.11 has no override in service \"web\" (have: 10.0.0.9, 10.0.0.12)");
    assert_eq!(overrides, before);
}

#[test]
fn long_lists_are_cut() {
    assert_eq!(some_of(0..12), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11");
    assert_eq!(some_of(0..14), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 2 more");
    assert_eq!(some_of(0..0), "none");
}

#[test]
fn remarks_say_what_is_easily_overlooked() {
    let mut overrides = Overrides::default();
    let mut remark = |service, backend, what| {
        overrides.change(&parsed(FILE), service, ip(backend), verb(what), NOW).expect("it is done")
    };
    assert_eq!(remark("web", "10.0.0.11", "maint"), None);
    let idle = remark("web", "10.0.0.13", "ready").expect("a remark");
    assert_eq!(idle, "backend 10.0.0.13 has weight 0 in service \"web\": weir weight web 10.0.0.13 N gives it one");
    let last = remark("web", "10.0.0.12", "rm").expect("a remark");
    assert_eq!(last, "no backend of service \"web\" takes traffic any more");
    assert!(remark("dns", "10.0.0.21", "drain 8").is_none());
}

#[test]
fn revert_takes_back_one_one_services_or_all() {
    let sayings = ["web 10.0.0.11 maint", "web 10.0.0.12 weight 3", "web 10.0.0.9 add", "dns 10.0.0.21 drain"];
    let mut overrides = said(&sayings);
    assert_eq!(overrides.revert(Some("web"), Some(ip("10.0.0.12"))), Ok(1));
    assert_eq!(overrides, said(&[sayings[0], sayings[2], sayings[3]]));
    assert_eq!(overrides.revert(Some("web"), None), Ok(2));
    assert_eq!(overrides, said(&sayings[3..]));
    assert_eq!(said(&sayings).revert(None, None), Ok(4));
    assert_eq!(overrides.revert(Some("dns"), Some(ip("10.0.0.21"))), Ok(1));
    assert!(overrides.is_empty());
}

#[test]
fn what_the_file_no_longer_has_is_stale_and_kept() {
    let overrides = said(&["web 10.0.0.11 maint", "web 10.0.0.12 rm", "web 10.0.0.9 add 4", "dns 10.0.0.21 weight 2"]);
    let other = parsed(
        "interface = \"eth0\"\n[service.web]\nvip = \"192.0.2.10:80\"\nbackends = [\"10.0.0.9*2\", \"10.0.0.14\"]\n",
    );
    let (config, notes) = overrides.apply(&other, NOW);
    assert_eq!(
        notes.iter().map(Note::to_string).collect::<Vec<_>>(),
        [
            "overrides of service \"dns\": stale, the configuration has no such service (weir revert dns clears it)",
            "override of backend 10.0.0.9 in service \"web\": the configuration has it too, so adding it has no effect (weir \
             revert web 10.0.0.9 clears it)",
            "override of backend 10.0.0.11 in service \"web\": stale, the configuration has no such backend (weir revert web \
             10.0.0.11 clears it)",
            "override of backend 10.0.0.12 in service \"web\": stale, the configuration has no such backend (weir revert web \
             10.0.0.12 clears it)",
        ]
    );
    assert_eq!(config, other);
    // Back in the file, they hold again.
    let (config, notes) = overrides.apply(&parsed(FILE), NOW);
    assert!(notes.is_empty() && config.services["web"].backends.len() == 3, "{notes:?}");
    let (config, notes) = overrides.apply(&parsed(&FILE.replace("192.0.2.10:80", "10.0.0.9:80")), NOW);
    assert_eq!(notes.len(), 1);
    assert!(config.services["web"].backends.iter().all(|backend| backend.address != ip("10.0.0.9")));
}

#[test]
fn the_fingerprint_is_that_of_the_file() {
    let config = parsed(FILE);
    let (effective, _) = said(&["web 10.0.0.11 maint"]).apply(&config, NOW);
    assert!(effective != config && effective.fingerprint() == config.fingerprint());
}

/// A directory of this test alone, removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-overrides-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("state").join(file::NAME)
    }

    fn with(&self, content: &[u8]) -> PathBuf {
        fs::create_dir_all(self.0.join("state")).expect("a directory can be made");
        fs::write(self.file(), content).expect("a file can be written");
        self.file()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.join("state")).expect("a directory").map(|entry| entry.expect("an entry"));
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_file_keeps_them() {
    let directory = Directory::new("kept");
    assert!(file::load(&directory.file()).expect("no file is no override").is_empty());
    let overrides = said(&["web 10.0.0.11 drain 300", "web 10.0.0.12 rm", "web 10.0.0.9 add 4", "dns 10.0.0.21 maint"]);
    file::save(&directory.file(), &Overrides::default()).expect("it is saved");
    file::save(&directory.file(), &overrides).expect("it is saved again");
    assert_eq!(file::load(&directory.file()).expect("it is read"), overrides);
    assert_eq!(directory.names(), ["overrides.json"]);
    let text = fs::read_to_string(directory.file()).expect("text");
    assert!(text.starts_with("{\n  \"version\": 1,\n  \"services\": {\n    \"dns\": {\n      \"10.0.0.21\": {\n        \"state\": \"maint\""), "{text}");
}

#[test]
fn a_save_that_did_not_finish_left_the_old_one() {
    let directory = Directory::new("unfinished");
    let overrides = said(&["web 10.0.0.11 maint"]);
    file::save(&directory.file(), &overrides).expect("it is saved");
    fs::write(directory.0.join("state/overrides.json.next"), b"{\"versi").expect("a file can be written");
    assert_eq!(file::load(&directory.file()).expect("it is read"), overrides);
    file::save(&directory.file(), &overrides).expect("it is saved again");
    assert_eq!(directory.names(), ["overrides.json"]);
}

#[test]
fn a_newer_one_is_left_alone() {
    let directory = Directory::new("newer");
    let text = b"{\"version\": 2, \"everything\": [\"is\", \"different\"]}";
    let path = directory.with(text);
    let expected = format!(
        "{}: written by a newer weir (version 2, this one knows 1), nothing was changed: use that weir, or move the file away",
        path.display()
    );
    assert_eq!(file::load(&path).expect_err("it is newer").to_string(), expected);
    assert_eq!(file::save(&path, &Overrides::default()).expect_err("it is newer").to_string(), expected);
    assert_eq!(
        (fs::read(&path).expect("it is there"), directory.names()),
        (text.to_vec(), vec!["overrides.json".to_owned()])
    );
}

#[test]
fn garbage_is_named_and_kept() {
    let directory = Directory::new("garbage");
    for (text, reason) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[]", "no version"),
        ("{\"version\": \"one\"}", "no version"),
        ("{\"version\": 1}", "missing field `services`"),
        ("{\"version\": 0, \"services\": {}}", "a number out of range"),
        ("{\"version\": 1, \"services\": {\"web\": {\"10.0.0.1\": {\"weight\": 257}}}}", "a number out of range"),
        ("{\"version\": 1, \"services\": {\"web\": {\"10.0.0\": {}}}}", "invalid IP address syntax"),
    ] {
        let path = directory.with(text.as_bytes());
        let error = file::load(&path).expect_err("it is garbage").to_string();
        let (path, copy) = (path.display(), format!("{}.damaged", path.display()));
        assert!(error.starts_with(&format!("{path}: not weir's overrides (")) && error.contains(reason), "{error}");
        assert!(error.contains(&format!("a copy is kept as {copy}: mend the file")), "{error}");
        assert_eq!(fs::read_to_string(copy).expect("the copy"), text);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever stands in the file is read, or refused.
    #[test]
    fn no_file_is_a_panic(bytes: Vec<u8>, cut in 0..400usize) {
        let directory = Directory::new("any");
        let _ = file::load(&directory.with(&bytes));
        file::save(&directory.file(), &said(&["web 10.0.0.11 drain 300", "web 10.0.0.9 add 4"])).expect("it is saved");
        let text = fs::read(directory.file()).expect("it is there");
        let cut = cut.min(text.len());
        let read = file::load(&directory.with(&text[..cut]));
        prop_assert_eq!(read.is_ok(), text[cut..].iter().all(u8::is_ascii_whitespace));
    }

    /// Whatever is said in whatever order: the backends in effect are sorted, each once, in range, and another service's are left alone.
    #[test]
    fn any_sayings_leave_a_valid_configuration(sayings in prop::collection::vec((0..5u8, 0..7u8, 0..4u16), 0..20)) {
        let (config, mut overrides) = (parsed(FILE), Overrides::default());
        for (host, what, number) in sayings {
            let verb = match what {
                0 => Verb::Add { weight: (number > 0).then_some(number) },
                1 => Verb::Remove,
                2 => Verb::Weight(number),
                3 => Verb::Drain { over: Duration::from_secs(number.into()), steps: None },
                4 => Verb::Maint,
                _ => Verb::Ready,
            };
            let before = overrides.clone();
            if overrides.change(&config, "web", ip(&format!("10.0.0.{}", 10 + host)), verb, NOW).is_err() {
                prop_assert_eq!(&overrides, &before);
            }
        }
        let (effective, notes) = overrides.apply(&config, NOW);
        prop_assert!(notes.is_empty(), "{:?}", notes);
        let web = &effective.services["web"];
        prop_assert!(web.backends.windows(2).all(|pair| pair[0].address < pair[1].address));
        prop_assert!(web.backends.iter().all(|backend| backend.weight <= MAX_WEIGHT && backend.part <= WHOLE));
        prop_assert_eq!(&effective.services["dns"], &config.services["dns"]);
        prop_assert!(overrides.revert(None, None).is_ok() && overrides.apply(&config, NOW).0 == config);
    }
}
