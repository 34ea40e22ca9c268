//! The places in README.md where tables go.

use anyhow::{Context as _, Result};

/// What stands before a table and after it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Marks {
    begin: &'static str,
    end: &'static str,
}

/// larder and mkosi.
pub(crate) const SPEED: Marks = Marks {
    begin: "<!-- speed: written by `cargo run --release -p larder-tests --bin bench` -->",
    end: "<!-- end of speed -->",
};
/// larder, dd and bmaptool.
pub(crate) const FLASHING: Marks = Marks {
    begin: "<!-- flashing: written by `cargo run --release -p larder-tests --bin bench flash` -->",
    end: "<!-- end of flashing -->",
};
/// larder and other ways to update.
pub(crate) const UPDATES: Marks = Marks {
    begin: "<!-- updates: written by `cargo run --release -p larder-tests --bin bench update` -->",
    end: "<!-- end of updates -->",
};

/// `readme` with `table` between the two marks, whatever was there before.
pub(crate) fn splice(readme: &str, marks: Marks, table: &str) -> Result<String> {
    let Marks { begin, end } = marks;
    let (before, rest) = readme.split_once(begin).with_context(|| format!("README.md has no line {begin:?}"))?;
    let (_, after) = rest.split_once(end).with_context(|| format!("README.md has no line {end:?} after the first"))?;
    Ok(format!("{before}{begin}\n\n{}\n\n{end}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = SPEED.begin;
    const END: &str = SPEED.end;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let readme = format!("# larder\n\n{BEGIN}\nold\n{END}\n\n## more\n");
        let spliced = splice(&readme, SPEED, "\n| new |\n").expect("has marks");
        assert_eq!(spliced, format!("# larder\n\n{BEGIN}\n\n| new |\n\n{END}\n\n## more\n"));
        assert_eq!(splice(&spliced, SPEED, "| new |").expect("has marks"), spliced);
    }

    #[test]
    fn a_readme_without_marks_is_refused() {
        let error = splice(&format!("# larder\n{END}\n{BEGIN}\n"), SPEED, "x").expect_err("is in the wrong order");
        assert!(error.to_string().contains(END), "{error}");
        assert!(splice("# larder\n", SPEED, "x").is_err());
    }

    #[test]
    fn the_real_readme_has_the_marks() {
        let readme = fs_err::read_to_string(larder_tests::workspace().join("README.md")).expect("reads");
        for marks in [SPEED, FLASHING, UPDATES] {
            splice(&readme, marks, "| table |").expect("has marks");
        }
    }
}
