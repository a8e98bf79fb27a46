//! Instructions of the embedded network's step and of its parts, by the timer of the emulated MPS2 boards.
//!
//! Prints ticks of all repeats together, less those of an empty measurement.
#![no_std]
#![no_main]

use backpropamine::network::Network;
use backpropamine::scalar::Scalar;
use core::hint::black_box;
use cortex_m_rt::entry;
use firmware::timer::Timer;

include!(concat!(env!("OUT_DIR"), "/image.rs"));

/// Steps before the measurement: the traces are no longer empty then.
const WARM_UP: u32 = 20;
/// Steps of the measurement.
const REPEATS: u32 = 20;

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let mut agent = image::Agent::new(MEMORY);
    let network: &Network<image::Scalar> = &image::NETWORK;
    let (on, _) = image::Scalar::from_input(0.5, network.header());
    let (off, _) = image::Scalar::from_input(-0.25, network.header());
    let inputs = [[on; image::INPUTS], [off; image::INPUTS]];
    let mut step = |number: u32| {
        black_box(agent.step(black_box(&inputs[number as usize % 2])));
    };
    (0..WARM_UP).for_each(&mut step);
    let timer = Timer::start();
    let empty = timer.ticks(REPEATS, |number| {
        black_box(number);
    });
    let steps = timer.ticks(REPEATS, step);
    let head = timer.ticks(REPEATS, |_| {
        black_box(agent.value());
    });
    defmt::println!(
        "{{\"repeats\":{=u32},\"step\":{=u32},\"head\":{=u32}}}",
        REPEATS,
        steps - empty,
        head.saturating_sub(empty)
    );
    firmware::exit(0)
}
