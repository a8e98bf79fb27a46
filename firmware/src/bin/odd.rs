//! Prints a line `odd NUMERIC RULE HIDDEN DIGEST` for many random networks of awkward sizes: the host's digests are the same.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use firmware::odd::{IMAGE_WORDS, MEMORY_WORDS, digests};

#[entry]
fn main() -> ! {
    static mut IMAGE: [u32; IMAGE_WORDS] = [0; IMAGE_WORDS];
    static mut MEMORY: [u64; MEMORY_WORDS] = [0; MEMORY_WORDS];
    let all = digests(IMAGE, MEMORY, |numeric, rule, hidden, digest| {
        defmt::println!("odd {=str} {=u32} {=usize} {=u64:016x}", numeric, rule, hidden, digest);
    });
    let code = if all.is_some() { 0 } else { 1 };
    defmt::println!("end");
    firmware::exit(code)
}
