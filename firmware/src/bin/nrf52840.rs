//! A network that learns from a person, on an nRF52840-DK: `cargo bpam flash MODEL`, or
//! `cargo run --release --no-default-features --features nrf52840 --bin nrf52840` with probe-rs installed.
//!
//! LED 1 shows the network's answer, LED 2 the truth. Press button 1 within two seconds if they differ, or by a rule of your
//! own: it will learn that (`firmware::taught`).
#![no_std]
#![no_main]

use backpropamine::task::cue::{Config, Cue};
use cortex_m_rt::entry;
use firmware::button::ActiveLow;
use firmware::taught::{Taught, teach};
use nrf52840_hal::gpio::{Level, p0};
use nrf52840_hal::{Rng, Timer, pac};

include!(concat!(env!("OUT_DIR"), "/image.rs"));

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let Some(board) = pac::Peripherals::take() else { firmware::exit(1) };
    let pins = p0::Parts::new(board.P0);
    let Ok(cue) = Cue::new(Config::default()) else { firmware::exit(2) };
    let answer = ActiveLow(pins.p0_13.into_push_pull_output(Level::High));
    let truth = ActiveLow(pins.p0_14.into_push_pull_output(Level::High));
    let button = pins.p0_11.into_pullup_input();
    let mut task = Taught::new(cue, answer, truth, button, Timer::new(board.TIMER0));
    let mut agent = image::Agent::new(MEMORY);
    let mut seeds = Rng::new(board.RNG);
    teach(&mut task, &mut agent, || seeds.random_u64())
}
