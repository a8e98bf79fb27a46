//! Instructions of single steps of the embedded network on very different data, by the timer of the emulated MPS2 boards: all equal
//! in fixed point with the feature `constant-time`.
//!
//! Prints the ticks of each case's steps in one line, `{"case":"silent","ticks":[…]}`.
#![no_std]
#![no_main]

use backpropamine::rng::{Rng, Stream};
use backpropamine::scalar::Scalar;
use core::hint::black_box;
use cortex_m_rt::entry;
use firmware::timer::Timer;

include!(concat!(env!("OUT_DIR"), "/image.rs"));

/// Measured steps of a case.
const STEPS: u32 = 8;

/// What differs: inputs as parts of their range, by step and place, and what every Hebbian trace is before the first step.
struct Case {
    name: &'static str,
    input: fn(u32, u32) -> f32,
    trace: f32,
}

const CASES: [Case; 5] = [
    Case {
        name: "silent",
        input: |_, _| 0.0,
        trace: 0.0,
    },
    Case {
        name: "highest",
        input: |_, _| 1.0,
        trace: 1.0,
    },
    Case {
        name: "lowest",
        input: |_, _| -1.0,
        trace: -1.0,
    },
    Case {
        name: "alternating",
        input: |step, place| if (step + place) % 2 == 0 { 1.0 } else { -1.0 },
        trace: 0.5,
    },
    Case {
        name: "random",
        input: random,
        trace: 0.0,
    },
];

fn random(step: u32, place: u32) -> f32 {
    Rng::new(1).lifetime(Stream::Task, 0).draw(step, place) as i32 as f32 / 2_147_483_648.0
}

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let mut agent = image::Agent::new(MEMORY);
    let header = image::NETWORK.header();
    let range = f32::from_bits((127 + i32::from(header.formats.input_scale) as u32) << 23);
    let timer = Timer::start();
    for case in &CASES {
        agent.reset();
        let (trace, _) = image::Scalar::from_input(case.trace * range, header);
        agent.map_hebb(|_| trace);
        let mut ticks = [0; STEPS as usize];
        // A first step, after which there is a change of the traces to be carried out, as ever after.
        for (step, ticks) in (0..).zip([0].iter_mut().chain(&mut ticks)) {
            let x = core::array::from_fn(|place| image::Scalar::from_input((case.input)(step, place as u32) * range, header).0);
            *ticks = timer.ticks(1, |_| {
                black_box(agent.step(black_box(&x)));
            });
        }
        defmt::println!("{{\"case\":\"{=str}\",\"ticks\":{}}}", case.name, ticks);
    }
    firmware::exit(0)
}
