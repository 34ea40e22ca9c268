use super::*;
use proptest::prelude::*;

const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ4rUnlOYSiZfwXqZLcGkSWrmR6zFSxZVbVpzcmBWR0X you@laptop";

fn complaint(text: &str) -> String {
    let error = Settings::parse(&format!("schema = 1\n{text}"), "nas.toml").unwrap_err();
    crate::report::render(&error.into(), None)
}

#[test]
fn a_file_with_nothing_but_its_schema_has_defaults_that_work() {
    let settings = Settings::parse("schema = 1\n", "nas.toml").unwrap();
    assert_eq!((settings.system.hostname.as_str(), settings.system.timezone.as_str()), ("larder", "UTC"));
    assert!(settings.ssh.authorized_keys.is_empty() && settings.network == Network::default());
}

#[test]
fn the_example_is_right_as_it_is_and_with_everything_switched_on() {
    assert_eq!(Settings::parse(EXAMPLE, "x").unwrap(), Settings::parse("schema = 1", "x").unwrap());
    let settings = Settings::parse(&FULL_EXAMPLE, "x").unwrap();
    assert_eq!(settings.system.timezone.as_str(), "Europe/Berlin");
    assert_eq!(settings.network.addresses[0].to_string(), "192.168.1.10/24");
    assert_eq!(settings.ssh.authorized_keys[0].as_str(), KEY);
}

#[test]
fn the_example_names_every_key() {
    let table: toml::Table = FULL_EXAMPLE.parse().unwrap();
    for (name, keys) in KEYS {
        let listed: std::collections::BTreeSet<_> =
            table[*name].as_table().unwrap().keys().map(String::as_str).collect();
        assert_eq!(listed, keys.iter().copied().collect(), "[{name}]");
    }
    let error = toml_file::parse::<Settings>("schema = 1\nx = 1", "x").unwrap_err().to_string();
    for table in error.split('`').skip(3).step_by(2).filter(|table| *table != "schema") {
        assert!(KEYS.iter().any(|(name, _)| *name == table), "KEYS lacks [{table}]");
    }
}

#[test]
fn the_example_is_fit_for_the_editors_of_all_desktops() {
    assert!(EXAMPLE.is_ascii());
    Settings::parse(&format!("\u{feff}{}", EXAMPLE.replace('\n', "\r\n")), "x").unwrap();
}

#[test]
fn a_misspelt_or_misplaced_key_is_named_with_its_place_and_what_was_meant() {
    insta::assert_snapshot!(complaint("[system]\nhostnam = \"nas\""), @r"
    error: nas.toml:3:1: unknown field `hostnam`, expected `hostname` or `timezone`

    hint: did you mean `hostname`?
    ");
    insta::assert_snapshot!(complaint("timezone = \"Europe/Berlin\""), @r"
    error: nas.toml:2:1: unknown field `timezone`, expected one of `schema`, `system`, `network`, `ssh`, `pool`, `keys`, `updates`

    hint: `timezone` belongs into the table [system]
    ");
}

#[test]
fn another_schema_is_refused() {
    let error = Settings::parse("schema = 2", "nas.toml").unwrap_err();
    insta::assert_snapshot!(error, @"nas.toml:1:10: schema 2 is not known to this larder, which reads schema 1");
    insta::assert_snapshot!(Settings::parse("", "nas.toml").unwrap_err(), @"nas.toml:1:1: missing field `schema`");
}

#[test]
fn wrong_values_are_explained_where_they_are() {
    insta::assert_snapshot!(complaint("[system]\nhostname = \"my nas\""), @r"error: nas.toml:3:12: `my nas` is no host name: it has ` `; use up to 63 letters, digits and hyphens, such as `nas`");
    insta::assert_snapshot!(complaint("[system]\ntimezone = \"Europe/Berln\""), @r"error: nas.toml:3:12: `Europe/Berln` is no time zone; did you mean `Europe/Berlin`?");
    insta::assert_snapshot!(complaint("[network]\naddresses = [\"192.168.1.10\"]"), @r"error: nas.toml:3:13: `192.168.1.10` is no address with the size of its network; write it as `192.168.1.10/24`");
    insta::assert_snapshot!(complaint("[network]\ninterface = \"eth*\""), @r"error: nas.toml:3:13: `eth*` is no network port; write its name (`enp1s0`) or its hardware address (`00:11:22:33:44:55`)");
    insta::assert_snapshot!(complaint("[ssh]\nauthorized-keys = [\"ssh-dss AAAA\"]"), @r"error: nas.toml:3:19: `ssh-dss` is no kind of key that is taken here: ssh-ed25519, ecdsa-sha2-nistp256, ecdsa-sha2-nistp384, ecdsa-sha2-nistp521, sk-ssh-ed25519@openssh.com, sk-ecdsa-sha2-nistp256@openssh.com, ssh-rsa");
    insta::assert_snapshot!(complaint("[ssh]\nauthorized-keys = [\"ssh-ed25519 AAbe\"]"), @"error: nas.toml:3:19: the second word of `ssh-ed25519 AAbe…` is damaged; copy the whole line again");
    insta::assert_snapshot!(complaint(&format!("[ssh]\nauthorized-keys = [\"{}\"]", &KEY[..40])), @r"error: nas.toml:3:19: the second word of `ssh-ed25519 AAAAC3Nza…` is damaged; copy the whole line again");
}

#[test]
fn a_gateway_must_be_reachable() {
    let network = |gateway: &str| {
        Settings::parse(
            &format!(
                "schema = 1\n[network]\ninterface = \"lan0\"\naddresses = [\"10.0.0.5/8\", \"fd00::5/64\"]\ngateways = [{gateway}]"
            ),
            "x",
        )
    };
    network("\"10.255.0.1\"").unwrap();
    network("\"10.0.0.1\", \"fe80::1\"").unwrap();
    insta::assert_snapshot!(network("\"192.168.0.1\"").unwrap_err(), @"x:2:1: the gateway 192.168.0.1 is in the network of none of the addresses");
    assert!(network("\"10.0.0.1\", \"10.0.0.2\"").is_err());
    let homeless = Settings::parse("schema = 1\n[network]\naddresses = [\"10.0.0.5/8\"]", "x").unwrap_err();
    assert!(homeless.to_string().contains("need an `interface`"), "{homeless}");
}

#[test]
fn a_private_key_is_refused_and_not_repeated() {
    let said = complaint("[ssh]\nauthorized-keys = [\"-----BEGIN OPENSSH PRIVATE KEY----- b3BlbnNza\"]");
    assert!(said.contains("must stay where it is") && !said.contains("b3BlbnNza"), "{said}");
}

proptest! {
    #[test]
    fn nothing_makes_the_parser_panic(text in ".*") {
        let _ = Settings::parse(&text, "x");
    }

    #[test]
    fn an_accepted_host_name_is_one_label(text in "[a-zA-Z0-9._ -]{0,70}") {
        if let Ok(settings) = Settings::parse(&format!("schema = 1\n[system]\nhostname = \"{text}\""), "x") {
            let name = settings.system.hostname.as_str();
            prop_assert!(!name.is_empty() && name.len() < 64 && !name.starts_with('-') && !name.ends_with('-'));
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-'));
        }
    }
}

#[test]
fn a_pool_has_a_name_that_nothing_trips_over_and_disks_that_stay_the_same() {
    insta::assert_snapshot!(complaint("[pool]\nname = \"mirror2\""), @"error: nas.toml:3:8: `mirror2` is no name for a pool: ZFS keeps `mirror` for itself; use letters, digits, `-` and `_`, such as `tank`");
    insta::assert_snapshot!(complaint("[pool]\nname = \"my pool\""), @"error: nas.toml:3:8: `my pool` is no name for a pool: it has other characters; use letters, digits, `-` and `_`, such as `tank`");
    insta::assert_snapshot!(complaint("[pool]\ndisks = [\"/dev/sda\"]"), @"error: nas.toml:3:9: `/dev/sda` is no name that stays the same; `firstboot plan` lists those in /dev/disk/by-id/");
    insta::assert_snapshot!(complaint("[pool]\ndisks = [\"ata-X_1-part2\"]"), @"error: nas.toml:3:9: `ata-X_1-part2` is a part of a disk; write `ata-X_1` for the whole one");
    insta::assert_snapshot!(complaint("[pool]\nlayout = \"raid5\""), @r"
    error: nas.toml:3:10: unknown variant `raid5`, expected one of `auto`, `single`, `mirror`, `mirrors`, `raidz1`, `raidz2`

    hint: did you mean `raidz1`?
    ");
}

#[test]
fn keys_that_a_thief_guesses_are_refused_without_being_repeated() {
    insta::assert_snapshot!(complaint("[keys]\npassphrase = \"hunter2\""), @"error: nas.toml:2:1: the passphrase has less than 12 characters; several words are good");
    insta::assert_snapshot!(complaint("[keys]\ntpm-pin = \"1234\""), @"error: nas.toml:2:1: the PIN has less than 6 characters");
    insta::assert_snapshot!(complaint("[keys]\ntang-threshold = 1"), @"error: nas.toml:2:1: `tang-threshold` without a server in `tang`");
    insta::assert_snapshot!(complaint("[keys]\ntang = [{ url = \"tang.lan\", thumbprint = \"x\" }]"), @"error: nas.toml:3:42: `x` is no thumbprint; `tang-show-keys` on the server prints it");
    let settings = Settings::parse(&FULL_EXAMPLE, "x").unwrap();
    assert!(!format!("{settings:?}").contains("several words"));
}

#[test]
fn a_recovery_key_with_an_error_is_refused_without_being_repeated() {
    let key = |text: &str| complaint(&format!("[keys]\nrecovery-key = {text}"));
    insta::assert_snapshot!(key("\"7J2KD\""), @"error: nas.toml:3:16: a recovery key has 40 characters, in 8 groups of 5; this has 5");
    insta::assert_snapshot!(key("\"00000-00001-00009-00003-00004-00005-00006-00007\""), @"error: nas.toml:3:16: group 3 is not right: a wrong character, two that were swapped, or another group's place");
    insta::assert_snapshot!(key("\"00000-00001-00002-00003-00004-00005-00006-00007\""), @"error: nas.toml:2:1: the recovery key is that of the example, which everybody knows; `larder recovery-key` makes one");
    insta::assert_snapshot!(key("1000"), @"error: nas.toml:3:16: a number; put it in quotation marks");
}
