//! Runs a task that is not part of the core: the file that the host's example `own_task` trains on.
//! Prints one digest per lifetime.
#![no_std]
#![no_main]

use backpropamine::lifetime::{EVALUATION_SEED, Lifetime};
use backpropamine::policy::Policy;
use backpropamine::rng::{Rng, Stream};
use backpropamine::task::Task;
use cortex_m_rt::entry;

include!(concat!(env!("OUT_DIR"), "/image.rs"));

#[path = "../../../host-train/examples/own_task/task.rs"]
mod task;

/// Lifetimes of one run.
const LIFETIMES: u64 = 20;

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let mut panel = task::Panel::new(Rng::new(0).lifetime(Stream::Task, 0));
    if (panel.inputs(), panel.actions()) != (image::INPUTS, image::OUTPUTS) {
        defmt::error!(
            "the image has {=usize} inputs and {=usize} outputs: not made for this task",
            image::INPUTS,
            image::OUTPUTS
        );
        firmware::exit(2)
    }
    let mut agent = image::Agent::new(MEMORY);
    for seed in EVALUATION_SEED..EVALUATION_SEED + LIFETIMES {
        let mut lifetime = Lifetime::new(&mut panel, &mut agent, Policy::Sample, seed);
        lifetime.by_ref().for_each(drop);
        defmt::println!("{=u64:016x}", lifetime.digest());
    }
    firmware::exit(0)
}
