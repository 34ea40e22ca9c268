//! `larder tools`: programs of a tree see the tree, what was shown to them, and nothing else.

use crate::bench::Bench;
use crate::program::probe;

fn bench() -> Bench {
    let bench = Bench::new();
    bench.mirror.publish(&[probe("1.0")]);
    bench
}

/// Runs the probe inside; what it says on stdout.
fn inside(bench: &Bench, options: &[&str], probe: &[&str]) -> String {
    let args = [&["tools", "run", "kit"], options, &["--", "probe"], probe].concat();
    bench.ends(&mut bench.larder(&args), 0).stdout
}

#[test]
fn tools_trees_are_listed() {
    let bench = bench();
    insta::assert_snapshot!(bench.ends(&mut bench.larder(&["tools", "list"]), 0).stdout, @"kit      a program for the tests");
}

#[test]
fn a_project_without_tools_trees_has_an_empty_list() {
    let bench = bench();
    fs_err::remove_dir_all(bench.project("profiles/tools")).unwrap();
    assert_eq!(bench.ends(&mut bench.larder(&["tools", "list"]), 0).stdout, "");
    bench.does(&["lock"]);
    assert_eq!(bench.locks(), ["nas.lock"]);
}

#[test]
fn the_exit_status_is_the_programs() {
    let bench = bench();
    for status in [0, 1, 7, 255] {
        let number = status.to_string();
        bench.ends(&mut bench.larder(&["tools", "run", "kit", "--", "probe", "exit", &number]), status);
    }
    // SIGABRT is 6.
    bench.ends(&mut bench.larder(&["tools", "run", "kit", "--", "probe", "abort"]), 128 + 6);
}

#[test]
fn a_bound_folder_is_writable() {
    let bench = bench();
    let folder = bench.folder("work");
    let (folder, file) = (folder.to_str().unwrap(), folder.join("file"));
    assert_eq!(inside(&bench, &["--bind", folder], &["write", file.to_str().unwrap(), "text"]), "written\n");
    assert_eq!(fs_err::read_to_string(&file).unwrap(), "text");
    assert_eq!(inside(&bench, &["--bind", folder], &["read", file.to_str().unwrap()]), "text\n");
}

#[test]
fn the_rest_of_the_host_is_not_there() {
    let bench = bench();
    let lock = bench.project("profiles/base.toml");
    assert_eq!(inside(&bench, &[], &["read", lock.to_str().unwrap()]), "entity not found\n");
    assert_eq!(inside(&bench, &[], &["write", lock.to_str().unwrap(), "text"]), "entity not found\n");
    assert_eq!(inside(&bench, &[], &["read", "/etc/hostname"]), "entity not found\n");
}

#[test]
fn what_is_written_to_the_tree_is_forgotten() {
    let bench = bench();
    assert_eq!(inside(&bench, &[], &["write", "/usr/bin/file", "text"]), "written\n");
    assert_eq!(inside(&bench, &[], &["read", "/usr/bin/file"]), "entity not found\n");
}

#[test]
fn there_is_no_network_unless_asked_for() {
    let bench = bench();
    let address = bench.mirror.address();
    let address = address.trim_start_matches("http://").trim_end_matches("/debian");
    assert_eq!(inside(&bench, &["--network"], &["connect", address]), "connected\n");
    assert_eq!(inside(&bench, &[], &["connect", address]), "network unreachable\n");
}

#[test]
fn a_program_that_the_tree_lacks_is_named() {
    let bench = bench();
    bench.does(&["tools", "run", "kit", "--", "probe", "exit", "0"]);
    insta::assert_snapshot!(bench.refuses(&["tools", "run", "kit", "--", "prove"]), @r"
    error: the tree has no program `prove`

    hint: check its name, and that a package of the tree has it, with its interpreter or loader
    ");
}

#[test]
fn a_folder_to_bind_that_does_not_exist_is_named() {
    let bench = bench();
    bench.does(&["tools", "run", "kit", "--", "probe", "exit", "0"]);
    insta::assert_snapshot!(bench.refuses(&["tools", "run", "kit", "--bind", "/nowhere", "--", "probe", "exit", "0"]), @r"
    error: --bind /nowhere: not a folder that larder can show to the program
      caused by: failed to canonicalize path `/nowhere`: No such file or directory (os error 2)

    hint: name a folder that exists
    ");
}
