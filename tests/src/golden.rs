//! The golden lifetimes: small networks of every rule in every arithmetic, whose digests are committed and must come out
//! on every machine. The images lie in `tests/golden/` beside `digests.txt`, which has one line per lifetime:
//! name, seed, digest. Firmware embeds the same files and prints the same lines.

use std::path::PathBuf;

use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::{Agent, Network};
use backpropamine::policy::Policy;
use backpropamine::rule::{Clip, Granularity, Rule, Squash};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine::task::Task;
use backpropamine::task::cue::{Config, Cue};

use crate::image::{f32_words, q7_words, q15_words};
use crate::parameters::{Parameters, Shape};

/// Lifetimes of each image: evaluation seeds from the first on.
pub const LIFETIMES: u64 = 2;

/// Every image: its name, which ends in its arithmetic, and its words.
pub fn images() -> Vec<(String, Vec<u32>)> {
    let networks = shapes().into_iter().zip(1..);
    networks
        .flat_map(|((name, shape), seed)| {
            let parameters = Parameters::random(shape, seed);
            let range = Cue::new(Config::default()).map_or(1.0, |task| task.input_range());
            [
                (format!("{name}-f32"), f32_words(&parameters)),
                (format!("{name}-q15"), q15_words(&parameters, range)),
                (format!("{name}-q7"), q7_words(&parameters, range)),
            ]
        })
        .collect()
}

/// Between them they have every rule, clip, granularity, nonlinearity and head, odd and even row lengths, and a row longer
/// than a block.
fn shapes() -> [(&'static str, Shape); 8] {
    let network = |rule, hidden| Shape::new(rule, 27, hidden, 2);
    [
        ("none", network(Rule::NonPlastic, 7)),
        (
            "hebbian",
            Shape {
                alpha: Granularity::PerNeuron,
                eta: Granularity::PerConnection,
                clip: 0.5,
                ..network(Rule::Hebbian, 12)
            },
        ),
        (
            "simple",
            Shape {
                modulators: 2,
                fan_out: true,
                squash: Squash::Sigmoid,
                ..network(Rule::Modulated, 33)
            },
        ),
        ("retroactive", network(Rule::Retroactive, 12)),
        (
            "masked",
            Shape {
                squash: Squash::Identity,
                clip: 2.0,
                alpha: Granularity::Single,
                eta: Granularity::PerNeuron,
                hebbian_eta: Granularity::PerConnection,
                value: false,
                ..network(Rule::Retroactive, 9)
            },
        ),
        (
            "soft",
            Shape {
                clip_kind: Clip::Soft,
                hebbian_eta: Granularity::PerNeuron,
                ..network(Rule::Retroactive, 10)
            },
        ),
        (
            "decay",
            Shape {
                clip_kind: Clip::Decay,
                squash: Squash::Sigmoid,
                ..network(Rule::Modulated, 11)
            },
        ),
        (
            "oja",
            Shape {
                clip_kind: Clip::Oja,
                eta: Granularity::PerConnection,
                ..network(Rule::Hebbian, 12)
            },
        ),
    ]
}

/// The folder of the images and digests.
pub fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The digest lines of one image.
pub fn digests(name: &str, words: &[u32]) -> String {
    let seeds = EVALUATION_SEED..EVALUATION_SEED + LIFETIMES;
    let digest = match name.rsplit('-').next() {
        Some("q15") => digest::<Q15>,
        Some("q7") => digest::<Q7>,
        _ => digest::<f32>,
    };
    seeds.map(|seed| format!("{name} {seed} {:016x}\n", digest(words, seed))).collect()
}

/// The digest of one lifetime in the cue task, actions sampled.
fn digest<S: Scalar>(words: &[u32], seed: u64) -> u64 {
    let network = Network::<S>::new(words).expect("a golden image loads");
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).expect("the memory is as large as asked for");
    let mut task = Cue::new(Config::default()).expect("the default task is lawful");
    let mut lifetime = Lifetime::new(&mut task, &mut agent, Policy::Sample, seed);
    lifetime.by_ref().for_each(drop);
    lifetime.digest()
}
