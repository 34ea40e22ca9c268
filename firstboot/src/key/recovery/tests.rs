use proptest::prelude::*;

use super::*;

fn any() -> RecoveryKey {
    RecoveryKey::generate().unwrap()
}

fn typo(typed: &str) -> String {
    typed.parse::<RecoveryKey>().unwrap_err().to_string()
}

#[test]
fn a_key_has_its_form() {
    let key: RecoveryKey = EXAMPLE.parse().unwrap();
    assert_eq!(key.text().expose(), EXAMPLE);
    assert_eq!(key.password(), EXAMPLE.replace('-', ""));
    // By hand: α⁴·1 = x⁴ = 16 (G); α⁴·16 = x⁸ = x³ + x² + 1 = 13 (D), and the group's number 1.
    assert_eq!(weigh(&[1, 0, 0, 0, 0]), 16);
    assert!("1000G-G000C-00002-00003-00004-00005-00006-00007".parse::<RecoveryKey>().is_ok());
}

#[test]
fn a_key_is_new_each_time_and_does_not_show_itself() {
    assert_ne!(any(), any());
    assert_eq!(format!("{:?} {:?}", any(), any().text()), "RecoveryKey(…) Secret(…)");
}

#[test]
fn all_of_the_alphabet_comes_and_nothing_else() {
    let letters: std::collections::BTreeSet<u8> =
        (0..100).flat_map(|_| any().password().bytes().collect::<Vec<_>>()).collect();
    assert_eq!(letters.into_iter().collect::<Vec<_>>(), ALPHABET);
}

#[test]
fn what_is_wrong_is_told_by_its_place_and_not_repeated() {
    insta::assert_snapshot!(typo("0000"), @"a recovery key has 40 characters, in 8 groups of 5; this has 4");
    insta::assert_snapshot!(typo(&EXAMPLE.replace('4', "U")), @"character 5 of group 5 is none that a recovery key can have");
    insta::assert_snapshot!(typo(&EXAMPLE.replace('4', "ä")), @"character 5 of group 5 is none that a recovery key can have");
    insta::assert_snapshot!(typo(&EXAMPLE.replace('4', "7")), @"group 5 is not right: a wrong character, two that were swapped, or another group's place");
}

#[test]
fn a_part_that_is_typed_back_is_recognised() {
    let key: RecoveryKey = EXAMPLE.parse().unwrap();
    assert!(key.has_group(2, " oOo0l ") && !key.has_group(2, "00002") && !key.has_group(2, ""));
}

#[test]
fn the_code_has_its_quiet_zone_and_fits_a_screen() {
    let code = EXAMPLE.parse::<RecoveryKey>().unwrap().qr(false);
    insta::assert_snapshot!(code.expose());
}

/// What people make of a key that they type.
fn typed(key: &RecoveryKey) -> impl Strategy<Value = String> + use<> {
    let letter = |letter: char| match letter {
        '0' => prop::sample::select(vec!["0", "o", "O"]).boxed(),
        '1' => prop::sample::select(vec!["1", "i", "I", "l", "L"]).boxed(),
        other => prop::sample::select(vec![other.to_string(), other.to_ascii_lowercase().to_string()])
            .prop_map(|letter| &*letter.leak())
            .boxed(),
    };
    let between = || prop::sample::select(vec!["", "", "", " ", "-", " - ", "\u{2013}"]);
    let letters: Vec<_> = key.password().chars().map(|c| (letter(c), between())).collect();
    letters.prop_map(|letters| letters.into_iter().map(|(letter, between)| format!("{letter}{between}")).collect())
}

proptest! {
    #[test]
    fn a_key_is_read_however_it_is_typed((key, typed) in Just(()).prop_flat_map(|()| {
        let key = any();
        (Just(key.clone()), typed(&key))
    })) {
        prop_assert_eq!(typed.parse::<RecoveryKey>().unwrap(), key);
    }

    #[test]
    fn nothing_that_is_typed_makes_it_panic(typed in ".*") {
        let _ = typed.parse::<RecoveryKey>();
    }
}

#[test]
fn every_wrong_character_is_found_in_its_group() {
    let key = any();
    for place in 0..LENGTH {
        for letter in ALPHABET {
            let mut wrong = key.password().as_bytes().to_vec();
            if std::mem::replace(&mut wrong[place], *letter) != *letter {
                let result = std::str::from_utf8(&wrong).unwrap().parse::<RecoveryKey>();
                assert_eq!(result, Err(Typo::Group(place / GROUP + 1)));
            }
        }
    }
}

#[test]
fn every_swap_of_two_characters_and_of_two_groups_is_found() {
    let key = any();
    for one in 0..LENGTH {
        for other in 0..one {
            let mut wrong = key.password().as_bytes().to_vec();
            wrong.swap(one, other);
            let result = std::str::from_utf8(&wrong).unwrap().parse::<RecoveryKey>();
            assert_eq!(result.is_ok(), wrong[one] == wrong[other]);
        }
    }
    for one in 1..=GROUPS {
        for other in 1..one {
            let mut groups: Vec<_> = (1..=GROUPS).map(|number| key.group(number)).collect();
            groups.swap(one - 1, other - 1);
            assert_eq!(groups.join("-").parse::<RecoveryKey>(), Err(Typo::Group(other)));
        }
    }
}
