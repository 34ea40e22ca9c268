//! What is told about the image beside it: the SBOM is a valid SPDX document, the file list is true.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context as _, Result, ensure};
use larder_tests::{image, larder};
use serde_json::Value;

/// The validator, with its schema.
const VALIDATOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/spdx");

/// A file beside the image: its name with another ending.
fn beside(ending: &str) -> Result<PathBuf> {
    let path = image()?.with_extension(ending);
    ensure!(path.is_file(), "{} is missing: an image of `larder build` has it", path.display());
    Ok(path)
}

/// Runs a program of a tools tree, which sees these folders.
fn tool(tree: &str, folders: &[&Path], argv: &[&str]) -> Result<Output> {
    let mut command = Command::new(larder()?);
    command.args(["tools", "run", tree]);
    for folder in folders {
        command.arg("--bind").arg(folder);
    }
    command.arg("--").args(argv).output().with_context(|| format!("starting {argv:?}"))
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

/// What the validator says of a document.
fn validate(document: &Value) -> Result<Output> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("document.spdx.json");
    fs_err::write(&path, document.to_string())?;
    let script = Path::new(VALIDATOR).join("validate.py");
    let (script, path) = (script.display().to_string(), path.display().to_string());
    tool("sbom", &[folder.path(), Path::new(VALIDATOR)], &["python3", &script, &path])
}

fn document() -> Result<Value> {
    Ok(serde_json::from_slice(&fs_err::read(beside("spdx.json")?)?)?)
}

#[test]
fn the_sbom_is_valid() -> Result<()> {
    let document = document()?;
    let output = validate(&document)?;
    ensure!(output.status.success(), "{}", said(&output));
    let packages = document["packages"].as_array().context("no packages")?.len();
    assert!(said(&output).starts_with(&format!("valid: {packages} packages, ")), "{}", said(&output));
    Ok(())
}

#[test]
fn the_validator_refuses_what_is_wrong() -> Result<()> {
    for (pointer, wrong, complaint) in [
        ("/packages/0/licenseDeclared", "GPL-2.0-or-so", "Unrecognized license reference"),
        ("/packages/0/primaryPackagePurpose", "FUN", "FUN"),
        ("/relationships/0/relatedSpdxElement", "SPDXRef-nobody", "SPDXRef-nobody"),
        ("/documentNamespace", "nowhere", "document_namespace"),
    ] {
        let mut document = document()?;
        if let Some(place) = document.pointer_mut(pointer) {
            *place = wrong.into();
        } else {
            document["packages"][0]["primaryPackagePurpose"] = wrong.into();
        }
        let output = validate(&document)?;
        ensure!(!output.status.success() && said(&output).contains(complaint), "{pointer}: {}", said(&output));
    }
    Ok(())
}

#[test]
fn every_package_of_the_manifest_is_in_the_sbom() -> Result<()> {
    let manifest: Value = serde_json::from_slice(&fs_err::read(beside("manifest.json")?)?)?;
    let document = document()?;
    let list = |of: &Value, key: &str| of[key].as_array().cloned().unwrap_or_default();
    let digests: Vec<_> =
        list(&document, "packages").iter().map(|package| package["checksums"][0]["checksumValue"].clone()).collect();
    for package in list(&manifest, "packages") {
        ensure!(digests.contains(&package["sha256"]), "{} is not in the SBOM", package["name"]);
    }
    Ok(())
}

#[test]
fn the_file_list_is_true_of_the_root_file_system() -> Result<()> {
    let (list, root) = (beside("mtree")?, beside("root.erofs")?);
    let out = list.parent().context("a file without a folder")?;
    let folder = tempfile::tempdir()?;
    let tree = folder.path().join("root").display().to_string();
    let extract = ["fsck.erofs", &format!("--extract={tree}"), &root.display().to_string()];
    let extracted = tool("image", &[out, folder.path()], &extract)?;
    ensure!(extracted.status.success(), "{}", said(&extracted));
    let compare = ["mtree", "-f", &list.display().to_string(), "-p", &tree];
    let compared = tool("sbom", &[out, folder.path()], &compare)?;
    ensure!(compared.status.success() && compared.stdout.is_empty(), "{}", said(&compared));

    // The comparison notices what is not true.
    let spoiled = ["sh", "-c", &format!("chmod 0600 {tree}/etc/passwd && rm {tree}/etc/hostname")];
    ensure!(tool("image", &[folder.path()], &spoiled)?.status.success(), "the tree cannot be changed");
    let compared = tool("sbom", &[out, folder.path()], &compare)?;
    for complaint in ["etc/passwd: \n\tpermissions (0644, 0600)", "missing: ./etc/hostname"] {
        ensure!(!compared.status.success() && said(&compared).contains(complaint), "{}", said(&compared));
    }
    // Files of other owners than the test's can only be removed from within.
    let removed = tool("image", &[folder.path()], &["rm", "-r", &tree])?;
    ensure!(removed.status.success(), "{}", said(&removed));
    Ok(())
}
