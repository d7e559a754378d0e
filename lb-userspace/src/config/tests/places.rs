//! Errors of files, of the host, and the other forms of a diagnostic.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::*;

/// A directory of this test alone, removed with everything in it.
struct Directory(PathBuf);

impl Directory {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("weir-config-{}-{test}", std::process::id()));
        fs::create_dir_all(&path).expect("a directory can be made");
        Directory(path)
    }

    fn file(&self, content: &[u8]) -> PathBuf {
        let path = self.0.join("weir.toml");
        fs::write(&path, content).expect("a file can be written");
        path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn load_error(path: &Path) -> String {
    load(path).expect_err("the file is not taken").to_string()
}

#[test]
fn a_file_is_loaded() {
    let directory = Directory::new("loaded");
    let path = directory.file(format!("interface = \"eth0\"\n{SERVICE}").as_bytes());
    let config = load(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.interfaces, ["eth0"]);
    assert_eq!(config.warnings[0].place(), (path.to_str().expect("UTF-8"), Some((1, 1))));
}

#[test]
fn a_missing_file_is_named() {
    let path = Path::new("/nonexistent/weir.toml");
    assert_eq!(
        load_error(path),
        "error: cannot read the configuration: no such file\n--> /nonexistent/weir.toml\n = help: name the file that holds it"
    );
    let error = load(path).expect_err("the file is not there");
    assert_eq!(
        error.to_json(),
        json!([{
            "level": "error",
            "file": "/nonexistent/weir.toml",
            "line": null,
            "column": null,
            "message": "cannot read the configuration: no such file",
            "help": "name the file that holds it",
            "related": [],
        }])
    );
    assert_eq!(
        error.diagnostics[0].one_line(),
        "/nonexistent/weir.toml: cannot read the configuration: no such file (name the file that holds it)"
    );
}

#[test]
fn a_directory_is_no_file() {
    let directory = Directory::new("directory");
    let message = load_error(&directory.0);
    assert!(message.contains("is a directory\n") && message.contains("help: name the file"), "{message}");
}

#[test]
fn bytes_that_are_no_text_are_shown() {
    let directory = Directory::new("utf8");
    let path = directory.file(b"interface = \"eth0\"\n# caf\xe9\n");
    let expected = format!(
        "error: not UTF-8: byte 0xe9\n --> {}:2:6\n  |\n2 | # caf\u{fffd}\n  |      ^\n  |\n  = help: save the file as UTF-8",
        path.display()
    );
    assert_eq!(load_error(&path), expected);
}

#[test]
fn a_file_too_large_is_not_read() {
    let directory = Directory::new("large");
    let path = directory.file(b"");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("the file is there");
    file.set_len(MAX_FILE_BYTES + 1).expect("a sparse file");
    let message = load_error(&path);
    assert!(message.contains("larger than 16 MiB: not a configuration") && message.contains("weir.toml"), "{message}");
    // One that never ends is no different.
    assert!(load_error(Path::new("/dev/zero")).contains("larger than 16 MiB"));
}

#[test]
fn json_names_both_places() {
    let error = fault(&format!("interface = \"eth0\"\n{SERVICE}{}", SERVICE.replace("web", "shop")));
    assert_eq!(
        error.to_json(),
        json!([{
            "level": "error",
            "file": "weir.toml",
            "line": 6,
            "column": 7,
            "message": "service \"shop\": VIP 192.0.2.10:80 is already that of service \"web\"",
            "help": "a VIP belongs to one service: remove one",
            "related": [{"file": "weir.toml", "line": 3, "column": 7, "message": "first here"}],
        }])
    );
    assert_eq!(
        error.diagnostics[0].one_line(),
        "weir.toml:6:7: service \"shop\": VIP 192.0.2.10:80 is already that of service \"web\", first here: \
         weir.toml:3:7 (a VIP belongs to one service: remove one)"
    );
}

#[test]
fn colour_only_on_demand() {
    let error = fault("interface = 5");
    assert!(error.render(true).contains('\u{1b}'));
    assert!(!error.render(false).contains('\u{1b}'));
    // Nor does the file bring its own.
    let error = fault("interface = \"\\u001b[31m\u{7f}\"\n'\u{1b}' = 1");
    assert!(!error.render(false).contains('\u{1b}'), "{error}");
}

#[test]
fn long_lines_are_not_repeated() {
    let entries = vec!["\"10.0.0.300\""; 500].join(", ");
    let error =
        fault(&format!("interface = \"eth0\"\n[service.web]\nvip = \"192.0.2.10:80\"\nbackends = [{entries}]\n"));
    assert_eq!(error.diagnostics.len(), 500);
    let expected =
        "error: backend \"10.0.0.300\": not an IP address\n--> weir.toml:4:14\n = help: write it like \"10.0.0.11\"\n";
    assert!(error.to_string().starts_with(expected), "{}", error.diagnostics[0]);
}

impl Directory {
    /// A whole configuration: `weir.toml` and what is in `conf.d`.
    fn files(&self, main: &str, parts: &[(&str, &[u8])]) -> PathBuf {
        let directory = self.0.join(PARTS);
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a directory can be made");
        for (name, content) in parts {
            fs::write(directory.join(name), content).expect("a file can be written");
        }
        self.file(main.as_bytes())
    }

    /// What is wrong with it, paths cut to what is inside the directory.
    fn error(&self, main: &str, parts: &[(&str, &[u8])]) -> String {
        load_error(&self.files(main, parts)).replace(&format!("{}/", self.0.display()), "")
    }
}

const HEAD: &str = "interface = \"eth0\"\nhash_key = \"6f1d0c5be29a4783b1f4d2905e3ac718\"\n";
const DNS: &str = "[service.dns]\nvip = \"192.0.2.53:53/udp\"\nbackends = \"10.0.0.21\"\n";

#[test]
fn parts_are_one_configuration() {
    let directory = Directory::new("parts");
    let parts: &[(&str, &[u8])] = &[
        ("web.toml", SERVICE.as_bytes()),
        ("dns.toml", DNS.as_bytes()),
        ("10-all.toml", b"\xef\xbb\xbfslots = 1024"),
        ("empty.toml", b""),
        // None of these is read.
        (".web.toml", b"garbage"),
        ("web.toml~", b"garbage"),
        ("web.toml.dpkg-old", b"garbage"),
        ("README", b"garbage"),
    ];
    let path = directory.files(HEAD, parts);
    let config = load(&path).unwrap_or_else(|error| panic!("{error}"));
    let whole = valid(&format!("{HEAD}slots = 1024\n{DNS}{SERVICE}"));
    assert!(config == whole && config.fingerprint() == whole.fingerprint());
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    let inside = format!("{}/", directory.0.display());
    let read: Vec<_> = config.files.iter().map(|file| (file.file.replace(&inside, ""), file.services)).collect();
    let expected = [
        ("weir.toml", 0),
        ("conf.d/10-all.toml", 0),
        ("conf.d/dns.toml", 1),
        ("conf.d/empty.toml", 0),
        ("conf.d/web.toml", 1),
    ];
    assert_eq!(read, expected.map(|(file, services)| (file.to_owned(), services)));
    fs::remove_dir_all(directory.0.join(PARTS)).expect("it is there");
    assert_eq!(load(&path).expect_err("no service is left").diagnostics[0].message(), "no service");
}

#[test]
fn what_stands_in_two_files_is_shown_in_both() {
    let directory = Directory::new("twice");
    let main = format!("{HEAD}slots = 2048\n{SERVICE}");
    let parts: &[(&str, &[u8])] = &[
        ("a.toml", b"slots = 1024\n"),
        ("b.toml", DNS.as_bytes()),
        ("c.toml", b"# no end of line\n[service.web]\nvip = \"192.0.2.10:80\"\nbackends = \"10.0.0.300\""),
        ("d.toml", b"[service.shop]\nvip = [\"192.0.2.11:80\", \"192.0.2.53:53/udp\"]\nbackends = \"10.0.0.11\"\n"),
    ];
    assert_eq!(
        directory.error(&main, parts),
        r#"error: key "slots" stands in two files
 --> conf.d/a.toml:1:9
  |
1 | slots = 1024
  |         ^^^^
  |
 ::: weir.toml:3:9
  |
3 | slots = 2048
  |         ---- first here
  |
  = help: remove one

error: service "web" stands in two files
 --> conf.d/c.toml:2:10
  |
2 | [service.web]
  |          ^^^
  |
 ::: weir.toml:4:10
  |
4 | [service.web]
  |          --- first here
  |
  = help: remove one

error: service "shop": VIP 192.0.2.53:53/udp is already that of service "dns"
 --> conf.d/d.toml:2:25
  |
2 | vip = ["192.0.2.11:80", "192.0.2.53:53/udp"]
  |                         ^^^^^^^^^^^^^^^^^^^
  |
 ::: conf.d/b.toml:2:7
  |
2 | vip = "192.0.2.53:53/udp"
  |       ------------------- first here
  |
  = help: a VIP belongs to one service: remove one"#
    );
    let error = load(&directory.files(&main, parts)).expect_err("there are faults");
    let (file, line) = ("conf.d/d.toml", error.diagnostics[2].one_line());
    assert!(line.contains(&format!("{file}:2:25: ")) && line.contains("conf.d/b.toml:2:7"), "{line}");
    let json = error.to_json();
    assert!(json[2]["related"][0]["file"].as_str().is_some_and(|file| file.ends_with("conf.d/b.toml")), "{json}");
}

#[test]
fn a_part_that_cannot_be_taken_refuses_all() {
    let directory = Directory::new("broken");
    let main = format!("{HEAD}{SERVICE}");
    for (content, expected) in [
        (
            &b"[service.dns]\nvip = \"192.0.2.53:53/udp\"\nbackends = [\"10.0.0.21\","[..],
            "error: not valid TOML: unclosed array, expected `]`\n --> conf.d/half.toml:3:25\n",
        ),
        (
            b"[service.dns]\nvip = \"192.0.2.53",
            "error: not valid TOML: invalid basic string, expected `\"`\n --> conf.d/half.toml:2:18\n",
        ),
        (
            b"[service.dns]\nvip = \"192.0.2.53:53/udp\"\n",
            "error: service \"dns\": no backends\n --> conf.d/half.toml:1:10\n",
        ),
        (b"# caf\xe9\n", "error: not UTF-8: byte 0xe9\n --> conf.d/half.toml:1:6\n"),
    ] {
        let found = directory.error(&main, &[("a.toml", b""), ("half.toml", content), ("z.toml", DNS.as_bytes())]);
        assert!(found.contains(expected), "{found}");
    }
    // Of several files every one is named.
    let found = directory.error("interface = eth0", &[("a.toml", b"x = 1"), ("b.toml", b"= 1")]);
    for file in ["weir.toml:1:13", "conf.d/a.toml:1:1", "conf.d/b.toml:1:1"] {
        assert!(found.contains(file), "{found}");
    }
    let path = directory.files(&main, &[]);
    std::os::unix::fs::symlink("/nonexistent", directory.0.join("conf.d/gone.toml")).expect("a link can be made");
    assert!(load_error(&path).contains("conf.d/gone.toml") && load_error(&path).contains("no such file"));
    fs::remove_file(directory.0.join("conf.d/gone.toml")).expect("it is there");
    fs::create_dir(directory.0.join("conf.d/more.toml")).expect("a directory can be made");
    assert!(load_error(&path).contains("is a directory"));
    fs::remove_dir_all(directory.0.join(PARTS)).expect("it is there");
    fs::write(directory.0.join(PARTS), "").expect("a file can be written");
    assert!(load_error(&path).contains("cannot read the directory"), "{}", load_error(&path));
}

#[test]
fn files_together_are_not_too_large() {
    let directory = Directory::new("together");
    let path = directory.files(&format!("{HEAD}{SERVICE}"), &[("a.toml", b"")]);
    let file = fs::OpenOptions::new().write(true).open(directory.0.join("conf.d/a.toml")).expect("the file is there");
    file.set_len(MAX_FILE_BYTES).expect("a sparse file");
    let message = load_error(&path);
    assert!(
        message.contains("larger than 16 MiB, together with the files before it") && message.contains("a.toml"),
        "{message}"
    );
}

const HOST: &str = r#"
interface = ["eth0", "eht1"]
[service.web]
vip = ["192.0.2.10:80", "192.0.2.10:443", "192.0.2.11:80"]
backends = "10.0.0.11"
[service.six]
vip = "[2001:db8::53]:53/udp"
backends = "10.0.0.11"
"#;

fn check(interfaces: &[&str], addresses: &[&str]) -> String {
    let interfaces: Vec<String> = interfaces.iter().map(|name| name.to_string()).collect();
    let addresses: Vec<IpAddr> = addresses.iter().map(|address| address.parse().expect("an address")).collect();
    let faults =
        check_host(&valid(without_first_newline(HOST)), &interfaces, &addresses, |program| program == "/bin/is-there");
    if faults.is_empty() { String::new() } else { ConfigError::from(faults).to_string() }
}

#[test]
fn a_host_that_fits() {
    assert_eq!(check(&["lo", "eth0", "eht1"], &["127.0.0.1", "10.0.0.1", "192.0.2.12"]), "");
}

#[test]
fn missing_interfaces_and_own_addresses() {
    assert_eq!(
        check(&["lo", "eth0", "eth1"], &["192.0.2.10", "2001:db8::53"]),
        r#"error: interface "eht1": no such interface (have: lo, eth0, eth1)
 --> weir.toml:1:22
  |
1 | interface = ["eth0", "eht1"]
  |                      ^^^^^^
  |
  = help: did you mean "eth1"?

error: VIP "192.0.2.10:80": 192.0.2.10 is an address of this host
 --> weir.toml:3:8
  |
3 | vip = ["192.0.2.10:80", "192.0.2.10:443", "192.0.2.11:80"]
  |        ^^^^^^^^^^^^^^^
  |
  = help: remove 192.0.2.10 from its interface (`ip address show to 192.0.2.10`), or choose another VIP

error: VIP "[2001:db8::53]:53/udp": 2001:db8::53 is an address of this host
 --> weir.toml:6:7
  |
6 | vip = "[2001:db8::53]:53/udp"
  |       ^^^^^^^^^^^^^^^^^^^^^^^
  |
  = help: remove 2001:db8::53 from its interface (`ip address show to 2001:db8::53`), or choose another VIP"#
    );
    assert!(check(&["eth0", "wlp3s0"], &[]).contains("= help: name one that exists"));
}
