//! Replays the golden lifetimes and prints `NAME SEED DIGEST` lines: equal to `tests/golden/digests.txt` on every target,
//! for every rule, granularity and arithmetic. The images are loaded at run time, through the door that `cue` does not use.
#![no_std]
#![no_main]

use backpropamine::image::words_of;
use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::{Agent, Network};
use backpropamine::policy::Policy;
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine::task::cue::{Config, Cue};
use cortex_m_rt::entry;

/// Words of memory that the largest golden image needs.
const WORDS: usize = 640;

/// Lifetimes of each image.
const LIFETIMES: u64 = 2;

/// Runs each image from `tests/golden/`, in the order of the file of digests.
macro_rules! replay {
    ($memory:expr, $($name:literal: $scalar:ty),+ $(,)?) => {
        $({
            const BYTES: &[u8] = include_bytes!(concat!("../../../tests/golden/", $name, ".bpam"));
            static IMAGE: [u32; BYTES.len() / 4] = words_of(BYTES);
            run::<$scalar>($name, &IMAGE, $memory);
        })+
    };
}

#[entry]
fn main() -> ! {
    static mut MEMORY: [u64; WORDS] = [0; WORDS];
    replay!(
        MEMORY,
        "none-f32": f32,
        "none-q15": Q15,
        "none-q7": Q7,
        "hebbian-f32": f32,
        "hebbian-q15": Q15,
        "hebbian-q7": Q7,
        "simple-f32": f32,
        "simple-q15": Q15,
        "simple-q7": Q7,
        "retroactive-f32": f32,
        "retroactive-q15": Q15,
        "retroactive-q7": Q7,
        "masked-f32": f32,
        "masked-q15": Q15,
        "masked-q7": Q7,
        "soft-f32": f32,
        "soft-q15": Q15,
        "soft-q7": Q7,
        "decay-f32": f32,
        "decay-q15": Q15,
        "decay-q7": Q7,
        "oja-f32": f32,
        "oja-q15": Q15,
        "oja-q7": Q7,
    );
    defmt::println!("end");
    firmware::exit(0)
}

/// The lifetimes of one image.
fn run<S: Scalar>(name: &'static str, image: &'static [u32], memory: &mut [u64]) {
    let network = match Network::<S>::new(image) {
        Ok(network) => network,
        Err(error) => fail(name, error),
    };
    let Some(memory) = memory.get_mut(..network.memory_words()) else {
        fail(name, network.memory_words())
    };
    let mut agent = match Agent::new(&network, memory) {
        Ok(agent) => agent,
        Err(error) => fail(name, error),
    };
    let mut task = match Cue::new(Config::default()) {
        Ok(task) => task,
        Err(error) => fail(name, error),
    };
    for seed in EVALUATION_SEED..EVALUATION_SEED + LIFETIMES {
        let mut lifetime = Lifetime::new(&mut task, &mut agent, Policy::Sample, seed);
        lifetime.by_ref().for_each(drop);
        defmt::println!("{=str} {=u64} {=u64:016x}", name, seed, lifetime.digest());
    }
}

fn fail(name: &str, error: impl defmt::Format) -> ! {
    defmt::error!("{=str}: {}", name, error);
    firmware::exit(1)
}
