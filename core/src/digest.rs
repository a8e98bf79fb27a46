//! A 64-bit digest of everything a lifetime did, to compare runs on different machines.
//!
//! ```
//! use backpropamine::digest::Digest;
//! let mut a = Digest::new();
//! a.word(1);
//! assert_ne!(a, Digest::new());
//! ```

/// FNV-1a over 32-bit words. It detects accidental differences; it is no protection against forgery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest(u64);

impl Digest {
    /// The digest of nothing.
    pub const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    /// Takes in the four bytes of a word, lowest first.
    pub fn word(&mut self, word: u32) {
        for byte in word.to_le_bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    /// The digest so far.
    pub const fn value(&self) -> u64 {
        self.0
    }
}

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}
