//! Does fuzzing go on finding nothing? Every file of the committed corpora, through the functions that the fuzzer calls.

use std::fs;
use std::path::Path;

use backpropamine_tests::fuzz;

fn replay(target: &str, run: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() >= 15, "{target}: only {} files", files.len());
    // Miri takes a thousand times as long: a few small ones.
    files.sort_by_key(|file| fs::metadata(file).unwrap().len());
    let every = if cfg!(miri) { files.len() / 5 } else { 1 };
    let count = if cfg!(miri) { 4 } else { files.len() };
    for file in files.into_iter().step_by(every).take(count) {
        run(&fs::read(file).unwrap());
    }
}

#[test]
fn the_corpus_of_images_is_harmless() {
    replay("image", fuzz::image);
}

#[test]
fn the_corpus_of_snapshots_is_harmless() {
    replay("snapshot", fuzz::snapshot);
}
