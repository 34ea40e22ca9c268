//! What an image may cost: the sizes that its profile sets, and the medium that it must fit.

use firstboot::hardware::Size;
use firstboot::layout;

use crate::profile::Profile;
use crate::report::Mistake;

/// Refuses a profile whose medium is too small for two systems and the state.
pub(super) fn check_medium(profile: &Profile) -> Result<(), Mistake> {
    let Some(minimum) = profile.boot.minimum_size else { return Ok(()) };
    if minimum.bytes() >= layout::DISK_MIN_SIZE {
        return Ok(());
    }
    let needed = Size::of(layout::DISK_MIN_SIZE);
    Err(Mistake::new(format!("profile `{}`: a medium of {minimum} is too small, {needed} are needed", profile.name))
        .hint("raise `boot.minimum-size`: two systems and the state must fit"))
}

/// Refuses a root file system that is larger than the profile allows.
pub(super) fn check_root(profile: &Profile, bytes: u64) -> Result<(), Mistake> {
    check(profile, "the root file system", "budget.root", profile.budget.root, bytes)
}

/// Refuses a compressed image that is larger than the profile allows.
pub(super) fn check_compressed(profile: &Profile, bytes: u64) -> Result<(), Mistake> {
    check(profile, "the compressed image", "budget.compressed", profile.budget.compressed, bytes)
}

fn check(profile: &Profile, what: &str, key: &str, budget: Option<Size>, bytes: u64) -> Result<(), Mistake> {
    let Some(budget) = budget.filter(|budget| bytes > budget.bytes()) else { return Ok(()) };
    let over = format!("profile `{}`: {what} has {} MB, more than {budget}", profile.name, bytes.div_ceil(1_000_000));
    Err(Mistake::new(over).hint(format!("`larder sizes -p {}` says what takes it; or raise `{key}`", profile.name)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::profile::testing::profile;
    use crate::report::render;

    const NAS: &str = "[boot]\nminimum-size = \"4 GiB\"\n[budget]\nroot = \"450 MB\"\ncompressed = \"160 MB\"\n";

    #[test]
    fn what_is_larger_than_its_budget_is_refused() {
        let nas = profile(NAS);
        assert!(check_root(&nas, 450_000_000).is_ok() && check_compressed(&nas, 160_000_000).is_ok());
        insta::assert_snapshot!(render(&check_root(&nas, 450_000_001).unwrap_err().into()), @r"
        error: profile `nas`: the root file system has 451 MB, more than 450 MB

        hint: `larder sizes -p nas` says what takes it; or raise `budget.root`
        ");
        insta::assert_snapshot!(render(&check_compressed(&nas, 999_000_000).unwrap_err().into()), @r"
        error: profile `nas`: the compressed image has 999 MB, more than 160 MB

        hint: `larder sizes -p nas` says what takes it; or raise `budget.compressed`
        ");
    }

    #[test]
    fn a_medium_that_does_not_hold_two_systems_is_refused() {
        insta::assert_snapshot!(render(&check_medium(&profile(NAS)).unwrap_err().into()), @r"
        error: profile `nas`: a medium of 4 GiB is too small, 5474 MiB are needed

        hint: raise `boot.minimum-size`: two systems and the state must fit
        ");
    }

    #[test]
    fn a_profile_without_budgets_may_become_as_large_as_it_likes() {
        let free = profile("");
        assert!(check_root(&free, u64::MAX).is_ok() && check_compressed(&free, u64::MAX).is_ok());
        assert!(check_medium(&free).is_ok());
    }
}
