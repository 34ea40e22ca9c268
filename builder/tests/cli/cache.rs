//! `larder cache`

use insta::Settings;
use insta::internals::SettingsBindDropGuard;

use crate::bench::{Bench, files};
use crate::program::probe;

/// A bench whose cache has an index, a package, its files and a tools tree.
fn filled() -> Bench {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1.0")]);
    bench.does(&["tools", "run", "kit", "--", "probe", "exit", "0"]);
    bench
}

/// What `larder cache VERB` prints.
fn prints(bench: &Bench, verb: &[&str]) -> String {
    let said = bench.ends(&mut bench.larder(&[&["cache"], verb].concat()), 0);
    assert_eq!(said.stderr, "");
    said.stdout
}

/// Sizes depend on compilers and compressors.
fn without_sizes() -> SettingsBindDropGuard {
    let mut settings = Settings::clone_current();
    settings.add_filter(r" +[0-9.]+ ([KM]i)?B\b", " BYTES");
    settings.bind_to_scope()
}

#[test]
fn its_folder_is_printed_and_not_made() {
    let bench = Bench::new();
    insta::assert_snapshot!(prints(&bench, &["dir"]), @"CACHE");
    assert!(!bench.cache("").exists());
}

#[test]
fn its_size_is_printed_by_kind() {
    let bench = filled();
    let _sizes = without_sizes();
    insta::assert_snapshot!(prints(&bench, &["size"]), @r"
    unpacked-v1         1 entries BYTES
    trees-v1            1 entries BYTES
    blobs               2 entries BYTES
    indices-v1          1 entries BYTES
    releases-v1         1 entries BYTES
    partial             0 entries BYTES
    ");
}

#[test]
fn pruning_keeps_what_was_used_lately() {
    let bench = filled();
    insta::assert_snapshot!(prints(&bench, &["prune"]), @"removed 0 entries, 0 B");
    bench.does(&["tools", "run", "kit", "--offline", "--", "probe", "exit", "0"]);
    let _sizes = without_sizes();
    insta::assert_snapshot!(prints(&bench, &["prune", "--days", "0"]), @"removed 6 entries, BYTES");
    assert_eq!(files(&bench.cache("v1/blobs")).len(), 0);
}

#[test]
fn cleaning_leaves_an_empty_store_that_works() {
    let bench = filled();
    let _sizes = without_sizes();
    insta::assert_snapshot!(prints(&bench, &["clean"]), @"removed 6 entries, BYTES");
    let left: Vec<_> =
        files(&bench.cache("")).into_iter().filter_map(|path| path.file_name().map(|n| n.to_owned())).collect();
    assert_eq!(left, ["CACHEDIR.TAG", ".lock"]);
    bench.does(&["tools", "run", "kit", "--locked", "--", "probe", "exit", "0"]);
}

#[test]
fn a_cache_in_use_is_neither_pruned_nor_cleaned() {
    let bench = filled();
    let lock = fs_err::File::open(bench.cache("v1/.lock")).unwrap();
    lock.file().lock_shared().unwrap();
    insta::assert_snapshot!(bench.refuses(&["cache", "prune"]), @r"
    error: CACHE: in use by another larder

    hint: wait until it is done, then run the command again
    ");
    insta::assert_snapshot!(bench.refuses(&["cache", "clean"]), @r"
    error: CACHE: in use by another larder

    hint: wait until it is done, then run the command again
    ");
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let bench = Bench::new();
    fs_err::create_dir(bench.cache("")).unwrap();
    fs_err::write(bench.cache("v1"), "a file in its place").unwrap();
    insta::assert_snapshot!(bench.refuses(&["lock"]), @r"
    error: CACHE: cannot be written
      caused by: opening the cache
      caused by: failed to create directory `CACHE/v1/blobs`: Not a directory (os error 20)

    hint: set LARDER_CACHE_DIR to a folder that you may write to
    ");
}
