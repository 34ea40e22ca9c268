//! The table: one row for each thing that was measured.

use std::fmt::Write as _;

use crate::statistics::Summary;

/// What was aimed at.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Goal {
    /// At most one part in so many of mkosi's time.
    Part(f64),
    /// At most so many seconds.
    Seconds(f64),
    /// At most so many MiB.
    Mebibytes(f64),
}

/// One thing that was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    /// What was measured.
    pub(crate) name: &'static str,
    /// In seconds, or in MiB where the goal is.
    pub(crate) larder: Summary,
    /// The same of mkosi (or apt); `None` where it has nothing to compare.
    pub(crate) peer: Option<Summary>,
    /// What was aimed at.
    pub(crate) goal: Goal,
    /// What larder is busy with for most of that time, and what bounds it.
    pub(crate) dominated: String,
}

impl Row {
    /// How many times as much the peer needs.
    fn ratio(&self) -> Option<f64> {
        self.peer.map(|peer| peer.median / self.larder.median)
    }

    fn met(&self) -> bool {
        match self.goal {
            Goal::Part(of) => self.ratio().is_some_and(|ratio| ratio >= of),
            Goal::Seconds(most) | Goal::Mebibytes(most) => self.larder.median <= most,
        }
    }
}

/// The table as Markdown.
pub(crate) fn markdown(rows: &[Row]) -> String {
    let mut text = String::from("| | larder | mkosi 25 | ratio | goal | met | larder is busy with |\n");
    text.push_str("|---|---:|---:|---:|---:|---|---|\n");
    for row in rows {
        let unit = if matches!(row.goal, Goal::Mebibytes(_)) { Unit::Mebibytes } else { Unit::Seconds };
        let peer = row.peer.map_or_else(|| "–".to_owned(), |peer| shown(peer, unit));
        let ratio = row.ratio().map_or_else(|| "–".to_owned(), |ratio| format!("1/{ratio:.1}"));
        let goal = match row.goal {
            Goal::Part(of) => format!("≤ 1/{of}"),
            Goal::Seconds(most) => format!("≤ {most} s"),
            Goal::Mebibytes(most) => format!("≤ {most} MiB"),
        };
        let met = if row.met() { "yes" } else { "**no**" };
        let Row { name, larder, dominated, .. } = row;
        let _ =
            writeln!(text, "| {name} | {} | {peer} | {ratio} | {goal} | {met} | {dominated} |", shown(*larder, unit));
    }
    text
}

#[derive(Debug, Clone, Copy)]
enum Unit {
    Seconds,
    Mebibytes,
}

/// `34.4 s (33.9–36.0)`; the spread only where there is one to see.
fn shown(summary: Summary, unit: Unit) -> String {
    let Summary { median, least, most } = summary;
    let number = |value: f64| match unit {
        Unit::Seconds if median < 10.0 => format!("{value:.2}"),
        Unit::Seconds => format!("{value:.1}"),
        Unit::Mebibytes => format!("{value:.0}"),
    };
    let name = match unit {
        Unit::Seconds => "s",
        Unit::Mebibytes => "MiB",
    };
    let spread =
        if number(least) == number(most) { String::new() } else { format!(" ({}–{})", number(least), number(most)) };
    format!("{} {name}{spread}", number(median))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statistics::summary;

    fn row(name: &'static str, larder: &[f64], peer: &[f64], goal: Goal) -> Row {
        let larder = summary(larder).expect("measurements");
        Row { name, larder, peer: summary(peer), goal, dominated: "dpkg".into() }
    }

    #[test]
    fn the_table_shows_median_spread_ratio_and_whether_the_goal_is_met() {
        let rows = [
            row("full build", &[12.0, 11.0, 14.0], &[110.0, 100.0, 96.0], Goal::Part(8.0)),
            row("boot", &[21.0], &[40.0], Goal::Part(2.0)),
            row("nothing changed", &[0.3, 0.41], &[], Goal::Seconds(0.5)),
            row("memory", &[1100.0], &[600.0], Goal::Mebibytes(1024.0)),
        ];
        insta::assert_snapshot!(markdown(&rows), @r"
        | | larder | mkosi 25 | ratio | goal | met | larder is busy with |
        |---|---:|---:|---:|---:|---|---|
        | full build | 12.0 s (11.0–14.0) | 100.0 s (96.0–110.0) | 1/8.3 | ≤ 1/8 | yes | dpkg |
        | boot | 21.0 s | 40.0 s | 1/1.9 | ≤ 1/2 | **no** | dpkg |
        | nothing changed | 0.35 s (0.30–0.41) | – | – | ≤ 0.5 s | yes | dpkg |
        | memory | 1100 MiB | 600 MiB | 1/0.5 | ≤ 1024 MiB | **no** | dpkg |
        ");
    }

    #[test]
    fn a_goal_that_is_just_reached_is_met() {
        assert!(row("x", &[10.0], &[80.0], Goal::Part(8.0)).met());
        assert!(!row("x", &[10.0], &[79.0], Goal::Part(8.0)).met());
        assert!(!row("x", &[10.0], &[], Goal::Part(8.0)).met());
        assert!(row("x", &[0.5], &[], Goal::Seconds(0.5)).met());
    }
}
