//! Where the linked program ends: what lies behind it in flash memory may be used for other things.

unsafe extern "C" {
    /// Where the initial values of variables begin in flash memory: the last part of a program.
    static __sidata: u8;
    /// Where the variables begin in RAM.
    static __sdata: u8;
    /// Where they end.
    static __edata: u8;
}

/// Whether no byte of the program lies at this address or behind it.
pub fn program_ends_before(address: usize) -> bool {
    let variables = (&raw const __edata).addr() - (&raw const __sdata).addr();
    (&raw const __sidata).addr() + variables <= address
}
