//! Tells the kernels which instructions the target has.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(armv7em)");
    println!("cargo::rerun-if-changed=build.rs");
    // By the target's name: the target feature has no stable name. Cores with ARMv8-M may lack these instructions.
    if std::env::var("TARGET").is_ok_and(|target| target.starts_with("thumbv7em")) {
        println!("cargo::rustc-cfg=armv7em");
    }
}
