//! Same as yesterday, same everywhere? Whole lifetimes by digest, from the committed images.

use std::fs;

use backpropamine_tests::golden::{digests, folder, images};

fn committed(name: &str) -> Vec<u32> {
    let path = folder().join(format!("{name}.bpam"));
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect()
}

#[test]
fn the_committed_lifetimes_come_out_again() {
    let found: String = images().iter().map(|(name, _)| digests(name, &committed(name))).collect();
    let expected = fs::read_to_string(folder().join("digests.txt")).unwrap();
    assert_eq!(found, expected);
}

/// The generator and both builders have not drifted either.
#[test]
fn the_committed_images_can_be_made_again() {
    for (name, words) in images() {
        assert!(committed(&name) == words, "{name}.bpam differs from what is built now");
    }
}
