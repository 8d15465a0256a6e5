// As product_tiled.wgsl, one side being packed integers that stand for (code − zero) × scale.
// SIDE: 0 when a is packed, 1 when b is. Codes have BITS bits, the highest one a sign where SIGNED is 1, the first of a word in
// its lowest bits. GRID: 1 when there are scales, 2 when there are zero points, 3 when there are both: rows of one entry
// a channel (of a) or column (of b), a row for each params.grid.x terms, params.grid.y entries apart; zero points start at
// params.grid.z. Out and BIAS may be all that they may be in product_tiled.wgsl.
// Grid: tiles over x and y (linear, column tiles innermost), batch entries over z.
// uses: index, product, product_tile
// target: y
// variants: Plain = f32 f16 i32
// variants: Bias = f32 f16
// variants: Sum = f32 i32
// variants: Out = f32
// variants: const BIAS = 0
// variants: const WHOLE = 0 1
// variants: const SIDE = 0 1
// variants: const BITS = 4 8
// variants: const SIGNED = 0 1
// variants: const GRID = 0 1 2 3
@group(0) @binding(0) var<storage, read> codes: array<u32>;
@group(0) @binding(1) var<storage, read> plain: array<Plain>;
@group(0) @binding(2) var<storage, read> bias: array<Bias>;
@group(0) @binding(3) var<storage, read> starts: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> grid: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<Out>;
@group(0) @binding(6) var<uniform> params: Params;

fn left_at(i: u32, channel: u32) -> Sum {
    if SIDE == 1u {
        return Sum(plain[i]);
    }
    return restored(i, channel);
}

fn right_at(i: u32, column: u32, term: u32) -> Sum {
    if SIDE == 0u {
        return Sum(plain[i]);
    }
    return restored(i, term / params.grid.x * params.grid.y + column);
}

// Code `i` as the number it stands for by entry `at` of the grid.
fn restored(i: u32, at: u32) -> Sum {
    let word = codes[i / (32u / BITS)];
    let shift = i % (32u / BITS) * BITS;
    var value = Sum(extractBits(word, shift, BITS));
    if SIGNED == 1u {
        value = Sum(extractBits(bitcast<i32>(word), shift, BITS));
    }
    if (GRID & 2u) != 0u {
        value -= Sum(grid[params.grid.z + at]);
    }
    if (GRID & 1u) != 0u {
        value *= Sum(grid[at]);
    }
    return value;
}
