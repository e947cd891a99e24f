//! Tells the program which minor version of rquickjs the lock file holds: the APIs differ a little.
use std::{env, fs, path::Path};

fn main() {
    let lock = Path::new(&env::var("CARGO_MANIFEST_DIR").unwrap()).join("Cargo.lock");
    println!("cargo::rerun-if-changed={}", lock.display());
    let text = fs::read_to_string(lock).expect("cargo writes a lock file before it builds");
    let version = text
        .split("name = \"rquickjs\"\nversion = \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("rquickjs is a dependency");
    let minor: u32 = version.split('.').nth(1).unwrap().parse().unwrap();
    println!("cargo::rustc-env=RQUICKJS_VERSION={version}");
    println!("cargo::rustc-check-cfg=cfg(write_options, import_attributes, bigint_intrinsic)");
    if minor >= 10 {
        println!("cargo::rustc-cfg=write_options");
    }
    if minor >= 12 {
        println!("cargo::rustc-cfg=import_attributes");
    }
    if minor <= 11 {
        println!("cargo::rustc-cfg=bigint_intrinsic");
    }
}
