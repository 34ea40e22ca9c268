use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::*;
use crate::settings::{FULL_EXAMPLE, Settings};

/// The templates of all overlays, as an image has them that wants all.
fn templates() -> (tempfile::TempDir, Templates) {
    let root = tempfile::tempdir().unwrap();
    let overlays = Path::new(env!("CARGO_MANIFEST_DIR")).join("../overlays");
    for overlay in std::fs::read_dir(overlays).unwrap() {
        let from = overlay.unwrap().path().join("root").join(TEMPLATES);
        if from.is_dir() {
            let to = root.path().join(TEMPLATES);
            std::fs::create_dir_all(&to).unwrap();
            let copied = std::process::Command::new("cp").arg("-R").arg(from.join(".")).arg(to).status().unwrap();
            assert!(copied.success());
        }
    }
    let templates = Templates::read(root.path()).unwrap();
    (root, templates)
}

fn values(settings: &str) -> Values {
    Values::from(&Settings::parse(&format!("schema = 1\n{settings}"), "nas.toml").unwrap())
}

/// What the file `path` becomes.
fn rendered(path: &str, settings: &str) -> String {
    let (_root, templates) = templates();
    let wanted = templates.render(&values(settings)).unwrap();
    let wanted = wanted.into_iter().find(|wanted| wanted.path == Path::new(path)).unwrap();
    let units = wanted.reload.iter().map(|unit| format!("({unit})\n"));
    let text = wanted.content.map_or("no file\n".to_owned(), |content| content.shown());
    text + &units.collect::<String>()
}

#[test]
fn every_template_has_a_snapshot_below() {
    let (_root, templates) = templates();
    let wanted = templates.render(&values("")).unwrap();
    let mut paths = wanted.iter().map(|wanted| wanted.path.to_str().unwrap());
    let source = include_str!("tests.rs");
    assert!(paths.clone().count() >= 3);
    assert!(paths.all(|path| source.contains(&format!("rendered(\"{path}\""))));
}

#[test]
fn the_name_of_the_host() {
    insta::assert_snapshot!(rendered("/etc/hostname", ""), @"larder");
    insta::assert_snapshot!(rendered("/etc/hostname", "system.hostname = \"nas\""), @"nas");
}

#[test]
fn the_time_zone() {
    insta::assert_snapshot!(rendered("/etc/localtime", ""), @"link to /usr/share/zoneinfo/UTC");
    insta::assert_snapshot!(rendered("/etc/localtime", "system.timezone = \"europe/berlin\""), @"link to /usr/share/zoneinfo/Europe/Berlin");
}

#[test]
fn the_network() {
    let path = "/etc/systemd/network/70-larder.network";
    assert_eq!(rendered("/etc/systemd/network/70-larder.network", ""), "no file\n(systemd-networkd.service)\n");
    let fixed = "[network]\ninterface = \"enp1s0\"\naddresses = [\"192.168.1.10/24\", \"fd00::5/64\"]\n\
                 gateways = [\"192.168.1.1\", \"fe80::1\"]\ndns = [\"192.168.1.1\", \"9.9.9.9\"]";
    insta::assert_snapshot!(rendered(path, fixed), @r"
    # Before 80-wired.network, by which all other ports ask for an address.
    [Match]
    Name=enp1s0

    [Network]
    Address=192.168.1.10/24
    Address=fd00::5/64
    Gateway=192.168.1.1
    Gateway=fe80::1
    DNS=192.168.1.1
    DNS=9.9.9.9
    LLMNR=no

    [DHCPv4]
    UseDomains=yes
    UseDNS=no

    [DHCPv6]
    UseDNS=no

    [IPv6AcceptRA]
    UseDNS=no
    (systemd-networkd.service)
    ");
    insta::assert_snapshot!(rendered(path, "network.interface = \"00:11:22:AA:BB:CC\""), @r"
    # Before 80-wired.network, by which all other ports ask for an address.
    [Match]
    MACAddress=00:11:22:aa:bb:cc
    Kind=!*

    [Network]
    DHCP=yes
    LLMNR=no

    [DHCPv4]
    UseDomains=yes
    (systemd-networkd.service)
    ");
    insta::assert_snapshot!(rendered(path, "network.dns = [\"9.9.9.9\"]"), @r"
    # Before 80-wired.network, by which all other ports ask for an address.
    [Match]
    Type=ether
    Kind=!*

    [Network]
    DHCP=yes
    DNS=9.9.9.9
    LLMNR=no

    [DHCPv4]
    UseDomains=yes
    UseDNS=no

    [DHCPv6]
    UseDNS=no

    [IPv6AcceptRA]
    UseDNS=no
    (systemd-networkd.service)
    ");
}

#[test]
fn who_may_log_in() {
    assert_eq!(rendered("/etc/ssh/authorized_keys", ""), "no file\n");
    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rUnlOYSiZfwXqZLcGkSWrmR6zFSxZVbVpzcmBWR0X you@laptop # {{ 1 }} &";
    insta::assert_snapshot!(rendered("/etc/ssh/authorized_keys", &format!("ssh.authorized-keys = [\"{key}\", \"{key}\"]")), @r"
    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rUnlOYSiZfwXqZLcGkSWrmR6zFSxZVbVpzcmBWR0X you@laptop # {{ 1 }} &
    ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rUnlOYSiZfwXqZLcGkSWrmR6zFSxZVbVpzcmBWR0X you@laptop # {{ 1 }} &
    ");
}

#[test]
fn templates_are_checked_before_they_get_into_an_image() {
    let complaint = |text: &str| format!("{:#}", check("etc/x", text).unwrap_err());
    assert!(check("etc/x", "{# #}{{ system.hostname }}").is_ok());
    insta::assert_snapshot!(complaint("{{ system.hostname }}"), @"etc/x: the template does not begin with {# … #}");
    insta::assert_snapshot!(complaint("{# relod = [] #}"), @"etc/x:1:2: unknown field `relod`, expected one of `mode`, `link`, `reload`");
    insta::assert_snapshot!(complaint("{# mode = \"rw\" #}"), @r#"etc/x: `rw` is no mode; write it as "0600""#);
    insta::assert_snapshot!(complaint("{# #}{% if sytem %}{% endif %}"), @"there are no settings `sytem`; there are system, network, ssh");
    insta::assert_snapshot!(complaint("{# #}{{ system.name }}"), @r"
    rendering etc/x: error: Field `name` is not defined. Available fields: hostname, timezone
     --> etc/x:1:11
      |
    1 | {{ system.name }}
      |           ^^^^
    ");
    insta::assert_snapshot!(complaint("{# #}{{ system.hostname | safe }}"), @"a template must not use the filter `safe`");
    assert!(!complaint("{# #}{% if %}").is_empty());
}

/// A system with a name and a link.
fn system() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("etc")).unwrap();
    std::fs::write(root.path().join("etc/hostname"), "larder\n").unwrap();
    symlink("../usr/share/zoneinfo/Etc/UTC", root.path().join("etc/localtime")).unwrap();
    root
}

#[test]
fn only_what_differs_is_written_and_told_and_then_nothing_differs() {
    let (root, (_image, templates)) = (system(), templates());
    let wanted = || templates.render(&values("system.hostname = \"nas\"\nnetwork.interface = \"lan0\"")).unwrap();
    let changes = Changes::between(root.path(), wanted()).unwrap();
    insta::assert_snapshot!(changes, @r"
    /etc/hostname
      -larder
      +nas
    /etc/localtime
      -link to ../usr/share/zoneinfo/Etc/UTC
      +link to /usr/share/zoneinfo/UTC
    /etc/systemd/network/70-larder.network (new)
      +# Before 80-wired.network, by which all other ports ask for an address.
      +[Match]
      +Name=lan0
      +
      +[Network]
      +DHCP=yes
      +LLMNR=no
      +
      +[DHCPv4]
      +UseDomains=yes
    then told: systemd-networkd.service
    ");
    let json = serde_json::to_string(&changes).unwrap();
    assert_eq!(serde_json::from_str::<Changes>(&json).unwrap(), changes);
    changes.write(root.path()).unwrap();
    let again = Changes::between(root.path(), wanted()).unwrap();
    assert!(again.is_empty() && again.reload.is_empty());

    let back = Changes::between(root.path(), templates.render(&values("system.hostname = \"nas\"")).unwrap()).unwrap();
    insta::assert_snapshot!(back, @r"
    /etc/systemd/network/70-larder.network (removed)
      -# Before 80-wired.network, by which all other ports ask for an address.
      -[Match]
      -Name=lan0
      -
      -[Network]
      -DHCP=yes
      -LLMNR=no
      -
      -[DHCPv4]
      -UseDomains=yes
    then told: systemd-networkd.service
    ");
    back.write(root.path()).unwrap();
    assert!(!root.path().join("etc/systemd/network/70-larder.network").exists());
}

#[test]
fn a_file_that_cannot_be_written_leaves_all_others_as_they_were() {
    for obstacle in ["etc/z/sub", "etc/z/.file.larder-new/sub"] {
        let root = system();
        let file = |path: &str| Wanted {
            path: path.into(),
            content: Some(Content::File { text: "new\n".into(), mode: 0o600 }),
            reload: Vec::new(),
        };
        let path = if obstacle.contains("file") { "/etc/z/file" } else { "/etc/z" };
        let changes = Changes::between(root.path(), vec![file("/etc/hostname"), file("/etc/new"), file(path)]).unwrap();
        std::fs::create_dir_all(root.path().join(obstacle)).unwrap();
        assert!(changes.write(root.path()).is_err(), "{obstacle}");
        assert_eq!(std::fs::read_to_string(root.path().join("etc/hostname")).unwrap(), "larder\n");
        let mut left: Vec<_> =
            std::fs::read_dir(root.path().join("etc")).unwrap().map(|e| e.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["hostname", "localtime", "z"], "{obstacle}");
    }
}

/// Values as no settings can hold them: the types refuse most.
fn wild() -> impl Strategy<Value = Values> {
    let text = || "w[^x]{0,11}";
    let list = move || proptest::collection::vec(text(), 1..3);
    (text(), proptest::option::of(text()), list(), list(), list(), list()).prop_map(
        |(word, name, addresses, gateways, dns, authorized_keys)| Values {
            system: values::System { hostname: word.clone(), timezone: word.clone() },
            network: values::Network {
                hardware_address: name.is_none().then(|| word.clone()),
                interface_name: name,
                addresses,
                gateways,
                dns,
            },
            ssh: values::Ssh { authorized_keys },
        },
    )
}

/// The same with a harmless word in place of each.
fn tame(values: &Values) -> Values {
    let words = |list: &[String]| vec!["x".to_owned(); list.len()];
    let word = |word: &Option<String>| word.as_ref().map(|_| "x".to_owned());
    let Values { network, ssh, .. } = values;
    Values {
        system: values::System { hostname: "x".into(), timezone: "x".into() },
        network: values::Network {
            interface_name: word(&network.interface_name),
            hardware_address: word(&network.hardware_address),
            addresses: words(&network.addresses),
            gateways: words(&network.gateways),
            dns: words(&network.dns),
        },
        ssh: values::Ssh { authorized_keys: words(&ssh.authorized_keys) },
    }
}

proptest! {
    #[test]
    fn no_value_breaks_out_of_its_line(values in wild()) {
        let (_root, templates) = templates();
        let all = templates.render(&values).unwrap().into_iter().zip(templates.render(&tame(&values)).unwrap());
        for (wild, tame) in all {
            let lines = |wanted: &Wanted| match &wanted.content {
                Some(Content::File { text, .. }) => text.split(['\n', '\r', '\u{85}', '\u{2028}']).count(),
                _ => 0,
            };
            prop_assert_eq!(lines(&wild), lines(&tame), "{:?}", wild);
        }
    }
}

#[test]
fn what_settings_hold_is_rendered() {
    let (_root, templates) = templates();
    let settings = Settings::parse(&FULL_EXAMPLE, "x").unwrap();
    let text: String = templates
        .render(&Values::from(&settings))
        .unwrap()
        .iter()
        .filter_map(|wanted| wanted.content.as_ref().map(Content::shown))
        .collect();
    for value in ["Europe/Berlin", "192.168.1.10/24"] {
        assert!(text.contains(value), "{text}");
    }
    assert!(!text.contains("several words"));
}
