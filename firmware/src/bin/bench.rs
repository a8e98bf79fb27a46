//! Instructions of the embedded network's step and of its parts, and of `tanh`, by the timer of the emulated MPS2 boards.
//!
//! Prints ticks of all repeats together, less those of an empty measurement.
#![no_std]
#![no_main]

use backpropamine::math::{tanh_f32, tanh_q15};
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
    let arguments = timer.ticks(REPEATS, |_| {
        each_argument(|argument| {
            black_box(argument);
        });
    });
    let tanh_f32 = timer.ticks(REPEATS, |_| {
        each_argument(|argument| {
            black_box(tanh_f32(argument));
        });
    });
    let tanh_q15 = timer.ticks(REPEATS, |_| {
        each_argument(|argument| {
            black_box(tanh_q15(argument.to_bits() as i32));
        });
    });
    defmt::println!(
        "{{\"repeats\":{=u32},\"step\":{=u32},\"head\":{=u32},\"tanh_f32\":{=u32},\"tanh_q15\":{=u32}}}",
        REPEATS,
        steps - empty,
        head.saturating_sub(empty),
        tanh_f32.saturating_sub(arguments) / ARGUMENTS.len() as u32,
        tanh_q15.saturating_sub(arguments) / ARGUMENTS.len() as u32,
    );
    firmware::exit(0)
}

/// Arguments of `tanh`, on both sides of where its approximations change. As bits they are arguments in fixed point.
const ARGUMENTS: [f32; 8] = [-3.0, -1.5, -0.75, -0.1, 0.1, 0.75, 1.5, 3.0];

fn each_argument(call: impl FnMut(f32)) {
    black_box(&ARGUMENTS).iter().copied().for_each(call);
}
