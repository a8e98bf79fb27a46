//! A network that learns from a person, on a pyboard or any STM32F405: `cargo bpam flash MODEL --board stm32f4`, or
//! `cargo run --release --no-default-features --features stm32f4 --bin stm32f4` with probe-rs as the runner.
//!
//! The LED at PA15 shows the network's answer, the one at PB4 the truth (a pyboard's yellow and blue one). Press the switch
//! at PB3, to ground, within two seconds if they differ (`firmware::taught`).
#![no_std]
#![no_main]

use backpropamine::task::cue::{Config, Cue};
use cortex_m_rt::entry;
use firmware::taught::{Taught, teach};
use rand_core::RngCore;
use stm32f4xx_hal::pac;
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc;

include!(concat!(env!("OUT_DIR"), "/image.rs"));

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let Some(board) = pac::Peripherals::take() else { firmware::exit(1) };
    let Ok(cue) = Cue::new(Config::default()) else { firmware::exit(2) };
    // The internal oscillator, so that the board's crystal does not matter; the random numbers need the 48 MHz clock.
    let mut clocks = board.RCC.freeze(rcc::Config::hsi().sysclk(168.MHz()).require_pll48clk());
    let a = board.GPIOA.split(&mut clocks);
    let b = board.GPIOB.split(&mut clocks);
    let answer = a.pa15.into_push_pull_output();
    let truth = b.pb4.into_push_pull_output();
    let button = b.pb3.into_pull_up_input();
    let delay = board.TIM2.delay_us(&mut clocks);
    let mut seeds = board.RNG.constrain(&mut clocks);
    let mut task = Taught::new(cue, answer, truth, button, delay);
    let mut agent = image::Agent::new(MEMORY);
    teach(&mut task, &mut agent, || seeds.next_u64())
}
