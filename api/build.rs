//! Has the page embedded anew when it was built anew.

use std::path::Path;

fn main() {
    let page = "../web-playground/dist";
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo takes a path that is not there for one that has changed, each time:
    // without the page, look at the folder that it is going to be in.
    let watched = if Path::new(page).exists() {
        page
    } else {
        "../web-playground"
    };
    println!("cargo::rerun-if-changed={watched}");
}
