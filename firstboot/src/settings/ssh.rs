//! `[ssh]`: who may log in from elsewhere. Without a key nobody may.

use std::fmt;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use serde::{Deserialize, Deserializer, de};

/// All keys of the table.
pub(super) const KEYS: &[&str] = &["authorized-keys"];

/// What OpenSSH takes and is not outdated (ssh-keygen(1), -t): DSA is gone since OpenSSH 10.
const KINDS: [&str; 7] = [
    "ssh-ed25519",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ssh-ed25519@openssh.com",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
];

/// `[ssh]`
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Ssh {
    /// Public keys, each as in the file `id_ed25519.pub`.
    pub authorized_keys: Vec<PublicKey>,
}

/// A line of an `authorized_keys` file (sshd(8)) without options.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey(String);

impl PublicKey {
    /// The line.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parse(text: &str) -> Result<Self, String> {
        if text.contains("PRIVATE KEY") {
            // Without the text: it ends up in logs and on screens.
            return Err(
                "this is a private key, which must stay where it is; put in the line of the file that ends in \
                        .pub"
                    .to_owned(),
            );
        }
        let text = text.trim();
        if text.contains(|c: char| c.is_control()) {
            return Err("a public key is one line; give several as several strings".to_owned());
        }
        let mut words = text.split(' ').filter(|word| !word.is_empty());
        let (Some(kind), Some(data)) = (words.next(), words.next()) else {
            return Err(format!(
                "`{text}` is no public key; it begins with a kind, such as `ssh-ed25519`, and has a second word"
            ));
        };
        if !KINDS.contains(&kind) {
            return Err(format!("`{kind}` is no kind of key that is taken here: {}", KINDS.join(", ")));
        }
        let data_kind = BASE64_STANDARD.decode(data).ok().and_then(|data| kind_of(&data).map(<[u8]>::to_owned));
        if data_kind.as_deref() != Some(kind.as_bytes()) {
            let start: String = data.chars().take(9).collect();
            return Err(format!("the second word of `{kind} {start}…` is damaged; copy the whole line again"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// The kind of key that `data` says it is; `None` when it is no sequence of at least two strings, each with its length
/// before it (RFC 4253, 6.6).
fn kind_of(data: &[u8]) -> Option<&[u8]> {
    let (mut strings, mut rest) = (Vec::new(), data);
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let (string, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize)?;
        strings.push(string);
        rest = after;
    }
    (rest.is_empty() && strings.len() > 1).then(|| strings[0])
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
