//! Getting at the packages of an index.
//!
//! The main index is 57 MB of text under xz, which takes longer to decompress than all that `larder lock`
//! does besides. So the store keeps what larder reads of an index, half of its text, in a form that is
//! decompressed twenty times as fast ([`packages::condense`]); it is named by the index's digest.

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result};

use super::packages::{self, Index, Package};
use super::release::{Listed, VerifiedRelease};
use super::{Archive, Fetch};
use crate::recipe::Recipe;
use crate::report::Mistake;

/// Raise when the same index is condensed to another text.
const REVISION: u32 = 1;
/// File name of a condensed index in its entry of the store.
const CONDENSED: &str = "Packages.zst";
/// zstd level of condensed indices: the fastest one; decompressing takes the same time at all levels.
const LEVEL: i32 = 1;

/// An index to be read.
pub(super) struct Wanted<'a> {
    archive: &'a Archive,
    release: usize,
    origin: String,
    url: String,
    listed: Listed,
    compression: Compression,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compression {
    Xz,
    Gzip,
    None,
}

/// Smallest first.
const FORMS: [(&str, Compression); 3] = [(".xz", Compression::Xz), (".gz", Compression::Gzip), ("", Compression::None)];

/// The indices of one suite's components for the wanted architectures.
pub(super) fn indices_of<'a>(
    archive: &'a Archive,
    suite: &str,
    number: usize,
    release: &VerifiedRelease,
    architectures: &[String],
) -> Result<Vec<Wanted<'a>>> {
    let all = release.has_index_for_all().then_some("all");
    let mut wanted = Vec::new();
    for component in &archive.components {
        let before = wanted.len();
        for architecture in architectures.iter().map(String::as_str).chain(all) {
            let folder = format!("{component}/binary-{architecture}");
            let found = FORMS.iter().find_map(|(ending, form)| {
                let path = format!("{folder}/Packages{ending}");
                release.file(&path).map(|listed| (path, listed, *form))
            });
            let Some((path, listed, compression)) = found else {
                continue;
            };
            let base = format!("{}/dists/{suite}", archive.mirror.trim_end_matches('/'));
            let url = if release.by_hash() {
                format!("{base}/{folder}/by-hash/SHA256/{}", listed.sha256)
            } else {
                format!("{base}/{path}")
            };
            wanted.push(Wanted {
                archive,
                release: number,
                origin: format!("{} {suite} {folder}/Packages", archive.name),
                url,
                listed,
                compression,
            });
        }
        if wanted.len() == before {
            let problem = format!(
                "the suite `{suite}` of the archive `{}` has no component `{component}` for {}",
                archive.name,
                architectures.join(", ")
            );
            return Err(Mistake::new(problem).hint("correct `components` or `architectures` in the profile").into());
        }
    }
    Ok(wanted)
}

impl Wanted<'_> {
    /// Bytes of the index on the mirror.
    pub(super) fn size(&self) -> u64 {
        self.listed.size
    }

    /// Reads the packages; `number` is the index's place in the universe.
    pub(super) fn load(&self, number: usize, fetch: &dyn Fetch) -> Result<(Index, Vec<Package>)> {
        let mut recipe = Recipe::new("index", REVISION);
        recipe.about(&self.origin).hash("index", &self.listed.sha256);
        let folder = fetch.derived(&recipe, &|into| self.write_condensed(&into.join(CONDENSED), fetch))?;
        let text = read_condensed(&folder.join(CONDENSED))?;
        let index = Index { origin: self.origin.clone(), release: self.release, text };
        let packages = packages::parse(&index, u32::try_from(number)?)?;
        Ok((index, packages))
    }

    /// Nothing is kept of an index that cannot be read: its error must come again, with the right line.
    fn write_condensed(&self, path: &Path, fetch: &dyn Fetch) -> Result<()> {
        let source = fetch
            .blob(&self.url, &self.listed.sha256, self.listed.size)
            .with_context(|| super::reading(self.archive))?;
        let text = decompress(&fs_err::read(source)?, self.compression)
            .with_context(|| format!("decompressing {}", self.origin))?;
        let index = Index { origin: self.origin.clone(), release: self.release, text };
        packages::parse(&index, 0)?;
        let mut encoder = zstd::Encoder::new(fs_err::File::create(path)?, LEVEL)?;
        // A flipped bit must not become the digest of a package.
        encoder.include_checksum(true)?;
        encoder.write_all(packages::condense(&index.text).as_bytes())?;
        encoder.finish().context("writing a condensed index")?;
        Ok(())
    }
}

fn read_condensed(path: &Path) -> Result<String> {
    let mut text = String::new();
    let read = zstd::Decoder::new(fs_err::File::open(path)?).and_then(|mut file| file.read_to_string(&mut text));
    read.with_context(|| format!("reading {}", path.display()))?;
    Ok(text)
}

fn decompress(file: &[u8], compression: Compression) -> Result<String> {
    // Indices compress about sixfold.
    let mut text = Vec::with_capacity(file.len() * 6);
    match compression {
        Compression::Xz => liblzma::read::XzDecoder::new_multi_decoder(file).read_to_end(&mut text)?,
        Compression::Gzip => flate2::read::MultiGzDecoder::new(file).read_to_end(&mut text)?,
        Compression::None => (&mut &*file).read_to_end(&mut text)?,
    };
    Ok(String::from_utf8(text)?)
}
