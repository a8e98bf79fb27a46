//! The CUDA kernels and NVIDIA's own compilers, which need no GPU. Where they are missing, the test says so and ends.
#![cfg(feature = "cuda")]

use std::fs;
use std::process::Command;

use backpropamine_train::cli::{EXIT_MISSING_TOOL, exit_code};
use backpropamine_train::cuda::gpu;

#[test]
fn the_cuda_compiler_accepts_the_kernels() {
    for architecture in [(7, 5), (8, 0), (9, 0), (10, 0)] {
        match gpu::compile(architecture) {
            Ok(ptx) => check(&ptx, architecture),
            Err(error) if exit_code(&error) == EXIT_MISSING_TOOL => return println!("not tested: {error}"),
            Err(error) => panic!("{error:#}"),
        }
    }
}

fn check(ptx: &str, (major, minor): (i32, i32)) {
    for kernel in ["live", "learn", "total"] {
        assert!(ptx.contains(&format!(".entry {kernel}(")), "{kernel}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kernels.ptx");
    fs::write(&file, ptx).unwrap();
    let mut ptxas = Command::new("ptxas");
    ptxas
        .arg("-v")
        .arg(format!("-arch=sm_{major}{minor}"))
        .arg(&file)
        .arg("-o")
        .arg(folder.path().join("out"));
    let Ok(output) = ptxas.output() else {
        return println!("not assembled: there is no ptxas in PATH");
    };
    let said = String::from_utf8(output.stderr).unwrap();
    println!("{said}");
    assert!(output.status.success(), "{said}");
    let spills = said.lines().filter(|line| line.contains("spill")).collect::<Vec<_>>();
    assert_eq!(spills.len(), 3, "{said}");
    for line in spills {
        assert!(line.contains(" 0 bytes spill stores, 0 bytes spill loads"), "{line}");
    }
}
