//! Documents of packages: `usr/share/doc/PACKAGE/FILE`.
//!
//! That folder may be a link to the one of another package of the same source, and so may a file in it
//! (Debian Policy 12.3 and 12.5). Links are read and resolved among packages, never followed: what a package
//! points to outside of `usr/share/doc` is not looked at.

use std::path::{Component, Path, PathBuf};

/// Longest chain of links; those of Debian's packages have one.
const MAX_LINKS: usize = 8;

/// Finds a document. `unpacked` gives the folder of an unpacked package by its name.
pub fn find_document(unpacked: &dyn Fn(&str) -> Option<PathBuf>, package: &str, file: &str) -> Option<PathBuf> {
    let (mut package, mut file) = (package.to_owned(), file.to_owned());
    for _ in 0..MAX_LINKS {
        let folder = unpacked(&package)?.join("data/usr/share/doc").join(&package);
        if let Ok(target) = fs_err::read_link(&folder) {
            package = only_name(&target)?;
            continue;
        }
        let path = folder.join(&file);
        let Ok(target) = fs_err::read_link(&path) else {
            return path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()).then_some(path);
        };
        match target.strip_prefix("..") {
            Ok(elsewhere) => {
                let mut parts = elsewhere.components();
                package = name(parts.next()?)?;
                file = only_name(parts.as_path())?;
            }
            Err(_) => file = only_name(&target)?,
        }
    }
    None
}

fn only_name(path: &Path) -> Option<String> {
    let mut parts = path.components();
    let only = name(parts.next()?)?;
    parts.next().is_none().then_some(only)
}

fn name(part: Component<'_>) -> Option<String> {
    match part {
        Component::Normal(name) => name.to_str().map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    struct Store(tempfile::TempDir);

    impl Store {
        fn doc(&self, package: &str) -> PathBuf {
            let folder = self.0.path().join(package).join("data/usr/share/doc");
            fs_err::create_dir_all(&folder).unwrap();
            folder
        }

        fn find(&self, package: &str, file: &str) -> Option<String> {
            let unpacked = |name: &str| Some(self.0.path().join(name)).filter(|folder| folder.is_dir());
            find_document(&unpacked, package, file).map(|path| fs_err::read_to_string(path).unwrap())
        }
    }

    fn store() -> Store {
        let store = Store(tempfile::tempdir().unwrap());
        let base = store.doc("base").join("base");
        fs_err::create_dir(&base).unwrap();
        fs_err::write(base.join("copyright"), "free").unwrap();
        symlink("copyright", base.join("LICENCE")).unwrap();
        store
    }

    #[test]
    fn a_document_is_found_in_its_own_folder_and_through_links() {
        let store = store();
        symlink("base", store.doc("linked").join("linked")).unwrap();
        let mixed = store.doc("mixed").join("mixed");
        fs_err::create_dir(&mixed).unwrap();
        symlink("../base/LICENCE", mixed.join("copyright")).unwrap();
        for package in ["base", "linked", "mixed"] {
            assert_eq!(store.find(package, "copyright").as_deref(), Some("free"), "{package}");
        }
        assert_eq!(store.find("base", "changelog.gz"), None);
        assert_eq!(store.find("absent", "copyright"), None);
    }

    #[test]
    fn links_that_leave_the_documents_or_go_in_circles_lead_nowhere() {
        let store = store();
        for (name, target) in [("rude", "/etc"), ("up", "../../base"), ("circle", "circle"), ("gone", "nobody")] {
            symlink(target, store.doc(name).join(name)).unwrap();
            assert_eq!(store.find(name, "copyright"), None, "{name}");
        }
        let base = store.doc("base").join("base");
        symlink("/etc/hostname", base.join("changelog")).unwrap();
        symlink("../../../../../etc/hostname", base.join("NEWS")).unwrap();
        assert_eq!((store.find("base", "changelog"), store.find("base", "NEWS")), (None, None));
    }
}
