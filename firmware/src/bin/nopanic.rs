//! Does not link if a panic path survives in the loader, in a step, in a task, in a
//! snapshot or in a health report: its panic handler calls a symbol that nobody
//! defines, so the linker has to have removed it.
//!
//! Inputs go through `black_box`, or the compiler would run the whole program while building it.
#![no_std]
#![no_main]

use backpropamine::health::Monitor;
use backpropamine::image::leading;
use backpropamine::lifetime::MAX_INPUTS;
use backpropamine::network::{Agent, Network};
use backpropamine::policy::Policy;
use backpropamine::rng::{Rng, Stream};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine::snapshot::{Life, Slots};
use backpropamine::task::Task;
use backpropamine::task::cue::{self, Cue};
use backpropamine::task::maze::{self, Maze};
use core::hint::black_box;
use core::panic::PanicInfo;
use cortex_m as _;
use cortex_m_rt::entry;
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashErrorKind, ReadNorFlash};

include!(concat!(env!("OUT_DIR"), "/image.rs"));

/// Room for the traces of a small image loaded at run time.
const WORDS: usize = 256;

#[panic_handler]
fn panic(_: &PanicInfo) -> ! {
    unsafe extern "C" {
        /// Not defined anywhere: this name in the linker's message means that something can panic.
        safe fn a_panic_path_survives() -> !;
    }
    a_panic_path_survives()
}

#[entry]
fn main() -> ! {
    static mut EMBEDDED: image::Memory = image::Memory::new();
    static mut LOADED: [u64; WORDS] = [0; WORDS];
    let mut agent = image::Agent::new(EMBEDDED);
    black_box(agent.step(&black_box([Default::default(); image::INPUTS])));
    black_box(agent.step_real(&black_box([0.5; image::INPUTS])));
    black_box(agent.hebb(black_box(0), black_box(1)));
    agent.reset();

    if let Ok(task) = Cue::new(black_box(cue::Config::default())) {
        one_step(task);
    }
    if let Ok(task) = Maze::new(black_box(maze::Config::default())) {
        one_step(task);
    }

    black_box(leading(black_box(&[])).is_ok());
    load_and_step::<f32>(black_box(&[]), LOADED);
    load_and_step::<Q15>(black_box(&[]), LOADED);
    load_and_step::<Q7>(black_box(&[]), LOADED);
    #[cfg(feature = "sabotage")]
    black_box(LOADED[black_box(WORDS)]);
    loop {
        cortex_m::asm::wfi();
    }
}

/// A task's part of a step.
fn one_step(mut task: impl Task) {
    let mut x = [0.0; MAX_INPUTS];
    task.reset(Rng::new(black_box(7)).lifetime(Stream::Task, 0));
    task.observe(black_box(&mut x));
    black_box(task.act(black_box(3)));
}

/// Snapshots in two slots, and back.
fn survive<S: Scalar>(agent: &mut Agent<'_, '_, S>) {
    let mut slots = Slots::new(Flash, black_box(0)..black_box(8192));
    let _ = black_box(slots.save(agent, &black_box(Life::default())));
    let _ = black_box(slots.load(agent));
    let _ = black_box(slots.roll_back(agent));
}

/// A flash memory of which nothing is known.
struct Flash;

impl ErrorType for Flash {
    type Error = NorFlashErrorKind;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, _: u32, bytes: &mut [u8]) -> Result<(), NorFlashErrorKind> {
        black_box(bytes);
        black_box(Ok(()))
    }

    fn capacity(&self) -> usize {
        black_box(8192)
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, _: u32, _: u32) -> Result<(), NorFlashErrorKind> {
        black_box(Ok(()))
    }

    fn write(&mut self, _: u32, bytes: &[u8]) -> Result<(), NorFlashErrorKind> {
        black_box(bytes);
        black_box(Ok(()))
    }
}

/// The other door: an image that is known only at run time.
fn load_and_step<S: Scalar>(bytes: &'static [u8], memory: &mut [u64]) {
    let Ok(network) = Network::<S>::from_bytes(bytes) else { return };
    let Some(memory) = memory.get_mut(..network.memory_words()) else {
        return;
    };
    let Ok(mut agent) = Agent::new(&network, memory) else { return };
    let logits = agent.step_real(black_box(&[]));
    if let Ok(logits) = logits {
        black_box(Policy::Sample.choose::<S>(logits, black_box(7)));
    }
    black_box(agent.value());
    let mut monitor = Monitor::<WORDS>::new();
    monitor.observe(&agent, black_box(1.0));
    black_box(monitor.report(&mut agent));
    survive(&mut agent);
    agent.freeze();
    agent.reset_activity();
    agent.reset_learning();
}
