//! Writes the golden images and their digests anew: `cargo run -p backpropamine-tests --example golden`.
//!
//! Only for a deliberate change of the format or its arithmetic: then say so in the changelog.

use std::fs;
use std::io::Result;

use backpropamine_tests::golden::{digests, folder, images};

fn main() -> Result<()> {
    fs::create_dir_all(folder())?;
    let mut lines = String::new();
    for (name, words) in images() {
        fs::write(folder().join(format!("{name}.bpam")), bytemuck::cast_slice::<u32, u8>(&words))?;
        lines += &digests(&name, &words);
    }
    fs::write(folder().join("digests.txt"), &lines)?;
    print!("{lines}");
    Ok(())
}
