//! Runs the embedded network for several lifetimes in the maze and reports them (`firmware::report`), with a picture of the maze
//! at the beginning of the first lifetime and after each of its hits.
#![no_std]
#![no_main]

use backpropamine::task::maze::{Config as MazeConfig, Maze, Start, Variant};
use cortex_m_rt::entry;
use firmware::report;

include!(concat!(env!("OUT_DIR"), "/maze_image.rs"));
include!(concat!(env!("OUT_DIR"), "/maze.rs"));

#[entry]
fn main() -> ! {
    static mut MEMORY: image::Memory = image::Memory::new();
    let mut agent = image::Agent::new(MEMORY);
    match Maze::new(TASK) {
        Ok(mut task) => report::lives(&mut task, &mut agent, LIFETIMES, report::picture),
        Err(error) => report::refuse(error),
    }
}
