//! What a lifetime has learned, out of memory and back: written in pieces, so that no second copy of it is ever needed.
//!
//! A snapshot holds the activity, the traces with the pending change carried out, m, the logits, and where the lifetime stands
//! ([`Life`]). An agent that goes on from a snapshot does so bit for bit. `core/FORMAT.md` gives every byte.
//!
//! [`Slots`] keeps two snapshots in a flash memory, of which the newest valid one wins: whenever the power fails, one of them is whole.
//!
//! ```
//! # use backpropamine::embed;
//! use backpropamine::snapshot::{self, Life};
//! embed!(pub tiny: f32 = concat!(env!("CARGO_MANIFEST_DIR"), "/doc/tiny.bpam"));
//! let (mut first, mut second) = (tiny::Memory::new(), tiny::Memory::new());
//! let (mut agent, mut heir) = (tiny::Agent::new(&mut first), tiny::Agent::new(&mut second));
//! agent.step(&[0.5; tiny::INPUTS]);
//! let mut file = Vec::new();
//! let life = Life { step: 1, ..Life::default() };
//! snapshot::write(&mut agent, &life, 1, |bytes| Ok::<(), ()>(file.extend_from_slice(bytes))).unwrap();
//! assert_eq!(snapshot::restore_bytes(&mut heir, &file), Ok(life));
//! assert_eq!(heir.step(&[0.5; tiny::INPUTS]), agent.step(&[0.5; tiny::INPUTS]));
//! ```

mod slots;

pub use slots::{PAGE, SavePolicy, Schedule, Slots, flash_life_steps};

use crate::image::{CRC, Numeric};
use crate::network::{Living, Network, Source};
use crate::scalar::Scalar;

/// The first word of every snapshot: `BPSN`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BPSN");
/// The version of the snapshot format that this crate writes and reads.
pub const VERSION: u32 = 1;
/// Bytes before the state.
pub const HEADER_BYTES: usize = 64;

const HEADER_WORDS: usize = HEADER_BYTES / 4;
/// Bytes that the checksum leaves out: magic, version, length and the checksum itself.
const UNCHECKED_BYTES: usize = 16;

/// Where a lifetime stands: what goes into a snapshot beside the state of the network.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Life {
    /// Seed of its random numbers, which are a function of seed, episode and step ([`crate::rng`]).
    pub seed: u64,
    /// Its episode.
    pub episode: u32,
    /// Steps lived.
    pub step: u32,
    /// Reward average, in whatever way the firmware takes it.
    pub reward_average: f32,
}

/// Everything a snapshot says about itself.
#[derive(Clone, Copy, Debug, PartialEq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Head {
    /// Bytes of the whole snapshot.
    pub bytes: u32,
    /// CRC-32 of all that follows it.
    pub checksum: u32,
    /// The larger of two is the newer.
    pub sequence: u32,
    /// Checksum of the image it belongs to.
    pub model: u32,
    /// The image's arithmetic.
    pub numeric: Numeric,
    /// Bytes of an activity or a trace: 4 in f32, 8 in f64, 2 in q15, 1 in q7.
    pub scalar_bytes: u32,
    /// Inputs that were clamped since birth.
    pub saturated_inputs: u32,
    /// Where the lifetime stands.
    pub life: Life,
}

/// Why a snapshot is not taken. The agent is then as it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum SnapshotError {
    /// The first word is not `BPSN`.
    NotASnapshot {
        /// The first word.
        found: u32,
    },
    /// Another version of the format.
    Version {
        /// The version this crate reads.
        expected: u32,
        /// The version of the snapshot.
        found: u32,
    },
    /// It is shorter or longer than it says or than the network's state is, or than its slot.
    Length {
        /// Bytes expected.
        expected: u32,
        /// Bytes found.
        found: u32,
    },
    /// It has changed since it was written, or the power failed meanwhile.
    Checksum {
        /// The checksum in its header.
        expected: u32,
        /// The checksum of its content.
        found: u32,
    },
    /// It belongs to another image.
    Model {
        /// The checksum of the agent's image.
        expected: u32,
        /// The checksum of the snapshot's image.
        found: u32,
    },
    /// It was taken in another arithmetic.
    Numeric {
        /// Bytes of one of the agent's activities.
        expected: u32,
        /// Bytes of one of the snapshot's.
        found: u32,
    },
    /// A header field has a value that this version does not know.
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u32,
    },
    /// A number of the state is NaN or infinite.
    NotFinite {
        /// Its position in bytes.
        offset: u32,
    },
}

impl core::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotASnapshot { found } => write!(f, "magic: expected {MAGIC:#010x} (\"BPSN\"), found {found:#010x}")?,
            Self::Version { expected, found } => write!(f, "version: expected {expected}, found {found}")?,
            Self::Length { expected, found } => write!(f, "length: expected {expected} bytes, found {found}")?,
            Self::Checksum { expected, found } => write!(f, "checksum: expected {expected:#010x}, found {found:#010x}")?,
            Self::Model { expected, found } => write!(f, "model: expected image {expected:#010x}, found {found:#010x}")?,
            Self::Numeric { expected, found } => write!(f, "numeric: expected numbers of {expected} bytes, found {found}")?,
            Self::Field { field, found } => write!(f, "{field}: expected a value this version knows, found {found}")?,
            Self::NotFinite { offset } => write!(f, "byte {offset}: expected a finite number, found NaN or infinity")?,
        }
        write!(f, "; go on with another snapshot of this image, or from birth")
    }
}

impl core::error::Error for SnapshotError {}

/// Why a snapshot could not be written or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Error<E> {
    /// The memory that holds it failed.
    Medium(E),
    /// It is not what it should be.
    Snapshot(SnapshotError),
}

impl<E> From<SnapshotError> for Error<E> {
    fn from(error: SnapshotError) -> Self {
        Self::Snapshot(error)
    }
}

/// For memories whose own error is that a snapshot is too short ([`reader`]).
impl From<Error<SnapshotError>> for SnapshotError {
    fn from(error: Error<SnapshotError>) -> Self {
        match error {
            Error::Snapshot(error) | Error::Medium(error) => error,
        }
    }
}

impl<E: core::fmt::Debug> core::fmt::Display for Error<E> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Medium(error) => write!(f, "the memory of snapshots failed: {error:?}; check its address range and wiring"),
            Self::Snapshot(error) => error.fmt(f),
        }
    }
}

impl<E: core::fmt::Debug> core::error::Error for Error<E> {}

impl Head {
    /// Reads the first bytes of a snapshot.
    ///
    /// # Errors
    /// [`SnapshotError::NotASnapshot`], [`Version`](SnapshotError::Version), [`Length`](SnapshotError::Length) or
    /// [`Field`](SnapshotError::Field).
    pub fn parse(bytes: &[u8; HEADER_BYTES]) -> Result<Self, SnapshotError> {
        let mut words = [0; HEADER_WORDS];
        for (word, quad) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*quad);
        }
        let [magic, version, bytes, checksum, sequence, model, numeric, scalar_bytes, ..] = words;
        let [.., low, high, episode, step, reward, saturated_inputs, first, second] = words;
        if magic != MAGIC {
            return Err(SnapshotError::NotASnapshot { found: magic });
        }
        if version != VERSION {
            return Err(SnapshotError::Version {
                expected: VERSION,
                found: version,
            });
        }
        if bytes < HEADER_BYTES as u32 || bytes % 4 != 0 {
            return Err(SnapshotError::Length {
                expected: HEADER_BYTES as u32,
                found: bytes,
            });
        }
        if first | second != 0 {
            return Err(SnapshotError::Field {
                field: "reserved",
                found: first | second,
            });
        }
        let known = Numeric::from_code(numeric).ok_or(SnapshotError::Field {
            field: "numeric",
            found: numeric,
        });
        Ok(Self {
            bytes,
            checksum,
            sequence,
            model,
            numeric: known?,
            scalar_bytes,
            saturated_inputs,
            life: Life {
                seed: u64::from(low) | u64::from(high) << 32,
                episode,
                step,
                reward_average: f32::from_bits(reward),
            },
        })
    }

    /// The bytes that [`parse`](Self::parse) reads.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let seed = self.life.seed;
        let words: [u32; HEADER_WORDS] = [
            MAGIC,
            VERSION,
            self.bytes,
            self.checksum,
            self.sequence,
            self.model,
            self.numeric as u32,
            self.scalar_bytes,
            seed as u32,
            (seed >> 32) as u32,
            self.life.episode,
            self.life.step,
            self.life.reward_average.to_bits(),
            self.saturated_inputs,
            0,
            0,
        ];
        bytemuck::must_cast(words)
    }

    /// Whether this is a snapshot of this network, as its header has it.
    ///
    /// # Errors
    /// [`SnapshotError::Model`], [`Numeric`](SnapshotError::Numeric), [`Field`](SnapshotError::Field) or
    /// [`Length`](SnapshotError::Length).
    pub fn fits<S: Scalar>(&self, network: &Network<'_, S>) -> Result<(), SnapshotError> {
        let (model, scalar, bytes) = (network.header().checksum, size_of::<S>() as u32, network.snapshot_bytes());
        if self.model != model {
            return Err(SnapshotError::Model {
                expected: model,
                found: self.model,
            });
        }
        if self.scalar_bytes != scalar {
            return Err(SnapshotError::Numeric {
                expected: scalar,
                found: self.scalar_bytes,
            });
        }
        if self.numeric != S::NUMERIC {
            return Err(SnapshotError::Field {
                field: "numeric",
                found: self.numeric as u32,
            });
        }
        if self.bytes != bytes {
            return Err(SnapshotError::Length {
                expected: bytes,
                found: self.bytes,
            });
        }
        Ok(())
    }

    /// Goes through the whole snapshot: checksum, and numbers that are finite.
    ///
    /// # Errors
    /// [`SnapshotError::Checksum`] or [`NotFinite`](SnapshotError::NotFinite); [`Error::Medium`] when `read` fails.
    pub fn verify<E>(&self, read: &mut impl FnMut(u32, &mut [u8]) -> Result<(), E>) -> Result<(), Error<E>> {
        let mut digest = self.digest();
        let mut not_finite = None;
        let mut offset = HEADER_BYTES as u32;
        let mut buffer = [0; HEADER_BYTES];
        while offset < self.bytes {
            let count = (self.bytes - offset).min(HEADER_BYTES as u32);
            let chunk = buffer.get_mut(..count as usize).unwrap_or_default();
            read(offset, chunk).map_err(Error::Medium)?;
            digest.update(chunk);
            if not_finite.is_none() && !self.is_finite(chunk) {
                not_finite = Some(offset);
            }
            offset += count;
        }
        let found = digest.finalize();
        if found != self.checksum {
            let expected = self.checksum;
            return Err(SnapshotError::Checksum { expected, found }.into());
        }
        not_finite.map_or(Ok(()), |offset| Err(SnapshotError::NotFinite { offset }.into()))
    }

    /// The checksum's beginning: what of the header it covers.
    fn digest(&self) -> crc::Digest<'static, u32> {
        let mut digest = CRC.digest();
        let head = self.to_bytes();
        digest.update(head.split_at_checked(UNCHECKED_BYTES).map_or(&[], |(_, rest)| rest));
        digest
    }

    fn is_finite(&self, bytes: &[u8]) -> bool {
        match self.scalar_bytes {
            4 => bytes.as_chunks().0.iter().all(|number| f32::from_le_bytes(*number).is_finite()),
            8 => bytes.as_chunks().0.iter().all(|number| f64::from_le_bytes(*number).is_finite()),
            _ => true,
        }
    }
}

impl<S: Scalar> Network<'_, S> {
    /// Bytes of a snapshot of an agent of this network.
    pub const fn snapshot_bytes(&self) -> u32 {
        (HEADER_BYTES + self.header().life_bytes(size_of::<S>(), size_of::<S::Output>())) as u32
    }
}

/// Writes a snapshot piece by piece, in order.
///
/// # Errors
/// What `put` reports; the agent goes on as if nothing had happened.
pub fn write<N: Source, E>(
    agent: &mut Living<'_, N>,
    life: &Life,
    sequence: u32,
    put: impl FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let head = head(agent, life, sequence);
    write_under(&head, agent, put)
}

/// [`write`] under a header that is at hand.
fn write_under<N: Source, E>(head: &Head, agent: &mut Living<'_, N>, mut put: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    put(&head.to_bytes())?;
    agent.visit_life(|part| put(part))
}

/// The header of a snapshot of this agent, now.
pub fn head<N: Source>(agent: &mut Living<'_, N>, life: &Life, sequence: u32) -> Head {
    let network = agent.network();
    let mut head = Head {
        bytes: network.snapshot_bytes(),
        checksum: 0,
        sequence,
        model: network.header().checksum,
        numeric: network.header().numeric,
        scalar_bytes: size_of::<N::Scalar>() as u32,
        saturated_inputs: agent.saturated_inputs(),
        life: *life,
    };
    let mut digest = head.digest();
    let Ok(()) = agent.visit_life(|part| {
        digest.update(part);
        Ok::<(), core::convert::Infallible>(())
    });
    head.checksum = digest.finalize();
    head
}

/// Checks that a whole snapshot of this agent's network can be read by `read(offset, bytes)`.
///
/// # Errors
/// [`SnapshotError`] by name; [`Error::Medium`] when `read` fails.
pub fn check<S: Scalar, E>(network: &Network<'_, S>, read: &mut impl FnMut(u32, &mut [u8]) -> Result<(), E>) -> Result<Head, Error<E>> {
    let mut bytes = [0; HEADER_BYTES];
    read(0, &mut bytes).map_err(Error::Medium)?;
    let head = Head::parse(&bytes)?;
    head.fits(network)?;
    head.verify(read)?;
    Ok(head)
}

/// Gives the agent the life of a snapshot, read by `read(offset, bytes)`.
///
/// # Errors
/// As [`check`], and then the agent is as it was. Should `read` fail after it had read everything once, the agent is as at birth.
pub fn restore<N: Source, E>(agent: &mut Living<'_, N>, mut read: impl FnMut(u32, &mut [u8]) -> Result<(), E>) -> Result<Life, Error<E>> {
    let head = check(agent.network(), &mut read)?;
    let mut offset = HEADER_BYTES as u32;
    let copied = agent.visit_life(|part| {
        let result = read(offset, part);
        offset = offset.wrapping_add(part.len() as u32);
        result
    });
    match copied {
        Ok(()) => {
            agent.set_saturated_inputs(head.saturated_inputs);
            Ok(head.life)
        }
        Err(error) => {
            agent.reset();
            Err(Error::Medium(error))
        }
    }
}

/// [`restore`] from a snapshot that is in memory.
///
/// # Errors
/// [`SnapshotError`]; the agent is then as it was.
pub fn restore_bytes<N: Source>(agent: &mut Living<'_, N>, snapshot: &[u8]) -> Result<Life, SnapshotError> {
    restore(agent, reader(snapshot)).map_err(SnapshotError::from)
}

/// Reads a snapshot that is in memory; beyond its end, [`SnapshotError::Length`].
pub fn reader(snapshot: &[u8]) -> impl FnMut(u32, &mut [u8]) -> Result<(), SnapshotError> {
    move |offset, bytes| {
        let rest = snapshot.split_at_checked(offset as usize).map_or(&[][..], |(_, rest)| rest);
        if rest.len() < bytes.len() {
            return Err(SnapshotError::Length {
                expected: offset.wrapping_add(bytes.len() as u32),
                found: snapshot.len() as u32,
            });
        }
        bytes.iter_mut().zip(rest).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}
