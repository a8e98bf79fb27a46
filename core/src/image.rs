//! The `.bpam` image: what was meta-learned, as it lies in flash. `core/FORMAT.md` describes it byte by byte.
//!
//! An image is a slice of little-endian 32-bit words, viewed in place. [`Header::parse`] checks every field and bounds
//! every dimension, so that nothing after loading can fail.

use crate::rule::{Clip, Granularity, Rule, Squash};

/// The first word of every image: `BPAM`.
pub const MAGIC: u32 = u32::from_le_bytes(*b"BPAM");
/// The version of the format that this crate writes and reads.
pub const VERSION: u32 = 1;
/// Columns of a q15 row that share one 32-bit sum: the exporter proves its bounds with it.
pub const BLOCK: usize = 32;
/// Length of the header in words.
pub const HEADER_WORDS: usize = 32;
/// Largest number of inputs, hidden neurons or actions: it keeps every size within 32 bits.
pub const MAX_UNITS: u32 = 4096;
/// Largest number of modulators.
pub const MAX_MODULATORS: u32 = 256;

/// The checksum of images and snapshots.
pub(crate) const CRC: crc::Crc<u32> = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC);

/// The CRC-32 (ISO-HDLC, the one of zip and PNG) of an image: over every word after the fourth.
///
/// ```
/// assert_eq!(backpropamine::image::checksum(&[]), 0);
/// ```
pub const fn checksum(words: &[u32]) -> u32 {
    let rest = match words.split_at_checked(4) {
        Some((_, rest)) => rest,
        None => &[],
    };
    CRC.checksum(bytemuck::must_cast_slice::<u32, u8>(rest))
}

/// The arithmetic of an image's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(u8)]
pub enum Numeric {
    /// 32-bit floating point.
    F32 = 0,
    /// 16-bit fixed point with a power-of-two scale per tensor.
    Q15 = 1,
    /// 8-bit fixed point with a power-of-two scale per tensor; rates in 16 bits.
    Q7 = 2,
}

impl Numeric {
    pub(crate) const fn from_code(code: u32) -> Option<Self> {
        match code {
            0 => Some(Numeric::F32),
            1 => Some(Numeric::Q15),
            2 => Some(Numeric::Q7),
            _ => None,
        }
    }

    /// Bytes of one weight.
    pub const fn weight_bytes(self) -> usize {
        match self {
            Numeric::F32 => 4,
            Numeric::Q15 => 2,
            Numeric::Q7 => 1,
        }
    }

    /// Bytes of one rate: `recurrent.eta` and `recurrent.hebbian_eta`.
    pub const fn rate_bytes(self) -> usize {
        match self {
            Numeric::F32 => 4,
            Numeric::Q15 | Numeric::Q7 => 2,
        }
    }

    /// Elements from one matrix row to the next: rows begin on a word.
    pub const fn stride(self, columns: usize) -> usize {
        match self {
            Numeric::F32 => columns,
            Numeric::Q15 => columns.next_multiple_of(2),
            Numeric::Q7 => columns.next_multiple_of(4),
        }
    }
}

/// Fractional bits of the tensors of a fixed-point image; all zero in f32. `core/FORMAT.md` says how each is used.
///
/// In q7 the formats of 16 bits count quarters of a bit, 0 to 63: a weight's scale is `2^(format / 4)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Formats {
    /// The inputs' power of two: an input `x` is `raw · 2^(input_scale - 15)`; in q7, `raw · 2^(input_scale - 7)`.
    pub input_scale: i8,
    /// Fractional bits of `input.weight` (with the input scale folded in), 0 to 15.
    pub input: u16,
    /// Fractional bits of `recurrent.weight`, 0 to 15; alpha has one more. In q7 that is the lower byte, and alpha's
    /// own format the upper one.
    pub recurrent: u16,
    /// Fractional bits of the gain of an increment of H (eta or M, divided by the clip limit), 0 to 30.
    pub gain: u8,
    /// Fractional bits of the modulator's fan-out divided by the clip limit, 0 to 14.
    pub fan_out: u8,
    /// Fractional bits of `modulator.weight`, 0 to 15.
    pub modulator: u16,
    /// Fractional bits of `policy.weight`, 0 to 15.
    pub policy: u16,
    /// Fractional bits of `value.weight`, 0 to 15.
    pub value: u16,
}

/// Everything an image says about itself.
///
/// ```
/// use backpropamine::image::{Header, LoadError};
/// assert_eq!(Header::parse(&[0; 32]), Err(LoadError::NotAnImage { found: 0 }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Header {
    /// CRC-32 of the image: what snapshots know their model by.
    pub checksum: u32,
    /// The arithmetic.
    pub numeric: Numeric,
    /// The learning rule.
    pub rule: Rule,
    /// The modulator's nonlinearity.
    pub squash: Squash,
    /// How the trace is kept within its limit.
    pub clip_kind: Clip,
    /// The limit `c`; the trace stays in [-c, c]. 1 but for the hard clip.
    pub clip: f32,
    /// What `c` has beyond `clip`, for `f64` alone; 0 in fixed point.
    pub clip_remainder: f32,
    /// Number of inputs I.
    pub inputs: usize,
    /// Number of hidden neurons H.
    pub hidden: usize,
    /// Number of policy logits A.
    pub outputs: usize,
    /// Number of modulators K; 0 without modulation.
    pub modulators: usize,
    /// How many numbers `recurrent.alpha` has.
    pub alpha: Granularity,
    /// How many numbers `recurrent.eta` has.
    pub eta: Granularity,
    /// How many numbers `recurrent.hebbian_eta` has: present in partly modulated networks, with a mask.
    pub hebbian_eta: Granularity,
    /// Whether `modulator.fan_out.weight [H, K]` is present.
    pub fan_out: bool,
    /// Whether `modulator.fan_out.bias [H]` is present.
    pub fan_out_bias: bool,
    /// Whether `value.weight` and `value.bias` are present.
    pub value: bool,
    /// Fixed-point formats.
    pub formats: Formats,
    /// The fan-out of a fixed-point image without `fan_out.weight`: 1 divided by the clip limit, in Q14.
    pub unit_fan_out: i32,
    /// Bytes of UTF-8 metadata after the last tensor.
    pub metadata_bytes: usize,
}

/// The tensors of an image, in the order in which they lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[repr(usize)]
pub enum Section {
    /// `input.weight [H, I]`.
    InputWeight,
    /// `input.bias [H]`.
    InputBias,
    /// `recurrent.weight [H, H]`, post by pre.
    RecurrentWeight,
    /// `recurrent.alpha`.
    Alpha,
    /// `recurrent.eta`.
    Eta,
    /// `recurrent.hebbian_eta`.
    HebbianEta,
    /// `modulator.mask`, one word per neuron: 1 modulated, 0 Hebbian.
    Mask,
    /// `modulator.weight [K, H]`.
    ModulatorWeight,
    /// `modulator.bias [K]`.
    ModulatorBias,
    /// `modulator.fan_out.weight [H, K]`.
    FanOutWeight,
    /// `modulator.fan_out.bias [H]`.
    FanOutBias,
    /// `policy.weight [A, H]`.
    PolicyWeight,
    /// `policy.bias [A]`.
    PolicyBias,
    /// `value.weight [1, H]`.
    ValueWeight,
    /// `value.bias [1]`.
    ValueBias,
    /// UTF-8 text.
    Metadata,
}

impl Section {
    /// All sections in order.
    pub const ALL: [Section; 16] = [
        Section::InputWeight,
        Section::InputBias,
        Section::RecurrentWeight,
        Section::Alpha,
        Section::Eta,
        Section::HebbianEta,
        Section::Mask,
        Section::ModulatorWeight,
        Section::ModulatorBias,
        Section::FanOutWeight,
        Section::FanOutBias,
        Section::PolicyWeight,
        Section::PolicyBias,
        Section::ValueWeight,
        Section::ValueBias,
        Section::Metadata,
    ];
}

/// What is wrong with an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
#[non_exhaustive]
pub enum LoadError {
    /// The first word is not `BPAM`.
    NotAnImage {
        /// The first word.
        found: u32,
    },
    /// Another version of the format.
    Version {
        /// The version this crate reads.
        expected: u32,
        /// The version of the image.
        found: u32,
    },
    /// The slice is not as long as the image says, or as its dimensions need.
    Length {
        /// Bytes expected.
        expected: u32,
        /// Bytes found.
        found: u32,
    },
    /// The bytes do not begin at a multiple of four.
    Misaligned,
    /// The content has changed since it was written.
    Checksum {
        /// The checksum in the header.
        expected: u32,
        /// The checksum of the content.
        found: u32,
    },
    /// The image's arithmetic is not that of the network type.
    Numeric {
        /// What the network type runs.
        expected: Numeric,
        /// What the image holds.
        found: Numeric,
    },
    /// A header field has a value that this version does not know or that is out of range.
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u32,
    },
    /// A number is NaN or infinite.
    NotFinite {
        /// The tensor.
        section: Section,
        /// The position in words.
        index: u32,
    },
}

impl core::fmt::Display for LoadError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            LoadError::NotAnImage { found } => write!(f, "magic: expected {MAGIC:#010x} (\"BPAM\"), found {found:#010x}")?,
            LoadError::Version { expected, found } => write!(f, "version: expected {expected}, found {found}")?,
            LoadError::Length { expected, found } => write!(f, "length: expected {expected} bytes, found {found}")?,
            LoadError::Misaligned => write!(f, "alignment: expected a multiple of 4 bytes, found another address")?,
            LoadError::Checksum { expected, found } => write!(f, "checksum: expected {expected:#010x}, found {found:#010x}")?,
            LoadError::Numeric { expected, found } => write!(f, "numeric: expected {expected:?}, found {found:?}")?,
            LoadError::Field { field, found } => write!(f, "{field}: expected a value this version knows, found {found}")?,
            LoadError::NotFinite { section, index } => write!(f, "{section:?}[{index}]: expected a finite number, found NaN or infinity")?,
        }
        write!(f, "; export it again with `backpropamine export MODEL --out IMAGE.bpam`")
    }
}

impl core::error::Error for LoadError {}

macro_rules! check {
    ($ok:expr, $error:expr) => {
        if !$ok {
            return Err($error);
        }
    };
}

macro_rules! known {
    ($option:expr, $field:literal, $found:expr) => {
        match $option {
            Some(value) => value,
            None => {
                return Err(LoadError::Field {
                    field: $field,
                    found: $found,
                })
            }
        }
    };
}

/// The image at the beginning of a memory that may be longer, such as a slot of flash memory: the words that it says it has.
///
/// ```
/// use backpropamine::image::{Header, LoadError, leading, words_of};
/// static IMAGE: [u32; include_bytes!("../doc/tiny.bpam").len() / 4] = words_of(include_bytes!("../doc/tiny.bpam"));
/// let mut flash = [u32::MAX; 1024];
/// assert_eq!(leading(&flash), Err(LoadError::NotAnImage { found: u32::MAX }));
/// flash[..IMAGE.len()].copy_from_slice(&IMAGE);
/// assert_eq!(Header::parse(leading(&flash)?), Header::parse(&IMAGE));
/// # Ok::<(), LoadError>(())
/// ```
///
/// # Errors
/// [`LoadError::NotAnImage`] or, if it says that it is longer than the memory, [`LoadError::Length`]. Nothing else is checked.
pub fn leading(words: &[u32]) -> Result<&[u32], LoadError> {
    match words {
        [MAGIC, _, bytes, ..] => words.get(..*bytes as usize / 4).ok_or(LoadError::Length {
            expected: *bytes,
            found: (words.len() as u32).wrapping_mul(4),
        }),
        _ => Err(LoadError::NotAnImage {
            found: words.first().copied().unwrap_or(0),
        }),
    }
}

impl Header {
    /// Reads and checks the header, the length and the checksum of an image.
    ///
    /// # Errors
    /// A [`LoadError`] that names the first thing that is wrong.
    pub const fn parse(words: &[u32]) -> Result<Header, LoadError> {
        let found_bytes = (words.len() as u32).wrapping_mul(4);
        let Some(head) = words.first_chunk::<HEADER_WORDS>() else {
            return Err(LoadError::Length {
                expected: HEADER_WORDS as u32 * 4,
                found: found_bytes,
            });
        };
        check!(head[0] == MAGIC, LoadError::NotAnImage { found: head[0] });
        check!(
            head[1] == VERSION,
            LoadError::Version {
                expected: VERSION,
                found: head[1]
            }
        );
        check!(
            head[2] == found_bytes,
            LoadError::Length {
                expected: head[2],
                found: found_bytes
            }
        );
        let sum = checksum(words);
        check!(
            head[3] == sum,
            LoadError::Checksum {
                expected: head[3],
                found: sum
            }
        );
        let header = match Self::fields(head) {
            Ok(header) => header,
            Err(error) => return Err(error),
        };
        let expected = header.total_words() as u32 * 4;
        check!(
            found_bytes == expected,
            LoadError::Length {
                expected,
                found: found_bytes
            }
        );
        Ok(header)
    }

    const fn fields(head: &[u32; HEADER_WORDS]) -> Result<Header, LoadError> {
        let modulated = head[11] != 0;
        let header = Header {
            checksum: head[3],
            numeric: known!(Numeric::from_code(head[4]), "numeric", head[4]),
            rule: known!(Rule::from_code(head[6]), "rule", head[6]),
            squash: known!(Squash::from_code(head[7]), "modulator function", head[7]),
            clip_kind: known!(Clip::from_code(head[12]), "clip kind", head[12]),
            clip: f32::from_bits(head[13]),
            clip_remainder: f32::from_bits(head[28]),
            inputs: head[8] as usize,
            hidden: head[9] as usize,
            outputs: head[10] as usize,
            modulators: head[11] as usize,
            alpha: known!(Granularity::from_code(head[14]), "alpha granularity", head[14]),
            eta: known!(Granularity::from_code(head[15]), "eta granularity", head[15]),
            hebbian_eta: known!(Granularity::from_code(head[16]), "hebbian_eta granularity", head[16]),
            fan_out: head[17] & 1 != 0,
            fan_out_bias: head[17] & 2 != 0,
            value: head[17] & 4 != 0,
            formats: match Self::parse_formats(head) {
                Ok(formats) => formats,
                Err(error) => return Err(error),
            },
            unit_fan_out: head[26] as i32,
            metadata_bytes: head[27] as usize,
        };
        check!(
            head[5] == 0,
            LoadError::Field {
                field: "cell",
                found: head[5]
            }
        );
        check!(
            0 < head[8] && head[8] <= MAX_UNITS,
            LoadError::Field {
                field: "inputs",
                found: head[8]
            }
        );
        check!(
            0 < head[9] && head[9] <= MAX_UNITS,
            LoadError::Field {
                field: "hidden",
                found: head[9]
            }
        );
        check!(
            0 < head[10] && head[10] <= MAX_UNITS,
            LoadError::Field {
                field: "outputs",
                found: head[10]
            }
        );
        check!(
            head[11] <= MAX_MODULATORS,
            LoadError::Field {
                field: "modulators",
                found: head[11]
            }
        );
        check!(
            header.clip_kind.suits(header.rule),
            LoadError::Field {
                field: "clip kind",
                found: head[12]
            }
        );
        let limit_is_free = matches!(header.clip_kind, Clip::Hard);
        check!(
            header.clip > 0.0 && header.clip < f32::INFINITY && (limit_is_free || header.clip == 1.0),
            LoadError::Field {
                field: "clip limit",
                found: head[13]
            }
        );
        check!(
            -header.clip * f32::EPSILON < header.clip_remainder
                && header.clip_remainder < header.clip * f32::EPSILON
                && (limit_is_free || header.clip_remainder == 0.0),
            LoadError::Field {
                field: "clip remainder",
                found: head[28]
            }
        );
        let rule = header.rule;
        check!(
            rule.is_modulated() == modulated,
            LoadError::Field {
                field: "modulators",
                found: head[11]
            }
        );
        check!(
            rule.is_plastic() == is_present(header.alpha),
            LoadError::Field {
                field: "alpha granularity",
                found: head[14]
            }
        );
        check!(
            rule.has_eta() == is_present(header.eta),
            LoadError::Field {
                field: "eta granularity",
                found: head[15]
            }
        );
        check!(
            modulated || !is_present(header.hebbian_eta),
            LoadError::Field {
                field: "hebbian_eta granularity",
                found: head[16]
            }
        );
        check!(
            head[17] < 8 && (modulated || head[17] & 3 == 0),
            LoadError::Field {
                field: "flags",
                found: head[17]
            }
        );
        check!(
            header.metadata_bytes <= 1 << 20,
            LoadError::Field {
                field: "metadata length",
                found: head[27]
            }
        );
        let mut reserved = 29;
        while reserved < HEADER_WORDS {
            check!(
                head[reserved] == 0,
                LoadError::Field {
                    field: "reserved",
                    found: head[reserved]
                }
            );
            reserved += 1;
        }
        Ok(header)
    }

    const fn parse_formats(head: &[u32; HEADER_WORDS]) -> Result<Formats, LoadError> {
        // q7 has finer formats, and one of alpha.
        let (most, most_of_alpha) = if head[4] == Numeric::Q7 as u32 { (63, 63) } else { (15, 0) };
        let scale = head[18] as i32;
        check!(
            -15 <= scale && scale <= 15,
            LoadError::Field {
                field: "input scale",
                found: head[18]
            }
        );
        check!(
            head[19] <= most,
            LoadError::Field {
                field: "input format",
                found: head[19]
            }
        );
        check!(
            head[20] & 255 <= most && head[20] >> 8 <= most_of_alpha,
            LoadError::Field {
                field: "recurrent format",
                found: head[20]
            }
        );
        check!(
            head[21] <= 30,
            LoadError::Field {
                field: "gain format",
                found: head[21]
            }
        );
        check!(
            head[22] <= 14,
            LoadError::Field {
                field: "fan_out format",
                found: head[22]
            }
        );
        check!(
            head[23] <= most,
            LoadError::Field {
                field: "modulator format",
                found: head[23]
            }
        );
        check!(
            head[24] <= most,
            LoadError::Field {
                field: "policy format",
                found: head[24]
            }
        );
        check!(
            head[25] <= most,
            LoadError::Field {
                field: "value format",
                found: head[25]
            }
        );
        Ok(Formats {
            input_scale: scale as i8,
            input: head[19] as u16,
            recurrent: head[20] as u16,
            gain: head[21] as u8,
            fan_out: head[22] as u8,
            modulator: head[23] as u16,
            policy: head[24] as u16,
            value: head[25] as u16,
        })
    }

    /// The header's words, without length and checksum: [`seal`] fills those in when the image is complete.
    pub const fn words(&self) -> [u32; HEADER_WORDS] {
        let mut head = [0; HEADER_WORDS];
        head[0] = MAGIC;
        head[1] = VERSION;
        head[4] = self.numeric as u32;
        head[6] = self.rule as u32;
        head[7] = self.squash as u32;
        head[8] = self.inputs as u32;
        head[9] = self.hidden as u32;
        head[10] = self.outputs as u32;
        head[11] = self.modulators as u32;
        head[12] = self.clip_kind as u32;
        head[13] = self.clip.to_bits();
        head[28] = self.clip_remainder.to_bits();
        head[14] = self.alpha as u32;
        head[15] = self.eta as u32;
        head[16] = self.hebbian_eta as u32;
        head[17] = self.fan_out as u32 | (self.fan_out_bias as u32) << 1 | (self.value as u32) << 2;
        head[18] = self.formats.input_scale as i32 as u32;
        head[19] = self.formats.input as u32;
        head[20] = self.formats.recurrent as u32;
        head[21] = self.formats.gain as u32;
        head[22] = self.formats.fan_out as u32;
        head[23] = self.formats.modulator as u32;
        head[24] = self.formats.policy as u32;
        head[25] = self.formats.value as u32;
        head[26] = self.unit_fan_out as u32;
        head[27] = self.metadata_bytes as u32;
        head
    }

    /// Rows and columns of a section as stored, `(0, 0)` if it is absent. Row strides are [`Numeric::stride`] of the columns.
    pub const fn shape(&self, section: Section) -> (usize, usize) {
        let (hidden, modulators) = (self.hidden, self.modulators);
        match section {
            Section::InputWeight => (hidden, self.inputs),
            Section::InputBias => (1, hidden),
            Section::RecurrentWeight => (hidden, hidden),
            Section::Alpha => coefficient_shape(self.alpha, hidden),
            Section::Eta => coefficient_shape(self.eta, hidden),
            Section::HebbianEta => coefficient_shape(self.hebbian_eta, hidden),
            Section::Mask => (is_present(self.hebbian_eta) as usize, hidden),
            Section::ModulatorWeight => (modulators, hidden),
            Section::ModulatorBias => (1, modulators),
            Section::FanOutWeight => (if self.fan_out { hidden } else { 0 }, modulators),
            Section::FanOutBias => (self.fan_out_bias as usize, hidden),
            Section::PolicyWeight => (self.outputs, hidden),
            Section::PolicyBias => (1, self.outputs),
            Section::ValueWeight => (self.value as usize, hidden),
            Section::ValueBias => (self.value as usize, 1),
            Section::Metadata => (1, self.metadata_bytes),
        }
    }

    /// Length of a section in words.
    pub const fn section_words(&self, section: Section) -> usize {
        let (rows, columns) = self.shape(section);
        let bytes = match section {
            Section::Metadata => columns,
            Section::InputBias
            | Section::Mask
            | Section::ModulatorBias
            | Section::FanOutBias
            | Section::PolicyBias
            | Section::ValueBias => rows * columns * 4,
            Section::Eta | Section::HebbianEta => rows * self.numeric.stride(columns) * self.numeric.rate_bytes(),
            _ => rows * self.numeric.stride(columns) * self.numeric.weight_bytes(),
        };
        bytes.div_ceil(4)
    }

    /// First word of a section.
    pub const fn section_start(&self, section: Section) -> usize {
        let mut start = HEADER_WORDS;
        let mut index = 0;
        while index < section as usize {
            start += self.section_words(Section::ALL[index]);
            index += 1;
        }
        start
    }

    /// The words of a section of a complete image; empty if the slice is too short.
    pub const fn section<'a>(&self, words: &'a [u32], section: Section) -> &'a [u32] {
        match words.split_at_checked(self.section_start(section)) {
            Some((_, rest)) => match rest.split_at_checked(self.section_words(section)) {
                Some((content, _)) => content,
                None => &[],
            },
            None => &[],
        }
    }

    /// Checks the numbers of a complete image: finite in f32, and a mask of zeros and ones.
    pub(crate) const fn check_numbers(&self, words: &[u32]) -> Result<(), LoadError> {
        let mut index = 0;
        while index < Section::Metadata as usize {
            let section = Section::ALL[index];
            let mut rest = self.section(words, section);
            let mut position = 0;
            while let Some((word, tail)) = rest.split_first() {
                if matches!(section, Section::Mask) {
                    check!(
                        *word <= 1,
                        LoadError::Field {
                            field: "mask",
                            found: *word
                        }
                    );
                } else if matches!(self.numeric, Numeric::F32) {
                    check!(
                        *word & 0x7f80_0000 != 0x7f80_0000,
                        LoadError::NotFinite { section, index: position }
                    );
                }
                position += 1;
                rest = tail;
            }
            index += 1;
        }
        Ok(())
    }

    /// Length of the whole image in words.
    pub const fn total_words(&self) -> usize {
        self.section_start(Section::Metadata) + self.section_words(Section::Metadata)
    }
}

const fn is_present(granularity: Granularity) -> bool {
    !matches!(granularity, Granularity::Absent)
}

const fn coefficient_shape(granularity: Granularity, hidden: usize) -> (usize, usize) {
    match granularity {
        Granularity::Absent => (0, 0),
        Granularity::Single => (1, 1),
        Granularity::PerNeuron => (1, hidden),
        Granularity::PerConnection => (hidden, hidden),
    }
}

/// Writes length and checksum into a complete image. Does nothing to a slice shorter than a header.
pub fn seal(words: &mut [u32]) {
    let bytes = words.len() as u32 * 4;
    if let Some([_, _, length, ..]) = words.first_chunk_mut::<4>() {
        *length = bytes;
    }
    let sum = checksum(words);
    if let Some([_, _, _, crc]) = words.first_chunk_mut::<4>() {
        *crc = sum;
    }
}

/// The words of a file's bytes, at compile time; what [`embed!`](crate::embed) calls.
///
/// # Panics
/// When `N` words are not exactly the bytes: at compile time, where this is meant to be used.
pub const fn words_of<const N: usize>(bytes: &[u8]) -> [u32; N] {
    assert!(
        bytes.len() == N * 4,
        "the file is not a .bpam image: its length is not a multiple of 4"
    );
    let (quads, _) = bytes.as_chunks::<4>();
    let mut words = [0; N];
    let mut i = 0;
    while i < N {
        words[i] = u32::from_le_bytes(quads[i]);
        i += 1;
    }
    words
}
