//! Learns? The committed networks on evaluation lifetimes, with all digits of what is claimed for them.

use std::path::Path;
use std::thread;

use backpropamine::image::{Section, seal};
use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::{Agent, Network};
use backpropamine::policy::Policy;
use backpropamine::scalar::Q15;
use backpropamine::task::Task;
use backpropamine::task::cue::{Config, Cue};

const LIFETIMES: u64 = 2_000;

fn committed(name: &str) -> Vec<u32> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../firmware/weights").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect()
}

/// Correct and all responses in the second half of a lifetime.
fn late_responses(network: &Network<'_, Q15>, memory: &mut [u64], seed: u64) -> (f64, f64) {
    let mut agent = Agent::new(network, memory).unwrap();
    let mut task = Cue::new(Config::default()).unwrap();
    let half = task.steps() / 2;
    let late = Lifetime::new(&mut task, &mut agent, Policy::Sample, seed).filter(|event| event.step >= half);
    late.filter_map(|event| event.outcome.trial)
        .fold((0.0, 0.0), |(correct, all), trial| {
            (correct + f64::from(u8::from(trial)), all + 1.0)
        })
}

/// Late accuracy and the lower end of its 95% interval, lifetimes being the independent units.
fn late_accuracy(words: &[u32]) -> (f64, f64) {
    let network = Network::<Q15>::new(words).unwrap();
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let responses: Vec<(f64, f64)> = thread::scope(|scope| {
        let network = &network;
        let workers: Vec<_> = (0..threads)
            .map(|first| {
                scope.spawn(move || {
                    let mut memory = vec![0; network.memory_words()];
                    let seeds = (EVALUATION_SEED..EVALUATION_SEED + LIFETIMES).skip(first).step_by(threads);
                    seeds.map(|seed| late_responses(network, &mut memory, seed)).collect::<Vec<_>>()
                })
            })
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let correct: f64 = responses.iter().map(|(correct, _)| correct).sum();
    let all: f64 = responses.iter().map(|(_, all)| all).sum();
    let accuracy = correct / all;
    let squares: f64 = responses.iter().map(|(correct, all)| (correct - accuracy * all).powi(2)).sum();
    (accuracy, accuracy - 1.96 * squares.sqrt() / all)
}

fn assert_learns(name: &str, least: f64) {
    let words = committed(name);
    let (accuracy, lower) = late_accuracy(&words);
    println!("{name}: late accuracy {accuracy:.4}, at least {lower:.4}");
    assert!(lower >= least, "{name}: late accuracy {accuracy}, at least {lower}");
}

#[test]
fn the_simple_network_learns() {
    assert_learns("cue-simple.bpam", 0.95);
}

#[test]
fn the_retroactive_network_learns() {
    assert_learns("cue-retroactive.bpam", 0.94);
}

/// The same network without plastic weights is at chance: what it learns, it learns in its traces.
#[test]
fn without_its_traces_it_does_not() {
    let mut words = committed("cue-simple.bpam");
    let header = *Network::<Q15>::new(&words).unwrap().header();
    let start = header.section_start(Section::Alpha);
    words[start..start + header.section_words(Section::Alpha)].fill(0);
    seal(&mut words);
    let (accuracy, _) = late_accuracy(&words);
    assert!((accuracy - 0.5).abs() < 0.05, "late accuracy {accuracy} without plasticity");
}
