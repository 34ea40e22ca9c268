//! What a build was busy with, from what larder itself says: one line for each step, `NAME N.N s`.

/// A step of a build.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// As larder calls it.
    pub(crate) name: String,
    /// How long it took.
    pub(crate) seconds: f64,
}

/// The step that took longest; `None` when no step took a tenth of a second.
pub(crate) fn longest(said: &str) -> Option<Step> {
    let steps = said.lines().filter_map(parse).filter(|step| step.seconds > 0.0);
    steps.max_by(|a, b| a.seconds.total_cmp(&b.seconds))
}

fn parse(line: &str) -> Option<Step> {
    let (name, seconds) = line.trim().strip_suffix(" s")?.rsplit_once(' ')?;
    Some(Step { name: name.trim().to_owned(), seconds: seconds.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAID: &str = "profiles/qemu.lock: unchanged, 143 packages\n   Composing 0.2 s\n Configuring 7.7 s\n \
        ZFS modules 0.0 s\nout/larder-qemu-1.img\n";

    #[test]
    fn the_longest_step_is_found_among_other_lines() {
        assert_eq!(longest(SAID), Some(Step { name: "Configuring".into(), seconds: 7.7 }));
        assert_eq!(longest("ZFS modules 0.0 s\nall is well\n"), None);
    }
}
