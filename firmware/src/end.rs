//! The end of a run: an exit status in the emulator; on a board there is nobody to return to.

use cortex_m as _; // its critical section, which defmt needs
use cortex_m_rt::{ExceptionFrame, exception};
#[cfg(any(feature = "nrf52840", feature = "rp2040", feature = "stm32f4"))]
use defmt_rtt as _;
#[cfg(feature = "semihosting")]
use defmt_semihosting as _;

/// Ends the run; the emulator's own exit status becomes `code`.
#[cfg(feature = "semihosting")]
pub fn exit(code: i32) -> ! {
    semihosting::process::exit(code)
}

/// Ends the run: reports `code` and sleeps until the power goes.
#[cfg(not(feature = "semihosting"))]
pub fn exit(code: i32) -> ! {
    defmt::println!("exit {=i32}", code);
    loop {
        cortex_m::asm::wfi();
    }
}

/// A panic is a bug in the firmware: report it and end the run with 101, as a host program would.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo) -> ! {
    defmt::error!("{}", defmt::Display2Format(info));
    exit(101)
}

/// Without this a fault would spin for ever in the emulator.
#[exception]
unsafe fn HardFault(frame: &ExceptionFrame) -> ! {
    defmt::error!("hard fault at {=u32:#x}", frame.pc());
    exit(102)
}
