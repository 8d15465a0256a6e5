//! Compiles the protocols and the shaders; a mistake in either fails the build with its file and line.

#[path = "build/kernel_hash.rs"]
mod kernel_hash;
#[path = "build/protocols.rs"]
mod protocols;
#[path = "build/shaders.rs"]
mod shaders;

fn main() {
    let out = std::path::PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    protocols::compile(&out);
    shaders::compile(&out);
    kernel_hash::set();
}
