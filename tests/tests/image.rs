//! Robust? Whatever is wrong with an image, loading names it; nothing panics, and no wrong agent comes to life.

use backpropamine::image::{HEADER_WORDS, Header, LoadError, MAGIC, MAX_MODULATORS, MAX_UNITS, Numeric, Section, VERSION, seal};
use backpropamine::network::{Agent, Network};
use backpropamine::rule::{Granularity, Rule};
use backpropamine::scalar::{Q7, Q15, Scalar};
use backpropamine_tests::image::{f32_words, header, q7_words, q15_words};
use backpropamine_tests::parameters::{Parameters, RULES, Shape};
use proptest::prelude::*;

/// A small image that has every tensor.
fn parameters() -> Parameters {
    let shape = Shape {
        modulators: 2,
        fan_out: true,
        hebbian_eta: Granularity::PerNeuron,
        ..Shape::new(Rule::Retroactive, 3, 5, 2)
    };
    Parameters::random(shape, 1)
}

fn words() -> Vec<u32> {
    f32_words(&parameters())
}

fn load(words: &[u32]) -> Result<Header, LoadError> {
    Network::<f32>::new(words).map(|network| *network.header())
}

/// The image with one header word changed, sealed again as a wrong exporter would.
fn forged(image: &[u32], index: usize, value: u32) -> Vec<u32> {
    let mut words = image.to_vec();
    words[index] = value;
    seal(&mut words);
    words
}

#[test]
fn the_untouched_image_loads() {
    let words = words();
    let loaded = load(&words).unwrap();
    let written = Header {
        checksum: words[3],
        ..header(&parameters())
    };
    assert_eq!(loaded, written);
    assert_eq!(Network::<f32>::from_bytes(bytes(&words)).unwrap().header(), &written);
}

/// The bytes of words, in place and so aligned.
fn bytes(words: &[u32]) -> &[u8] {
    bytemuck::cast_slice(words)
}

#[test]
fn every_flipped_bit_is_noticed() {
    let good = words();
    for word in 0..good.len() {
        for bit in 0..32 {
            let mut bad = good.clone();
            bad[word] ^= 1 << bit;
            let error = load(&bad).unwrap_err();
            let named = match word {
                0 => error == LoadError::NotAnImage { found: bad[0] },
                1 => {
                    error
                        == LoadError::Version {
                            expected: VERSION,
                            found: bad[1],
                        }
                }
                2 => {
                    error
                        == LoadError::Length {
                            expected: bad[2],
                            found: good[2],
                        }
                }
                3 => {
                    error
                        == LoadError::Checksum {
                            expected: bad[3],
                            found: good[3],
                        }
                }
                _ => matches!(error, LoadError::Checksum { expected, .. } if expected == good[3]),
            };
            assert!(named, "word {word}, bit {bit}: {error:?}");
        }
    }
}

/// What the checksum cannot notice: a header that was written wrong. Either it is refused, or it is another lawful
/// image, whose agent runs in the memory that it asks for.
#[test]
fn a_wrongly_written_header_is_refused_or_harmless() {
    let (float, fixed, narrow) = (words(), q15_words(&parameters(), 1.0), q7_words(&parameters(), 1.0));
    for (word, bit) in (4..HEADER_WORDS).flat_map(|word| (0..32).map(move |bit| (word, bit))) {
        run_if_loaded::<f32>(&forged(&float, word, float[word] ^ 1 << bit));
        run_if_loaded::<Q15>(&forged(&fixed, word, fixed[word] ^ 1 << bit));
        run_if_loaded::<Q7>(&forged(&narrow, word, narrow[word] ^ 1 << bit));
    }
}

fn run_if_loaded<S: Scalar>(words: &[u32]) {
    if let Ok(network) = Network::<S>::new(words) {
        let mut memory = vec![0; network.memory_words()];
        let mut agent = Agent::new(&network, &mut memory).unwrap();
        let x = vec![0.5; network.header().inputs];
        for _ in 0..3 {
            assert_eq!(agent.step_real(&x).unwrap().len(), network.header().outputs);
        }
    }
}

#[test]
fn a_bad_header_field_is_named() {
    for (index, value, field) in [
        (4, 3, "numeric"),
        (5, 1, "cell"),
        (6, 4, "rule"),
        (7, 3, "modulator function"),
        (8, 0, "inputs"),
        (8, MAX_UNITS + 1, "inputs"),
        (8, u32::MAX, "inputs"),
        (9, 0, "hidden"),
        (9, MAX_UNITS + 1, "hidden"),
        (9, 1 << 31, "hidden"),
        (10, 0, "outputs"),
        (10, u32::MAX, "outputs"),
        (11, 0, "modulators"),
        (11, MAX_MODULATORS + 1, "modulators"),
        (12, 4, "clip kind"),
        (13, 0, "clip limit"),
        (13, (-1f32).to_bits(), "clip limit"),
        (13, f32::NAN.to_bits(), "clip limit"),
        (13, f32::INFINITY.to_bits(), "clip limit"),
        (14, 0, "alpha granularity"),
        (14, 4, "alpha granularity"),
        (15, 0, "eta granularity"),
        (15, 9, "eta granularity"),
        (16, 4, "hebbian_eta granularity"),
        (17, 8, "flags"),
        (18, 16, "input scale"),
        (18, -16i32 as u32, "input scale"),
        (19, 16, "input format"),
        (20, 16, "recurrent format"),
        (21, 31, "gain format"),
        (22, 15, "fan_out format"),
        (23, 16, "modulator format"),
        (24, 16, "policy format"),
        (25, 16, "value format"),
        (27, u32::MAX, "metadata length"),
        (28, 1f32.to_bits(), "clip remainder"),
        (28, f32::NAN.to_bits(), "clip remainder"),
        (29, 1, "reserved"),
        (31, 1, "reserved"),
    ] {
        assert_eq!(
            load(&forged(&words(), index, value)),
            Err(LoadError::Field { field, found: value }),
            "word {index}"
        );
    }
}

#[test]
fn dimensions_that_do_not_fit_the_length_are_refused() {
    for (index, value) in [
        (8, 4),
        (8, MAX_UNITS),
        (9, 6),
        (9, MAX_UNITS),
        (10, 3),
        (10, MAX_UNITS),
        (11, 1),
        (27, 5),
    ] {
        let error = load(&forged(&words(), index, value)).unwrap_err();
        assert!(
            matches!(error, LoadError::Length { expected, found } if expected != found),
            "word {index}: {error:?}"
        );
    }
}

#[test]
fn a_truncated_image_is_refused_at_every_length() {
    let whole = words();
    for length in 0..whole.len() {
        let found = length as u32 * 4;
        let error = load(&whole[..length]).unwrap_err();
        assert!(
            matches!(error, LoadError::Length { found: length, .. } if length == found),
            "{length} words: {error:?}"
        );
        // Cut and sealed again: the dimensions need more than there is.
        let mut cut = whole[..length].to_vec();
        seal(&mut cut);
        assert!(matches!(load(&cut), Err(LoadError::Length { .. })), "{length} words");
    }
    for length in 0..whole.len() * 4 {
        let error = Network::<f32>::from_bytes(&bytes(&whole)[..length]).map(|_| ()).unwrap_err();
        assert!(matches!(error, LoadError::Length { .. }), "{length} bytes: {error:?}");
    }
    let mut longer = whole.clone();
    longer.push(0);
    assert!(matches!(load(&longer), Err(LoadError::Length { .. })));
}

#[test]
fn a_misaligned_slice_is_refused() {
    let words = words();
    let mut padded = vec![0; words.len() + 1];
    for offset in 1..4 {
        let place: &mut [u8] = bytemuck::cast_slice_mut(&mut padded);
        let place = &mut place[offset..offset + words.len() * 4];
        place.copy_from_slice(bytes(&words));
        assert_eq!(Network::<f32>::from_bytes(place).map(|_| ()), Err(LoadError::Misaligned));
    }
}

#[test]
fn the_wrong_arithmetic_is_refused() {
    let words = words();
    let expected = LoadError::Numeric {
        expected: Numeric::Q15,
        found: Numeric::F32,
    };
    assert_eq!(Network::<Q15>::new(&words).map(|_| ()), Err(expected));
    assert!(Network::<f64>::new(&words).is_ok());
}

#[test]
fn a_number_that_is_not_finite_is_named() {
    let good = words();
    let header = header(&parameters());
    for section in Section::ALL {
        if matches!(section, Section::Mask | Section::Metadata) {
            continue;
        }
        let start = header.section_start(section);
        for index in [0, header.section_words(section) - 1] {
            for poison in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut bad = good.clone();
                bad[start + index] = poison.to_bits();
                seal(&mut bad);
                assert_eq!(
                    load(&bad),
                    Err(LoadError::NotFinite {
                        section,
                        index: index as u32
                    })
                );
            }
        }
    }
}

#[test]
fn a_mask_that_is_neither_0_nor_1_is_refused() {
    let start = header(&parameters()).section_start(Section::Mask);
    for value in [2, u32::MAX] {
        assert_eq!(
            load(&forged(&words(), start + 1, value)),
            Err(LoadError::Field {
                field: "mask",
                found: value
            })
        );
    }
}

/// The image with a metadata text, as an exporter appends it.
fn with_metadata(text: &[u8]) -> Vec<u32> {
    let mut words = words();
    words[27] = text.len() as u32;
    words.extend(
        text.chunks(4)
            .map(|quad| quad.iter().rev().fold(0, |word, byte| word << 8 | u32::from(*byte))),
    );
    seal(&mut words);
    words
}

#[test]
fn metadata_is_carried_and_never_in_the_way() {
    for text in ["", "a", "task = \"cue\"\nseed = \"7\"\n", "größe"] {
        let words = with_metadata(text.as_bytes());
        assert_eq!(Network::<f32>::new(&words).unwrap().metadata(), text);
    }
    assert_eq!(
        Network::<f32>::new(&with_metadata(b"\xff\xfe")).unwrap().metadata(),
        "",
        "not UTF-8"
    );
}

#[test]
fn every_error_says_what_was_expected_and_what_to_do() {
    let mut bad = words();
    bad[1] = 77;
    let message = load(&bad).unwrap_err().to_string();
    assert_eq!(
        message,
        "version: expected 1, found 77; export it again with `backpropamine export MODEL --out IMAGE.bpam`"
    );
}

#[test]
fn a_wrong_memory_is_refused_with_both_sizes() {
    let words = words();
    let network = Network::<f32>::new(&words).unwrap();
    let needed = network.memory_words();
    for size in [0, 1, needed - 1] {
        let mut memory = vec![0; size];
        let error = Agent::new(&network, &mut memory).map(|_| ()).unwrap_err();
        assert_eq!((error.expected, error.found), (needed, size));
    }
}

#[test]
fn memory_holds_what_the_rule_needs_and_no_more() {
    let words = |rule| {
        let words = f32_words(&Parameters::random(Shape::new(rule, 3, 10, 2), 1));
        Network::<f32>::new(&words).unwrap().memory_words()
    };
    let [plain, hebbian, modulated, retroactive] = RULES.map(words);
    let trace = 10 * 10 / 2;
    assert_eq!(hebbian - plain, trace, "the Hebbian trace, two numbers in a word");
    assert_eq!(modulated - hebbian, 1, "m");
    assert_eq!(retroactive - modulated, trace, "the eligibility trace");
    assert!(
        plain < 20,
        "a non-plastic network pays nothing for plasticity, but needs {plain} words"
    );
}

#[test]
fn q7_needs_half_of_the_memory_of_q15() {
    for rule in [Rule::Hebbian, Rule::Modulated, Rule::Retroactive] {
        let parameters = Parameters::random(Shape::new(rule, 27, 100, 2), 1);
        let (wide, narrow) = (q15_words(&parameters, 1.0), q7_words(&parameters, 1.0));
        let wide = Network::<Q15>::new(&wide).unwrap();
        let narrow = Network::<Q7>::new(&narrow).unwrap();
        let (wide_words, narrow_words) = (wide.memory_words(), narrow.memory_words());
        // Logits, modulator and what fills up a word stay as they are.
        assert!(
            narrow_words * 2 <= wide_words + 8,
            "{rule:?}: {narrow_words} words, q15 {wide_words}"
        );
        let (wide_flash, narrow_flash) = (wide.header().total_words(), narrow.header().total_words());
        assert!(
            narrow_flash * 20 <= wide_flash * 11,
            "{rule:?}: {narrow_flash} words of flash, q15 {wide_flash}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn garbage_is_refused(garbage in proptest::collection::vec(any::<u32>(), 0..200)) {
        prop_assert!(load(&garbage).is_err());
        prop_assert!(Network::<Q15>::new(&garbage).is_err());
        prop_assert!(Network::<Q7>::new(&garbage).is_err());
    }

    /// Past magic, version, length and checksum, to the fields behind them.
    #[test]
    fn sealed_garbage_is_refused_or_harmless(
        fields in proptest::collection::vec(prop_oneof![0..5u32, any::<u32>()], HEADER_WORDS - 4),
        payload in proptest::collection::vec(any::<u32>(), 0..100),
    ) {
        let mut words = vec![MAGIC, VERSION, 0, 0];
        words.extend(fields);
        words.extend(payload);
        seal(&mut words);
        run_if_loaded::<f32>(&words);
        run_if_loaded::<Q15>(&words);
        run_if_loaded::<Q7>(&words);
    }
}
