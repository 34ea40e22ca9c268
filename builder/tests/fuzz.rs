//! Replays the fuzzers' corpora: what was once found stays mended.

#[path = "../fuzz/src/targets.rs"]
mod targets;

#[allow(dead_code, clippy::unwrap_used, reason = "shared: each user takes what it needs")]
#[path = "support/archive.rs"]
mod archive;
#[allow(dead_code, clippy::unwrap_used, reason = "shared: each user takes what it needs")]
#[path = "support/deb.rs"]
mod deb;

use std::path::Path;

#[test]
fn every_input_that_fuzzing_kept_is_handled() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    for (name, target) in targets::ALL {
        let mut inputs = 0;
        for input in fs_err::read_dir(corpus.join(name)).expect("a folder for each target") {
            let path = input.expect("listing a corpus").path();
            println!("{}", path.display());
            target(&fs_err::read(&path).expect("reading an input"));
            inputs += 1;
        }
        assert!(inputs > 0, "the corpus of {name} is empty");
    }
}
