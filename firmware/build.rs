//! Gives the linker the board's memory, and the binaries their image and their task.
//!
//! | variable | meaning | default |
//! |---|---|---|
//! | `BPAM_BOARD` | memory layout, a file stem in `boards/` | that of the board feature, or the target's emulated board |
//! | `BPAM_IMAGE` | image to embed | `weights/cue-simple.bpam` |
//! | `BPAM_LIFETIMES` | lifetimes that `cue` runs | 20 |
//! | `BPAM_VARIANT` `BPAM_CUES` `BPAM_BITS` `BPAM_STEPS` `BPAM_FIXED` `BPAM_FLIP` `BPAM_TIME_INPUT` | options of the cue task | the code variant's |

use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() {
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    if env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none") {
        memory(&out);
        image(&out);
        task(&out);
    }
}

/// Copies `boards/BOARD.x` to where the linker looks for `memory.x`.
fn memory(out: &Path) {
    let default = match env::var("TARGET").expect("cargo sets TARGET").as_str() {
        "thumbv6m-none-eabi" => "microbit",
        "thumbv8m.main-none-eabihf" => "mps2-an505",
        _ if env::var_os("CARGO_FEATURE_NRF52840").is_some() => "nrf52840",
        _ => "mps2",
    };
    let layout = format!("boards/{}.x", variable("BPAM_BOARD", default));
    println!("cargo:rerun-if-changed={layout}");
    fs::copy(&layout, out.join("memory.x")).unwrap_or_else(|error| panic!("BPAM_BOARD: {layout}: {error}"));
    println!("cargo:rustc-link-search={}", out.display());
    for argument in ["-Tlink.x", "-Tdefmt.x", "--nmagic"] {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
}

/// Writes `image.rs`, the image as a type, in the arithmetic that its header names; and `words.rs`, the image as data.
fn image(out: &Path) {
    let path = fs::canonicalize(variable("BPAM_IMAGE", "weights/cue-simple.bpam")).unwrap_or_else(|error| panic!("BPAM_IMAGE: {error}"));
    println!("cargo:rerun-if-changed={}", path.display());
    let bytes = fs::read(&path).unwrap_or_else(|error| panic!("BPAM_IMAGE: {}: {error}", path.display()));
    // The whole image is checked by `embed!`; the fifth word only decides which type that is asked for.
    let scalar = match bytes.get(16..20) {
        Some([1, 0, 0, 0]) => "Q15",
        _ => "f32",
    };
    let source = format!("backpropamine::embed!(pub image: {scalar} = {path:?});\n");
    fs::write(out.join("image.rs"), source).expect("OUT_DIR is writable");
    let source = format!(
        "/// The image, to be loaded at run time.\nstatic WORDS: [u32; {}] = backpropamine::image::words_of(include_bytes!({path:?}));\n",
        bytes.len() / 4
    );
    fs::write(out.join("words.rs"), source).expect("OUT_DIR is writable");
}

/// Writes `task.rs`: how many lifetimes of which cue task.
fn task(out: &Path) {
    let variant = match variable("BPAM_VARIANT", "code").as_str() {
        "code" => "Code",
        "paper" => "Paper",
        other => panic!("BPAM_VARIANT: expected code or paper, found {other}"),
    };
    let source = format!(
        "/// Lifetimes of one run.\npub const LIFETIMES: u32 = {};\n\
         /// The task of every lifetime.\npub const TASK: CueConfig = CueConfig {{ variant: Variant::{variant}, \
         cues: {}, bits: {}, steps: {}, fixed: {}, flip: {}_f32, time_input: {} }};\n",
        variable("BPAM_LIFETIMES", "20"),
        variable("BPAM_CUES", "4"),
        variable("BPAM_BITS", "20"),
        variable("BPAM_STEPS", "120"),
        variable("BPAM_FIXED", "false"),
        variable("BPAM_FLIP", "0"),
        variable("BPAM_TIME_INPUT", "true"),
    );
    fs::write(out.join("task.rs"), source).expect("OUT_DIR is writable");
}

/// An environment variable of the build, which cargo then watches.
fn variable(name: &str, default: &str) -> String {
    println!("cargo:rerun-if-env-changed={name}");
    env::var(name).unwrap_or_else(|_| default.into())
}
