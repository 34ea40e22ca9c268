use proptest::prelude::*;

use super::*;

const FORMAT: &str = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n";

fn read(paragraphs: &str) -> Licence {
    Licence::parse(&format!("{FORMAT}\n{paragraphs}"), "test")
}

/// The expression, and what it refers to.
fn shown(licence: &Licence) -> String {
    let references: Vec<_> = licence
        .references
        .iter()
        .map(|(id, reference)| format!("{id}: {} = {:?}", reference.name, reference.text))
        .collect();
    format!("{}\n{}", licence.expression.as_deref().unwrap_or("nothing"), references.join("\n"))
}

#[test]
fn the_licences_of_all_files_are_joined() {
    let licence = read(
        "Files: *\nCopyright: A\nLicense: GPL-2+\n\nFiles: lib/*\nCopyright: B\nLicense: GPL-1+ or Artistic\n\n\
         Files: debian/*\nCopyright: C\nLicense: GPL-2+ and Expat\n\nLicense: GPL-2+\n See common-licenses.\n",
    );
    assert_eq!(licence.form, Form::MachineReadable);
    insta::assert_snapshot!(shown(&licence), @"(Artistic-1.0-Perl OR GPL-1.0-or-later) AND GPL-2.0-or-later AND MIT");
}

#[test]
fn a_lone_choice_has_no_brackets() {
    let licence = read("Files: *\nCopyright: A\nLicense: Perl or Expat\n");
    insta::assert_snapshot!(shown(&licence), @"Artistic-1.0-Perl OR GPL-1.0-or-later OR MIT");
}

#[test]
fn a_comma_lowers_what_follows_it() {
    let licence = read("Files: *\nCopyright: A\nLicense: GPL-2+ or AFL-2.1, and Expat and ISC\n");
    insta::assert_snapshot!(shown(&licence), @"(AFL-2.1 OR GPL-2.0-or-later) AND ISC AND MIT");
}

#[test]
fn a_licence_of_no_known_name_keeps_its_text() {
    let licence = read(
        "Files: *\nCopyright: A\nLicense: public-domain\n I give it away.\n .\n Do as you like.\n\n\
         Files: b\nCopyright: A\nLicense: public-domain\n Nobody owns it.\n\n\
         Files: c\nCopyright: A\nLicense: Kitchen\n\nLicense: Kitchen\n Free to use.\n\n\
         Files: d\nCopyright: A\nLicense: unheard-of\n",
    );
    insta::assert_snapshot!(shown(&licence), @r#"
    LicenseRef-Kitchen-5f288a70fa97 AND LicenseRef-public-domain-06da90fd7239 AND LicenseRef-public-domain-d327e707b2c5 AND LicenseRef-unheard-of-8f08386054fd
    LicenseRef-Kitchen-5f288a70fa97: Kitchen = "Free to use."
    LicenseRef-public-domain-06da90fd7239: public-domain = "I give it away.\n\nDo as you like."
    LicenseRef-public-domain-d327e707b2c5: public-domain = "Nobody owns it."
    LicenseRef-unheard-of-8f08386054fd: unheard-of = "The copyright file names this licence without its text."
    "#);
}

#[test]
fn an_exception_is_a_licence_of_its_own_where_spdx_has_none() {
    let licence = read(
        "Files: *\nCopyright: A\nLicense: GPL-2 with Linux-syscall-note exception\n\n\
         Files: b\nCopyright: A\nLicense: GPL-2+ with OpenSSL exception\n\n\
         License: GPL-2+ with OpenSSL exception\n You may link it.\n",
    );
    insta::assert_snapshot!(shown(&licence), @r#"
    GPL-2.0-only WITH Linux-syscall-note AND LicenseRef-GPL-2-with-OpenSSL-exception-8f8350d7ebd0
    LicenseRef-GPL-2-with-OpenSSL-exception-8f8350d7ebd0: GPL-2+ with OpenSSL exception = "You may link it."
    "#);
}

#[test]
fn a_file_for_people_is_kept_whole() {
    let licence = Licence::parse("\nThis package was debianised by Jo.\n\nCopyright: everyone.\n", "krb5");
    assert_eq!(licence.form, Form::Text);
    insta::assert_snapshot!(shown(&licence), @r#"
    LicenseRef-copyright-of-krb5-b0df4a4f4177
    LicenseRef-copyright-of-krb5-b0df4a4f4177: copyright of krb5 = "This package was debianised by Jo.\n\nCopyright: everyone."
    "#);
}

#[test]
fn a_file_that_breaks_its_own_format_is_kept_whole() {
    for text in [format!("{FORMAT}\nthis is no field\n"), FORMAT.to_owned(), String::new()] {
        assert_eq!(Licence::parse(&text, "x").form, Form::Text, "{text}");
    }
}

#[test]
fn the_header_counts_when_no_paragraph_is_about_files() {
    let licence = Licence::parse(&format!("{FORMAT}License: ISC\n\nLicense: ISC\n Text.\n"), "x");
    assert_eq!(licence.expression.as_deref(), Some("ISC"));
}

proptest! {
    #[test]
    fn every_file_gives_a_valid_expression_whose_references_are_there(
        names in proptest::collection::vec("[A-Za-z0-9.+~ /-]{0,20}( (or|and|with|OR) [A-Za-z0-9.+-]{1,12}){0,3},?", 1..5),
        text in any::<String>(),
    ) {
        let files: String = names.iter().map(|name| format!("Files: *\nCopyright: A\nLicense: {name}\n\n")).collect();
        for licence in [read(&files), Licence::parse(&text, "x")] {
            let expression = licence.expression.unwrap_or_default();
            let parsed = spdx::Expression::parse(&expression);
            prop_assert!(parsed.is_ok(), "{expression}: {:?}", parsed.err());
            for word in expression.split([' ', '(', ')']).filter(|word| word.starts_with("LicenseRef-")) {
                prop_assert!(licence.references.contains_key(word));
            }
        }
    }
}
