//! Recipes: what the result of a stage is made from. Equal recipes give equal results, so the hash of a
//! recipe, its *key*, names the result in the store.
//!
//! A recipe remembers its inputs one by one. That is how `larder build --explain` can say which of them
//! made a stage run again.

use serde::{Deserialize, Serialize};

use crate::hash::{Hash, Hasher};

/// The named inputs of one stage. The key covers all of them in their order; each is length-prefixed, so
/// that no two different lists of inputs give the same bytes.
#[derive(Clone, Debug)]
pub struct Recipe {
    stage: String,
    subject: Option<String>,
    inputs: Vec<Input>,
    hasher: Hasher,
}

/// One input of a stage.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    /// What it is, among the inputs of its stage.
    pub name: String,
    /// Digest of its value: the value itself where that is a digest, such as the key of an earlier stage.
    pub value: Hash,
}

impl Recipe {
    /// Starts the recipe of the named stage; raise `revision` when the stage's code changes its output.
    pub fn new(stage: &str, revision: u32) -> Self {
        let mut recipe = Self { stage: stage.to_owned(), subject: None, inputs: Vec::new(), hasher: Hasher::default() };
        recipe.cover("stage", stage.as_bytes());
        recipe.field("revision", revision.to_string());
        recipe
    }

    /// Says which of several results of the same stage this is (a package, a tools tree). Not part of the
    /// key: two packages with the same content are unpacked once.
    pub fn about(&mut self, subject: &str) -> &mut Self {
        self.subject = Some(subject.to_owned());
        self
    }

    /// Adds a named input.
    pub fn field(&mut self, name: &str, value: impl AsRef<[u8]>) -> &mut Self {
        self.cover(name, value.as_ref());
        self.inputs.push(Input { name: name.to_owned(), value: Hash::of(value) });
        self
    }

    /// Adds a digest as a named input.
    pub fn hash(&mut self, name: &str, hash: &Hash) -> &mut Self {
        self.cover(name, hash.as_bytes());
        self.inputs.push(Input { name: name.to_owned(), value: *hash });
        self
    }

    /// Name of the stage.
    pub fn stage(&self) -> &str {
        &self.stage
    }

    /// Which of several results of the stage it is.
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// The inputs, in their order.
    pub fn inputs(&self) -> &[Input] {
        &self.inputs
    }

    /// The key: the name of the result.
    pub fn key(&self) -> Hash {
        self.hasher.clone().finish()
    }

    fn cover(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.hasher.update((part.len() as u64).to_le_bytes());
            self.hasher.update(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_tell_apart_fields_that_concatenate_to_the_same_text() {
        let key = |fields: &[(&str, &str)]| {
            let mut recipe = Recipe::new("test", 1);
            for (name, value) in fields {
                recipe.field(name, value);
            }
            recipe.key()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "d")]), key(&[("a", "bcd")]));
    }

    #[test]
    fn the_subject_is_no_part_of_the_key() {
        let plain = Recipe::new("unpack", 1);
        let named = plain.clone().about("bash").clone();
        assert_eq!(plain.key(), named.key());
        assert_eq!(named.subject(), Some("bash"));
    }
}
