//! Adapters, lanes and executables: the only room that knows wgpu.
