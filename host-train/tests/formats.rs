//! Model and image files from outside: what is accepted, what is refused and by which words; and files that are never
//! half-written.

mod common;

use std::io::{self, Write};
use std::path::Path;

use backpropamine::image::{HEADER_WORDS, Section, seal};
use backpropamine_train::archive::{Archive, Tensor};
use backpropamine_train::export::f32_image;
use backpropamine_train::files::{self, FileError};
use backpropamine_train::image_file::{ImageFile, tensor_name};
use backpropamine_train::model::Model;
use common::{Design, Per};
use safetensors::Dtype;

const MODEL: &str = "m.safetensors";

/// A model with every tensor of the format.
fn full() -> Design {
    Design {
        fan_out: true,
        masked: true,
        modulators: 2,
        ..Design::default()
    }
}

fn file_bytes(design: &Design) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(MODEL);
    design.model().write(&path);
    std::fs::read(path).unwrap()
}

fn archive(design: &Design) -> Archive {
    Archive::from_bytes(&file_bytes(design), Path::new(MODEL)).unwrap()
}

fn load(archive: &Archive) -> Result<Model, FileError> {
    Model::from_archive(archive, Path::new(MODEL))
}

/// Asserts that the changed model is refused with a message that names file, field and all `parts`.
fn refuses(design: &Design, field: &str, parts: &[&str], change: impl FnOnce(&mut Archive)) {
    let mut archive = archive(design);
    change(&mut archive);
    let error = load(&archive).expect_err(field);
    let message = error.to_string();
    assert_eq!(error.field, field, "{message}");
    for part in ["m.safetensors: ", "expected ", "found "].iter().chain(parts) {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn set(archive: &mut Archive, name: &str, shape: &[usize]) {
    let values = vec![0.5; shape.iter().product()];
    archive.tensors.insert(name.into(), Tensor::from_f32(shape, &values));
}

fn word(key: &str, value: &str) -> impl FnOnce(&mut Archive) {
    move |archive| {
        archive.metadata.insert(key.into(), value.into());
    }
}

#[test]
fn every_rule_and_granularity_loads_and_writes_the_same_bytes_again() {
    for rule in ["none", "hebbian", "simple", "retroactive"] {
        for per in [Per::Network, Per::Neuron, Per::Connection] {
            for hidden in [1, 2, 7] {
                let design = Design {
                    rule,
                    alpha: per,
                    eta: per,
                    hidden,
                    value: hidden > 1,
                    ..Design::default()
                };
                let archive = archive(&design);
                let model = load(&archive).unwrap();
                assert_eq!((model.sizes.hidden, model.sizes.inputs, model.sizes.actions), (hidden, 3, 2));
                assert_eq!(model.sizes.modulators, usize::from(design.has_modulator()));
                assert_eq!(model.to_archive(), archive);
                assert_eq!(model.to_archive().to_bytes().unwrap(), archive.to_bytes().unwrap());
            }
        }
    }
}

#[test]
fn the_same_content_has_the_same_bytes_and_they_are_safetensors() {
    let mut archive = archive(&full());
    for key in 0..20 {
        archive.metadata.insert(format!("key {key}"), "\"quoted\"\n".into());
    }
    let bytes = archive.to_bytes().unwrap();
    for _ in 0..20 {
        assert_eq!(archive.clone().to_bytes().unwrap(), bytes);
    }
    assert_eq!(Archive::from_bytes(&bytes, Path::new(MODEL)).unwrap(), archive);
}

#[test]
fn defaults_and_unknown_metadata() {
    let mut archive = archive(&Design::default());
    archive.metadata.remove("clip");
    archive.metadata.remove("modulator");
    archive.metadata.insert("author".into(), "someone".into());
    let model = load(&archive).unwrap();
    assert_eq!(model.clip, 1.0);
    assert_eq!(model.squash, backpropamine::rule::Squash::Tanh);
    assert_eq!(model.to_archive().metadata["author"], "someone");
}

#[test]
fn missing_tensors_are_named() {
    for name in archive(&full()).tensors.keys() {
        if name.starts_with("modulator.fan_out") {
            continue;
        }
        refuses(&full(), name, &["found none"], |archive| {
            archive.tensors.remove(name);
        });
    }
}

#[test]
fn fan_out_weight_and_bias_are_optional_one_by_one() {
    for name in ["modulator.fan_out.weight", "modulator.fan_out.bias"] {
        let mut archive = archive(&full());
        archive.tensors.remove(name);
        assert!(load(&archive).is_ok());
    }
}

#[test]
fn unknown_and_useless_tensors_are_named() {
    refuses(&full(), "recurrent.beta", &[], |archive| set(archive, "recurrent.beta", &[8, 8]));
    refuses(&full(), "lstm.0.input.weight", &[], |archive| {
        set(archive, "lstm.0.input.weight", &[8, 3])
    });
    let simple = Design {
        rule: "simple",
        ..Design::default()
    };
    refuses(&simple, "recurrent.eta", &["rule=simple"], |archive| {
        set(archive, "recurrent.eta", &[1])
    });
    let none = Design {
        rule: "none",
        ..Design::default()
    };
    refuses(&none, "recurrent.alpha", &["rule=none"], |archive| {
        set(archive, "recurrent.alpha", &[1])
    });
    let hebbian = Design {
        rule: "hebbian",
        ..Design::default()
    };
    refuses(&hebbian, "modulator.weight", &["rule=hebbian"], |archive| {
        set(archive, "modulator.weight", &[1, 8])
    });
}

#[test]
fn wrong_shapes_are_named_with_the_lengths_they_should_have() {
    for name in archive(&full()).tensors.keys() {
        for extra in [[].as_slice(), &[9, 9, 9, 9], &[0], &[9]] {
            refuses(&full(), name, &[], |archive| set(archive, name, extra));
        }
    }
    let cases: [(&str, &[usize], &str); 6] = [
        ("input.weight", &[9, 3], "H = 8 by recurrent.weight"),
        ("recurrent.weight", &[8, 9], "[H, H]"),
        ("recurrent.alpha", &[8, 1], "[H, H] or [H] or [1]"),
        ("policy.bias", &[3], "A = 2 by policy.weight"),
        ("modulator.fan_out.weight", &[8, 8, 2], "per connection"),
        ("modulator.fan_out.bias", &[8, 8], "per connection"),
    ];
    for (name, shape, part) in cases {
        refuses(&full(), name, &[part], |archive| set(archive, name, shape));
    }
}

#[test]
fn wrong_types_and_values_are_named_with_their_place() {
    for name in archive(&full()).tensors.keys() {
        refuses(&full(), name, &["F32", "F64"], |archive| {
            let tensor = archive.tensors.get_mut(name).unwrap();
            let values: Vec<f64> = tensor.to_f32().unwrap().into_iter().map(f64::from).collect();
            *tensor = Tensor::from_f64(&tensor.shape, &values);
        });
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            refuses(&full(), name, &["finite", &bad.to_string()], |archive| {
                archive.tensors.get_mut(name).unwrap().bytes[..4].copy_from_slice(&bad.to_le_bytes());
            });
        }
    }
    refuses(&full(), "recurrent.weight", &["at [1, 2]"], |archive| {
        let bytes = &mut archive.tensors.get_mut("recurrent.weight").unwrap().bytes;
        bytes[40..44].copy_from_slice(&f32::NAN.to_le_bytes());
    });
    refuses(&full(), "modulator.mask", &["0.5", "at [0]"], |archive| {
        set(archive, "modulator.mask", &[8])
    });
}

#[test]
fn wrong_metadata_is_named() {
    for key in ["format", "cell", "rule"] {
        let field = format!("metadata {key}");
        refuses(&full(), &field, &["no such metadata"], |archive| {
            archive.metadata.remove(key);
        });
        refuses(&full(), &field, &["nonsense"], word(key, "nonsense"));
    }
    refuses(
        &full(),
        "metadata format",
        &["backpropamine/2", "another version"],
        word("format", "backpropamine/2"),
    );
    refuses(&full(), "metadata cell", &["lstm", "not implement"], word("cell", "lstm"));
    for clip in ["decay", "oja"] {
        refuses(&full(), "metadata clip", &[clip, "eligibility"], word("clip", clip));
    }
    for clip in ["hard", "hard:", "hard:0", "hard:-1", "hard:NaN", "hard:inf", "1"] {
        refuses(&full(), "metadata clip", &[clip], word("clip", clip));
    }
    refuses(&full(), "metadata modulator", &["relu"], word("modulator", "relu"));
}

#[test]
fn a_truncated_model_is_an_error_at_every_length() {
    let bytes = file_bytes(&full());
    for length in 0..bytes.len() {
        let error = Archive::from_bytes(&bytes[..length], Path::new(MODEL)).unwrap_err();
        assert!(error.to_string().contains("truncated"), "{error}");
    }
}

#[test]
fn a_flipped_bit_in_a_model_never_panics() {
    let bytes = file_bytes(&full());
    for position in 0..bytes.len() {
        for bit in 0..8 {
            let mut flipped = bytes.clone();
            flipped[position] ^= 1 << bit;
            let _ = Archive::from_bytes(&flipped, Path::new(MODEL)).and_then(|archive| load(&archive));
        }
    }
}

fn image() -> Vec<u32> {
    let mut archive = archive(&full());
    archive.metadata.insert("task".into(), "cue".into());
    archive.metadata.insert("config".into(), "a = 1\n[b]\nc = \"\\\"'''\"\n".into());
    f32_image(&load(&archive).unwrap())
}

fn image_bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn load_image(bytes: &[u8]) -> Result<ImageFile, FileError> {
    ImageFile::from_bytes(bytes, Path::new("x.bpam"))
}

#[test]
fn an_image_has_the_models_tensors_and_words() {
    let file = load_image(&image_bytes(&image())).unwrap();
    let model = load(&archive(&full())).unwrap();
    assert_eq!(file.metadata["task"], "cue");
    assert_eq!(file.metadata["config"], "a = 1\n[b]\nc = \"\\\"'''\"\n");
    for section in Section::ALL {
        let name = tensor_name(section);
        if matches!(section, Section::Mask | Section::Metadata) {
            continue;
        }
        let start = file.header.section_start(section);
        let words = &file.words[start..start + file.header.section_words(section)];
        let values: Vec<f32> = words.iter().map(|&word| f32::from_bits(word)).collect();
        assert_eq!(values, model.values(name).unwrap(), "{name}");
    }
}

#[test]
fn a_truncated_image_is_an_error_at_every_length() {
    let bytes = image_bytes(&image());
    for length in 0..bytes.len() {
        let error = load_image(&bytes[..length]).unwrap_err();
        assert_eq!(error.field, "length", "{error}");
    }
}

#[test]
fn a_flipped_bit_in_an_image_is_an_error_that_names_the_field() {
    let words = image();
    for index in 0..words.len() {
        for bit in 0..32 {
            let mut flipped = words.clone();
            flipped[index] ^= 1 << bit;
            let field = load_image(&image_bytes(&flipped)).unwrap_err().field;
            let expected = ["magic", "version", "length"].get(index).unwrap_or(&"checksum");
            assert_eq!(field, *expected, "word {index}, bit {bit}");
        }
    }
}

#[test]
fn a_changed_header_with_a_right_checksum_never_loads_as_something_else_unseen() {
    let words = image();
    for index in 4..HEADER_WORDS {
        for value in [0, 1, 2, 3, 4, 5000, u32::MAX] {
            let mut changed = words.clone();
            changed[index] = value;
            seal(&mut changed);
            if let Ok(file) = load_image(&image_bytes(&changed)) {
                assert_eq!(file.header.total_words(), changed.len(), "word {index} = {value}");
            }
        }
    }
}

/// Writes `left` bytes, then fails, as a full disk does.
struct FullDisk<'a> {
    disk: &'a mut dyn Write,
    left: usize,
}

impl Write for FullDisk<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let fits = bytes.len().min(self.left);
        if fits == 0 {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.left -= fits;
        self.disk.write(&bytes[..fits])
    }

    fn flush(&mut self) -> io::Result<()> {
        self.disk.flush()
    }
}

#[test]
fn a_writer_that_fails_leaves_the_old_file_for_every_n() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(MODEL);
    let old = file_bytes(&Design::default());
    let new = file_bytes(&Design {
        seed: 2,
        hidden: 2,
        ..Design::default()
    });
    files::write_atomically(&path, &old).unwrap();
    for left in 0..new.len() {
        let failed = files::replace_file(&path, |disk| FullDisk { disk, left }.write_all(&new));
        assert_eq!(failed.unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(std::fs::read(&path).unwrap(), old, "after {left} bytes");
        assert_eq!(
            std::fs::read_dir(folder.path()).unwrap().count(),
            1,
            "a temporary file stayed behind"
        );
    }
    files::write_atomically(&path, &new).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), new);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_devices_are_not_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (target, link) = (folder.path().join("target"), folder.path().join("link"));
    std::fs::write(&target, "old").unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    files::write_atomically(&link, b"new").unwrap();
    assert!(link.is_symlink());
    assert_eq!(std::fs::read(&target).unwrap(), b"new");
    let null = folder.path().join("null");
    std::os::unix::fs::symlink("/dev/null", &null).unwrap();
    files::write_atomically(&null, b"new").unwrap();
    assert!(std::fs::read(&null).unwrap().is_empty());
}

#[test]
fn tensors_of_other_types_have_no_f32_values() {
    let tensor = Tensor {
        dtype: Dtype::F64,
        shape: vec![1],
        bytes: 1.0f64.to_le_bytes().to_vec(),
    };
    assert_eq!((tensor.to_f32(), tensor.to_f64()), (None, Some(vec![1.0])));
}
