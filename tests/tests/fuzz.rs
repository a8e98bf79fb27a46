//! Does fuzzing go on finding nothing? Every file of the committed corpora, through the functions that the fuzzer calls.

use std::fs;
use std::path::Path;

use backpropamine_tests::fuzz;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        run(&fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 15, "{target}: only {files} files");
}

#[test]
fn the_corpus_of_images_is_harmless() {
    replay("image", fuzz::image);
}

#[test]
fn the_corpus_of_snapshots_is_harmless() {
    replay("snapshot", fuzz::snapshot);
}
