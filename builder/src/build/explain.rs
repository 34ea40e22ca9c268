//! `larder build --explain`: which stages a build went through, which were in the store, and why the
//! others ran.
//!
//! The recipes of the last build of the same profile lie in the store
//! (a note, `v1/last-build-v1/<hash of project and profile>`); a stage ran again because of the inputs that
//! differ from it. Losing it costs the explanation, nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hash::Hash;
use crate::recipe::{Input, Recipe};
use crate::store::{Note, Outcome, Store, Use};

/// The stage that has a result for each package.
const UNPACK: &str = "unpack";
/// That many changed inputs are named, the others counted.
const NAMED: usize = 4;

/// What a build went through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    stages: Vec<Explained>,
}

/// One stage: every entry of the store with the same stage and, but for packages, the same subject.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Explained {
    stage: String,
    keys: Vec<Hash>,
    made: Vec<Made>,
}

/// An entry that had to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Made {
    subject: String,
    took: Duration,
    why: Why,
}

/// Why a stage ran.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Why {
    /// No build of this profile is remembered, or it had no such stage.
    First,
    /// The same inputs as last time: the result was pruned, or lost in a power cut.
    Lost,
    /// These inputs are others than last time.
    Changed(Vec<Change>),
}

/// An input that differs from the last build.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Changed(String),
    /// The result of an earlier stage, which is another one now.
    Stage(String),
    Added(String),
    Removed(String),
}

/// What is remembered of a build: stage (and subject) -> key and inputs.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
struct Memory(BTreeMap<String, Remembered>);

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Remembered {
    key: Hash,
    inputs: Vec<Input>,
}

impl Explanation {
    /// Explains what the store was asked for, and remembers it for the next build of `subject`: the
    /// project and profile in one text.
    pub fn of_build(store: &Store, subject: &str) -> Self {
        let subject = Hash::of(subject);
        // Nothing is remembered where the note is missing or not understood.
        let last = store.note(Note::LastBuild, &subject).unwrap_or_default();
        let last: Memory = serde_json::from_slice(&last).unwrap_or_default();
        let uses = store.uses();
        let now = Memory::of(&uses);
        if now != last
            && let Ok(now) = serde_json::to_vec(&now)
        {
            // The build is there by now. That a full disk has no room for this is no reason to fail.
            let _ = store.set_note(Note::LastBuild, &subject, &now);
        }
        Self::new(&uses, &last)
    }

    fn new(uses: &[Use], last: &Memory) -> Self {
        let stages_by_key: BTreeMap<Hash, String> =
            uses.iter().map(|used| (used.recipe.key(), name(&used.recipe))).collect();
        let mut stages: Vec<Explained> = Vec::new();
        for used in in_order(uses) {
            let stage = group(&used.recipe);
            let index = stages.iter().position(|known| known.stage == stage).unwrap_or_else(|| {
                stages.push(Explained { stage, keys: Vec::new(), made: Vec::new() });
                stages.len() - 1
            });
            stages[index].keys.push(used.recipe.key());
            if let Outcome::Made(took) = used.outcome {
                let subject = used.recipe.subject().unwrap_or_default().to_owned();
                let why = Why::find(&used.recipe, last, &stages_by_key);
                stages[index].made.push(Made { subject, took, why });
            }
        }
        Self { stages }
    }
}

/// Each stage once, after those whose results are its inputs.
fn in_order(uses: &[Use]) -> Vec<&Use> {
    let mut waiting: BTreeMap<Hash, &Use> = BTreeMap::new();
    for used in uses {
        // Of several uses of one entry the one that made it counts.
        let known = waiting.entry(used.recipe.key()).or_insert(used);
        if known.outcome == Outcome::Found {
            *known = used;
        }
    }
    let mut order = Vec::new();
    while !waiting.is_empty() {
        let ready = |used: &&Use| !used.recipe.inputs().iter().any(|input| waiting.contains_key(&input.value));
        let mut next: Vec<&Use> = waiting.values().copied().filter(ready).collect();
        // Packages first: stages name them by the digest of the .deb, which is no stage's key.
        next.sort_by_key(|used| (used.recipe.stage() != UNPACK, name(&used.recipe)));
        for used in &next {
            waiting.remove(&used.recipe.key());
        }
        order.extend(next);
    }
    order
}

/// A stage's name and, where it has several results, which one.
fn name(recipe: &Recipe) -> String {
    recipe.subject().map_or_else(|| recipe.stage().to_owned(), |subject| format!("{} {subject}", recipe.stage()))
}

/// Packages are many: they share a line.
fn group(recipe: &Recipe) -> String {
    if recipe.stage() == UNPACK { recipe.stage().to_owned() } else { name(recipe) }
}

impl Why {
    fn find(recipe: &Recipe, last: &Memory, stages_by_key: &BTreeMap<Hash, String>) -> Self {
        let Some(last) = last.0.get(&name(recipe)) else { return Self::First };
        if last.key == recipe.key() {
            return Self::Lost;
        }
        let by_name = |inputs: &[Input]| -> BTreeMap<String, Hash> {
            inputs.iter().map(|input| (input.name.clone(), input.value)).collect()
        };
        let (before, now) = (by_name(&last.inputs), by_name(recipe.inputs()));
        let names: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
        let changes = names.into_iter().filter_map(|name| match (before.get(name), now.get(name)) {
            (Some(before), Some(now)) if before == now => None,
            (Some(_), Some(now)) => Some(match stages_by_key.get(now) {
                Some(stage) => Change::Stage(stage.clone()),
                None => Change::Changed(name.clone()),
            }),
            (None, _) => Some(Change::Added(name.clone())),
            (_, None) => Some(Change::Removed(name.clone())),
        });
        Self::Changed(changes.collect())
    }
}

impl Memory {
    fn of(uses: &[Use]) -> Self {
        let remember = |recipe: &Recipe| Remembered { key: recipe.key(), inputs: recipe.inputs().to_vec() };
        Self(uses.iter().map(|used| (name(&used.recipe), remember(&used.recipe))).collect())
    }
}

impl fmt::Display for Explanation {
    /// A table: stage, key, whether it was in the store, why it ran.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.stages.iter().map(|stage| stage.stage.len()).max().unwrap_or(0).max("stage".len());
        writeln!(f, "{:width$}  {:12}  {:12}  why", "stage", "key", "result")?;
        for stage in &self.stages {
            let key = match stage.keys.as_slice() {
                [key] => key.short(),
                keys => format!("{} results", keys.len()),
            };
            let line = format!("{:width$}  {key:12}  {:12}  {}", stage.stage, stage.result(), stage.why());
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

impl Explained {
    fn result(&self) -> String {
        if self.made.is_empty() {
            return "found".to_owned();
        }
        let seconds: f64 = self.made.iter().map(|made| made.took.as_secs_f64()).sum();
        match self.keys.len() {
            1 => format!("made {seconds:.1} s"),
            _ => format!("{} made {seconds:.1} s", self.made.len()),
        }
    }

    fn why(&self) -> String {
        match (self.keys.len(), self.made.as_slice()) {
            (_, []) => String::new(),
            (1, [made]) => made.why.to_string(),
            (_, several) => {
                let first = several.iter().filter(|made| made.why == Why::First).count();
                let lost = several.iter().filter(|made| made.why == Why::Lost).count();
                let kinds = [
                    (first, "not there before"),
                    (several.len() - first - lost, "changed"),
                    (lost, "no longer in the store"),
                ];
                let kinds = kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}"));
                let names = several.iter().map(|made| made.subject.clone()).collect();
                format!("{}: {}", kinds.collect::<Vec<_>>().join(", "), some(names))
            }
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first build of this profile that is remembered"),
            Self::Lost => f.write_str("same inputs, but its result is no longer in the store"),
            Self::Changed(changes) => f.write_str(&some(changes.iter().map(Change::to_string).collect())),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Changed(name) => write!(f, "{name} changed"),
            Self::Stage(stage) => write!(f, "{stage} gave another result"),
            Self::Added(name) => write!(f, "{name} is new"),
            Self::Removed(name) => write!(f, "{name} is gone"),
        }
    }
}

/// The first few, and how many more there are.
fn some(mut texts: Vec<String>) -> String {
    let more = texts.len().saturating_sub(NAMED);
    texts.truncate(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    texts.join(", ") + &more
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(stage: &str, inputs: &[(&str, Hash)]) -> Recipe {
        let mut recipe = Recipe::new(stage, 1);
        for (name, value) in inputs {
            recipe.hash(name, value);
        }
        recipe
    }

    fn made(recipe: &Recipe) -> Use {
        Use { recipe: recipe.clone(), outcome: Outcome::Made(Duration::from_millis(1500)) }
    }

    fn found(recipe: &Recipe) -> Use {
        Use { recipe: recipe.clone(), outcome: Outcome::Found }
    }

    /// A build with one package of each content, and one overlay file.
    fn build(packages: &[(&str, &str)], motd: &str) -> Vec<Recipe> {
        let unpack = packages.iter().map(|(name, content)| {
            let mut unpack = recipe("unpack", &[("deb", Hash::of(content))]);
            unpack.about(name).clone()
        });
        let inputs: Vec<_> = packages.iter().map(|(name, content)| (*name, Hash::of(content))).collect();
        let compose = recipe("compose", &inputs);
        let overlay = recipe("overlay", &[("/etc/motd", Hash::of(motd))]);
        let finish = recipe("finish", &[("configured", compose.key()), ("overlay", overlay.key())]);
        [finish, overlay, compose].into_iter().chain(unpack).collect()
    }

    #[test]
    fn a_first_build_says_so_in_the_order_of_the_pipeline() {
        let uses: Vec<_> = build(&[("bash", "1"), ("dash", "1.1")], "hello").iter().map(made).collect();
        insta::assert_snapshot!(Explanation::new(&uses, &Memory::default()), @r"
        stage    key           result        why
        unpack   2 results     2 made 3.0 s  2 not there before: bash, dash
        compose  326e38a8e333  made 1.5 s    first build of this profile that is remembered
        overlay  bdc9694a3adc  made 1.5 s    first build of this profile that is remembered
        finish   592a6140444b  made 1.5 s    first build of this profile that is remembered
        ");
    }

    #[test]
    fn a_stage_that_runs_again_names_what_changed() {
        let last: Vec<_> = build(&[("bash", "1"), ("dash", "1.1")], "hello").iter().map(made).collect();
        let now = build(&[("bash", "2"), ("zsh", "3")], "hello");
        let uses: Vec<_> =
            now.iter().map(|recipe| if recipe.stage() == "overlay" { found(recipe) } else { made(recipe) }).collect();
        insta::assert_snapshot!(Explanation::new(&uses, &Memory::of(&last)), @r"
        stage    key           result        why
        unpack   2 results     2 made 3.0 s  1 not there before, 1 changed: bash, zsh
        compose  9398683107ed  made 1.5 s    bash changed, dash is gone, zsh is new
        overlay  bdc9694a3adc  found
        finish   68eea5da2724  made 1.5 s    compose gave another result
        ");
    }

    #[test]
    fn a_result_that_was_pruned_is_told_from_one_that_changed() {
        let uses: Vec<_> = build(&[("bash", "1")], "hello").iter().map(made).collect();
        let text = Explanation::new(&uses, &Memory::of(&uses)).to_string();
        assert_eq!(text.matches("same inputs, but its result is no longer in the store").count(), 4, "{text}");
    }

    #[test]
    fn a_build_is_remembered_until_the_next() {
        let folder = tempfile::tempdir().unwrap();
        let explain = || {
            let store = Store::open(Some(folder.path().to_owned())).unwrap();
            store.entry(crate::store::Bucket::Layers, &Recipe::new("overlay", 1), |_| Ok(())).unwrap();
            Explanation::of_build(&store, "project profile").to_string()
        };
        assert!(explain().contains("first build"));
        assert!(explain().contains("found"));
    }
}
