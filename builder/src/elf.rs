//! What ELF files ask of the dynamic loader, and where that would look (ld.so(8)).
//!
//! Paths are relative to the root of the image, as everywhere in larder.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use anyhow::Context as _;
use object::read::elf::{FileHeader, ProgramHeader as _};
use object::read::{FileKind, ReadCache, ReadRef};
use object::{Endianness, elf};

use crate::path_glob;
use crate::tree::USR_MERGE;

/// The folders that Debian's loader for amd64 searches by default.
const DEFAULT_FOLDERS: [&str; 2] = ["usr/lib/x86_64-linux-gnu", "usr/lib"];

/// Configuration files that include each other are followed this deep; Debian's own are two deep.
const MAX_INCLUDES: usize = 8;

/// What a program or library says about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Elf {
    /// The machine that it is for (`e_machine`) and whether it is a 64-bit file: libraries must be for the same.
    pub target: (u16, bool),
    /// The loader that starts it; libraries and static programs have none.
    pub interpreter: Option<PathBuf>,
    /// Libraries that it names (`DT_NEEDED`).
    pub libraries: Vec<String>,
    /// Folders that it wants searched first (`DT_RUNPATH`, else `DT_RPATH`), as written: with `$ORIGIN`.
    pub search_path: Vec<String>,
}

impl Elf {
    /// Reads the headers and the dynamic section; `None` for what is no ELF file.
    ///
    /// # Errors
    /// The file cannot be read, or calls itself ELF and is damaged.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        let file: File = fs_err::File::open(path)?.into();
        let data = ReadCache::new(file);
        let elf = match FileKind::parse(&data) {
            Ok(FileKind::Elf64) => parse::<elf::FileHeader64<Endianness>, _>(&data),
            Ok(FileKind::Elf32) => parse::<elf::FileHeader32<Endianness>, _>(&data),
            // The library knows other formats too, and takes files shorter than any header as errors.
            Ok(_) | Err(_) => return Ok(None),
        };
        elf.map(Some).with_context(|| format!("reading the ELF file {}", path.display()))
    }

    /// The folders that it wants searched first, when it lies in `folder`.
    pub fn folders(&self, folder: &Path) -> Vec<PathBuf> {
        let origin = format!("/{}", folder.display());
        let expanded = |text: &String| text.replace("${ORIGIN}", &origin).replace("$ORIGIN", &origin);
        self.search_path.iter().map(|text| normalized(Path::new(&expanded(text)))).collect()
    }
}

fn parse<'data, Header, Data>(data: Data) -> anyhow::Result<Elf>
where
    Header: FileHeader<Endian = Endianness>,
    Data: ReadRef<'data>,
{
    let header = Header::parse(data)?;
    let endian = header.endian()?;
    let mut elf = Elf { target: (header.e_machine(endian).0, header.is_type_64()), ..Elf::default() };
    for segment in header.program_headers(endian, data)? {
        if let Some(interpreter) = segment.interpreter(endian, data)? {
            elf.interpreter = Some(normalized(Path::new(std::str::from_utf8(interpreter)?)));
        }
    }
    let sections = header.sections(endian, data)?;
    let dynamic = sections.dynamic_table(endian, data)?;
    let (mut run_path, mut r_path) = (None, None);
    for entry in &dynamic {
        let text = || -> anyhow::Result<String> { Ok(String::from_utf8(dynamic.string(entry)?.to_vec())?) };
        match entry.tag {
            elf::DT_NEEDED => elf.libraries.push(text()?),
            elf::DT_RUNPATH => run_path = Some(text()?),
            elf::DT_RPATH => r_path = Some(text()?),
            _ => {}
        }
    }
    let search_path = run_path.or(r_path).unwrap_or_default();
    elf.search_path = search_path.split(':').filter(|folder| !folder.is_empty()).map(str::to_owned).collect();
    Ok(elf)
}

/// Where the loader of an image looks for libraries.
#[derive(Debug, Clone)]
pub struct Loader {
    folders: Vec<PathBuf>,
}

impl Loader {
    /// Reads `etc/ld.so.conf` of the image, if it has one.
    pub fn of_root(root: &Path) -> anyhow::Result<Self> {
        let mut folders = Vec::new();
        read_configuration(root, Path::new("etc/ld.so.conf"), MAX_INCLUDES, &mut folders)?;
        folders.extend(DEFAULT_FOLDERS.map(PathBuf::from));
        Ok(Self { folders })
    }

    /// The places where the library `name` may be, in the loader's order, after those of `search_path`.
    pub fn candidates(&self, name: &str, search_path: &[PathBuf]) -> Vec<PathBuf> {
        // A name with a slash is a path (dlopen(3)).
        if name.contains('/') {
            return vec![normalized(Path::new(name))];
        }
        search_path.iter().chain(&self.folders).map(|folder| folder.join(name)).collect()
    }
}

/// ldconfig(8): one folder a line, `include PATTERN`, comments after `#`.
fn read_configuration(root: &Path, file: &Path, depth: usize, folders: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    if depth == 0 || !root.join(file).is_file() {
        return Ok(());
    }
    let text = fs_err::read_to_string(root.join(file))?;
    for line in text.lines().map(|line| line.split('#').next().unwrap_or_default().trim()) {
        match line.strip_prefix("include").filter(|rest| rest.starts_with(char::is_whitespace)) {
            Some(pattern) => {
                for included in matching(root, &normalized(Path::new(pattern.trim())))? {
                    read_configuration(root, &included, depth - 1, folders)?;
                }
            }
            None if line.is_empty() => {}
            None => folders.push(normalized(Path::new(line))),
        }
    }
    Ok(())
}

/// The files of the pattern's folder that match it, sorted.
fn matching(root: &Path, pattern: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let Some(folder) = pattern.parent().filter(|folder| root.join(folder).is_dir()) else { return Ok(Vec::new()) };
    let matcher = path_glob::parse(&pattern.to_string_lossy())?.compile_matcher();
    let mut found = Vec::new();
    for entry in fs_err::read_dir(root.join(folder))? {
        found.push(folder.join(entry?.file_name()));
    }
    found.retain(|path| matcher.is_match(path));
    found.sort();
    Ok(found)
}

/// The path without a leading slash, `.` and `..`, and without the links of the merged /usr.
fn normalized(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::Normal(name) => clean.push(name),
            _ => {}
        }
    }
    let merged =
        USR_MERGE.iter().find_map(|(link, target)| Some(Path::new(target).join(clean.strip_prefix(link).ok()?)));
    merged.unwrap_or(clean)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The program of the running test: a real one, with libraries.
    pub(crate) fn this_program() -> PathBuf {
        std::env::current_exe().unwrap()
    }

    #[test]
    fn a_program_names_its_loader_and_its_libraries() {
        let elf = Elf::read(&this_program()).unwrap().unwrap();
        assert!(elf.libraries.iter().any(|name| name == "libc.so.6"), "{elf:?}");
        let interpreter = elf.interpreter.unwrap();
        assert!(interpreter.to_string_lossy().contains("ld-linux"), "{}", interpreter.display());
        assert!(elf.target.1);
    }

    #[test]
    fn a_script_is_no_elf_file_and_a_damaged_one_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        for text in ["", "#!", "#!/bin/sh\nexit 0\n# long enough to hold any header of an ELF file, and then some\n"] {
            fs_err::write(&path, text).unwrap();
            assert_eq!(Elf::read(&path).unwrap(), None);
        }
        fs_err::write(&path, b"\x7fELF\x02\x01\x01 and garbage that is long enough to be a header, but is none at all")
            .unwrap();
        assert!(Elf::read(&path).is_err());
    }

    #[test]
    fn a_search_path_may_be_relative_to_the_file() {
        let elf = Elf { search_path: vec!["$ORIGIN/../lib".into(), "/lib/systemd".into()], ..Elf::default() };
        assert_eq!(elf.folders(Path::new("usr/bin")), [Path::new("usr/lib"), Path::new("usr/lib/systemd")]);
    }

    #[test]
    fn the_loader_looks_in_the_configured_folders_before_its_own() {
        let root = tempfile::tempdir().unwrap();
        let conf = root.path().join("etc/ld.so.conf.d");
        fs_err::create_dir_all(&conf).unwrap();
        fs_err::write(root.path().join("etc/ld.so.conf"), "include /etc/ld.so.conf.d/*.conf # all\n/opt/lib\n")
            .unwrap();
        fs_err::write(conf.join("b.conf"), "# comment\n/usr/local/lib\n").unwrap();
        fs_err::write(conf.join("a.conf"), "/lib/special\n").unwrap();
        fs_err::write(conf.join("ignored"), "/nowhere\n").unwrap();
        let loader = Loader::of_root(root.path()).unwrap();
        let found: Vec<_> =
            loader.candidates("libx.so", &["own".into()]).iter().map(|path| path.display().to_string()).collect();
        assert_eq!(
            found,
            [
                "own/libx.so",
                "usr/lib/special/libx.so",
                "usr/local/lib/libx.so",
                "opt/lib/libx.so",
                "usr/lib/x86_64-linux-gnu/libx.so",
                "usr/lib/libx.so"
            ]
        );
        assert_eq!(loader.candidates("/lib/libx.so", &[]), [Path::new("usr/lib/libx.so")]);
    }
}
