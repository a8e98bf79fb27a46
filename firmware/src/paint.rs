//! The deepest point of the stack, by paint: fill the unused stack with a pattern, run, look how far it was overwritten.

use core::ptr;

const PAINT: u32 = 0xcccc_cccc;

/// Bytes below the painter's own stack pointer that stay unpainted: its loop lives there.
const MARGIN: usize = 64;

unsafe extern "C" {
    /// End of the static variables, from the linker script: the stack may grow down to here.
    static mut __sheap: u32;
}

/// Bytes of stack that `run` takes, its own frame included.
#[inline(never)]
pub fn stack_of(run: impl FnOnce()) -> usize {
    let top = cortex_m::register::msp::read() as usize;
    let bottom = &raw mut __sheap;
    let words = (top - MARGIN - bottom as usize) / 4;
    for word in 0..words {
        // SAFETY: from the end of the statics to below the stack pointer, memory belongs to nobody while we run.
        unsafe { ptr::write_volatile(bottom.add(word), PAINT) };
    }
    call(run);
    // SAFETY: the same words, read back.
    let untouched = (0..words)
        .take_while(|&word| unsafe { ptr::read_volatile(bottom.add(word)) } == PAINT)
        .count();
    top - (bottom as usize + 4 * untouched)
}

/// Keeps what `run` needs out of the frame of the painter.
#[inline(never)]
fn call(run: impl FnOnce()) {
    run();
}
