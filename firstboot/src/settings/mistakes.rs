//! All that is wrong with a settings file, not only the first thing: what is wrong is taken out, and the rest looked at again.

use super::{Settings, without_mark};
use crate::report::Mistake;

/// Nobody reads more at once.
const MAX: usize = 20;

/// What is wrong with the text of the file that people know as `name`, from its start to its end; nothing when it is right.
/// Of several mistakes in one value, or behind one that makes the file no TOML, the first is told.
pub fn mistakes(text: &str, name: &str) -> Vec<Mistake> {
    take_out(text, name).1
}

/// The text without what is wrong with it, as far as the rest is right: for a file that another version has found right, and
/// whose newer keys this one does not know.
pub fn understood(text: &str, name: &str) -> Option<String> {
    let (rest, _) = take_out(text, name);
    Settings::parse(&rest, name).is_ok().then_some(rest)
}

/// What is left when all that is wrong was taken out, if it can be; and what that was.
fn take_out(text: &str, name: &str) -> (String, Vec<Mistake>) {
    let mut rest = without_mark(text).to_owned();
    let mut found: Vec<(usize, Mistake)> = Vec::new();
    while let Err((mistake, offset)) = Settings::parse_or_locate(&rest, name) {
        // What is missing is missing whatever is taken out.
        let is_known = found.iter().any(|(_, known)| known.to_string() == mistake.to_string());
        if !is_known {
            found.push((offset, mistake));
        }
        match without(&rest, offset) {
            Some(less) if !is_known && found.len() < MAX => rest = less,
            _ => break,
        }
    }
    found.sort_by_key(|(offset, _)| *offset);
    (rest, found.into_iter().map(|(_, mistake)| mistake).collect())
}

/// The text with blanks in place of the value, or else the table, that the byte `offset` belongs to; so that everything else
/// stays where it is. `None` when nothing is left to be taken out.
fn without(text: &str, offset: usize) -> Option<String> {
    let document = toml_edit::Document::parse(text).ok()?;
    let tables = document.iter().filter_map(|(_, item)| item.as_table());
    let pairs = tables.chain([document.as_table()]).flat_map(|table| {
        table.iter().filter_map(|(name, item)| {
            let (key, _) = table.get_key_value(name)?;
            Some(key.span()?.start..item.as_value()?.span()?.end)
        })
    });
    let pair = pairs.filter(|range| range.contains(&offset)).min_by_key(|range| range.end - range.start);
    let range = pair.unwrap_or_else(|| table_around(text, offset));
    let blanks: String = text[range.clone()].bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect();
    let less = format!("{}{blanks}{}", &text[..range.start], &text[range.end..]);
    let is_less = less.trim() != text.trim() && less.parse::<toml::Table>().is_ok();
    is_less.then_some(less)
}

/// From the header of a table to the next one.
fn table_around(text: &str, offset: usize) -> std::ops::Range<usize> {
    let mut headers = text.match_indices('[').map(|(at, _)| at).filter(|at| *at == 0 || text[..*at].ends_with('\n'));
    let start = headers.clone().rfind(|at| *at <= offset).unwrap_or(0);
    start..headers.find(|at| *at > start.max(offset)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &str) -> String {
        mistakes(text, "nas.toml").into_iter().map(|mistake| crate::report::render(&mistake.into(), None)).collect()
    }

    #[test]
    fn every_mistake_is_told_with_its_place() {
        let text = "schema = 1\nhostname = \"nas\"\n[system]\nhostname = \"my nas\" # mine\ntimezon = \"UTC\"\n\
                    [netwrok]\ndns = []\n\n[network]\naddresses = [\n  \"192.168.1.10\",\n]\n[keys]\npassphrase = \"short\"\n";
        insta::assert_snapshot!(all(text), @r"
        error: nas.toml:2:1: unknown field `hostname`, expected one of `schema`, `system`, `network`, `ssh`, `pool`, `keys`, `updates`

        hint: `hostname` belongs into the table [system]
        error: nas.toml:4:12: `my nas` is no host name: it has ` `; use up to 63 letters, digits and hyphens, such as `nas`
        error: nas.toml:5:1: unknown field `timezon`, expected `hostname` or `timezone`

        hint: did you mean `timezone`?
        error: nas.toml:6:2: unknown field `netwrok`, expected one of `schema`, `system`, `network`, `ssh`, `pool`, `keys`, `updates`

        hint: did you mean `network`?
        error: nas.toml:10:13: `192.168.1.10` is no address with the size of its network; write it as `192.168.1.10/24`
        error: nas.toml:13:1: the passphrase has less than 12 characters; several words are good
        ");
    }

    #[test]
    fn a_file_that_is_right_has_none_and_one_that_is_no_toml_has_one() {
        assert_eq!(all("schema = 1\n"), "");
        insta::assert_snapshot!(all("schema = \n[system]\nhostnam = 1\n"), @"error: nas.toml:1:10: string values must be quoted, expected literal string");
        insta::assert_snapshot!(all("[system]\nhostnam = 'x'\n"), @r"
        error: nas.toml:1:1: missing field `schema`
        error: nas.toml:2:1: unknown field `hostnam`, expected `hostname` or `timezone`

        hint: did you mean `hostname`?
        ");
    }

    #[test]
    fn what_a_newer_version_has_added_is_left_aside_and_the_rest_counts() {
        let text = "schema = 1\n[system]\nhostname = \"nas\"\nmood = \"good\"\n[shares]\nphotos = { path = \"x\" }\n\n[keys]\ntpm = \"sometimes\"\n";
        let settings = Settings::parse(&understood(text, "nas.toml").unwrap(), "nas.toml").unwrap();
        assert_eq!(settings.system.hostname.as_str(), "nas");
        assert_eq!(understood("schema = 9\n", "nas.toml"), None);
        assert_eq!(understood("\0\0\0", "nas.toml"), None);
    }

    proptest! {
        #[test]
        fn it_comes_to_an_end_and_agrees_with_the_parser(text in "(schema = 1\n)?([a-z]{1,4} = (1|\"x\"|\\[1\\])\n|\\[[a-z]{1,3}\\]\n|keys\\.tpm = 2\n|ä\n){0,12}") {
            prop_assert_eq!(mistakes(&text, "x").is_empty(), Settings::parse(&text, "x").is_ok());
        }
    }
}
