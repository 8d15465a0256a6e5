// Rows of whole vectors of four, and their statistics.
struct Params {
    rows: u32,
    // Vectors of a row.
    vectors: u32,
    has_bias: u32,
    epsilon: f32,
    // Where numbers for several vectors are scaled by: rows with scales of their own follow each other in this period, so many
    // scales further each time, and so many vectors share one.
    groups: u32,
    group_scales: u32,
    scale_vectors: u32,
}

fn total(parts: vec4<f32>) -> f32 {
    return (parts.x + parts.y) + (parts.z + parts.w);
}

// The mean of the row from vector `base` on: in blocks, for added to a large sum one by one, small terms would lose their digits.
fn mean_from(base: u32) -> f32 {
    var sums = vec4<f32>();
    for (var block = 0u; block < params.vectors; block += 32u) {
        let end = min(block + 32u, params.vectors);
        var part = vec4<f32>();
        for (var i = block; i < end; i++) {
            part += x[base + i];
        }
        sums += part;
    }
    return total(sums) / f32(params.vectors * 4u);
}

// 1 / √(variance + ε) of that row.
fn factor_from(base: u32, mean: f32) -> f32 {
    var spread = vec4<f32>();
    for (var block = 0u; block < params.vectors; block += 32u) {
        let end = min(block + 32u, params.vectors);
        var part = vec4<f32>();
        for (var i = block; i < end; i++) {
            let centred = x[base + i] - vec4<f32>(mean);
            part += centred * centred;
        }
        spread += part;
    }
    return 1.0 / sqrt(total(spread) / f32(params.vectors * 4u) + params.epsilon);
}
