//! How disks keep data together, and what their failures cost.

use serde::{Deserialize, Serialize};

use super::PlannedDisk;
use crate::report::Mistake;
use crate::settings::Layout;

/// More disks in one group take too long to make whole again (zpoolconcepts(7) advises 3 to 9; 12 is where everybody stops).
const WIDEST: usize = 12;

/// A layout that is decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arrangement {
    /// One disk.
    Single,
    /// The same on every disk.
    Mirror,
    /// Pairs of disks.
    Mirrors,
    /// Any one disk may fail.
    Raidz1,
    /// Any two disks may fail.
    Raidz2,
}

/// What the failure of disks costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// Nothing is lost.
    Nothing,
    /// It depends: all is lost when both are of one pair, which they are in one of so many cases.
    AllInOneOf(usize),
    /// All is lost.
    All,
}

impl Arrangement {
    /// Disks of each group, out of `disks`.
    pub(crate) fn group(self, disks: usize) -> usize {
        if self == Self::Mirrors { 2 } else { disks }
    }

    /// Disks' worth of data that a group keeps to make up for lost ones, where it is not a copy.
    pub(super) fn parity(self) -> u64 {
        match self {
            Self::Single | Self::Mirror | Self::Mirrors => 0,
            Self::Raidz1 => 1,
            Self::Raidz2 => 2,
        }
    }

    /// How zpool-create(8) calls its groups; `None` for disks that stand alone.
    pub fn keyword(self) -> Option<&'static str> {
        match self {
            Self::Single => None,
            Self::Mirror | Self::Mirrors => Some("mirror"),
            Self::Raidz1 => Some("raidz1"),
            Self::Raidz2 => Some("raidz2"),
        }
    }

    /// What it costs when one, or two, of `disks` fail before they are replaced.
    pub fn cost(self, disks: usize, failed: usize) -> Cost {
        let survives = match self {
            Self::Single => 0,
            Self::Mirror => disks - 1,
            Self::Mirrors if failed == 2 => return Cost::AllInOneOf(disks - 1),
            Self::Mirrors | Self::Raidz1 => 1,
            Self::Raidz2 => 2,
        };
        if failed <= survives { Cost::Nothing } else { Cost::All }
    }

    /// The disks in the order in which the pool gets them: of pairs, those of like size together.
    pub(super) fn in_order(self, mut disks: Vec<PlannedDisk>) -> Vec<PlannedDisk> {
        if self == Self::Mirrors {
            disks.sort_by_key(|disk| disk.partition);
        }
        disks
    }
}

/// Decides what the settings leave open, and refuses what the disks are too few or too many for.
pub(super) fn arrange(wanted: Layout, disks: &[PlannedDisk]) -> Result<(Arrangement, Option<String>), Mistake> {
    let count = disks.len();
    let needs = |least: usize, arrangement| match count {
        _ if count < least => Err(too_few(wanted, least, count)),
        _ if count > WIDEST => Err(Mistake::new(format!("{count} disks are too many for one `{wanted}`"))
            .hint(format!("take `mirrors`, or up to {WIDEST} disks"))),
        _ => Ok((arrangement, None)),
    };
    match wanted {
        Layout::Auto => auto(count).map(|(arrangement, reason)| (arrangement, Some(reason))),
        Layout::Single if count > 1 => Err(Mistake::new(format!("`single` is for one disk, and there are {count}"))
            .hint("name the one under `disks`, or take another layout")),
        Layout::Single => needs(1, Arrangement::Single),
        Layout::Mirror => needs(2, Arrangement::Mirror),
        Layout::Mirrors if count % 2 == 1 => {
            Err(Mistake::new(format!("`mirrors` is for pairs, and there are {count} disks"))
                .hint("leave one out, make it a spare, or take `raidz1` or `raidz2`"))
        }
        Layout::Mirrors if count < 4 => Err(too_few(wanted, 4, count)),
        Layout::Mirrors => Ok((Arrangement::Mirrors, None)),
        Layout::Raidz1 => needs(3, Arrangement::Raidz1),
        Layout::Raidz2 => needs(4, Arrangement::Raidz2),
    }
}

fn too_few(wanted: Layout, least: usize, count: usize) -> Mistake {
    Mistake::new(format!("`{wanted}` needs at least {least} disks, and there are {count}"))
        .hint("plug in more, or take another layout; `auto` takes what suits the disks")
}

fn auto(disks: usize) -> Result<(Arrangement, String), Mistake> {
    let (arrangement, reason) = match disks {
        0 => return Err(too_few(Layout::Auto, 1, 0)),
        1 => (Arrangement::Single, "there is only one disk"),
        2 => (Arrangement::Mirror, "of two disks, each holds everything"),
        3 | 4 => (Arrangement::Raidz1, "any one may fail, and three or four disks are soon made whole again"),
        5..=WIDEST => (Arrangement::Raidz2, "with so many disks, a second one fails while the first is replaced"),
        _ if disks.is_multiple_of(2) => (Arrangement::Mirrors, "the disks are too many for one group"),
        _ => {
            return Err(Mistake::new(format!("{disks} disks are too many for one group, and no pairs"))
                .hint("leave one out, or make it a spare"));
        }
    };
    Ok((arrangement, reason.to_owned()))
}

/// A spare that is smaller than a disk could not take its place.
pub(super) fn check_spares(
    arrangement: Arrangement,
    disks: &[PlannedDisk],
    spares: &[PlannedDisk],
) -> Result<(), Mistake> {
    if arrangement == Arrangement::Single && !spares.is_empty() {
        return Err(Mistake::new("a spare is of no use to a single disk: what that one loses is lost")
            .hint("take the layout `mirror` with both"));
    }
    let smallest = disks.iter().map(|disk| disk.partition).min().unwrap_or(0);
    match spares.iter().find(|spare| spare.partition < smallest) {
        Some(spare) => Err(Mistake::new(format!("{} is too small to take the place of another disk", spare.id))),
        None => Ok(()),
    }
}
