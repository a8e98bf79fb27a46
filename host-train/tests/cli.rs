//! The binary as an outsider meets it: files written by the safetensors library, exit codes, messages, JSON.

mod common;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use assert_cmd::Command;
use common::{Design, Draws, Per, RandomModel, Values, bytes, write};
use safetensors::tensor::{TensorView, serialize};
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use tempfile::TempDir;

/// Named rows of numbers.
type Outputs = BTreeMap<String, Vec<f64>>;

/// A folder of its own for one test.
struct Desk(TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn model(&self, design: &Design) -> RandomModel {
        let model = design.model();
        model.write(&self.path("model.safetensors"));
        model
    }

    /// Writes `x` (and `reset` from the fourth step on every fifth one, if wanted) and returns both.
    fn inputs(&self, steps: usize, width: usize, with_reset: bool) -> (Vec<Vec<f32>>, Vec<bool>) {
        let mut draws = Draws(77);
        let x: Vec<Vec<f32>> = (0..steps).map(|_| (0..width).map(|_| draws.uniform(-1.0, 1.0)).collect()).collect();
        let reset: Vec<bool> = (0..steps).map(|step| with_reset && step % 5 == 3).collect();
        let mut tensors = BTreeMap::from([("x".to_owned(), (vec![steps, width], x.concat()))]);
        if with_reset {
            let flags = reset.iter().map(|&flag| f32::from(u8::from(flag))).collect();
            tensors.insert("reset".into(), (vec![steps], flags));
        }
        write(&self.path("in.safetensors"), &tensors, None);
        (x, reset)
    }

    /// Runs the binary in this folder.
    fn run(&self, arguments: &str) -> assert_cmd::assert::Assert {
        let mut command = Command::cargo_bin("backpropamine").unwrap();
        command.current_dir(self.0.path()).args(arguments.split_whitespace()).assert()
    }

    /// The JSON object of a command that succeeds.
    fn json(&self, arguments: &str) -> Value {
        let output = self.run(&format!("{arguments} --json")).success().get_output().stdout.clone();
        serde_json::from_slice(&output).unwrap()
    }

    /// Asserts exit code and message of a command that fails, and that it leaves no output.
    fn fails(&self, arguments: &str, code: i32, parts: &[&str]) {
        let assert = self.run(arguments).code(code);
        let message = String::from_utf8(assert.get_output().stderr.clone()).unwrap();
        for part in parts {
            assert!(message.contains(part), "{part:?} is not in {message:?}");
        }
        assert!(!self.path("out").exists());
        if code != 2 {
            assert!(message.starts_with("error: "), "{message:?}");
        }
    }

    fn replay(&self, options: &str) -> Outputs {
        self.run(&format!(
            "replay model.safetensors --inputs in.safetensors --out out.safetensors {options}"
        ))
        .success();
        self.outputs()
    }

    fn outputs(&self) -> Outputs {
        let file = std::fs::read(self.path("out.safetensors")).unwrap();
        let read = |(name, tensor): (&str, TensorView<'_>)| {
            let values = match tensor.dtype() {
                Dtype::F64 => tensor.data().as_chunks().0.iter().map(|&bytes| f64::from_le_bytes(bytes)).collect(),
                Dtype::F32 => tensor
                    .data()
                    .as_chunks()
                    .0
                    .iter()
                    .map(|&bytes| f32::from_le_bytes(bytes).into())
                    .collect(),
                other => panic!("{name} has type {other}"),
            };
            (name.to_owned(), values)
        };
        SafeTensors::deserialize(&file).unwrap().iter().map(read).collect()
    }
}

/// A network straight from its equations (Miconi et al., ICLR 2019, Eq. 1-5), in f64; it shares nothing with the core.
struct Reference<'a>(Design, &'a RandomModel);

impl Reference<'_> {
    fn get(&self, name: &str) -> Option<Vec<f64>> {
        self.1
            .tensors
            .get(name)
            .map(|(_, values)| values.iter().map(|&value| value.into()).collect())
    }

    /// A coefficient at every connection.
    fn spread(&self, name: &str) -> Vec<f64> {
        let hidden = self.0.hidden;
        let values = self.get(name).unwrap_or_else(|| vec![0.0]);
        let index = |post: usize, pre: usize| match values.len() {
            1 => 0,
            length if length == hidden => post,
            _ => post * hidden + pre,
        };
        (0..hidden * hidden).map(|at| values[index(at / hidden, at % hidden)]).collect()
    }

    /// Runs the network straight from its equations (Miconi et al., ICLR 2019, Eq. 1-5).
    fn run(&self, x: &[Vec<f32>], reset: &[bool]) -> Outputs {
        let Design {
            hidden,
            modulators,
            rule,
            clip,
            shaped,
            squash,
            ..
        } = self.0;
        let connections = hidden * hidden;
        let [win, bias, w] = ["input.weight", "input.bias", "recurrent.weight"].map(|name| self.get(name).unwrap());
        let [alpha, eta, hebbian_eta] = ["recurrent.alpha", "recurrent.eta", "recurrent.hebbian_eta"].map(|name| self.spread(name));
        let fan_out = self
            .get("modulator.fan_out.weight")
            .unwrap_or_else(|| vec![1.0; hidden * modulators]);
        let fan_bias = self.get("modulator.fan_out.bias").unwrap_or_else(|| vec![0.0; hidden]);
        let mask = self.get("modulator.mask").unwrap_or_else(|| vec![1.0; hidden]);
        let layer = |name: &str, h: &[f64]| -> Vec<f64> {
            let (Some(weight), Some(bias)) = (self.get(&format!("{name}.weight")), self.get(&format!("{name}.bias"))) else {
                return Vec::new();
            };
            bias.iter()
                .zip(weight.chunks(hidden))
                .map(|(bias, row)| bias + dot(row, h))
                .collect()
        };
        let (mut h, mut hebb, mut trace) = (vec![0.0; hidden], vec![0.0; connections], vec![0.0; connections]);
        let mut out = Outputs::new();
        for (x, &reset) in x.iter().zip(reset) {
            if reset {
                h.fill(0.0);
                hebb.fill(0.0);
                trace.fill(0.0);
            }
            let x: Vec<f64> = x.iter().map(|&x| x.into()).collect();
            let before = h.clone();
            for j in 0..hidden {
                let row = j * hidden..(j + 1) * hidden;
                let recurrent: f64 = row.map(|ji| (w[ji] + alpha[ji] * hebb[ji]) * before[ji % hidden]).sum();
                h[j] = (bias[j] + dot(&win[j * x.len()..][..x.len()], &x) + recurrent).tanh();
            }
            let m: Vec<f64> = layer("modulator", &h)
                .into_iter()
                .map(|z| match squash {
                    "tanh" => z.tanh(),
                    "sigmoid" => 1.0 / (1.0 + (-z).exp()),
                    _ => z,
                })
                .collect();
            for ji in 0..connections {
                let (j, i) = (ji / hidden, ji % hidden);
                let product = h[j] * before[i];
                let gain = fan_bias[j] + m.iter().enumerate().map(|(k, m)| fan_out[j * modulators + k] * m).sum::<f64>();
                let increment = match rule {
                    "none" => 0.0,
                    "hebbian" => eta[ji] * product,
                    _ if mask[j] == 0.0 => hebbian_eta[ji] * product,
                    "simple" => gain * product,
                    _ => gain * trace[ji],
                };
                let rate = match rule {
                    "hebbian" => eta[ji],
                    _ if mask[j] == 0.0 => hebbian_eta[ji],
                    _ => gain,
                };
                let increment = match shaped {
                    None => increment,
                    Some("soft") => increment * (1.0 - increment.signum() * hebb[ji]),
                    Some("decay") => increment - rate * hebb[ji],
                    Some(_) => increment - rate * h[j] * h[j] * hebb[ji],
                };
                hebb[ji] = (hebb[ji] + increment).clamp(-clip, clip);
                if rule == "retroactive" {
                    trace[ji] = (1.0 - eta[ji]) * trace[ji] + eta[ji] * product;
                }
            }
            out.entry("hidden".into()).or_default().extend(&h);
            out.entry("policy".into()).or_default().extend(layer("policy", &h));
            out.entry("value".into()).or_default().extend(layer("value", &h));
            out.entry("modulator".into()).or_default().extend(m);
        }
        out.insert("hebb".into(), if rule == "none" { Vec::new() } else { hebb });
        out.insert("eligibility".into(), if rule == "retroactive" { trace } else { Vec::new() });
        out.retain(|_, values| !values.is_empty());
        out
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn relative_distance(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
    let distance = norm(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    let small = 0.05 * (expected.len() as f64).sqrt();
    distance / norm(&mut expected.iter().copied()).max(small)
}

/// Replays a design in every arithmetic and holds it against the reference.
fn compare(design: Design, steps: usize) {
    let desk = Desk::new();
    let model = desk.model(&design);
    let (x, reset) = desk.inputs(steps, design.inputs, design.seed.is_multiple_of(2));
    let expected = Reference(design, &model).run(&x, &reset);
    for (numeric, tolerance) in [("f64", 1e-9), ("f32", 1e-4), ("q15", 0.02), ("q7", 0.5)] {
        let found = desk.replay(&format!("--numeric {numeric}"));
        assert!(found.keys().eq(expected.keys()), "{design:?}: {:?}", found.keys());
        for (name, expected) in &expected {
            let distance = relative_distance(&found[name], expected);
            assert!(distance <= tolerance, "{numeric} {name}: {distance:e} in {design:?}");
        }
    }
}

const RULES: [&str; 4] = ["none", "hebbian", "simple", "retroactive"];

#[test]
fn replays_of_every_rule_and_granularity_follow_the_equations() {
    let mut seed = 0;
    for rule in RULES {
        for alpha in [Per::Network, Per::Neuron, Per::Connection] {
            for eta in [Per::Network, Per::Neuron, Per::Connection] {
                seed += 1;
                let hidden = [1, 2, 5, 8, 33][seed as usize % 5];
                let (inputs, actions, value) = (1 + seed as usize % 4, 1 + seed as usize % 3, seed % 2 == 0);
                compare(
                    Design {
                        rule,
                        hidden,
                        inputs,
                        actions,
                        alpha,
                        eta,
                        value,
                        seed,
                        ..Design::default()
                    },
                    12,
                );
            }
        }
    }
}

#[test]
fn replays_with_fan_out_masks_squashes_and_clips_follow_the_equations() {
    let mut seed = 100;
    for rule in ["simple", "retroactive"] {
        for squash in ["tanh", "sigmoid", "identity"] {
            for (fan_out, masked, modulators, clip) in [(true, false, 3, 2.0), (false, true, 2, 0.03), (true, true, 1, 1.0)] {
                seed += 1;
                let eta = [Per::Network, Per::Neuron, Per::Connection][seed as usize % 3];
                compare(
                    Design {
                        rule,
                        squash,
                        fan_out,
                        masked,
                        modulators,
                        clip,
                        eta,
                        seed,
                        hidden: 7,
                        ..Design::default()
                    },
                    15,
                );
            }
        }
    }
}

#[test]
fn replays_with_every_clip_follow_the_equations() {
    let mut seed = 300;
    for (clip, rules) in [("soft", &RULES[1..]), ("decay", &RULES[1..3]), ("oja", &RULES[1..3])] {
        for &rule in rules {
            seed += 1;
            let design = Design {
                rule,
                shaped: Some(clip),
                masked: rule != "hebbian",
                fan_out: rule != "hebbian",
                eta: [Per::Network, Per::Connection][seed as usize % 2],
                seed,
                ..Design::default()
            };
            compare(design, 15);
        }
    }
}

#[test]
fn replays_of_large_networks_follow_the_equations() {
    for (seed, rule) in RULES.into_iter().enumerate() {
        compare(
            Design {
                rule,
                hidden: 257,
                inputs: 41,
                actions: 9,
                seed: 200 + seed as u64,
                ..Design::default()
            },
            8,
        );
    }
}

#[test]
fn a_replay_has_the_types_and_shapes_of_the_format() {
    let desk = Desk::new();
    desk.model(&Design {
        modulators: 2,
        ..Design::default()
    });
    desk.inputs(6, 3, false);
    for (numeric, dtype) in [("f64", Dtype::F64), ("f32", Dtype::F32), ("q15", Dtype::F32), ("q7", Dtype::F32)] {
        desk.replay(&format!("--numeric {numeric}"));
        let file = std::fs::read(desk.path("out.safetensors")).unwrap();
        let archive = SafeTensors::deserialize(&file).unwrap();
        let expected: [(&str, &[usize]); 6] = [
            ("hidden", &[6, 8]),
            ("policy", &[6, 2]),
            ("value", &[6]),
            ("modulator", &[6, 2]),
            ("hebb", &[8, 8]),
            ("eligibility", &[8, 8]),
        ];
        assert_eq!(archive.len(), expected.len());
        for (name, shape) in expected {
            let tensor = archive.tensor(name).unwrap();
            assert_eq!((tensor.dtype(), tensor.shape()), (dtype, shape), "{name}");
        }
    }
}

#[test]
fn a_replay_of_no_steps_is_empty_and_has_clean_traces() {
    let desk = Desk::new();
    desk.model(&Design::default());
    desk.inputs(0, 3, false);
    let outputs = desk.replay("");
    assert!(outputs["hidden"].is_empty());
    assert_eq!(outputs["hebb"], [0.0; 64]);
}

type Encoder = fn(bool) -> Vec<u8>;

#[test]
fn x_may_be_f64_and_reset_any_number_type() {
    let desk = Desk::new();
    desk.model(&Design {
        seed: 3,
        ..Design::default()
    });
    let (x, reset) = desk.inputs(9, 3, true);
    let expected = desk.replay("--numeric f64");
    let wide: Vec<u8> = x.concat().iter().flat_map(|&value| f64::from(value).to_le_bytes()).collect();
    let flags = |of: Encoder| -> Vec<u8> { reset.iter().flat_map(|&flag| of(flag)).collect() };
    let types: [(Dtype, Encoder); 5] = [
        (Dtype::BOOL, |flag| vec![flag.into()]),
        (Dtype::U8, |flag| vec![if flag { 200 } else { 0 }]),
        (Dtype::I64, |flag| (-i64::from(flag)).to_le_bytes().into()),
        (Dtype::F64, |flag| f64::from(u8::from(flag)).to_le_bytes().into()),
        (Dtype::F32, |flag| (if flag { 0.5f32 } else { -0.0 }).to_le_bytes().into()),
    ];
    for (dtype, encode) in types {
        let flags = flags(encode);
        let tensors = [
            ("x", TensorView::new(Dtype::F64, vec![9, 3], &wide).unwrap()),
            ("reset", TensorView::new(dtype, vec![9], &flags).unwrap()),
        ];
        std::fs::write(desk.path("in.safetensors"), serialize(tensors, None).unwrap()).unwrap();
        assert_eq!(desk.replay("--numeric f64"), expected, "{dtype}");
    }
}

#[test]
fn an_image_replays_as_its_model_and_fixes_the_arithmetic() {
    let desk = Desk::new();
    desk.model(&Design {
        hidden: 9,
        fan_out: true,
        masked: true,
        ..Design::default()
    });
    desk.inputs(10, 3, true);
    for numeric in ["f32", "q15", "q7"] {
        let of_model = desk.replay(&format!(
            "--numeric {numeric} {}",
            if numeric == "f32" { "" } else { "--input-range 1" }
        ));
        desk.run(&format!("export model.safetensors --numeric {numeric} --out x.bpam"))
            .success();
        let replay = "replay x.bpam --inputs in.safetensors --out";
        desk.run(&format!("{replay} out.safetensors")).success();
        assert_eq!(desk.outputs(), of_model);
        desk.run(&format!("{replay} out.safetensors --numeric {numeric}")).success();
        assert_eq!(desk.outputs(), of_model);
        let other = if numeric == "f32" { "q15" } else { "f32" };
        desk.fails(&format!("{replay} out --numeric {other}"), 2, &["--numeric", "x.bpam", numeric]);
        desk.fails(&format!("{replay} out --numeric f64"), 2, &["--numeric"]);
        desk.fails(&format!("{replay} out --input-range 2"), 2, &["--input-range"]);
    }
}

#[test]
fn q15_inputs_beyond_the_range_are_clamped_and_counted() {
    let desk = Desk::new();
    desk.model(&Design::default());
    let x = [3.0, 0.5, -0.25, 0.0, -7.5, 1.0];
    write(
        &desk.path("in.safetensors"),
        &BTreeMap::from([("x".to_owned(), (vec![2, 3], x.to_vec()))]),
        None,
    );
    let replay = "replay model.safetensors --inputs in.safetensors --out out.safetensors --numeric q15";
    let report = desk.json(replay);
    assert_eq!((&report["saturated_inputs"], &report["input_range"]), (&0.into(), &8.0.into()));
    let report = desk.json(&format!("{replay} --input-range 2"));
    assert_eq!((&report["saturated_inputs"], &report["input_range"]), (&2.into(), &2.0.into()));
}

#[test]
fn a_model_of_a_known_task_has_its_input_range() {
    let desk = Desk::new();
    let mut model = Design::default().model();
    model.metadata.insert("task".into(), "cue".into());
    model.write(&desk.path("model.safetensors"));
    desk.inputs(4, 3, false);
    let report = desk.json("replay model.safetensors --inputs in.safetensors --out out.safetensors --numeric q15");
    assert_eq!(report["input_range"], 1.0);
}

#[test]
fn bad_replay_inputs_are_named() {
    let desk = Desk::new();
    desk.model(&Design::default());
    let replay = "replay model.safetensors --inputs in.safetensors --out out";
    let one = |name: &str, shape: &[usize], values: Vec<f32>| BTreeMap::from([(name.to_owned(), (shape.to_vec(), values))]);
    let with = |mut tensors: BTreeMap<String, Values>, name: &str, length: usize| {
        tensors.insert(name.into(), (vec![length], vec![0.0; length]));
        tensors
    };
    let good = one("x", &[2, 3], vec![0.1; 6]);
    let cases = [
        (one("y", &[2, 3], vec![0.0; 6]), "y"),
        (BTreeMap::new(), "x: expected a tensor"),
        (one("x", &[6], vec![0.0; 6]), "x: expected shape [T, I]"),
        (one("x", &[2, 4], vec![0.0; 8]), "x: expected shape [T, 3]"),
        (one("x", &[1, 3], vec![0.0, f32::NAN, 0.0]), "found NaN at [0, 1]"),
        (one("x", &[1, 3], vec![0.0, 0.0, f32::INFINITY]), "found inf at [0, 2]"),
        (with(good.clone(), "reset", 3), "reset: expected shape [2]"),
        (with(good, "resets", 2), "resets"),
    ];
    for (tensors, part) in cases {
        write(&desk.path("in.safetensors"), &tensors, None);
        desk.fails(replay, 3, &["in.safetensors: ", part, "expected", "found"]);
    }
    let integers = TensorView::new(Dtype::I32, vec![1, 3], &[0; 12]).unwrap();
    std::fs::write(desk.path("in.safetensors"), serialize([("x", integers)], None).unwrap()).unwrap();
    desk.fails(replay, 3, &["x: expected type F32 or F64, found I32"]);
    let huge: Vec<u8> = [1e300f64; 3].iter().flat_map(|value| value.to_le_bytes()).collect();
    let huge = TensorView::new(Dtype::F64, vec![1, 3], &huge).unwrap();
    std::fs::write(desk.path("in.safetensors"), serialize([("x", huge)], None).unwrap()).unwrap();
    desk.fails(&format!("{replay} --numeric f32"), 3, &["x: expected", "found 1e300"]);
    std::fs::remove_file(desk.path("in.safetensors")).unwrap();
    desk.fails(replay, 3, &["in.safetensors: file: expected"]);
}

#[test]
fn bad_models_end_with_3_and_a_message_that_names_file_and_field() {
    let desk = Desk::new();
    desk.inputs(2, 3, false);
    let path = desk.path("model.safetensors");
    let commands = [
        "replay model.safetensors --inputs in.safetensors --out out",
        "export model.safetensors --out out",
    ];
    let fails = |field: &str| {
        for command in commands {
            desk.fails(command, 3, &["error: model.safetensors: ", field, "expected ", "found ", "; "]);
        }
    };
    let good = Design::default().model();
    for name in ["recurrent.weight", "input.bias", "modulator.weight", "recurrent.eta"] {
        let mut model = good.clone();
        model.tensors.remove(name);
        model.write(&path);
        fails(name);
        let mut model = good.clone();
        model.tensors.get_mut(name).unwrap().1[0] = f32::NAN;
        model.write(&path);
        fails(name);
        let mut model = good.clone();
        model.tensors.insert(name.into(), (vec![2, 3, 2], vec![0.0; 12]));
        model.write(&path);
        fails(name);
    }
    let mut model = good.clone();
    model.tensors.insert("surprise".into(), (vec![1], vec![0.0]));
    model.write(&path);
    fails("surprise");
    for (key, word) in [
        ("format", "backpropamine/9"),
        ("cell", "lstm"),
        ("rule", "magic"),
        ("clip", "oja"),
        ("modulator", "relu"),
    ] {
        let mut model = good.clone();
        model.metadata.insert(key.into(), word.into());
        model.write(&path);
        fails(&format!("metadata {key}"));
    }
    good.write(&path);
    let bytes = std::fs::read(&path).unwrap();
    for length in [0, 1, 7, 8, 100, bytes.len() / 2, bytes.len() - 1] {
        std::fs::write(&path, &bytes[..length]).unwrap();
        fails("truncated");
    }
    std::fs::write(&path, [bytes.as_slice(), b"tail"].concat()).unwrap();
    fails("data");
    std::fs::remove_file(&path).unwrap();
    fails("file");
}

#[test]
fn bad_images_end_with_3_and_a_message_that_names_file_and_field() {
    let desk = Desk::new();
    desk.model(&Design::default());
    desk.inputs(2, 3, false);
    for numeric in ["f32", "q15", "q7"] {
        desk.run(&format!("export model.safetensors --numeric {numeric} --out good.bpam"))
            .success();
        let good = std::fs::read(desk.path("good.bpam")).unwrap();
        let fails = |bytes: &[u8], field: &str| {
            std::fs::write(desk.path("bad.bpam"), bytes).unwrap();
            desk.fails(
                "replay bad.bpam --inputs in.safetensors --out out",
                3,
                &["error: bad.bpam: ", field, "expected ", "found ", "; "],
            );
        };
        for length in [0, 3, 4, 127, 128, good.len() / 2, good.len() - 4, good.len() - 1] {
            fails(&good[..length], "length");
        }
        fails(&[good.as_slice(), &[0; 4]].concat(), "length");
        for (position, field) in [
            (0, "magic"),
            (4, "version"),
            (9, "length"),
            (12, "checksum"),
            (40, "checksum"),
            (good.len() - 1, "checksum"),
        ] {
            let mut flipped = good.clone();
            flipped[position] ^= 1;
            fails(&flipped, field);
        }
        // A NaN with a right checksum, in the first input weight.
        let mut words: Vec<u32> = good.as_chunks().0.iter().map(|&quad| u32::from_le_bytes(quad)).collect();
        words[32] = f32::NAN.to_bits();
        backpropamine::image::seal(&mut words);
        let sealed: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        if numeric == "f32" {
            fails(&sealed, "input.weight");
        }
    }
}

#[test]
fn an_export_says_what_it_lost_and_how_large_it_is() {
    let desk = Desk::new();
    desk.model(&Design {
        hidden: 40,
        ..Design::default()
    });
    let report = desk.json("export model.safetensors --numeric q15 --out x.bpam");
    assert_eq!(report["bytes"], std::fs::metadata(desk.path("x.bpam")).unwrap().len());
    let tensors = report["tensors"].as_array().unwrap();
    let recurrent = tensors.iter().find(|tensor| tensor["name"] == "recurrent.weight").unwrap();
    let bits = recurrent["fractional_bits"].as_i64().unwrap() as i32;
    assert!(recurrent["worst_error"].as_f64().unwrap() <= 0.5 / f64::from(bits).exp2());
    let f32_bytes = desk.json("export model.safetensors --out y.bpam")["bytes"].as_u64().unwrap();
    assert!(report["bytes"].as_u64().unwrap() < f32_bytes * 6 / 10);
    let narrow = desk.json("export model.safetensors --numeric q7 --out z.bpam");
    assert!(narrow["bytes"].as_u64().unwrap() < report["bytes"].as_u64().unwrap() * 6 / 10);
    assert!(narrow["memory_bytes"].as_u64().unwrap() * 2 <= report["memory_bytes"].as_u64().unwrap() + 64);
    desk.fails("export model.safetensors --numeric f64 --out out", 2, &["f64"]);
    desk.fails(
        "export model.safetensors --numeric f32 --input-range 1 --out out",
        2,
        &["--input-range"],
    );
    desk.fails(
        "export model.safetensors --numeric q15 --input-range 0 --out out",
        2,
        &["--input-range"],
    );
    desk.fails("export model.safetensors --numeric q15 --input-range 1e9 --out out", 2, &["32768"]);
    desk.fails("export model.safetensors --numeric q15 --out nowhere/out", 1, &["nowhere/out"]);
}

#[test]
fn fixed_point_refuses_what_does_not_fit_by_name() {
    let desk = Desk::new();
    for (numeric, name, value) in [
        ("q15", "recurrent.weight", 4e4),
        ("q15", "input.weight", 1e20),
        ("q15", "policy.bias", 3e4),
        ("q15", "policy.weight", 3.5e4),
        ("q15", "recurrent.eta", 1.5),
        ("q7", "recurrent.weight", 128.0),
        ("q7", "recurrent.alpha", 128.0),
        ("q7", "policy.weight", 1e20),
        ("q7", "policy.bias", 3e4),
        ("q7", "recurrent.eta", 1.5),
    ] {
        let mut model = Design::default().model();
        model.tensors.get_mut(name).unwrap().1[0] = value;
        model.write(&desk.path("model.safetensors"));
        desk.fails(
            &format!("export model.safetensors --numeric {numeric} --out out"),
            3,
            &["model.safetensors: ", name, "expected", "found", numeric, "--numeric f32"],
        );
        desk.run("export model.safetensors --out f32.bpam").success();
    }
}

#[test]
fn sums_at_their_bound_do_not_wrap() {
    let desk = Desk::new();
    let design = Design {
        rule: "hebbian",
        hidden: 70,
        inputs: 40,
        actions: 1,
        ..Design::default()
    };
    for (numeric, magnitude) in [
        ("q15", 0.5),
        ("q15", 3.0),
        ("q15", 100.0),
        ("q15", 440.0),
        ("q7", 3.0),
        ("q7", 127.0),
    ] {
        let mut model = design.model();
        for name in ["input.weight", "recurrent.weight", "recurrent.alpha", "policy.weight"] {
            model.tensors.get_mut(name).unwrap().1.fill(magnitude);
        }
        model.tensors.get_mut("recurrent.eta").unwrap().1.fill(1.0);
        model.write(&desk.path("model.safetensors"));
        for sign in [1.0, -1.0] {
            let x = vec![sign; 6 * 40];
            write(
                &desk.path("in.safetensors"),
                &BTreeMap::from([("x".to_owned(), (vec![6, 40], x))]),
                None,
            );
            let outputs = desk.replay(&format!("--numeric {numeric} --input-range 1"));
            assert!(outputs["hidden"].iter().all(|h| h * f64::from(sign) > 0.99), "{magnitude}");
            let expected = f64::from(sign * magnitude) * 70.0;
            assert!(
                outputs["policy"].iter().all(|logit| (logit / expected - 1.0).abs() < 0.01),
                "{magnitude}"
            );
        }
    }
}

#[test]
fn a_size_names_board_formats_and_the_largest_term() {
    let desk = Desk::new();
    desk.model(&Design {
        hidden: 200,
        ..Design::default()
    });
    let report = desk.json("size model.safetensors --board netduinoplus2");
    let formats = report["formats"].as_array().unwrap();
    let numerics: Vec<_> = formats.iter().map(|format| format["numeric"].as_str().unwrap()).collect();
    assert_eq!(numerics, ["f32", "q15", "q7"]);
    for format in formats {
        assert_eq!(
            format["fits"],
            format["numeric"] == "q7",
            "two traces of 200 neurons in 128 KiB need 8 bits"
        );
        assert_eq!(
            (&format["largest_term"]["name"], &format["largest_term"]["memory"]),
            (&"Hebbian trace".into(), &"RAM".into())
        );
        let largest = format["largest_hidden"].as_u64().unwrap();
        desk.model(&Design {
            hidden: largest as usize,
            ..Design::default()
        });
        let fitting = desk.json("size model.safetensors --board netduinoplus2");
        let same = fitting["formats"]
            .as_array()
            .unwrap()
            .iter()
            .find(|other| other["numeric"] == format["numeric"])
            .unwrap();
        assert_eq!(same["fits"], true);
        assert_eq!(same["largest_hidden"], largest);
    }
    desk.run("export model.safetensors --numeric q15 --out x.bpam").success();
    let of_image = desk.json("size x.bpam");
    assert_eq!(of_image["formats"].as_array().unwrap().len(), 1);
    let of_model = desk.json("size model.safetensors");
    assert_eq!(of_image["formats"][0], of_model["formats"][1]);
    desk.fails("size model.safetensors --board toaster", 2, &[]);
}

#[test]
fn a_foreign_model_comes_in_by_its_map() {
    let desk = Desk::new();
    let design = Design {
        hidden: 6,
        inputs: 4,
        actions: 3,
        ..Design::default()
    };
    let ours = desk.model(&design).tensors;
    let (x, _) = desk.inputs(8, 4, false);
    assert_eq!(x.len(), 8);
    let expected = desk.replay("--numeric f64");
    // Theirs: every matrix transposed, two biases, some types of their own, the policy as it is.
    let transposed = |name: &str| {
        let (shape, values) = &ours[name];
        let (rows, columns) = (shape[0], shape[1]);
        let turned: Vec<f32> = (0..columns)
            .flat_map(|column| (0..rows).map(move |row| values[row * columns + column]))
            .collect();
        (vec![columns, rows], turned)
    };
    let half = |name: &str| (ours[name].0.clone(), ours[name].1.iter().map(|value| value / 2.0).collect());
    let mut theirs: BTreeMap<String, Values> = BTreeMap::new();
    for (name, their_name) in [
        ("input.weight", "rnn.w_ih"),
        ("recurrent.weight", "rnn.w_hh"),
        ("recurrent.alpha", "alpha"),
    ] {
        theirs.insert(their_name.into(), transposed(name));
    }
    for (name, their_name) in [("modulator.weight", "mod.weight"), ("value.weight", "critic.weight")] {
        theirs.insert(their_name.into(), transposed(name));
    }
    theirs.insert("rnn.b_ih".into(), half("input.bias"));
    theirs.insert("rnn.b_hh".into(), half("input.bias"));
    for (name, their_name) in [
        ("policy.weight", "actor.weight"),
        ("policy.bias", "actor.bias"),
        ("modulator.bias", "mod.bias"),
        ("value.bias", "critic.bias"),
        ("recurrent.eta", "eta"),
    ] {
        theirs.insert(their_name.into(), ours[name].clone());
    }
    write(&desk.path("theirs.safetensors"), &theirs, None);
    let map = r#"
        "input.weight" = "rnn.w_ih"
        input.bias = ["rnn.b_ih", "rnn.b_hh"]
        "recurrent.weight" = "rnn.w_hh"
        "recurrent.alpha" = "alpha"
        "recurrent.eta" = "eta"
        "modulator.weight" = "mod.weight"
        "modulator.bias" = "mod.bias"
        "policy.weight" = { from = "actor.weight", transpose = false }
        "policy.bias" = "actor.bias"
        "value.weight" = "critic.weight"
        "value.bias" = "critic.bias"
        [metadata]
        clip = "hard:1"
        author = "someone"
    "#;
    std::fs::write(desk.path("map.toml"), map).unwrap();
    let import = "import theirs.safetensors --map map.toml --rule retroactive --transpose --out model.safetensors";
    let report = desk.json(import);
    assert_eq!(
        (&report["hidden"], &report["inputs"], &report["actions"]),
        (&6.into(), &4.into(), &3.into())
    );
    assert_eq!(desk.replay("--numeric f64"), expected);
    desk.fails(
        "import theirs.safetensors --map map.toml --rule retroactive --out out",
        3,
        &["theirs.safetensors: input.weight (rnn.w_ih): expected shape"],
    );
    desk.fails(
        "import theirs.safetensors --map map.toml --rule simple --transpose --out out",
        3,
        &["recurrent.eta", "rule=simple"],
    );
}

#[test]
fn an_import_converts_types_and_fills_in_constants() {
    let desk = Desk::new();
    let model = Design {
        rule: "hebbian",
        value: false,
        hidden: 2,
        inputs: 1,
        actions: 1,
        ..Design::default()
    }
    .model();
    let wide: Vec<u8> = model.tensors["recurrent.weight"]
        .1
        .iter()
        .flat_map(|&value| f64::from(value).to_le_bytes())
        .collect();
    let input = bytes(&model.tensors["input.weight"].1);
    let tensors = [
        ("w", TensorView::new(Dtype::F64, vec![2, 2], &wide).unwrap()),
        ("u", TensorView::new(Dtype::F32, vec![2, 1], &input).unwrap()),
        ("half", TensorView::new(Dtype::F16, vec![1, 2], &[0x00, 0x3c, 0x00, 0xb8]).unwrap()), // 1.0, -0.5
        ("brain", TensorView::new(Dtype::BF16, vec![], &[0x80, 0x3e]).unwrap()),               // 0.25
    ];
    std::fs::write(desk.path("theirs.safetensors"), serialize(tensors, None).unwrap()).unwrap();
    let map = r#"
        "recurrent.weight" = "w"
        "input.weight" = "u"
        "policy.weight" = "half"
        "recurrent.eta" = "brain"
        "recurrent.alpha" = 0.125
        "input.bias" = 0
        "policy.bias" = 0.5
    "#;
    std::fs::write(desk.path("map.toml"), map).unwrap();
    let report = desk.json("import theirs.safetensors --map map.toml --rule hebbian --out m.safetensors");
    assert_eq!(
        report["converted"],
        serde_json::json!({ "brain": "BF16", "half": "F16", "w": "F64" })
    );
    let file = std::fs::read(desk.path("m.safetensors")).unwrap();
    let archive = SafeTensors::deserialize(&file).unwrap();
    let expected: [(&str, &[usize], &[f32]); 6] = [
        ("recurrent.weight", &[2, 2], &model.tensors["recurrent.weight"].1),
        ("policy.weight", &[1, 2], &[1.0, -0.5]),
        ("recurrent.eta", &[1], &[0.25]),
        ("recurrent.alpha", &[1], &[0.125]),
        ("input.bias", &[2], &[0.0, 0.0]),
        ("policy.bias", &[1], &[0.5]),
    ];
    for (name, shape, values) in expected {
        let tensor = archive.tensor(name).unwrap();
        assert_eq!((tensor.shape(), tensor.data()), (shape, bytes(values).as_slice()), "{name}");
    }
}

#[test]
fn bad_maps_are_named() {
    let desk = Desk::new();
    write(
        &desk.path("theirs.safetensors"),
        &BTreeMap::from([("w".to_owned(), (vec![2, 2], vec![0.0; 4]))]),
        None,
    );
    let import = "import theirs.safetensors --map map.toml --rule none --out out";
    for (map, parts) in [
        ("\"recurrent.weight\" = ", ["map.toml: map: expected TOML", "line 1"]),
        (
            "\"recurrent.wait\" = \"w\"",
            ["map.toml: recurrent.wait", "one of recurrent.weight"],
        ),
        (
            "\"recurrent.weight\" = \"v\"",
            ["theirs.safetensors: v: expected a tensor", "the file has w"],
        ),
        ("\"recurrent.weight\" = true", ["map.toml: recurrent.weight", "found true"]),
        ("\"recurrent.weight\" = 1.0", ["map.toml: recurrent.weight", "a number"]),
        ("\"recurrent.weight\" = \"w\"", ["map.toml: input.weight", "needed by rule=none"]),
        ("[metadata]\nrule = \"simple\"", ["map.toml: metadata rule", "simple"]),
        ("[metadata]\nclip = 2", ["map.toml: metadata", "strings"]),
    ] {
        std::fs::write(desk.path("map.toml"), map).unwrap();
        desk.fails(import, 3, &parts);
    }
}

#[test]
fn usage_errors_end_with_2() {
    let desk = Desk::new();
    for arguments in [
        "",
        "conquer",
        "replay",
        "replay m --inputs i",
        "export m --out o --numeric q3",
        "import f --map m --rule magic --out o",
    ] {
        desk.fails(arguments, 2, &[]);
    }
}

#[test]
fn every_command_has_help_with_an_example() {
    let desk = Desk::new();
    let help = String::from_utf8(desk.run("--help").success().get_output().stdout.clone()).unwrap();
    let commands = help.split("Commands:").nth(1).unwrap().split("Options:").next().unwrap();
    // A line that goes on with a description is indented further.
    let lines = commands.lines().filter_map(|line| line.strip_prefix("  "));
    let names = lines
        .filter(|line| !line.starts_with(' '))
        .filter_map(|line| line.split_whitespace().next());
    for name in names.filter(|name| *name != "help") {
        let help = String::from_utf8(desk.run(&format!("{name} --help")).success().get_output().stdout.clone()).unwrap();
        for part in ["Example", "JSON", "--quiet", "--json"] {
            assert!(help.contains(part), "`{name} --help` lacks {part:?}");
        }
    }
}

#[test]
fn quiet_is_quiet_and_json_is_one_object() {
    let desk = Desk::new();
    desk.model(&Design::default());
    desk.inputs(3, 3, false);
    for command in [
        "export model.safetensors --numeric q15 --out x.bpam",
        "replay model.safetensors --inputs in.safetensors --out o.safetensors",
    ] {
        let output = desk.run(&format!("{command} --quiet")).success().get_output().clone();
        assert!(output.stdout.is_empty() && output.stderr.is_empty());
        assert!(desk.json(command).is_object());
        let output = desk.run(&format!("{command} --json --quiet")).success().get_output().clone();
        assert!(serde_json::from_slice::<Value>(&output.stdout).unwrap().is_object() && output.stderr.is_empty());
    }
    let output = desk
        .run("export nothing.safetensors --out x.bpam --json")
        .code(3)
        .get_output()
        .stdout
        .clone();
    let error: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(error["exit_code"], 3);
    let output = desk.run("replay --json --inputs x").code(2).get_output().stdout.clone();
    let usage: Value = serde_json::from_slice(&output).unwrap();
    assert_eq!(usage["exit_code"], 2);
    assert!(usage["error"].as_str().unwrap().contains("<MODEL>"));
    assert!(error["error"].as_str().unwrap().starts_with("nothing.safetensors: file: expected"));
}

#[test]
fn an_image_is_no_model() {
    let desk = Desk::new();
    desk.model(&Design::default());
    desk.run("export model.safetensors --out x.bpam").success();
    desk.fails("export x.bpam --out y.bpam", 3, &["x.bpam", "a .bpam image"]);
}

#[test]
fn an_output_that_cannot_be_written_is_named() {
    let desk = Desk::new();
    desk.model(&Design::default());
    desk.fails(
        "export model.safetensors --out nowhere/x.bpam",
        1,
        &["nowhere/x.bpam: cannot be written: No such file", "folder"],
    );
}

#[test]
fn a_failed_command_leaves_the_old_output() {
    let desk = Desk::new();
    let mut model = Design::default().model();
    model.metadata = HashMap::new();
    model.write(&desk.path("model.safetensors"));
    std::fs::write(desk.path("old.bpam"), "old").unwrap();
    desk.run("export model.safetensors --out old.bpam").code(3);
    assert_eq!(std::fs::read(desk.path("old.bpam")).unwrap(), b"old");
    assert_eq!(std::fs::read_dir(Path::new(desk.0.path())).unwrap().count(), 2);
}
