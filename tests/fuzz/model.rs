//! What must hold for any bytes that claim to be a model. The fuzzer calls [`model`], and a plain test of `host-train`, which
//! includes this file, calls it with every file of the corpus.

use std::path::Path;

use backpropamine::image::{Header, Numeric};
use backpropamine::network::{Agent, Network};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine_train::archive::Archive;
use backpropamine_train::export;
use backpropamine_train::image_file::ImageFile;
use backpropamine_train::model::Model;

/// Reads a model, writes it again, makes every image of it and lets that live a step.
///
/// # Panics
/// When a promise of the host does not hold.
pub fn model(bytes: &[u8]) {
    let path = Path::new("fuzzed.safetensors");
    let Ok(archive) = Archive::from_bytes(bytes, path) else { return };
    let written = archive.to_bytes().expect("what was read can be written");
    assert_eq!(
        Archive::from_bytes(&written, path),
        Ok(archive.clone()),
        "it is read as it was written"
    );
    let Ok(model) = Model::from_archive(&archive, path) else { return };
    assert_eq!(model.to_archive(), archive, "a model keeps everything");
    live::<f32>(&export::f32_image(&model), &model);
    for numeric in [Numeric::Q15, Numeric::Q7] {
        let Ok(image) = export::fixed_image(&model, numeric, path, 1.0) else {
            continue;
        };
        match numeric {
            Numeric::Q7 => live::<Q7>(&image.words, &model),
            _ => live::<Q15>(&image.words, &model),
        }
    }
}

/// An image that was just made loads, says of itself what the model says, and runs.
fn live<S: Scalar>(words: &[u32], model: &Model) {
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let file = ImageFile::from_bytes(&bytes, Path::new("fuzzed.bpam")).expect("an exported image loads");
    for (key, word) in &file.metadata {
        assert_eq!(model.metadata.get(key), Some(word), "metadata {key}");
    }
    let Header {
        inputs, hidden, outputs, ..
    } = file.header;
    let sizes = model.sizes;
    assert_eq!((inputs, hidden, outputs), (sizes.inputs, sizes.hidden, sizes.actions));
    let network = Network::<S>::new(words).expect("an exported image loads");
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).expect("the memory is as large as asked for");
    for _ in 0..2 {
        agent.step_real(&vec![1.0; inputs]).expect("as many inputs as asked for");
    }
}
