//! Where libvidtok is, as pkg-config says.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-env-changed=PKG_CONFIG_PATH");
    let done = Command::new("pkg-config")
        .args(["--libs", "vidtok"])
        .output()
        .expect("pkg-config is not installed");
    let words = String::from_utf8_lossy(&done.stdout).into_owned();
    if !done.status.success() {
        panic!("pkg-config does not find libvidtok; set PKG_CONFIG_PATH to lib/pkgconfig below where it is installed");
    }
    for word in words.split_whitespace() {
        if let Some(folder) = word.strip_prefix("-L") {
            println!("cargo:rustc-link-search=native={folder}");
        } else if let Some(name) = word.strip_prefix("-l") {
            println!("cargo:rustc-link-lib={name}");
        }
    }
}
