//! The 25 MHz timer of the emulated MPS2 boards: under `-icount shift=S` every instruction takes 2^S ns, so that instructions =
//! ticks · 40 / 2^S.

use core::ptr;

/// Timer 0 of the MPS2 boards, counting down from the largest number.
pub struct Timer;

impl Timer {
    const CONTROL: *mut u32 = 0x4000_0000 as *mut u32;
    const VALUE: *mut u32 = 0x4000_0004 as *mut u32;
    const RELOAD: *mut u32 = 0x4000_0008 as *mut u32;

    /// Starts it.
    pub fn start() -> Self {
        // SAFETY: registers of a peripheral that nothing else uses.
        unsafe {
            ptr::write_volatile(Self::RELOAD, u32::MAX);
            ptr::write_volatile(Self::VALUE, u32::MAX);
            ptr::write_volatile(Self::CONTROL, 1);
        }
        Self
    }

    fn now(&self) -> u32 {
        // SAFETY: reading the counter has no effect.
        unsafe { ptr::read_volatile(Self::VALUE) }
    }

    /// Ticks that all of so many repeats take together; each is told its number.
    pub fn ticks(&self, repeats: u32, mut run: impl FnMut(u32)) -> u32 {
        let before = self.now();
        for number in 0..repeats {
            run(number);
        }
        before.wrapping_sub(self.now())
    }
}
