//! Runs the embedded network for several lifetimes of the cue-reward association task and reports them (`firmware::report`).
//!
//! The traces do the learning: the image in flash never changes, and every lifetime begins with empty traces.
#![no_std]
#![no_main]

use backpropamine::task::cue::{Config as CueConfig, Cue, Variant};
use cortex_m_rt::entry;
use firmware::report;

include!(concat!(env!("OUT_DIR"), "/image.rs"));
include!(concat!(env!("OUT_DIR"), "/cue.rs"));

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let mut agent = image::Agent::new(MEMORY);
    match Cue::new(TASK) {
        Ok(mut task) => report::lives(&mut task, &mut agent, LIFETIMES, |_| {}),
        Err(error) => report::refuse(error),
    }
}
