//! The place in README.md where the table goes.

use anyhow::{Context as _, Result};

const BEGIN: &str = "<!-- speed: written by `cargo run --release -p larder-tests --bin bench` -->";
const END: &str = "<!-- end of speed -->";

/// `readme` with `table` between the two marks, whatever was there before.
pub(crate) fn splice(readme: &str, table: &str) -> Result<String> {
    let (before, rest) = readme.split_once(BEGIN).with_context(|| format!("README.md has no line {BEGIN:?}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("README.md has no line {END:?} after the first"))?;
    Ok(format!("{before}{BEGIN}\n\n{}\n\n{END}{after}", table.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_changes() {
        let readme = format!("# larder\n\n{BEGIN}\nold\n{END}\n\n## more\n");
        let spliced = splice(&readme, "\n| new |\n").expect("has marks");
        assert_eq!(spliced, format!("# larder\n\n{BEGIN}\n\n| new |\n\n{END}\n\n## more\n"));
        assert_eq!(splice(&spliced, "| new |").expect("has marks"), spliced);
    }

    #[test]
    fn a_readme_without_marks_is_refused() {
        let error = splice(&format!("# larder\n{END}\n{BEGIN}\n"), "x").expect_err("is in the wrong order");
        assert!(error.to_string().contains(END), "{error}");
        assert!(splice("# larder\n", "x").is_err());
    }

    #[test]
    fn the_real_readme_has_the_marks() {
        let readme = fs_err::read_to_string(larder_tests::workspace().join("README.md")).expect("reads");
        splice(&readme, "| table |").expect("has marks");
    }
}
