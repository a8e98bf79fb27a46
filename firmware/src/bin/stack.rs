//! Measures the stack that the embedded network takes: loading it at run time, a first step, and a lifetime of the cue task.
#![no_std]
#![no_main]

use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::network::Network;
use backpropamine::policy::Policy;
use backpropamine::task::cue::{Config, Cue};
use core::hint::black_box;
use cortex_m_rt::entry;
use firmware::paint::stack_of;

include!(concat!(env!("OUT_DIR"), "/image.rs"));
include!(concat!(env!("OUT_DIR"), "/words.rs"));

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let Ok(mut task) = Cue::new(Config::default()) else {
        firmware::exit(2)
    };
    let mut agent = image::Agent::new(MEMORY);
    let load = stack_of(|| {
        black_box(Network::<image::Scalar>::new(black_box(&WORDS)).is_ok());
    });
    let step = stack_of(|| {
        black_box(agent.step_real(&black_box([0.5; image::INPUTS])));
    });
    let lifetime = stack_of(|| {
        Lifetime::new(&mut task, &mut agent, Policy::Sample, EVALUATION_SEED).for_each(|event| {
            black_box(event);
        });
    });
    defmt::println!(
        "{{\"load\":{=usize},\"step\":{=usize},\"lifetime\":{=usize}}}",
        load,
        step,
        lifetime
    );
    firmware::exit(0)
}
