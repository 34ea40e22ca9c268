//! Programs that could not start: their libraries, their loaders, the interpreters of scripts.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::iter::{ParallelBridge as _, ParallelIterator as _};

use super::root::Kind;
use super::{Finding, Lint, Root};
use crate::elf::{Elf, Loader};

/// Where env(1) finds programs: the path that systemd gives to services (systemd.exec(5)).
const PROGRAMS: [&str; 4] = ["usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin"];

pub(super) const ELF: Lint = Lint {
    name: "elf",
    protects_from: "programs and libraries that cannot be loaded, as a library that they need is missing",
    check: |root| {
        let (programs, mut found) = Programs::read(root)?;
        let users = programs.users();
        for (path, elf) in &programs.files {
            let missing = programs.missing(path, elf, users.get(*path).map_or(&[], Vec::as_slice));
            found.extend(missing.into_iter().map(|what| needs(path, &what)));
        }
        Ok(found)
    },
};

fn needs(path: &Path, what: &str) -> Finding {
    const MEND: &str = "include the package that ships what is missing (`packages.include`), or leave the file out";
    Finding::new(path, format!("needs {what}, which is not in the image"), MEND)
}

/// Every ELF file of the root.
struct Programs<'a> {
    root: &'a Root,
    loader: Loader,
    files: BTreeMap<&'a Path, Elf>,
}

impl<'a> Programs<'a> {
    /// Reads them all; those that are damaged are findings.
    fn read(root: &'a Root) -> anyhow::Result<(Self, Vec<Finding>)> {
        let files = with_head(root, b"\x7fELF").par_bridge();
        let read: Vec<_> = files.map(|(path, _)| (path, Elf::read(&root.path().join(path)))).collect();
        let (mut files, mut damaged) = (BTreeMap::new(), Vec::new());
        for (path, elf) in read {
            match elf {
                Ok(elf) => files.extend(elf.map(|elf| (path.as_path(), elf))),
                Err(error) => {
                    let message = format!("is damaged: {}", error.root_cause());
                    damaged.push(Finding::new(path, message, "leave it out (`files.exclude`)"));
                }
            }
        }
        Ok((Self { root, loader: Loader::of_root(root.path())?, files }, damaged))
    }

    /// What a file asks of the image in vain; `users` are the search paths of the files that load it.
    fn missing(&self, path: &Path, elf: &Elf, users: &[Vec<PathBuf>]) -> Vec<String> {
        let own = search_path(path, elf);
        let is_missing = |name: &&String| {
            // A library may rely on its program having loaded a further one from the program's own search path.
            let by_users = || !users.is_empty() && users.iter().all(|folders| self.find(name, folders, elf).is_some());
            self.find(name, &own, elf).is_none() && !by_users()
        };
        let libraries = elf.libraries.iter().filter(is_missing).cloned();
        let interpreter = elf.interpreter.as_ref().filter(|path| !self.root.is_executable(path));
        libraries.chain(interpreter.map(|path| format!("the loader /{}", path.display()))).collect()
    }

    /// The library that the loader would take.
    fn find(&self, name: &str, search_path: &[PathBuf], user: &Elf) -> Option<PathBuf> {
        let found =
            self.loader.candidates(name, search_path).into_iter().filter_map(|path| self.root.resolve(path).ok());
        let fits = |path: &PathBuf| self.files.get(path.as_path()).is_some_and(|library| library.target == user.target);
        found.into_iter().find(fits)
    }

    /// Each library that is loaded from a search path, with the search paths of those that load it.
    fn users(&self) -> BTreeMap<PathBuf, Vec<Vec<PathBuf>>> {
        let mut users = BTreeMap::<_, Vec<_>>::new();
        for (path, elf) in &self.files {
            let folders = search_path(path, elf);
            for library in elf.libraries.iter().filter(|_| !folders.is_empty()) {
                if let Some(library) = self.find(library, &folders, elf) {
                    users.entry(library).or_default().push(folders.clone());
                }
            }
        }
        users
    }
}

fn search_path(path: &Path, elf: &Elf) -> Vec<PathBuf> {
    elf.folders(path.parent().unwrap_or(path))
}

pub(super) const INTERPRETERS: Lint = Lint {
    name: "interpreters",
    protects_from: "scripts whose interpreter is missing",
    check: |root| {
        let found = with_head(root, b"#!").filter(|(path, _)| root.is_executable(path)).filter_map(|(path, head)| {
            let missing = missing_interpreter(root, head)?;
            Some(Finding::new(
                path,
                format!("is a script for {missing}, which is not in the image"),
                "include the interpreter's package (`packages.include`), or leave the script out (`files.exclude`)",
            ))
        });
        Ok(found.collect())
    },
};

/// The interpreter that the `#!` line names, when it is not there (execve(2), "Interpreter scripts").
fn missing_interpreter(root: &Root, head: &[u8]) -> Option<String> {
    let line = head.get(2..)?.split(|byte| *byte == b'\n').next()?;
    let line = String::from_utf8_lossy(line);
    let mut words = line.split_whitespace();
    let interpreter = words.next()?;
    if !root.is_executable(interpreter) {
        return Some(interpreter.to_owned());
    }
    if !interpreter.ends_with("/env") {
        return None;
    }
    let program = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    let is_there = PROGRAMS.iter().any(|folder| root.is_executable(Path::new(folder).join(program)));
    (!is_there).then(|| program.to_owned())
}

/// Files that begin so, with their first bytes.
fn with_head<'a>(root: &'a Root, magic: &'a [u8]) -> impl Iterator<Item = (&'a PathBuf, &'a [u8])> + Send {
    root.files().filter_map(move |(path, node)| match &node.kind {
        Kind::File { head, .. } if head.starts_with(magic) => Some((path, head.as_slice())),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::testing::Tree;
    use super::*;
    use crate::elf::tests::this_program;

    #[test]
    fn a_program_without_its_libraries_and_its_loader_is_found() {
        let program = fs_err::read(this_program()).unwrap();
        let elf = Elf::read(&this_program()).unwrap().unwrap();
        let tree = Tree::new().program("usr/bin/program", &program);
        let found = tree.findings(&ELF);
        assert!(
            found.contains(&"/usr/bin/program: needs libc.so.6, which is not in the image".to_owned()),
            "{found:?}"
        );
        let loader = elf.interpreter.unwrap();
        let loader = format!("/usr/bin/program: needs the loader /{}, which is not in the image", loader.display());
        assert!(found.contains(&loader), "{found:?}");

        // A link to a library that is there will do; one to a library for another machine will not.
        let mut tree = tree.program("usr/lib64/ld-linux-x86-64.so.2", "").link("lib64", "usr/lib64");
        for name in &elf.libraries {
            tree = tree
                .file(&format!("usr/lib/{name}.1"), &program)
                .link(&format!("usr/lib/x86_64-linux-gnu/{name}"), &format!("../{name}.1"));
        }
        assert_eq!(tree.findings(&ELF), Vec::<String>::new());
        let mut other = program;
        // e_machine: AArch64.
        other[18] = 183;
        let tree = tree.file("usr/lib/libc.so.6.1", other);
        let expected = "/usr/bin/program: needs libc.so.6, which is not in the image".to_owned();
        assert!(tree.findings(&ELF).contains(&expected));
    }

    #[test]
    fn a_library_may_rely_on_the_search_path_of_all_programs_that_load_it() {
        let own = "usr/lib/own";
        let mut tree = Tree::new();
        for name in ["usr/bin/a", "usr/bin/b", "usr/lib/own/libcore.so", "usr/lib/own/libshared.so"] {
            tree = tree.file(name, "");
        }
        let root = tree.root();
        let elf = |libraries: &[&str], search_path: &[&str]| Elf {
            libraries: libraries.iter().map(|&name| name.to_owned()).collect(),
            search_path: search_path.iter().map(|&folder| folder.to_owned()).collect(),
            ..Elf::default()
        };
        let (core, shared) = (Path::new("usr/lib/own/libcore.so"), Path::new("usr/lib/own/libshared.so"));
        let files = [
            (Path::new("usr/bin/a"), elf(&["libcore.so"], &[own])),
            (core, elf(&["libshared.so"], &[])),
            (shared, elf(&[], &[])),
        ];
        let mut programs = Programs { root: &root, loader: Loader::of_root(root.path()).unwrap(), files: files.into() };
        let missing = |programs: &Programs<'_>| {
            let users = programs.users();
            programs.missing(core, &programs.files[core], users.get(core).map_or(&[], Vec::as_slice))
        };
        assert_eq!(missing(&programs), Vec::<String>::new());
        // Another program finds the library by its path, and nothing further.
        programs.files.insert(Path::new("usr/bin/b"), elf(&["/usr/lib/own/libcore.so"], &["/nowhere"]));
        assert_eq!(missing(&programs), ["libshared.so"]);
        programs.files.clear();
        programs.files.insert(core, elf(&["libshared.so"], &[]));
        assert_eq!(missing(&programs), ["libshared.so"]);
    }

    #[test]
    fn a_damaged_library_is_found() {
        let text = "\x7fELF\x02\x01\x01 and garbage that is long enough to be a header, but is none at all";
        let found = Tree::new().file("usr/lib/libx.so.1", text).findings(&ELF);
        assert!(found[0].starts_with("/usr/lib/libx.so.1: is damaged: "), "{found:?}");
    }

    #[test]
    fn scripts_without_interpreter_are_found() {
        let tree = Tree::new()
            .program("usr/bin/sh", "")
            .program("usr/bin/env", "")
            .link("bin", "usr/bin")
            .program("usr/bin/good", "#! /bin/sh -e\n")
            .program("usr/bin/bad", "#!/usr/bin/perl -w\n")
            .program("usr/bin/good-env", "#!/usr/bin/env -S A=1 sh\n")
            .program("usr/bin/bad-env", "#!/usr/bin/env python3\n")
            .file("usr/share/example.so.py", "#!/usr/bin/ruby\n");
        assert_eq!(
            tree.findings(&INTERPRETERS),
            [
                "/usr/bin/bad-env: is a script for python3, which is not in the image",
                "/usr/bin/bad: is a script for /usr/bin/perl, which is not in the image",
            ]
        );
    }
}
