//! Small packages: their .deb and their stanza in the index.

use crate::archive::sha256;
use crate::deb::{Entry, compress, deb_of, file, folder, symlink, tar};

/// A package for amd64.
#[derive(Debug, Clone)]
pub struct Package {
    name: String,
    version: String,
    fields: String,
    files: Vec<Entry>,
    raw: Option<Vec<u8>>,
}

impl Package {
    pub fn new(name: &str, version: &str) -> Self {
        let files = vec![folder("./"), folder("./usr/"), folder("./usr/bin/")];
        Self { name: name.to_owned(), version: version.to_owned(), fields: String::new(), files, raw: None }
    }

    /// Adds a control field, such as `Depends`.
    pub fn field(mut self, name: &str, value: &str) -> Self {
        self.fields += &format!("{name}: {value}\n");
        self
    }

    /// Adds an executable file below `usr/bin`.
    pub fn program(mut self, name: &str, content: &[u8]) -> Self {
        let entry = file(&format!("./usr/bin/{name}"), "");
        self.files.push(Entry { content: content.to_owned(), mode: 0o755, ..entry });
        self
    }

    /// Adds a document, compressed by gzip.
    pub fn document(mut self, name: &str, text: &str) -> Self {
        let mut folders = String::from("./usr");
        for part in ["share", "doc", &self.name] {
            folders += &format!("/{part}");
            self.files.push(folder(&format!("{folders}/")));
        }
        let entry = file(&format!("{folders}/{name}"), "");
        self.files.push(Entry { content: compress(".gz", text.as_bytes()), ..entry });
        self
    }

    /// Adds a file.
    pub fn file(mut self, path: &str, content: &[u8]) -> Self {
        self.files.push(Entry { content: content.to_owned(), ..file(&format!("./{path}"), "") });
        self
    }

    /// Adds a symlink.
    pub fn link(mut self, path: &str, target: &str) -> Self {
        self.files.push(symlink(&format!("./{path}"), target));
        self
    }

    /// Path of the .deb below the archive's base address.
    pub fn path(&self) -> String {
        format!("pool/{}_{}_amd64.deb", self.name, self.version)
    }

    /// Other content for the .deb.
    pub fn raw(self, content: &[u8]) -> Self {
        Self { raw: Some(content.to_owned()), ..self }
    }

    pub fn deb(&self) -> Vec<u8> {
        if let Some(raw) = &self.raw {
            return raw.clone();
        }
        deb_of(&self.control(), ".xz", &compress(".xz", &tar(&self.files)))
    }

    /// What the index says about the .deb.
    pub fn stanza(&self) -> String {
        let deb = self.deb();
        let (path, size, sha256) = (self.path(), deb.len(), sha256(&deb));
        format!("{}Filename: {path}\nSize: {size}\nSHA256: {sha256}\n\n", self.control())
    }

    fn control(&self) -> String {
        let Self { name, version, fields, .. } = self;
        format!("Package: {name}\nVersion: {version}\nArchitecture: amd64\n{fields}")
    }
}

/// Bytes that no compressor makes smaller.
pub fn noise(length: usize) -> Vec<u8> {
    random(1).map(|state| (state >> 56) as u8).take(length).collect()
}

/// A linear congruential generator (Knuth's MMIX), whose upper bits are good enough for tests.
pub fn random(seed: u64) -> impl Iterator<Item = u64> {
    let next =
        |state: &u64| Some(state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407));
    std::iter::successors(Some(seed), next)
}
