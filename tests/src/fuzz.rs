//! What must hold for any bytes that claim to be an image or a snapshot. The fuzzer calls these functions, and a plain test
//! calls them with every file of the corpus.
//!
//! Random changes never give a right checksum, so each function tries the bytes as they are, and then repaired: with the
//! lengths and checksums that a wrong or malicious writer would give them.

use std::convert::Infallible;
use std::sync::OnceLock;

use backpropamine::image::{HEADER_WORDS, Header, LoadError, MAGIC, Numeric, VERSION, seal};
use backpropamine::network::{Agent, Network};
use backpropamine::scalar::{FastF32, Q7, Q15, Scalar};
use backpropamine::snapshot::{self, HEADER_BYTES, Head, Life, Slots, SnapshotError};
use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

use crate::golden;

/// Largest image that a repaired header may ask for, in bytes: what is larger is no different, and slow.
const LARGEST_IMAGE: u32 = 16 << 10;
/// Steps that a loaded network lives.
const STEPS: usize = 3;

/// Loads an image, and lets what was loaded live.
///
/// # Panics
/// When a promise of the core does not hold.
pub fn image(bytes: &[u8]) {
    let mut words: Vec<u32> = bytes.as_chunks().0.iter().map(|quad| u32::from_le_bytes(*quad)).collect();
    live_if_loaded(&words);
    if words.len() < HEADER_WORDS {
        return;
    }
    (words[0], words[1]) = (MAGIC, VERSION);
    seal(&mut words);
    // The header may ask for another length: the numbers are repeated until there are enough.
    if let Err(LoadError::Length { expected, .. }) = Header::parse(&words)
        && expected <= LARGEST_IMAGE
    {
        let length = expected as usize / 4;
        words = words.iter().copied().cycle().take(length).collect();
        seal(&mut words);
    }
    live_if_loaded(&words);
}

fn live_if_loaded(words: &[u32]) {
    let Ok(header) = Header::parse(words) else { return };
    let mut written = header.words();
    written[2..4].copy_from_slice(&words[2..4]);
    assert_eq!(written, words[..HEADER_WORDS], "a header is written as it was read");
    match header.numeric {
        Numeric::F32 => {
            live_a_little::<f32>(words);
            live_a_little::<f64>(words);
            live_a_little::<FastF32>(words);
        }
        Numeric::Q15 => live_a_little::<Q15>(words),
        Numeric::Q7 => live_a_little::<Q7>(words),
    }
}

/// Every door of an agent once, with inputs of any bits.
fn live_a_little<S: Scalar>(words: &[u32]) {
    let Ok(network) = Network::<S>::new(words) else { return };
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).expect("the memory is as large as asked for");
    let (inputs, outputs) = (network.header().inputs, network.header().outputs);
    let mut numbers = words.iter().rev().map(|word| f32::from_bits(*word)).cycle();
    for _ in 0..STEPS {
        let x: Vec<f32> = numbers.by_ref().take(inputs).collect();
        let logits = agent.step_real(&x).expect("as many inputs as asked for");
        assert_eq!(logits.len(), outputs);
    }
    let last = network.header().hidden - 1;
    let (hebb, eligibility) = (agent.hebb(last, 0), agent.eligibility(0, last));
    let rule = network.header().rule;
    assert_eq!((hebb.is_some(), eligibility.is_some()), (rule.is_plastic(), rule.has_eligibility()));
    assert_eq!(agent.value().is_some(), network.header().value);
    network.metadata();
    let file = write(&mut agent, &Life::default(), 1);
    // A network with huge weights can reach infinity in floating point, which no snapshot takes.
    match snapshot::restore_bytes(&mut agent, &file) {
        Ok(life) => assert_eq!(life, Life::default()),
        Err(error) => assert!(matches!(error, SnapshotError::NotFinite { .. }), "{error}"),
    }
}

/// Restores a snapshot and lets its agent live. The first byte chooses a golden network, the bits of the second what is repaired.
///
/// # Panics
/// When a promise of the core does not hold.
pub fn snapshot(bytes: &[u8]) {
    static IMAGES: OnceLock<Vec<(String, Vec<u32>)>> = OnceLock::new();
    let [choice, repairs, bytes @ ..] = bytes else { return };
    let images = IMAGES.get_or_init(golden::images);
    let (_, words) = &images[usize::from(*choice) % images.len()];
    match Header::parse(words).map(|header| header.numeric) {
        Ok(Numeric::F32) if repairs & 0x80 != 0 => restore::<f64>(words, bytes, *repairs),
        Ok(Numeric::F32) => restore::<f32>(words, bytes, *repairs),
        Ok(Numeric::Q15) => restore::<Q15>(words, bytes, *repairs),
        Ok(Numeric::Q7) => restore::<Q7>(words, bytes, *repairs),
        Err(error) => panic!("a golden image is refused: {error}"),
    }
}

fn restore<S: Scalar>(words: &[u32], bytes: &[u8], repairs: u8) {
    let network = Network::<S>::new(words).expect("a golden image");
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).expect("the memory is as large as asked for");
    let x = vec![0.5; network.header().inputs];
    agent.step_real(&x).expect("as many inputs as asked for");
    for file in [bytes.to_vec(), repaired(&network, bytes, repairs)] {
        let before = write(&mut agent, &Life::default(), 1);
        match snapshot::restore_bytes(&mut agent, &file) {
            Ok(life) => {
                let head = Head::parse(file.first_chunk().expect("it was restored")).expect("it was restored");
                let whole = &file[..head.bytes as usize];
                assert_eq!(write(&mut agent, &life, head.sequence), whole, "it is written as it was read");
            }
            Err(_) => assert_eq!(write(&mut agent, &Life::default(), 1), before, "the agent is as it was"),
        }
        agent.step_real(&x).expect("as many inputs as asked for");
        load_from_flash(&mut agent, &file, bytes);
    }
}

/// The bytes as a snapshot of this network, as far as `repairs` says.
fn repaired<S: Scalar>(network: &Network<'_, S>, bytes: &[u8], repairs: u8) -> Vec<u8> {
    let mut file = bytes.to_vec();
    file.resize(network.snapshot_bytes() as usize, 0);
    let header = network.header();
    let right = [
        (1, 0, snapshot::MAGIC),
        (1, 1, snapshot::VERSION),
        (2, 2, network.snapshot_bytes()),
        (4, 5, header.checksum),
        (8, 6, header.numeric as u32),
        (16, 7, size_of::<S>() as u32),
        (32, 14, 0),
        (32, 15, 0),
    ];
    for (bit, index, word) in right {
        if repairs & bit != 0 {
            file[4 * index..][..4].copy_from_slice(&word.to_le_bytes());
        }
    }
    if repairs & 64 != 0 {
        let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&file[16..]);
        file[12..16].copy_from_slice(&sum.to_le_bytes());
    }
    file
}

fn write<S: Scalar>(agent: &mut Agent<'_, '_, S>, life: &Life, sequence: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let Ok(()) = snapshot::write(agent, life, sequence, |part| {
        file.extend_from_slice(part);
        Ok::<(), Infallible>(())
    });
    assert!(file.len() >= HEADER_BYTES);
    file
}

/// Two slots with any content give an agent or a refusal; what is saved then can be loaded, whatever lay there.
fn load_from_flash<S: Scalar>(agent: &mut Agent<'_, '_, S>, first: &[u8], second: &[u8]) {
    const SLOT: usize = 16 << 10;
    let mut content = vec![0xff; 2 * SLOT];
    for (slot, bytes) in [first, second].into_iter().enumerate() {
        let length = bytes.len().min(SLOT);
        content[slot * SLOT..][..length].copy_from_slice(&bytes[..length]);
    }
    let mut slots = Slots::new(Flash(content), 0..2 * SLOT as u32);
    let _ = slots.load(agent);
    let file = write(agent, &Life::default(), 1);
    let finite = snapshot::restore_bytes(agent, &file).is_ok();
    let life = Life {
        step: 7,
        ..Life::default()
    };
    slots.save(agent, &life).expect("the slots have room");
    if finite {
        assert_eq!(slots.load(agent), Ok(Some(life)));
    }
}

/// A flash memory that never fails.
struct Flash(Vec<u8>);

impl ErrorType for Flash {
    type Error = Infallible;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.copy_from_slice(&self.0[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.0.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), Infallible> {
        self.0[from as usize..to as usize].fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), Infallible> {
        self.0[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        Ok(())
    }
}
