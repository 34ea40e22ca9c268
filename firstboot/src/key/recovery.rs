//! The recovery key: what is written on paper, and opens the data when nothing else does.
//!
//! 160 random bits as 8 groups of 5 characters, `7J2KD-…`, of Crockford's alphabet (digits and capital letters without I, L, O
//! and U). Of each group four characters are random, and the last one checks them and the group's place: so a wrong
//! character, two that were swapped, and groups in the wrong order are found, and it is known in which group to look.
//!
//! Characters are elements of GF(32), the field of x⁵ + x² + 1 with the generator α = x. The characters c₀ … c₄ of the group
//! number g, from 0, are such that α⁴c₀ + α³c₁ + α²c₂ + αc₃ + c₄ = g. All five weights are different and none is 0, hence what
//! is found.
//!
//! Whoever types it need not care for case, hyphens and spaces, nor whether they see a letter O or a zero, an I, an L or
//! a one.

use std::fmt;
use std::str::FromStr;

use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::{Deserialize, Deserializer, de};
use zeroize::Zeroizing;

use crate::secret::Secret;

/// A key that is right but for its not being random: for explanations.
pub const EXAMPLE: &str = "00000-00001-00002-00003-00004-00005-00006-00007";

/// Escape sequences of terminals (ECMA-48, SGR).
const WHITE_ON_BLACK: &str = "\x1b[97;40m";
const PLAIN: &str = "\x1b[m";

/// Number of groups.
pub const GROUPS: usize = 8;
/// Characters of a group.
const GROUP: usize = 5;
const LENGTH: usize = GROUPS * GROUP;
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

/// A recovery key.
#[derive(Clone, PartialEq, Eq)]
pub struct RecoveryKey(Zeroizing<[u8; LENGTH]>);

/// What is wrong with a key as it was typed. Tells where, never what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Typo {
    /// Other than 40 characters.
    #[error("a recovery key has {LENGTH} characters, in {GROUPS} groups of {GROUP}; this has {0}")]
    Length(usize),
    /// One that is not of the alphabet.
    #[error("character {character} of group {group} is none that a recovery key can have")]
    Character {
        /// Which group, from 1.
        group: usize,
        /// Which character of the group, from 1.
        character: usize,
    },
    /// A group that its last character does not fit.
    #[error("group {0} is not right: a wrong character, two that were swapped, or another group's place")]
    Group(usize),
}

impl RecoveryKey {
    /// A new one.
    ///
    /// # Errors
    /// The kernel has no random numbers.
    pub fn generate() -> anyhow::Result<Self> {
        let mut random = Zeroizing::new([0; LENGTH]);
        getrandom::fill(random.as_mut_slice())?;
        let mut key = Zeroizing::new([0; LENGTH]);
        for (number, (group, random)) in key.chunks_exact_mut(GROUP).zip(random.chunks_exact(GROUP)).enumerate() {
            // The low five bits of a random byte are as random as they were.
            let mut symbols = Zeroizing::new([0; GROUP]);
            symbols[..GROUP - 1].copy_from_slice(&random[..GROUP - 1]);
            symbols.iter_mut().for_each(|symbol| *symbol &= 31);
            symbols[GROUP - 1] = weigh(symbols.as_slice()) ^ number as u8;
            group.iter_mut().zip(symbols.iter()).for_each(|(letter, symbol)| *letter = ALPHABET[usize::from(*symbol)]);
        }
        Ok(Self(key))
    }

    /// As it is written and shown: groups with hyphens between them.
    pub fn text(&self) -> Secret {
        Secret::new((1..=GROUPS).map(|number| self.group(number)).collect::<Vec<_>>().join("-"))
    }

    /// The characters alone: the password of [`super::Enc`].
    pub(super) fn password(&self) -> &str {
        std::str::from_utf8(self.0.as_slice()).expect("the alphabet is ASCII")
    }

    /// One group, counted from 1, for whoever is asked to type a part of it back.
    ///
    /// # Panics
    /// There is no group of this number.
    pub fn group(&self, number: usize) -> &str {
        &self.password()[(number - 1) * GROUP..number * GROUP]
    }

    /// Whether `typed` is the group of this number.
    ///
    /// # Panics
    /// There is no group of this number.
    pub fn has_group(&self, number: usize, typed: &str) -> bool {
        read(typed).as_slice() == self.group(number).as_bytes()
    }

    /// [`Self::text`] as a QR code of half blocks, 37 columns and 19 lines, for light text on a dark screen; with `colours`,
    /// of escape sequences, on any screen.
    pub fn qr(&self, colours: bool) -> Secret {
        let code = QrCode::with_error_correction_level(self.text().expose(), EcLevel::M)
            .expect("47 characters are far from the most that a code takes");
        // Blocks are drawn in the colour of the text, which is the lighter one.
        let text =
            Zeroizing::new(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build());
        if !colours {
            return Secret::new(text.to_string());
        }
        Secret::new(text.lines().map(|line| format!("{WHITE_ON_BLACK}{line}{PLAIN}\n")).collect())
    }
}

impl FromStr for RecoveryKey {
    type Err = Typo;

    fn from_str(typed: &str) -> Result<Self, Typo> {
        let letters = read(typed);
        let letters: &[u8; LENGTH] = letters.as_slice().try_into().map_err(|_| Typo::Length(letters.len()))?;
        for (number, group) in letters.chunks_exact(GROUP).enumerate() {
            let mut symbols = Zeroizing::new([0; GROUP]);
            for (place, (letter, symbol)) in group.iter().zip(symbols.iter_mut()).enumerate() {
                let found = ALPHABET.iter().position(|known| known == letter);
                *symbol = found.ok_or(Typo::Character { group: number + 1, character: place + 1 })? as u8;
            }
            if weigh(symbols.as_slice()) != number as u8 {
                return Err(Typo::Group(number + 1));
            }
        }
        Ok(Self(Zeroizing::new(*letters)))
    }
}

/// Letters as they are meant; what is no ASCII counts as one wrong letter.
fn read(typed: &str) -> Zeroizing<Vec<u8>> {
    let meant = |typed: char| match typed.to_ascii_uppercase() {
        'O' => b'0',
        'I' | 'L' => b'1',
        other => u8::try_from(other).unwrap_or(b'?'),
    };
    let is_between = |typed: &char| typed.is_whitespace() || matches!(typed, '-' | '\u{2010}'..='\u{2015}');
    let mut letters = Zeroizing::new(Vec::with_capacity(typed.len()));
    letters.extend(typed.chars().filter(|typed| !is_between(typed)).map(meant));
    letters
}

/// The weighted sum of a group, by Horner's rule.
fn weigh(symbols: &[u8]) -> u8 {
    symbols.iter().fold(0, |sum, symbol| times_alpha(sum) ^ symbol)
}

/// x⁵ = x² + 1.
fn times_alpha(element: u8) -> u8 {
    if element & 0b1_0000 == 0 { element << 1 } else { (element << 1) ^ 0b10_0101 }
}

impl fmt::Debug for RecoveryKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryKey(…)")
    }
}

impl<'de> Deserialize<'de> for RecoveryKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Secret::deserialize(deserializer)?.expose().parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests;
