//! Writes the files that fuzzing starts from into `corpus/`: small valid ones of every kind.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use backpropamine::network::{Agent, Network};
use backpropamine::rule::{Clip, Granularity, Rule, Squash};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine::snapshot::{self, Life};
use backpropamine_tests::golden;
use backpropamine_tests::image::{f32_words, q7_words, q15_words};
use backpropamine_tests::parameters::{Parameters, Shape};

fn main() -> Result<(), Box<dyn Error>> {
    for (name, shape) in shapes() {
        let parameters = Parameters::random(shape, 1);
        save("image", &format!("{name}-f32"), &bytes(&f32_words(&parameters)))?;
        save("image", &format!("{name}-q15"), &bytes(&q15_words(&parameters, 1.0)))?;
        save("image", &format!("{name}-q7"), &bytes(&q7_words(&parameters, 1.0)))?;
    }
    for (choice, (name, words)) in (0..).zip(golden::images()) {
        let life = match name.rsplit('-').next() {
            Some("q15") => life::<Q15>(&words)?,
            Some("q7") => life::<Q7>(&words)?,
            _ => life::<f32>(&words)?,
        };
        // As `backpropamine_tests::fuzz::snapshot` reads it: the network, what is repaired, the snapshot.
        save("snapshot", &name, &[&[choice, 0x7f], &*life].concat())?;
    }
    Ok(())
}

/// Every rule, clip and tensor, in a few neurons.
fn shapes() -> [(&'static str, Shape); 7] {
    let network = |rule| Shape::new(rule, 2, 3, 2);
    let clipped = |rule, clip_kind| Shape {
        clip_kind,
        ..network(rule)
    };
    [
        ("none", network(Rule::NonPlastic)),
        ("hebbian", network(Rule::Hebbian)),
        ("simple", network(Rule::Modulated)),
        ("retroactive", network(Rule::Retroactive)),
        ("decay", clipped(Rule::Hebbian, Clip::Decay)),
        ("oja", clipped(Rule::Modulated, Clip::Oja)),
        (
            "masked",
            Shape {
                modulators: 2,
                fan_out: true,
                squash: Squash::Sigmoid,
                alpha: Granularity::PerNeuron,
                eta: Granularity::PerConnection,
                hebbian_eta: Granularity::PerConnection,
                ..clipped(Rule::Retroactive, Clip::Soft)
            },
        ),
    ]
}

/// The snapshot of an agent that has lived a few steps.
fn life<S: Scalar>(words: &[u32]) -> Result<Vec<u8>, Box<dyn Error>> {
    let network = Network::<S>::new(words)?;
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory)?;
    let x = vec![0.5; network.header().inputs];
    for _ in 0..5 {
        agent.step_real(&x)?;
    }
    let mut file = Vec::new();
    snapshot::write(&mut agent, &Life::default(), 1, |part| {
        file.extend_from_slice(part);
        Ok::<(), Box<dyn Error>>(())
    })?;
    Ok(file)
}

fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn save(target: &str, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), bytes)
}
