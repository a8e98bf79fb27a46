//! Does fuzzing of the model loader go on finding nothing? Every file of the committed corpus, through the function that the
//! fuzzer calls.

use std::fs;
use std::path::Path;

#[path = "../../tests/fuzz/model.rs"]
mod model;

#[test]
fn the_corpus_of_models_is_harmless() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fuzz/corpus/model");
    let mut files = 0;
    for entry in fs::read_dir(folder).unwrap() {
        model::model(&fs::read(entry.unwrap().path()).unwrap());
        files += 1;
    }
    assert!(files >= 7, "only {files} files");
}
