//! Lives lifetimes of the cue task with the image in the board's second slot, a fixed part of the flash memory that takes a new image
//! while the program stays as it is: `cargo bpam flash MODEL --slot 1`. Without a valid image there, with its own.
//!
//! Runs where `boards/` names the slot: the emulated MPS2 boards, and an nRF52840 (`--no-default-features --features nrf52840`).
#![no_std]
#![no_main]

use core::convert::Infallible;
use core::ptr;
use core::slice;

use backpropamine::image::{Header, LoadError, Numeric, leading};
use backpropamine::network::{Agent, MemoryError, Network};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine::task::Task;
use backpropamine::task::cue::{Config as CueConfig, Cue, Variant};
use cortex_m_rt::entry;
use firmware::layout::program_ends_before;
use firmware::report;
#[cfg(feature = "nrf52840")]
use nrf52840_hal as _; // its interrupt vectors

include!(concat!(env!("OUT_DIR"), "/image.rs"));
include!(concat!(env!("OUT_DIR"), "/cue.rs"));

/// Room for what a lifetime learns, in words of 64 bits: 128 KiB.
const ROOM: usize = 16 * 1024;

unsafe extern "C" {
    /// Where the slot begins, from `boards/`.
    static _image_slot: u32;
    /// Where it ends.
    static _image_slot_end: u32;
}

#[entry]
fn main() -> ! {
    static mut OWN: image::Memory = image::Memory::new();
    static mut LOADED: [u64; ROOM] = [0; ROOM];
    let mut task = Cue::new(TASK).unwrap_or_else(|error| report::refuse(error));
    let Err(refusal) = live_from_slot(&mut task, LOADED);
    defmt::println!("slot 1: {}; going on with the program's own image", refusal);
    announce(0, image::NETWORK.header());
    report::lives(&mut task, &mut image::Agent::new(OWN), LIFETIMES, |_| {})
}

/// Why the image in the slot is not used.
#[derive(defmt::Format)]
enum Refusal {
    /// The program reaches into the slot.
    Overlap,
    /// It is none.
    Image(LoadError),
    /// It needs more memory than there is.
    Memory(MemoryError),
    /// It was made for another task.
    Task {
        /// Its inputs.
        inputs: usize,
        /// Its outputs.
        outputs: usize,
    },
}

impl From<LoadError> for Refusal {
    fn from(error: LoadError) -> Self {
        Self::Image(error)
    }
}

/// Lives with the image in the slot and ends; comes back only if there is none to live with.
fn live_from_slot(task: &mut Cue, memory: &mut [u64]) -> Result<Infallible, Refusal> {
    let (start, end) = (&raw const _image_slot, &raw const _image_slot_end);
    if !program_ends_before(start.addr()) {
        return Err(Refusal::Overlap);
    }
    // SAFETY: flash memory between two aligned addresses of `boards/`, in which the program does not lie and nobody writes.
    let slot = unsafe { slice::from_raw_parts(ptr::with_exposed_provenance::<u32>(start.addr()), (end.addr() - start.addr()) / 4) };
    let words = leading(slot)?;
    match Header::parse(words)?.numeric {
        Numeric::F32 => live::<f32>(words, task, memory),
        Numeric::Q15 => live::<Q15>(words, task, memory),
        Numeric::Q7 => live::<Q7>(words, task, memory),
    }
}

fn live<S: Scalar<Real = f32>>(words: &[u32], task: &mut Cue, memory: &mut [u64]) -> Result<Infallible, Refusal> {
    let network = Network::<S>::new(words)?;
    let Header { inputs, outputs, .. } = *network.header();
    if (inputs, outputs) != (task.inputs(), task.actions()) {
        return Err(Refusal::Task { inputs, outputs });
    }
    let (found, expected) = (memory.len(), network.memory_words());
    let memory = memory.get_mut(..expected).ok_or(Refusal::Memory(MemoryError { expected, found }))?;
    let mut agent = Agent::new(&network, memory).map_err(Refusal::Memory)?;
    announce(1, network.header());
    report::lives(task, &mut agent, LIFETIMES, |_| {})
}

/// Reports which image lives.
fn announce(slot: u32, header: &Header) {
    defmt::println!("{{\"image\":{{\"slot\":{=u32},\"checksum\":{=u32}}}}}", slot, header.checksum);
}
