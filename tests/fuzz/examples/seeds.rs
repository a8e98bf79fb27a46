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
use backpropamine_train::archive::{Archive, Tensor};
use backpropamine_train::model::{FORMAT, SQUASHES, rule_word};

fn main() -> Result<(), Box<dyn Error>> {
    for (name, shape) in shapes() {
        let parameters = Parameters::random(shape, 1);
        save("image", &format!("{name}-f32"), &bytes(&f32_words(&parameters)))?;
        save("image", &format!("{name}-q15"), &bytes(&q15_words(&parameters, 1.0)))?;
        save("image", &format!("{name}-q7"), &bytes(&q7_words(&parameters, 1.0)))?;
        save("model", name, &model(&parameters).to_bytes()?)?;
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

/// The model file of a network.
fn model(parameters: &Parameters) -> Archive {
    let Shape { inputs, hidden, actions, modulators, rule, squash, clip_kind, .. } = parameters.shape;
    let mask: Vec<f32> = parameters.mask.iter().map(|modulated| f32::from(u8::from(*modulated))).collect();
    let coefficient = |values: &[f32]| match values.len() {
        1 => vec![1],
        n if n == hidden => vec![hidden],
        _ => vec![hidden, hidden],
    };
    let p = parameters;
    let tensors: [(&str, &[f32], Vec<usize>); 15] = [
        ("input.weight", &p.input_weight, vec![hidden, inputs]),
        ("input.bias", &p.input_bias, vec![hidden]),
        ("recurrent.weight", &p.recurrent_weight, vec![hidden, hidden]),
        ("recurrent.alpha", &p.alpha, coefficient(&p.alpha)),
        ("recurrent.eta", &p.eta, coefficient(&p.eta)),
        ("recurrent.hebbian_eta", &p.hebbian_eta, coefficient(&p.hebbian_eta)),
        ("modulator.mask", &mask, vec![hidden]),
        ("modulator.weight", &p.modulator_weight, vec![modulators, hidden]),
        ("modulator.bias", &p.modulator_bias, vec![modulators]),
        ("modulator.fan_out.weight", &p.fan_out_weight, vec![hidden, modulators]),
        ("modulator.fan_out.bias", &p.fan_out_bias, vec![hidden]),
        ("policy.weight", &p.policy_weight, vec![actions, hidden]),
        ("policy.bias", &p.policy_bias, vec![actions]),
        ("value.weight", &p.value_weight, vec![1, hidden]),
        ("value.bias", &p.value_bias, vec![1]),
    ];
    let present = tensors.into_iter().filter(|(_, values, _)| !values.is_empty());
    let clip = match clip_kind {
        Clip::Hard => "hard:1",
        Clip::Soft => "soft",
        Clip::Decay => "decay",
        Clip::Oja => "oja",
    };
    let squash = SQUASHES.iter().find(|(_, other)| *other == squash).map_or("tanh", |(word, _)| word);
    let words = [("format", FORMAT), ("cell", "rnn"), ("rule", rule_word(rule)), ("clip", clip), ("modulator", squash), ("task", "cue")];
    Archive {
        tensors: present.map(|(name, values, shape)| (name.to_owned(), Tensor::from_f32(&shape, values))).collect(),
        metadata: words.map(|(key, word)| (key.to_owned(), word.to_owned())).into(),
    }
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
