//! The typed front door of `embed!` against the run-time door: the same image, bit for bit the same life.

use backpropamine::embed;
use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::{Agent, Living, Network, Source};
use backpropamine::policy::Policy;
use backpropamine::scalar::{Q7, Q15};
use backpropamine::task::Task;
use backpropamine::task::cue::{Config, Cue};
use backpropamine_tests::golden::folder;

embed!(none: f32 = "../golden/none-f32.bpam");
embed!(simple: f32 = "../golden/simple-f32.bpam");
embed!(retroactive: f32 = "../golden/retroactive-f32.bpam");
embed!(simple_q15: Q15 = "../golden/simple-q15.bpam");
embed!(masked_q15: Q15 = "../golden/masked-q15.bpam");
embed!(simple_q7: Q7 = "../golden/simple-q7.bpam");
embed!(masked_q7: Q7 = "../golden/masked-q7.bpam");

fn digest(agent: &mut Living<'_, impl Source>) -> u64 {
    let mut task = Cue::new(Config::default()).unwrap();
    let mut lifetime = Lifetime::new(&mut task, agent, Policy::Sample, EVALUATION_SEED);
    lifetime.by_ref().for_each(drop);
    lifetime.digest()
}

fn file(name: &str) -> Vec<u32> {
    let bytes = std::fs::read(folder().join(name)).unwrap();
    bytes.as_chunks().0.iter().copied().map(u32::from_le_bytes).collect()
}

macro_rules! assert_same_life {
    ($model:ident, $scalar:ty, $file:literal) => {
        let words = file($file);
        let network = Network::<$scalar>::new(&words).unwrap();
        assert_eq!($model::NETWORK.header(), network.header());
        assert_eq!(size_of::<$model::Memory>(), 8 * network.memory_words());
        let mut memory = vec![0; network.memory_words()];
        let mut typed_memory = $model::Memory::new();
        assert_eq!(
            digest(&mut $model::Agent::new(&mut typed_memory)),
            digest(&mut Agent::new(&network, &mut memory).unwrap()),
            $file
        );
    };
}

#[test]
fn both_doors_lead_to_the_same_life() {
    assert_same_life!(none, f32, "none-f32.bpam");
    assert_same_life!(simple, f32, "simple-f32.bpam");
    assert_same_life!(retroactive, f32, "retroactive-f32.bpam");
    assert_same_life!(simple_q15, Q15, "simple-q15.bpam");
    assert_same_life!(masked_q15, Q15, "masked-q15.bpam");
    assert_same_life!(simple_q7, Q7, "simple-q7.bpam");
    assert_same_life!(masked_q7, Q7, "masked-q7.bpam");
}

#[test]
fn both_doors_give_the_same_bits_in_every_step() {
    let words = file("simple-q15.bpam");
    let network = Network::<Q15>::new(&words).unwrap();
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).unwrap();
    let mut typed_memory = simple_q15::Memory::new();
    let mut typed = simple_q15::Agent::new(&mut typed_memory);
    // Miri takes a thousand times as long.
    for t in 0..if cfg!(miri) { 2 } else { 40 } {
        let x: [Q15; simple_q15::INPUTS] = std::array::from_fn(|i| Q15::from_bits((t * 997 + i as i32 * 4_001) as i16));
        assert_eq!(typed.step(&x), agent.step(&x).unwrap());
        assert_eq!(typed.hidden(), agent.hidden());
        assert_eq!(typed.modulator(), agent.modulator());
        assert_eq!(typed.value(), agent.value());
        assert_eq!(typed.hebb(3, 32), agent.hebb(3, 32));
    }
}

#[test]
fn the_sizes_are_those_of_the_task() {
    let task = Cue::new(Config::default()).unwrap();
    assert_eq!((simple::INPUTS, simple::OUTPUTS), (task.inputs(), task.actions()));
}

/// An image as a constant: the header can be asked while compiling.
const _: () = assert!(retroactive::NETWORK.header().hidden == 12);
