//! Tells the kernels which instructions the target has.

fn main() {
    println!("cargo::rustc-check-cfg=cfg(armv6m, armv7em, armv7m)");
    println!("cargo::rerun-if-changed=build.rs");
    // By the target's name: the target feature has no stable name. Cores with ARMv8-M may lack the instructions on pairs of numbers.
    let target = std::env::var("TARGET").unwrap_or_default();
    for (architecture, cfg) in [
        ("thumbv6m-", "armv6m"),
        ("thumbv7m-", "armv7m"),
        ("thumbv7em-", "armv7em"),
        ("thumbv8m.base-", "armv6m"),
        ("thumbv8m.main-", "armv7m"),
    ] {
        if target.starts_with(architecture) {
            println!("cargo::rustc-cfg={cfg}");
        }
    }
}
