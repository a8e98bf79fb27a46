//! Measures linked programs and their stacks and writes `host-train/src/size.toml`, from which `backpropamine size` predicts.
//!
//! Run it in the checkout after a change of core, firmware or compiler:
//! `cargo run -p backpropamine-train --example calibrate_size` (a quarter of an hour), or with the names of the boards and
//! arithmetics whose programs have changed.
//!
//! The stack is what the firmware's `stack` reports: painted, then looked at, on the emulated board.

use anyhow::{Context, Result};
use backpropamine::rule::Rule;
use backpropamine_train::device::board::Board;
use backpropamine_train::device::firmware::Firmware;
use backpropamine_train::device::toolchain::{Source, Toolchain};
use backpropamine_train::export::memory_bytes;
use backpropamine_train::model;
use backpropamine_train::size::{Program, Table, binary_of, build, cue_image, linked_sections, painted_stack};

const BOARDS: [&str; 5] = ["mps2-an386", "mps2-an385", "microbit", "mps2-an505", "nrf52840"];
const NUMERICS: [&str; 3] = ["f32", "q15", "q7"];
/// Below 64 neurons the compiler unrolls rows, so that the program grows with them.
const SIZES: [usize; 11] = [8, 16, 24, 32, 40, 48, 56, 63, 64, 100, 200];
/// The stack hardly depends on the network's size.
const STACK_SIZES: [usize; 2] = [32, 100];

fn main() -> Result<()> {
    let toolchain = Toolchain::find(Source::Auto, &Board::targets()).context("run `backpropamine setup` first")?;
    let firmware = Firmware::locate(None, toolchain)?;
    let mut table = Table::measured()?;
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let chosen = |among: &'static [&'static str]| {
        let named: Vec<&str> = among
            .iter()
            .copied()
            .filter(|name| wanted.iter().any(|wanted| wanted == name))
            .collect();
        if named.is_empty() { among.to_vec() } else { named }
    };
    for name in chosen(&BOARDS) {
        let board = Board::named(name).context(name)?;
        for numeric in chosen(&NUMERICS) {
            for (_, rule) in model::RULES {
                let program = measure(&firmware, board, numeric, rule)?;
                println!(
                    "{} {} {numeric} {}: flash {:?} stack {}",
                    board.name, program.binary, program.rule, program.flash, program.stack
                );
                table.replace(program);
            }
        }
    }
    std::fs::write("host-train/src/size.toml", toml::to_string(&table)?)?;
    Ok(())
}

/// Every network size of one program that its board can hold.
fn measure(firmware: &Firmware, board: &'static Board, numeric: &str, rule: Rule) -> Result<Program> {
    let mut program = Program {
        target: board.target.into(),
        binary: binary_of(board).into(),
        numeric: numeric.into(),
        rule: model::rule_word(rule).into(),
        hidden: Vec::new(),
        flash: Vec::new(),
        ram: Vec::new(),
        stack: 0,
    };
    for hidden in SIZES {
        let words = cue_image(numeric, rule, hidden)?;
        let memory = memory_bytes(&backpropamine::image::Header::parse(&words)?);
        if memory + 2048 > board.ram as usize || words.len() * 4 + 30_000 > board.flash as usize {
            break;
        }
        let file = tempfile::NamedTempFile::with_suffix(".bpam")?;
        std::fs::write(file.path(), words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>())?;
        let elf = build(firmware, board, file.path())?;
        let (flash, ram) = linked_sections(&elf.bytes)?;
        program.hidden.push(hidden);
        program.flash.push(flash - words.len() * 4);
        program.ram.push(ram - memory);
        if STACK_SIZES.contains(&hidden) {
            program.stack = program.stack.max(painted_stack(firmware, board, file.path())?);
        }
    }
    Ok(program)
}
