// y = alpha × a·b + beta × bias for every batch entry (see lib/product.wgsl), for GPUs (see lib/product_tile.wgsl).
// a, b and bias may be any strided arrays; starts[z] = first element of a, b, y, and the first channel.
// BIAS: 0 none, 1 by channel (starts[z].w + row), 2 by bias_row and bias_column.
// Grid: tiles over x and y (linear, column tiles innermost), batch entries over z.
// uses: index, product, product_tile
// target: y
// variants: Left = f32 f16 i32 u32 i64 u64 f64
// variants: Right = f32 f16 i32 u32 i64 u64 f64
// variants: Bias = f32 f16
// variants: Sum = f32 f32 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: const BIAS = 0 1 2
// variants: const WHOLE = 0 1
@group(0) @binding(0) var<storage, read> a: array<Left>;
@group(0) @binding(1) var<storage, read> b: array<Right>;
@group(0) @binding(2) var<storage, read> bias: array<Bias>;
@group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> y: array<Out>;
@group(0) @binding(5) var<uniform> params: Params;

fn left_at(i: u32, channel: u32) -> Sum {
    return Sum(a[i]);
}

fn right_at(i: u32, column: u32, term: u32) -> Sum {
    return Sum(b[i]);
}
