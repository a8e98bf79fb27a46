//! A network that learns from a person, on a Raspberry Pi Pico: `cargo bpam flash MODEL --board rp2040`, or
//! `cargo run --release --no-default-features --features rp2040 --bin rp2040 --target thumbv6m-none-eabi` with probe-rs.
//!
//! The board's own LED (GP25) shows the network's answer, an LED at GP15 the truth. Press a button between GP14 and ground
//! within two seconds if they differ (`firmware::taught`).
#![no_std]
#![no_main]

use backpropamine::task::cue::{Config, Cue};
use cortex_m_rt::entry;
use firmware::taught::{Taught, teach};
use rp2040_hal::clocks::init_clocks_and_plls;
use rp2040_hal::gpio::Pins;
use rp2040_hal::rosc::RingOscillator;
use rp2040_hal::{Sio, Timer, Watchdog, pac};

include!(concat!(env!("OUT_DIR"), "/image.rs"));

/// The second stage of the boot loader, which the chip's ROM runs to read the flash at full speed.
#[unsafe(link_section = ".boot2")]
#[used]
static BOOT2: [u8; 256] = rp2040_boot2::BOOT_LOADER_W25Q080;

/// The Pico's crystal.
const CRYSTAL_HZ: u32 = 12_000_000;

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let Some(mut board) = pac::Peripherals::take() else {
        firmware::exit(1)
    };
    let Ok(cue) = Cue::new(Config::default()) else { firmware::exit(2) };
    let mut watchdog = Watchdog::new(board.WATCHDOG);
    let Ok(clocks) = init_clocks_and_plls(
        CRYSTAL_HZ,
        board.XOSC,
        board.CLOCKS,
        board.PLL_SYS,
        board.PLL_USB,
        &mut board.RESETS,
        &mut watchdog,
    ) else {
        firmware::exit(3)
    };
    let timer = Timer::new(board.TIMER, &mut board.RESETS, &clocks);
    let sio = Sio::new(board.SIO);
    let pins = Pins::new(board.IO_BANK0, board.PADS_BANK0, sio.gpio_bank0, &mut board.RESETS);
    let answer = pins.gpio25.into_push_pull_output();
    let truth = pins.gpio15.into_push_pull_output();
    let button = pins.gpio14.into_pull_up_input();
    // The jitter of the ring oscillator is the chip's only source of chance.
    let chance = RingOscillator::new(board.ROSC).initialize();
    let mut task = Taught::new(cue, answer, truth, button, timer);
    let mut agent = image::Agent::new(MEMORY);
    teach(&mut task, &mut agent, || {
        (0..64).fold(0, |seed, _| (seed << 1) | u64::from(chance.get_random_bit()))
    })
}
