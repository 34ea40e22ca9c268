//! Names of licences: Debian's (copyright-format 1.0, "License specification") as SPDX writes them.
//!
//! A name is taken for an SPDX identifier only when both mean the same text. Debian's names without a version
//! (`GPL`, `LGPL`) and its names for families (`public-domain`, `BSD-like`) are not: those keep the text that
//! the copyright file has.

use spdx::identifiers::{EXCEPTIONS, LICENSES};

/// Debian's own names, and some that packages use as if they were.
const ALIASES: [(&str, &str); 17] = [
    // Debian's copy of the Artistic License is Perl's (/usr/share/common-licenses/Artistic).
    ("Artistic", "Artistic-1.0-Perl"),
    ("Artistic-1", "Artistic-1.0-Perl"),
    ("CC0", "CC0-1.0"),
    ("Expat", "MIT"),
    ("MIT/X11", "MIT"),
    ("MIT-Expat", "MIT"),
    ("Perl", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
    ("PSF-2", "PSF-2.0"),
    ("Python-2", "Python-2.0"),
    ("BSD-2-clause-NetBSD", "BSD-2-Clause"),
    ("BSD-4-clause-UC", "BSD-4-Clause-UC"),
    ("BSL-1", "BSL-1.0"),
    ("SIL-1.1", "OFL-1.1"),
    ("Ubuntu-Font-1.0", "Ubuntu-font-1.0"),
    ("Zope-2.1", "ZPL-2.1"),
    ("QPL", "QPL-1.0"),
    ("W3C-2", "W3C-20150513"),
];

/// Families whose SPDX identifiers say whether later versions will do.
const GNU: [(&str, &str); 5] =
    [("AGPL-", ""), ("GFDL-NIV-", "-no-invariants"), ("GFDL-", ""), ("GPL-", ""), ("LGPL-", "")];

/// Debian's names of exceptions, in lower case and without the word itself. One name may stand for several texts
/// (`autoconf exception`, `OpenSSL exception`): those are left out.
const EXCEPTION_ALIASES: [(&str, &str); 7] = [
    ("autoconf-data", "Autoconf-exception-generic"),
    ("classpath", "Classpath-exception-2.0"),
    ("font", "Font-exception-2.0"),
    ("gcc-runtime-library", "GCC-exception-3.1"),
    ("libtool", "Libtool-exception"),
    ("linux-syscall-note", "Linux-syscall-note"),
    ("texinfo", "Texinfo-exception"),
];

/// The SPDX expression for a licence's name, where there is one.
pub(super) fn licence(name: &str) -> Option<String> {
    let alias = ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(name));
    if let Some((_, expression)) = alias {
        return Some((*expression).to_owned());
    }
    gnu(name).or_else(|| current(name)).or_else(|| current(&format!("{name}.0")))
}

/// The SPDX identifier of an exception, where there is one that is meant to go with `licence` (an SPDX identifier).
pub(super) fn exception(name: &str, licence: &str) -> Option<&'static str> {
    if let Some(exact) = EXCEPTIONS.iter().find(|exception| exception.name.eq_ignore_ascii_case(name)) {
        return Some(exact.name);
    }
    let lower = name.to_ascii_lowercase().replace(' ', "-");
    let plain = lower.strip_suffix("-exception")?;
    match (plain, licence) {
        // Bison wrote another one before version 2.2, which came with GPL 3.
        ("bison" | "bison-2.2", "GPL-3.0-or-later") => Some("Bison-exception-2.2"),
        ("autoconf-data", "GPL-3.0-or-later") => Some("Autoconf-exception-generic-3.0"),
        _ => EXCEPTION_ALIASES.iter().find(|(alias, _)| *alias == plain).map(|(_, id)| *id),
    }
}

/// `GPL-2+`, `GPL-2.0+`, `GPL-2`, `GPL-2.0-or-later`: `GPL-2.0-or-later`, `GPL-2.0-only`.
fn gnu(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    let (family, rest, infix) = GNU.iter().find_map(|(prefix, infix)| {
        upper.strip_prefix(prefix).map(|rest| (prefix.split("NIV").next().unwrap_or(prefix), rest, infix))
    })?;
    let later = ["-OR-LATER", "+"].iter().find_map(|suffix| rest.strip_suffix(suffix));
    let (number, range) = match later {
        Some(number) => (number, "or-later"),
        None => (rest.strip_suffix("-ONLY").unwrap_or(rest), "only"),
    };
    let number = if number.contains('.') { number.to_owned() } else { format!("{number}.0") };
    current(&format!("{family}{number}{infix}-{range}"))
}

/// The identifier of the licence list that differs from `name` in case at most, and is not withdrawn.
fn current(name: &str) -> Option<String> {
    let found = LICENSES.iter().find(|licence| licence.name.eq_ignore_ascii_case(name))?;
    let withdrawn = spdx::license_id(found.name).is_none_or(spdx::LicenseId::is_deprecated);
    (!withdrawn).then(|| found.name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debians_names_become_identifiers() {
        for (debian, spdx) in [
            ("GPL-2+", "GPL-2.0-or-later"),
            ("GPL-2.0+", "GPL-2.0-or-later"),
            ("GPL-2", "GPL-2.0-only"),
            ("gpl-3.0-only", "GPL-3.0-only"),
            ("GPL-1+", "GPL-1.0-or-later"),
            ("LGPL-2.1+", "LGPL-2.1-or-later"),
            ("AGPL-3", "AGPL-3.0-only"),
            ("GFDL-1.3+", "GFDL-1.3-or-later"),
            ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
            ("Expat", "MIT"),
            ("Apache-2", "Apache-2.0"),
            ("BSD-3-clause", "BSD-3-Clause"),
            ("CDDL-1.0", "CDDL-1.0"),
            ("zlib", "Zlib"),
            ("Perl", "GPL-1.0-or-later OR Artistic-1.0-Perl"),
        ] {
            assert_eq!(licence(debian).as_deref(), Some(spdx), "{debian}");
        }
    }

    #[test]
    fn a_name_that_does_not_settle_the_text_is_no_identifier() {
        for name in [
            "GPL",
            "LGPL",
            "GFDL",
            "public-domain",
            "BSD",
            "BSD-like",
            "GPL-9",
            "GFDL-1.3+-no-invariant",
            "MIT-like",
            "",
        ] {
            assert_eq!(licence(name), None, "{name}");
        }
    }

    #[test]
    fn exceptions_are_taken_where_the_name_means_one_text() {
        assert_eq!(exception("Linux-syscall-note exception", "GPL-2.0-only"), Some("Linux-syscall-note"));
        assert_eq!(exception("Linux-syscall-note", "GPL-2.0-only"), Some("Linux-syscall-note"));
        assert_eq!(exception("Bison exception", "GPL-3.0-or-later"), Some("Bison-exception-2.2"));
        assert_eq!(exception("Bison exception", "GPL-2.0-or-later"), None);
        assert_eq!(exception("OpenSSL exception", "GPL-2.0-or-later"), None);
    }

    #[test]
    fn every_alias_is_a_valid_expression() {
        for (name, expression) in ALIASES {
            spdx::Expression::parse(expression).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for (name, id) in EXCEPTION_ALIASES {
            assert!(spdx::exception_id(id).is_some(), "{name}");
        }
    }
}
