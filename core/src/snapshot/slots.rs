//! Two snapshots in a flash memory, written in turn: a power cut at any moment leaves the other one whole.

use super::{Error, HEADER_BYTES, Head, Life, SnapshotError, check, head, restore, write_under};
use crate::network::{Living, Source};
use core::ops::Range;
use embedded_storage::nor_flash::NorFlash;

/// Bytes that are programmed at once: a multiple of what flash memories ask for.
pub const PAGE: usize = 256;

/// Two slots in a range of a flash memory; the newest valid snapshot wins.
///
/// The header of a snapshot is programmed last, so that a snapshot without an end has no beginning either.
pub struct Slots<F> {
    flash: F,
    start: u32,
    size: u32,
}

impl<F: NorFlash> Slots<F> {
    const SIZES: () = {
        assert!(F::READ_SIZE <= 4, "snapshots are read in multiples of 4 bytes");
        assert!(PAGE.is_multiple_of(F::WRITE_SIZE), "snapshots are programmed in pages of 256 bytes");
        assert!(F::ERASE_SIZE.is_multiple_of(PAGE), "slots begin on a page");
    };

    /// Slots in a range of addresses that begins on an erase sector. Each half of it is one slot of whole sectors.
    pub fn new(flash: F, range: Range<u32>) -> Self {
        const { Self::SIZES };
        let half = range.end.saturating_sub(range.start) / 2;
        Self {
            flash,
            start: range.start,
            size: half - half % F::ERASE_SIZE as u32,
        }
    }

    /// The flash memory again.
    pub fn release(self) -> F {
        self.flash
    }

    /// Gives the agent the newest valid snapshot; `None` if both slots are empty. An agent that gets none is as it was.
    ///
    /// # Errors
    /// What is wrong with the newest of those that are not empty, if none is valid; [`Error::Medium`].
    pub fn load<N: Source>(&mut self, agent: &mut Living<'_, N>) -> Result<Option<Life>, Error<F::Error>> {
        let found = self.survey(agent)?;
        match newest(&found) {
            Some((slot, _)) => self.restore(slot, agent).map(Some),
            None => found
                .into_iter()
                .find_map(|slot| slot.err().filter(|error| !is_empty(error)))
                .map_or(Ok(None), |error| Err(error.into())),
        }
    }

    /// Writes a snapshot into the slot that does not hold the newest valid one. Returns its sequence number.
    ///
    /// # Errors
    /// [`SnapshotError::Length`] if a slot is too small; [`Error::Medium`].
    pub fn save<N: Source>(&mut self, agent: &mut Living<'_, N>, life: &Life) -> Result<u32, Error<F::Error>> {
        let needed = agent.network().snapshot_bytes().next_multiple_of(PAGE as u32);
        if needed > self.size {
            return Err(SnapshotError::Length {
                expected: needed,
                found: self.size,
            }
            .into());
        }
        let found = self.survey(agent)?;
        let (slot, sequence) = newest(&found).map_or((0, 1), |(slot, head)| (1 - slot, head.sequence.wrapping_add(1)));
        self.erase(slot)?;
        let head = head(agent, life, sequence);
        for first_page in [false, true] {
            let start = self.address(slot);
            let mut pages = Pages {
                flash: &mut self.flash,
                address: start,
                start,
                first_page,
                buffer: [0xff; PAGE],
                filled: 0,
            };
            write_under(&head, agent, |bytes| pages.put(bytes)).map_err(Error::Medium)?;
            pages.finish().map_err(Error::Medium)?;
        }
        Ok(sequence)
    }

    /// Goes back to the older snapshot and erases the newer one; `None`, and nothing has changed, if there are no two.
    ///
    /// # Errors
    /// [`Error::Medium`].
    pub fn roll_back<N: Source>(&mut self, agent: &mut Living<'_, N>) -> Result<Option<Life>, Error<F::Error>> {
        let found = self.survey(agent)?;
        let (Some((slot, _)), [Ok(_), Ok(_)]) = (newest(&found), &found) else {
            return Ok(None);
        };
        let life = self.restore(1 - slot, agent)?;
        self.erase(slot)?;
        Ok(Some(life))
    }

    fn address(&self, slot: u32) -> u32 {
        self.start + slot * self.size
    }

    fn erase(&mut self, slot: u32) -> Result<(), Error<F::Error>> {
        let start = self.address(slot);
        self.flash.erase(start, start + self.size).map_err(Error::Medium)
    }

    fn restore<N: Source>(&mut self, slot: u32, agent: &mut Living<'_, N>) -> Result<Life, Error<F::Error>> {
        let start = self.address(slot);
        restore(agent, |offset, bytes| self.flash.read(start + offset, bytes))
    }

    /// What is in the two slots.
    fn survey<N: Source>(&mut self, agent: &Living<'_, N>) -> Result<[Result<Head, SnapshotError>; 2], Error<F::Error>> {
        let mut found = [Err(SnapshotError::NotASnapshot { found: u32::MAX }); 2];
        if self.size < HEADER_BYTES as u32 {
            return Ok(found);
        }
        for (slot, found) in found.iter_mut().enumerate() {
            let start = self.address(slot as u32);
            let mut read = |offset: u32, bytes: &mut [u8]| self.flash.read(start + offset, bytes);
            *found = match check(agent.network(), &mut read) {
                Ok(head) => Ok(head),
                Err(Error::Snapshot(error)) => Err(error),
                Err(Error::Medium(error)) => return Err(Error::Medium(error)),
            };
        }
        Ok(found)
    }
}

/// Slot and header of the newest valid snapshot.
fn newest(found: &[Result<Head, SnapshotError>; 2]) -> Option<(u32, Head)> {
    match *found {
        [Ok(first), Ok(second)] if second.sequence.wrapping_sub(first.sequence) as i32 > 0 => Some((1, second)),
        [Ok(first), _] => Some((0, first)),
        [_, Ok(second)] => Some((1, second)),
        _ => None,
    }
}

/// Whether nothing was ever written there.
fn is_empty(error: &SnapshotError) -> bool {
    matches!(error, SnapshotError::NotASnapshot { found: u32::MAX })
}

/// Collects bytes into pages and programs either the first page or all others.
struct Pages<'f, F> {
    flash: &'f mut F,
    start: u32,
    address: u32,
    first_page: bool,
    buffer: [u8; PAGE],
    filled: usize,
}

impl<F: NorFlash> Pages<'_, F> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), F::Error> {
        for byte in bytes {
            if let Some(place) = self.buffer.get_mut(self.filled) {
                *place = *byte;
            }
            self.filled += 1;
            if self.filled == PAGE {
                self.program()?;
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(), F::Error> {
        if self.filled > 0 { self.program() } else { Ok(()) }
    }

    fn program(&mut self) -> Result<(), F::Error> {
        if (self.address == self.start) == self.first_page {
            self.flash.write(self.address, &self.buffer)?;
        }
        self.address += PAGE as u32;
        self.buffer = [0xff; PAGE];
        self.filled = 0;
        Ok(())
    }
}

/// When to save.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum SavePolicy {
    /// When the firmware says so.
    OnRequest,
    /// After every so many steps.
    Every(u32),
    /// After every so many steps, but only if the reward average is higher than at the last save.
    IfImproved(u32),
}

/// A policy, and what it has to remember.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    policy: SavePolicy,
    best: f32,
}

impl Schedule {
    /// A schedule under which nothing was saved yet.
    pub const fn new(policy: SavePolicy) -> Self {
        Self {
            policy,
            best: f32::NEG_INFINITY,
        }
    }

    /// Whether to save now; asked once after every step.
    ///
    /// ```
    /// use backpropamine::snapshot::{Life, SavePolicy, Schedule};
    /// let mut schedule = Schedule::new(SavePolicy::IfImproved(10));
    /// let mut due = |step, reward_average| schedule.due(&Life { step, reward_average, ..Life::default() });
    /// assert_eq!([due(9, 0.5), due(10, 0.5), due(20, 0.4), due(30, 0.6)], [false, true, false, true]);
    /// ```
    pub fn due(&mut self, life: &Life) -> bool {
        let round = |every: u32| every != 0 && life.step != 0 && life.step.is_multiple_of(every);
        match self.policy {
            SavePolicy::OnRequest => false,
            SavePolicy::Every(steps) => round(steps),
            SavePolicy::IfImproved(steps) => {
                let better = round(steps) && life.reward_average > self.best;
                if better {
                    self.best = life.reward_average;
                }
                better
            }
        }
    }
}

/// How many steps of life a flash memory lasts that bears `erase_cycles` per sector, when `every` so many steps are saved into two slots.
///
/// ```
/// // 10,000 cycles, a save every 1,000 steps: 20 million steps.
/// assert_eq!(backpropamine::snapshot::flash_life_steps(10_000, 1_000), 20_000_000);
/// ```
pub const fn flash_life_steps(erase_cycles: u32, every: u32) -> u64 {
    2 * erase_cycles as u64 * every as u64
}
