//! The shader library: WGSL files embedded and reflected at build time.

#[allow(unreachable_pub)]
mod library {
    include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
}

pub use library::*;
