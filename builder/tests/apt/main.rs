//! larder's solver against apt-get's: the same indices, the same request, the same packages?
//!
//! `sets.toml` lists what is asked. larder resolves each request; apt-get, from the tools tree `apt`,
//! says what it would install on an empty system. Names, architectures and versions must agree, or the
//! set says exactly how the two differ, and why that is meant to be: a difference that appears, changes
//! or disappears fails the test.
//!
//! The indices are those of the moment, fetched and verified as `larder lock` does it, and apt reads the
//! very same files. Versions are compared and written down nowhere, so that no update in the archive
//! breaks the test.

#![allow(clippy::unwrap_used, reason = "a test that cannot be prepared has failed")]

mod apt;
mod mirror;
mod sets;
mod verdict;

use std::path::Path;

use anyhow::Result;
use larder::project::Project;
use larder::solve::PackageRequest;
use larder::{lock, report};

use apt::{Apt, Question};
use mirror::Mirror;
use sets::Set;
use verdict::{Answer, Verdict};

#[test]
fn larder_chooses_what_apt_chooses_or_differs_as_its_set_says() {
    let project = Project::find(Some(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..")), Path::new("/")).unwrap();
    let sets = sets::load(&project).unwrap();
    // Sets with the same indices share the work of reading them.
    let mut verdicts = Vec::new();
    for together in sets.chunk_by(|a, b| a.request.architectures == b.request.architectures) {
        verdicts.extend(compare(&project, together).unwrap());
    }
    let wrong: Vec<&Verdict> = verdicts.iter().filter(|verdict| !verdict.problems.is_empty()).collect();
    let same = verdicts.iter().filter(|verdict| verdict.same).count();
    println!("{} sets; the same packages, or refused by both: {same}", verdicts.len());
    let table: String = wrong.iter().map(ToString::to_string).collect();
    assert!(wrong.is_empty(), "{} of {} sets are not as expected:\n{table}", wrong.len(), verdicts.len());
}

/// Asks both sides about sets that have the same architectures.
fn compare(project: &Project, sets: &[Set]) -> Result<Vec<Verdict>> {
    let mirror = Mirror::fetch(project, &sets[0].request)?;
    let apt = Apt::new(project, &mirror, &sets[0].request)?;
    let questions = sets.iter().map(|set| Question::new(&set.request)).collect::<Vec<_>>();
    let (theirs, ours) = std::thread::scope(|scope| {
        let theirs = scope.spawn(|| apt.ask(&questions));
        let ours: Vec<Answer> = sets.iter().map(|set| larder(&set.request, &mirror)).collect();
        (theirs.join().unwrap(), ours)
    });
    let mut verdicts: Vec<Verdict> =
        sets.iter().zip(ours).zip(theirs?).map(|((set, ours), theirs)| Verdict::new(set, ours, theirs)).collect();
    check_that_each_accepts_the_others_answer(&mut verdicts, &mirror, &apt)?;
    Ok(verdicts)
}

/// What is left between two who differ must be taste: asked for all packages of the other's answer,
/// each must give that very answer.
fn check_that_each_accepts_the_others_answer(verdicts: &mut [Verdict], mirror: &Mirror, apt: &Apt<'_>) -> Result<()> {
    let mut questions = Vec::new();
    let mut asked = Vec::new();
    for verdict in verdicts.iter_mut().filter(|verdict| !verdict.same) {
        if let Answer::Packages(theirs) = &verdict.theirs {
            let request = PackageRequest { include: theirs.keys().cloned().collect(), ..verdict.set.request.clone() };
            verdict.must_be_accepted_by_larder(&larder(&request, mirror));
        }
        if let Answer::Packages(ours) = &verdict.ours {
            questions.push(Question::exactly(&verdict.set.request, ours));
            asked.push(verdict);
        }
    }
    for (verdict, answer) in asked.into_iter().zip(apt.ask(&questions)?) {
        verdict.must_be_accepted_by_apt(&answer);
    }
    Ok(())
}

fn larder(request: &PackageRequest, mirror: &Mirror) -> Answer {
    match lock::resolve(request, &mirror.universe) {
        Ok(lock) => Answer::Packages(
            lock.packages
                .into_iter()
                .map(|package| (apt::full_name(&package.name, &package.architecture), package.version))
                .collect(),
        ),
        Err(error) => Answer::Refused(report::render(&error)),
    }
}
