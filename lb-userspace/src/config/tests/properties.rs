//! What holds for every text, not only for those somebody thought of.

use proptest::prelude::*;

use super::super::syntax;
use super::*;

const EXAMPLE: &str = include_str!("../../../../examples/weir.toml");

/// Everything that can be said about a text is said, and nothing panics.
fn survives(text: &str) {
    match parse("weir.toml", text) {
        Ok(config) => {
            config.fingerprint();
            config.warnings.iter().for_each(|warning| assert!(!warning.render(true).is_empty()));
        }
        Err(error) => {
            assert!(!error.diagnostics.is_empty());
            assert!(error.render(false).starts_with("error: ") && !error.render(true).is_empty());
            let places: Vec<_> = error.diagnostics.iter().map(|diagnostic| diagnostic.place().1).collect();
            assert!(places.is_sorted(), "in file order: {places:?}");
            assert_eq!(error.to_json().as_array().map(Vec::len), Some(places.len()));
            error.diagnostics.iter().for_each(|diagnostic| assert!(!diagnostic.one_line().contains('\n')));
        }
    }
}

/// Words that a configuration is made of, so that random text gets past the first line.
fn fragments() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "interface",
        "slots",
        "hash_key",
        "service",
        "[service.web]",
        "[service.a]",
        "vip",
        "backends",
        "forward",
        "macs",
        "tunnel_source",
        "=",
        " = ",
        "\n",
        "\n",
        "\"",
        "'",
        "\"\"\"",
        "[",
        "]",
        "{",
        "}",
        ",",
        ".",
        "\"eth0\"",
        "\"l2\"",
        "\"192.0.2.10:80\"",
        "\"10.0.0.1-9*2\"",
        "65536",
        "1e9",
        "-1",
        "#",
        "\r\n",
        "\u{feff}",
        "\u{1f30a}",
        "\0",
        "\\u0041",
    ]);
    prop::collection::vec(words, 0..40).prop_map(|words| words.concat())
}

/// The example with a piece cut out and another put in.
fn damaged_example() -> impl Strategy<Value = String> {
    (any::<prop::sample::Index>(), 0..20_usize, prop_oneof!["\\PC{0,8}", fragments()]).prop_map(|(at, length, new)| {
        let characters: Vec<char> = EXAMPLE.chars().collect();
        let start = at.index(characters.len());
        let end = (start + length).min(characters.len());
        characters[..start].iter().copied().chain(new.chars()).chain(characters[end..].iter().copied()).collect()
    })
}

fn unicast() -> impl Strategy<Value = IpAddr> {
    let address = prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)];
    address.prop_filter("unicast", |address| syntax::backends(&address.to_string()).is_ok())
}

fn vip() -> impl Strategy<Value = Vip> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let port = prop::option::of(1..=u16::MAX);
    (unicast(), port, protocol).prop_map(|(address, port, protocol)| Vip { address, port, protocol })
}

proptest! {
    #[test]
    fn any_text_is_survived(text in any::<String>()) {
        survives(&text);
    }

    #[test]
    fn any_bytes_of_text_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        survives(&String::from_utf8_lossy(&bytes));
    }

    #[test]
    fn anything_like_a_configuration_is_survived(text in prop_oneof![fragments(), damaged_example()]) {
        survives(&text);
    }

    #[test]
    fn any_value_is_survived(value in "[^\\x00-\\x1f']{0,12}") {
        for key in ["interface", "hash_key", "announce", "macs", "tunnel_source"] {
            survives(&format!("{key} = '{value}'\ninterface = 'eth0'"));
        }
        survives(&format!("[service.web]\nvip = '{value}'\nbackends = '{value}'\n[service.'{value}']"));
    }

    #[test]
    fn errors_of_syntax_point_into_the_text(text in "[0-9a-f.:*/\\[\\] ü-]{0,24}") {
        let errors = [
            syntax::vip(&text).err(), syntax::backends(&text).err(), syntax::prefix(&text).err(),
            syntax::mac(&text).err(), syntax::hash_key(&text).err(), syntax::interface(&text).err(),
        ];
        for error in errors.into_iter().flatten() {
            prop_assert!(text.get(error.at.clone()).is_some(), "{:?} in {:?}", error, text);
        }
    }

    #[test]
    fn a_vip_reads_as_it_is_shown(vip in vip()) {
        prop_assert_eq!(vip.to_string().parse(), Ok(vip));
    }

    #[test]
    fn a_range_is_each_of_its_addresses(low in 0..=255_u8, high in 0..=255_u8, weight in 0..=256_u16) {
        let (low, high) = (low.min(high), low.max(high));
        let each: Vec<Backend> = (low..=high).map(|d| Backend::new(IpAddr::from([10, 0, 0, d]), weight)).collect();
        prop_assert_eq!(syntax::backends(&format!("10.0.0.{low}-{high}*{weight}")), Ok(each));
    }

    /// Services, and what stands in their lists, in any order.
    #[test]
    fn order_means_nothing(
        vips in prop::collection::btree_set(vip(), 4..12).prop_map(Vec::from_iter).prop_shuffle(),
        backends in prop::collection::btree_map(unicast(), 0..=256_u16, 1..12).prop_map(Vec::from_iter).prop_shuffle(),
        seed in any::<prop::sample::Index>(),
    ) {
        let backend_free = |vip: &&Vip| backends.iter().all(|(address, _)| *address != vip.address);
        let vips: Vec<Vip> = vips.iter().filter(backend_free).copied().collect();
        let file = |turn: usize| {
            let (mut vips, mut backends) = (vips.clone(), backends.clone());
            let (vip_count, backend_count) = (vips.len().max(1), backends.len());
            // The first two VIPs each have a service of their own; only the rest may move.
            if vip_count > 3 { vips[2..].rotate_left(turn % (vip_count - 2)); }
            backends.rotate_left(turn % backend_count);
            let backends: Vec<String> = backends.iter().map(|(address, weight)| format!("\"{address}*{weight}\"")).collect();
            let backends = backends.join(", ");
            let of = |name: &str, vips: &[Vip]| {
                let vips: Vec<String> = vips.iter().map(|vip| format!("\"{vip}\"")).collect();
                format!("[service.{name}]\nvip = [{}]\nbackends = [{backends}]\n", vips.join(", "))
            };
            let mut services = [of("a", &vips[..1]), of("b", &vips[1..2]), of("c", &vips[2..])];
            services.rotate_left(turn % 3);
            format!("interface = \"eth0\"\n{}", services.concat())
        };
        prop_assume!(vips.len() > 2);
        let (one, other) = (valid(&file(0)), valid(&file(seed.index(1000))));
        prop_assert_eq!(&one.services, &other.services);
        prop_assert_eq!(one.fingerprint(), other.fingerprint());
    }
}
