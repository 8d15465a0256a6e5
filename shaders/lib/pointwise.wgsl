// Scalar functions that fused chains call, each on lines of its own: `fn NAME(`…`}`. Suffixes _i and _u mark i32 and u32.

fn add_f(a: f32, b: f32) -> f32 { return a + b; }
fn relu(a: f32) -> f32 { return max(a, 0.0); }
