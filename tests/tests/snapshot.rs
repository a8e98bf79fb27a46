//! Does what was learned survive? Snapshots that go on bit for bit, damage that is named, and power cuts at every moment.

use backpropamine::network::{Agent, Network};
use backpropamine::rule::{Granularity, Rule};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine::snapshot::{self, Error, HEADER_BYTES, Head, Life, Slots, SnapshotError};
use backpropamine_tests::image;
use backpropamine_tests::parameters::{Draws, Parameters, RULES, Shape};
use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

const INPUTS: usize = 3;

fn parameters(rule: Rule, hidden: usize) -> Parameters {
    let mut shape = Shape::new(rule, INPUTS, hidden, 2);
    if rule.is_modulated() {
        shape.hebbian_eta = Granularity::Single;
    }
    Parameters::random(shape, 7)
}

fn inputs(step: u32) -> Vec<f32> {
    Draws::new(step.into()).normals(INPUTS, 1.0)
}

/// Everything that can be seen of an agent, and of its next steps.
fn future<S: Scalar>(agent: &mut Agent<S>) -> Vec<u32> {
    let mut seen = Vec::new();
    for step in 100..110 {
        agent.step_real(&inputs(step)).unwrap();
        seen.extend(agent.hidden().iter().map(|h| h.digest_word()));
        seen.extend(agent.modulator().iter().map(|m| S::output_digest_word(*m)));
        agent.for_each_trace(|trace| seen.push(trace.digest_word()));
    }
    seen
}

fn live<S: Scalar>(agent: &mut Agent<S>, steps: std::ops::Range<u32>) {
    steps.for_each(|step| {
        agent.step_real(&inputs(step)).unwrap();
    });
}

fn file<S: Scalar>(agent: &mut Agent<S>, life: &Life, sequence: u32) -> Vec<u8> {
    let mut file = Vec::new();
    let put = |bytes: &[u8]| {
        file.extend_from_slice(bytes);
        Ok::<(), ()>(())
    };
    snapshot::write(agent, life, sequence, put).unwrap();
    file
}

/// An agent born anew goes on from a snapshot as the one that wrote it does, which does not notice.
fn goes_on<S: Scalar>(words: &[u32]) {
    let network = Network::<S>::new(words).unwrap();
    let memories = [(); 3].map(|()| vec![0; network.memory_words()]);
    let [mut first, mut second, mut third] = memories;
    let mut writer = Agent::new(&network, &mut first).unwrap();
    let mut undisturbed = Agent::new(&network, &mut second).unwrap();
    let mut heir = Agent::new(&network, &mut third).unwrap();
    live(&mut writer, 0..20);
    live(&mut undisturbed, 0..20);
    writer.step_real(&[f32::NAN, 1.0, 1e30]).unwrap();
    undisturbed.step_real(&[f32::NAN, 1.0, 1e30]).unwrap();
    let life = Life {
        seed: u64::MAX - 5,
        episode: 3,
        step: 21,
        reward_average: -0.25,
    };
    let file = file(&mut writer, &life, 9);
    assert_eq!(file.len(), network.snapshot_bytes() as usize);
    live(&mut heir, 40..45);
    assert_eq!(snapshot::restore_bytes(&mut heir, &file), Ok(life));
    assert_eq!(heir.saturated_inputs(), writer.saturated_inputs());
    assert!(heir.saturated_inputs() >= 2);
    let expected = future(&mut undisturbed);
    assert_eq!(future(&mut writer), expected);
    assert_eq!(future(&mut heir), expected);
}

#[test]
fn a_life_goes_on_from_a_snapshot_bit_for_bit() {
    // Miri takes a thousand times as long: the rule with most to remember.
    let rules = if cfg!(miri) { &RULES[3..] } else { &RULES[..] };
    for &rule in rules {
        let parameters = parameters(rule, 7);
        goes_on::<f32>(&image::f32_words(&parameters));
        goes_on::<f64>(&image::f32_words(&parameters));
        goes_on::<Q15>(&image::q15_words(&parameters, 4.0));
        goes_on::<Q7>(&image::q7_words(&parameters, 4.0));
    }
}

/// The error of a changed snapshot, by an agent that must stay as it is.
fn refusal(change: impl FnOnce(&mut Vec<u8>)) -> SnapshotError {
    let words = image::f32_words(&parameters(Rule::Retroactive, 5));
    let network = Network::<f32>::new(&words).unwrap();
    let (mut first, mut second) = (vec![0; network.memory_words()], vec![0; network.memory_words()]);
    let mut agent = Agent::new(&network, &mut first).unwrap();
    let mut twin = Agent::new(&network, &mut second).unwrap();
    live(&mut agent, 0..9);
    live(&mut twin, 0..9);
    let mut file = file(&mut agent, &Life::default(), 1);
    change(&mut file);
    let error = snapshot::restore_bytes(&mut agent, &file).expect_err("a changed snapshot");
    assert_eq!(future(&mut agent), future(&mut twin), "{error}");
    error
}

/// Changes one word of the header and makes the checksum right again.
fn forge(word: usize, value: u32) -> impl FnOnce(&mut Vec<u8>) {
    move |file| {
        file[word * 4..word * 4 + 4].copy_from_slice(&value.to_le_bytes());
        let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&file[16..]);
        file[12..16].copy_from_slice(&sum.to_le_bytes());
    }
}

#[test]
fn what_is_wrong_has_a_name() {
    use SnapshotError as E;
    assert!(matches!(refusal(forge(0, 5)), E::NotASnapshot { found: 5 }));
    assert!(matches!(refusal(forge(1, 2)), E::Version { expected: 1, found: 2 }));
    assert!(matches!(refusal(forge(2, 4)), E::Length { found: 4, .. }));
    assert!(matches!(refusal(forge(2, 4000)), E::Length { found: 4000, .. }));
    assert!(matches!(refusal(forge(5, 77)), E::Model { found: 77, .. }));
    assert!(matches!(
        refusal(forge(6, 9)),
        E::Field {
            field: "numeric",
            found: 9
        }
    ));
    assert!(matches!(
        refusal(forge(6, 2)),
        E::Field {
            field: "numeric",
            found: 2
        }
    ));
    assert!(matches!(refusal(forge(7, 2)), E::Numeric { expected: 4, found: 2 }));
    assert!(matches!(refusal(forge(14, 1)), E::Field { field: "reserved", .. }));
    assert!(matches!(refusal(forge(20, f32::NAN.to_bits())), E::NotFinite { offset: 64 }));
    assert!(matches!(refusal(|file| file.truncate(100)), E::Length { found: 100, .. }));
    assert!(matches!(refusal(|file| file.truncate(0)), E::Length { found: 0, .. }));
    let message = refusal(forge(5, 77)).to_string();
    assert!(
        message.contains("0x0000004d") && message.contains("another snapshot of this image"),
        "{message}"
    );
}

#[test]
fn every_changed_byte_is_noticed() {
    let length = {
        let words = image::f32_words(&parameters(Rule::Retroactive, 5));
        Network::<f32>::new(&words).unwrap().snapshot_bytes() as usize
    };
    for byte in 0..length {
        let error = refusal(|file| file[byte] ^= 1 << (byte % 8));
        if byte >= HEADER_BYTES || (12..20).contains(&byte) {
            assert!(matches!(error, SnapshotError::Checksum { .. }), "byte {byte}: {error}");
        }
    }
}

/// A NOR flash: programming clears bits, erasing sets those of a sector. The power fails after so many bytes.
struct Flash {
    bytes: Vec<u8>,
    power: usize,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct NoPower;

impl NorFlashError for NoPower {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Flash {
    fn spend(&mut self) -> Result<(), NoPower> {
        self.power = self.power.checked_sub(1).ok_or(NoPower)?;
        Ok(())
    }
}

impl ErrorType for Flash {
    type Error = NoPower;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), NoPower> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "reads are aligned");
        bytes.copy_from_slice(&self.bytes[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.bytes.len()
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 512;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NoPower> {
        assert!(from.is_multiple_of(512) && to.is_multiple_of(512), "erasing is by sectors");
        for offset in from..to {
            // A sector whose erasing is cut short is neither old nor empty.
            if offset.is_multiple_of(64) {
                self.spend()?;
            }
            self.bytes[offset as usize] = 0xff;
        }
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), NoPower> {
        assert!(offset.is_multiple_of(4) && bytes.len().is_multiple_of(4), "writes are aligned");
        for (place, byte) in (offset as usize..).zip(bytes) {
            self.spend()?;
            assert_eq!(self.bytes[place], 0xff, "programmed twice without erasing");
            self.bytes[place] &= byte;
        }
        Ok(())
    }
}

const START: u32 = 512;

fn slots(bytes: Vec<u8>, power: usize) -> Slots<Flash> {
    let range = START..bytes.len() as u32;
    Slots::new(Flash { bytes, power }, range)
}

fn at(step: u32) -> Life {
    Life { step, ..Life::default() }
}

/// Saves at step 10 and 20, and cuts the power at every moment of a third save at step 30.
fn survives_power_cuts<S: Scalar>(words: &[u32]) {
    let network = Network::<S>::new(words).unwrap();
    let mut memory = vec![0; network.memory_words()];
    let slot = network.snapshot_bytes().next_multiple_of(512) as usize;
    let mut flash = slots(vec![0xff; START as usize + 2 * slot], usize::MAX);
    let mut agent = Agent::new(&network, &mut memory).unwrap();
    assert_eq!(flash.load(&mut agent), Ok(None));
    live(&mut agent, 0..10);
    assert_eq!(flash.save(&mut agent, &at(10)), Ok(1));
    live(&mut agent, 10..20);
    assert_eq!(flash.save(&mut agent, &at(20)), Ok(2));
    let before = flash.release().bytes;
    let reference = file(&mut agent, &at(20), 2);
    live(&mut agent, 20..30);
    let third = file(&mut agent, &at(30), 3);
    let (mut cuts, mut heir_memory) = (0, vec![0; network.memory_words()]);
    loop {
        let mut flash = slots(before.clone(), cuts);
        let saved = flash.save(&mut agent, &at(30));
        let mut flash = slots(flash.release().bytes, usize::MAX);
        let mut heir = Agent::new(&network, &mut heir_memory).unwrap();
        let life = flash.load(&mut heir).unwrap().expect("one of them is whole");
        let (step, expected) = if life.step == 30 { (30, &third) } else { (20, &reference) };
        assert_eq!(life.step, step);
        assert_eq!(&file(&mut heir, &life, if step == 30 { 3 } else { 2 }), expected);
        // Life goes on: the next save works and wins.
        live(&mut heir, 50..52);
        flash.save(&mut heir, &at(52)).unwrap();
        assert_eq!(flash.load(&mut heir).unwrap().unwrap().step, 52);
        match saved {
            Ok(sequence) => {
                assert_eq!((sequence, step), (3, 30));
                break;
            }
            Err(error) => assert_eq!(error, Error::Medium(NoPower)),
        }
        cuts += 1;
    }
    assert!(cuts > network.snapshot_bytes() as usize, "the power failed at every byte: {cuts}");
}

#[test]
fn a_power_cut_at_any_moment_loses_no_more_than_the_save_it_interrupts() {
    for rule in [Rule::Modulated, Rule::Retroactive] {
        let parameters = parameters(rule, 9);
        survives_power_cuts::<f32>(&image::f32_words(&parameters));
        survives_power_cuts::<Q15>(&image::q15_words(&parameters, 4.0));
        survives_power_cuts::<Q7>(&image::q7_words(&parameters, 4.0));
    }
}

#[test]
fn rolling_back_returns_to_the_older_snapshot_for_good() {
    let words = image::q15_words(&parameters(Rule::Modulated, 9), 4.0);
    let network = Network::<Q15>::new(&words).unwrap();
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).unwrap();
    let mut flash = slots(vec![0xff; 4608], usize::MAX);
    assert_eq!(flash.roll_back(&mut agent), Ok(None));
    live(&mut agent, 0..10);
    flash.save(&mut agent, &at(10)).unwrap();
    let older = file(&mut agent, &at(10), 1);
    live(&mut agent, 10..20);
    flash.save(&mut agent, &at(20)).unwrap();
    assert_eq!(flash.roll_back(&mut agent), Ok(Some(at(10))));
    assert_eq!(file(&mut agent, &at(10), 1), older);
    assert_eq!(flash.load(&mut agent), Ok(Some(at(10))));
    assert_eq!(flash.roll_back(&mut agent), Ok(None));
}

#[test]
fn slots_name_what_does_not_fit() {
    let words = [1, 2].map(|seed| image::q15_words(&Parameters::random(Shape::new(Rule::Modulated, INPUTS, 9, 2), seed), 4.0));
    let networks = [&words[0], &words[1]].map(|words| Network::<Q15>::new(words).unwrap());
    let mut memory = vec![0; networks[0].memory_words()];
    let mut agent = Agent::new(&networks[0], &mut memory).unwrap();
    let mut small = slots(vec![0xff; START as usize + 512], usize::MAX);
    let error = small.save(&mut agent, &at(1)).unwrap_err();
    assert!(matches!(error, Error::Snapshot(SnapshotError::Length { found: 0, .. })), "{error}");
    let mut flash = slots(vec![0xff; 4608], usize::MAX);
    flash.save(&mut agent, &at(1)).unwrap();
    let mut memory = vec![0; networks[1].memory_words()];
    let mut other = Agent::new(&networks[1], &mut memory).unwrap();
    let error = flash.load(&mut other).unwrap_err();
    assert!(matches!(error, Error::Snapshot(SnapshotError::Model { .. })), "{error}");
}

#[test]
fn a_header_survives_its_bytes() {
    let words = image::f32_words(&parameters(Rule::Hebbian, 5));
    let network = Network::<f32>::new(&words).unwrap();
    let mut memory = vec![0; network.memory_words()];
    let mut agent = Agent::new(&network, &mut memory).unwrap();
    let head = snapshot::head(&mut agent, &at(4), 12);
    assert_eq!(Head::parse(&head.to_bytes()), Ok(head));
    assert_eq!(head.fits(&network), Ok(()));
}

/// The traces are the end of a snapshot: `state` with those of `learned`, and a checksum to match.
fn with_traces_of(learned: &[u8], state: &[u8], traces: usize) -> Vec<u8> {
    let start = state.len() - traces;
    let mut bytes = [&state[..start], &learned[start..]].concat();
    let sum = crc::Crc::<u32>::new(&crc::CRC_32_ISO_HDLC).checksum(&bytes[16..]);
    bytes[12..16].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// Compares a frozen agent with one whose traces are put back after every step.
fn frozen_is_held<S: Scalar>(words: &[u32]) {
    let network = Network::<S>::new(words).unwrap();
    let header = network.header();
    let matrices = 1 + usize::from(header.rule.has_eligibility());
    let traces = matrices * header.hidden * header.numeric.stride(header.hidden) * size_of::<S>();
    let [mut one, mut two] = [(); 2].map(|()| vec![0; network.memory_words()]);
    let mut frozen = Agent::new(&network, &mut one).unwrap();
    let mut held = Agent::new(&network, &mut two).unwrap();
    live(&mut frozen, 0..30);
    live(&mut held, 0..30);
    frozen.freeze();
    let learned = file(&mut held, &at(0), 1);
    for step in 30..50 {
        live(&mut frozen, step..step + 1);
        live(&mut held, step..step + 1);
        let state = with_traces_of(&learned, &file(&mut held, &at(0), 1), traces);
        snapshot::restore_bytes(&mut held, &state).unwrap();
        assert_eq!(file(&mut frozen, &at(0), 1), state, "step {step}");
    }
    frozen.thaw();
    assert_eq!(future(&mut frozen), future(&mut held));
    let start = learned.len() - traces;
    assert_ne!(file(&mut frozen, &at(0), 1)[start..], learned[start..], "it learns again");
}

#[test]
fn a_frozen_agent_is_one_whose_traces_are_held() {
    for rule in [Rule::Hebbian, Rule::Modulated, Rule::Retroactive] {
        let parameters = Parameters::random(Shape::new(rule, INPUTS, 9, 2), 3);
        frozen_is_held::<f32>(&image::f32_words(&parameters));
        frozen_is_held::<Q15>(&image::q15_words(&parameters, 4.0));
        frozen_is_held::<Q7>(&image::q7_words(&parameters, 4.0));
    }
}
