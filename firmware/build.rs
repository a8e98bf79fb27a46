//! Gives the linker the board's memory, and the binaries their image and their task.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BPAM_BOARD` | memory layout, a file stem in `boards/` | that of the board feature, or the target's emulated board |
//! | `BPAM_IMAGE` | image to embed | `weights/cue-simple.bpam`; in `maze`, `weights/maze-simple.bpam` |
//! | `BPAM_LIFETIMES` | lifetimes that `cue` or `maze` runs | 20 |
//! | `BPAM_VARIANT` `BPAM_CUES` `BPAM_BITS` `BPAM_STEPS` `BPAM_LONGEST_TRIAL` `BPAM_FIXED` `BPAM_FLIP` `BPAM_TIME_INPUT` | options of the cue task | the code variant's |
//! | `BPAM_VARIANT` `BPAM_SIZE` `BPAM_STEPS` `BPAM_REWARD` `BPAM_WALL_PENALTY` `BPAM_RANDOM_START` `BPAM_GOAL_MOVES_EVERY` `BPAM_TIME_INPUT` | options of the maze | those of the preset `maze-small` |
//! | `BPAM_SAVE` | when `survive` saves: `never`, `every:STEPS` or `improved:STEPS` (every so many steps, if the reward average improved) | `every:20` |
//! | `BPAM_CUTS` | steps from each waking of `survive` until its power fails, such as `45,30`; then it does not fail any more | none |

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        memory(&out);
        words(&out, image(&out, "image", "weights/cue-simple.bpam"));
        image(&out, "maze_image", "weights/maze-simple.bpam");
        tasks(&out);
        survive(&out);
    }
}

/// Copies `boards/BOARD.x` to where the linker looks for `memory.x`.
fn memory(out: &Path) {
    let chosen = ["nrf52840", "rp2040", "stm32f4"]
        .into_iter()
        .find(|board| env::var_os(format!("CARGO_FEATURE_{}", board.to_uppercase())).is_some());
    let default = chosen.unwrap_or_else(|| match env::var("TARGET").expect("cargo sets TARGET").as_str() {
        "thumbv6m-none-eabi" => "microbit",
        "thumbv8m.main-none-eabihf" => "mps2-an505",
        _ => "mps2",
    });
    let layout = format!("boards/{}.x", variable("BPAM_BOARD", default));
    println!("cargo:rerun-if-changed={layout}");
    fs::copy(&layout, out.join("memory.x")).unwrap_or_else(|error| panic!("BPAM_BOARD: {layout}: {error}"));
    println!("cargo:rustc-link-search={}", out.display());
    for argument in ["-Tlink.x", "-Tdefmt.x", "--nmagic"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Writes `NAME.rs`, the image as a type, in the arithmetic that its header names; returns its path and length.
fn image(out: &Path, name: &str, default: &str) -> (PathBuf, usize) {
    let path = fs::canonicalize(variable("BPAM_IMAGE", default)).unwrap_or_else(|error| panic!("BPAM_IMAGE: {error}"));
    println!("cargo:rerun-if-changed={}", path.display());
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("BPAM_IMAGE: {}: {error}", path.display()));
    // The whole image is checked by `embed!`; the fifth word only decides which type that is asked for.
    let scalar = match bytes.get(16..20) {
        Some([1, 0, 0, 0]) => "Q15",
        Some([2, 0, 0, 0]) => "Q7",
        _ => "f32",
    };
    let source = format!("backpropamine::embed!(pub image: {scalar} = {path:?});\n");
    fs::write(out.join(format!("{name}.rs")), source).expect("OUT_DIR is writable");
    (path, bytes.len())
}

/// Writes `words.rs`, an image as data.
fn words(out: &Path, (path, bytes): (PathBuf, usize)) {
    let source = format!(
        "/// The image, to be loaded at run time.\nstatic WORDS: [u32; {}] = backpropamine::image::words_of(include_bytes!({path:?}));\n",
        bytes / 4
    );
    fs::write(out.join("words.rs"), source).expect("OUT_DIR is writable");
}

/// Writes `cue.rs` and `maze.rs`: how many lifetimes of which task.
fn tasks(out: &Path) {
    let variant = match variable("BPAM_VARIANT", "code").as_str() {
        "code" => "Code",
        "paper" => "Paper",
        other => panic!("BPAM_VARIANT: expected code or paper, found {other}"),
    };
    let start = match variable("BPAM_RANDOM_START", "false").as_str() {
        "false" => "Centre",
        "true" => "Random",
        other => panic!("BPAM_RANDOM_START: expected true or false, found {other}"),
    };
    let cue = format!(
        "CueConfig {{ variant: Variant::{variant}, cues: {}, bits: {}, steps: {}, longest_trial: {}, fixed: {}, flip: {}_f32, time_input: {} }}",
        variable("BPAM_CUES", "4"),
        variable("BPAM_BITS", "20"),
        variable("BPAM_STEPS", "120"),
        variable("BPAM_LONGEST_TRIAL", "0"),
        variable("BPAM_FIXED", "false"),
        variable("BPAM_FLIP", "0"),
        variable("BPAM_TIME_INPUT", "true"),
    );
    let maze = format!(
        "MazeConfig {{ variant: Variant::{variant}, size: {}, steps: {}, reward: {}_f32, wall_penalty: {}_f32, start: Start::{start}, \
         goal_moves_every: {}, time_input: {} }}",
        variable("BPAM_SIZE", "9"),
        variable("BPAM_STEPS", "200"),
        variable("BPAM_REWARD", "1"),
        variable("BPAM_WALL_PENALTY", "0"),
        variable("BPAM_GOAL_MOVES_EVERY", "0"),
        variable("BPAM_TIME_INPUT", "true"),
    );
    let lifetimes = variable("BPAM_LIFETIMES", "20");
    for (file, kind, task) in [("cue.rs", "CueConfig", cue), ("maze.rs", "MazeConfig", maze)] {
        let source = format!(
            "/// Lifetimes of one run.\npub const LIFETIMES: u32 = {lifetimes};\n\
             /// The task of every lifetime.\npub const TASK: {kind} = {task};\n"
        );
        fs::write(out.join(file), source).expect("OUT_DIR is writable");
    }
}

/// Writes `survive.rs`: when to save, and when the power fails.
fn survive(out: &Path) {
    let save = variable("BPAM_SAVE", "every:20");
    let policy = match save.split_once(':') {
        None if save == "never" => "OnRequest".into(),
        Some(("every", steps)) => format!("Every({steps})"),
        Some(("improved", steps)) => format!("IfImproved({steps})"),
        _ => panic!("BPAM_SAVE: expected never, every:STEPS or improved:STEPS, found {save}"),
    };
    let source = format!(
        "/// When to save.\npub const POLICY: SavePolicy = SavePolicy::{policy};\n\
         /// Steps from each waking until the power fails.\npub const CUTS: &[u32] = &[{}];\n",
        variable("BPAM_CUTS", ""),
    );
    fs::write(out.join("survive.rs"), source).expect("OUT_DIR is writable");
}

/// An environment variable of the build, which cargo then watches.
fn variable(name: &str, default: &str) -> String {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).unwrap_or_else(|_| default.into())
}
