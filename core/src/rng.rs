//! Counter-based random numbers: Threefry-2x32 with 20 rounds (Salmon et al., SC 2011).
//!
//! A draw is a pure function of (seed, stream, episode, step, index), so nothing has to be stored, results do not
//! depend on the order of the draws, and host, emulator and board agree. It needs only add, rotate and xor.
//!
//! ```
//! use backpropamine::rng::{Rng, Stream};
//! let lifetime = Rng::new(1_000_000).lifetime(Stream::Task, 0);
//! assert_eq!(lifetime.draw(3, 0), Rng::new(1_000_000).lifetime(Stream::Task, 0).draw(3, 0));
//! assert!(lifetime.below(3, 0, 6) < 6);
//! ```

/// What a sequence of draws is for. Streams of one seed never overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Stream {
    /// The environment of an evaluation lifetime.
    Task = 0,
    /// The actions sampled in an evaluation lifetime.
    Action = 1,
    /// Initial weights.
    Init = 2,
    /// The environment during meta-training.
    TrainTask = 3,
    /// The actions sampled during meta-training.
    TrainAction = 4,
}

/// A seed, from which every lifetime's draws follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rng {
    key: [u32; 2],
}

impl Rng {
    /// The generator of one seed.
    pub const fn new(seed: u64) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
        }
    }

    /// The draws of one stream in one lifetime: a key of their own, so that steps and indices are the whole counter.
    pub const fn lifetime(&self, stream: Stream, episode: u32) -> Lifetime {
        Lifetime {
            key: threefry2x32(self.key, [stream as u32, episode]),
        }
    }
}

/// The draws of one stream in one lifetime, addressed by step and index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    key: [u32; 2],
}

impl Lifetime {
    /// 32 uniform bits. Two indices share one block, so neighbouring draws of a step are cheap to make together.
    pub const fn draw(&self, step: u32, index: u32) -> u32 {
        let block = threefry2x32(self.key, [step, index >> 1]);
        if index & 1 == 0 { block[0] } else { block[1] }
    }

    /// A whole number in `0..n` (0 when `n` is 0), by multiplication; its bias is below `n / 2^32`.
    pub const fn below(&self, step: u32, index: u32, n: u32) -> u32 {
        ((self.draw(step, index) as u64 * n as u64) >> 32) as u32
    }

    /// A number in [0, 1) with 24 bits.
    pub const fn unit(&self, step: u32, index: u32) -> f32 {
        (self.draw(step, index) >> 8) as f32 * (1.0 / 16_777_216.0)
    }
}

/// The Threefry-2x32 block function with 20 rounds: `counter` encrypted under `key`.
///
/// Known answers are published with Random123:
/// ```
/// use backpropamine::rng::threefry2x32;
/// assert_eq!(threefry2x32([0, 0], [0, 0]), [0x6b20_0159, 0x99ba_4efe]);
/// ```
pub const fn threefry2x32(key: [u32; 2], counter: [u32; 2]) -> [u32; 2] {
    const ROTATIONS: [u32; 8] = [13, 15, 26, 6, 17, 29, 16, 24];
    let [k0, k1] = key;
    let schedule = [k0, k1, 0x1bd1_1bda ^ k0 ^ k1];
    let mut x0 = counter[0].wrapping_add(k0);
    let mut x1 = counter[1].wrapping_add(k1);
    let mut round = 0;
    while round < 20 {
        x0 = x0.wrapping_add(x1);
        x1 = x1.rotate_left(ROTATIONS[round % 8]) ^ x0;
        round += 1;
        if round % 4 == 0 {
            let injection = round / 4;
            x0 = x0.wrapping_add(schedule[injection % 3]);
            x1 = x1.wrapping_add(schedule[(injection + 1) % 3]).wrapping_add(injection as u32);
        }
    }
    [x0, x1]
}
