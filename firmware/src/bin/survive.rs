//! A network that power cuts do not make forget: it lives lifetimes of the cue task and saves what it learned by a policy
//! (`firmware::survive`). The variables `BPAM_SAVE` and `BPAM_CUTS` choose the policy and the power cuts.
//!
//! In the emulator a cut is a reset, and the flash memory is simulated in RAM that a reset leaves alone. On an nRF52840
//! (`--no-default-features --features nrf52840`) it is the chip's own, from `_snapshots` on, and the cut is you, pulling the plug.
#![no_std]
#![no_main]

use backpropamine::snapshot::{SavePolicy, Slots};
use backpropamine::task::cue::{Config as CueConfig, Cue, Variant};
use cortex_m_rt::entry;
use firmware::survive::{self, Ended, Plan};

include!(concat!(env!("OUT_DIR"), "/image.rs"));
include!(concat!(env!("OUT_DIR"), "/cue.rs"));
include!(concat!(env!("OUT_DIR"), "/survive.rs"));

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let mut agent = image::Agent::new(MEMORY);
    let Ok(mut cue) = Cue::new(TASK) else { firmware::exit(2) };
    let (flash, boots_before) = power_on();
    let mut slots = Slots::new(flash, 0..SIZE as u32);
    let plan = Plan {
        policy: POLICY,
        lifetimes: LIFETIMES,
        power: CUTS.get(boots_before).copied(),
    };
    match survive::lives(&mut cue, &mut agent, &mut slots, &plan) {
        Ok(Ended::Lived) => firmware::exit(0),
        Ok(Ended::PowerCut) => cortex_m::peripheral::SCB::sys_reset(),
        Err(error) => {
            defmt::error!("snapshots: {}", defmt::Debug2Format(&error));
            firmware::exit(3)
        }
    }
}

#[cfg(feature = "semihosting")]
use emulated::{SIZE, power_on};
#[cfg(not(feature = "semihosting"))]
use nrf52840::{SIZE, power_on};

#[cfg(feature = "semihosting")]
mod emulated {
    use core::mem::MaybeUninit;

    use firmware::ram_flash::RamFlash;

    /// Bytes of the simulated flash memory.
    pub const SIZE: usize = 64 * 1024;

    /// What a reset leaves alone.
    struct Kept {
        /// Says that the rest is not the rubbish of a first power-on.
        mark: u32,
        /// Power-ons so far.
        boots: usize,
        flash: [u8; SIZE],
    }

    const MARK: u32 = u32::from_le_bytes(*b"KEPT");

    /// The flash memory, empty at the first power-on, and the number of power-ons before this one.
    pub fn power_on() -> (RamFlash<'static>, usize) {
        #[unsafe(link_section = ".uninit.kept")]
        static mut KEPT: MaybeUninit<Kept> = MaybeUninit::uninit();
        // SAFETY: called once, by `main`; it consists of integers, for which whatever the memory holds is a value.
        let kept = unsafe { &mut *(&raw mut KEPT).cast::<Kept>() };
        if kept.mark != MARK {
            kept.mark = MARK;
            kept.boots = 0;
            kept.flash.fill(0xff);
        }
        let before = kept.boots;
        kept.boots += 1;
        (RamFlash(&mut kept.flash), before)
    }
}

#[cfg(not(feature = "semihosting"))]
mod nrf52840 {
    use firmware::layout::program_ends_before;
    use nrf52840_hal::nvmc::Nvmc;
    use nrf52840_hal::pac::{NVMC, Peripherals};

    /// Bytes from `_snapshots` to the end of the flash memory.
    pub const SIZE: usize = 128 * 1024;

    unsafe extern "C" {
        /// From `boards/nrf52840.x`.
        static mut _snapshots: [u8; SIZE];
    }

    /// The end of the chip's flash memory. Nobody counts power-ons.
    pub fn power_on() -> (Nvmc<NVMC>, usize) {
        let Some(board) = Peripherals::take() else { firmware::exit(1) };
        let start = &raw mut _snapshots;
        if !program_ends_before(start.addr()) {
            firmware::exit(4)
        }
        // SAFETY: called once, by `main`; the program does not reach there, and nothing else uses it.
        (Nvmc::new(board.NVMC, unsafe { &mut *start }), 0)
    }
}
