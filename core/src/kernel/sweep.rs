//! How every function in assembly goes along a row: whole blocks of 16 words, then what is left by the bits of its length.
//!
//! The formatter skips the macros of these functions: it would give every operand a line.

/// What is left of a row after its last whole block: the lower four bits of `$count` say how many words. `$group` takes four,
/// `$pair` two, `$one` one; `$again` moves the lower two bits of the length into carry and sign. None of
/// them may change the flags.
#[rustfmt::skip]
macro_rules! rest {
    ($count:literal, $again:expr, $group:expr, $pair:expr, $one:expr) => {
        concat!(
            "lsls ", $count, ", ", $count, ", #29\n bcc 4f\n", $group, $group,
            "4:\n bpl 5f\n", $group,
            "5:\n", $again, "bcc 6f\n", $pair,
            "6:\n bpl 7f\n", $one,
            "7:\n",
        )
    };
}

/// A row of `$count` words: `$block` for every 16 of them, and what is left after `$begin`.
#[rustfmt::skip]
macro_rules! sweep {
    ($count:literal, $block:expr, $begin:literal, $group:expr, $pair:expr, $one:expr) => {
        concat!(
            "subs ", $count, ", #16\n blo 3f\n 2:\n", $block, "subs ", $count, ", #16\n bhs 2b\n 3:\n", $begin,
            rest!($count, concat!("lsls ", $count, ", ", $count, ", #2\n"), $group, $pair, $one),
        )
    };
}
