// What every kernel of attention is told: y = softmax(scale × q·kᵀ + mask)·v for every batch entry and head.
// q, k, v and y are any arrays whose innermost axis is contiguous; their steps are the elements between batch entries, heads and
// rows, and before the first element.
struct Params {
    batch: u32,
    heads: u32,
    queries: u32,
    keys: u32,
    // Elements of a row of q and k, of v and y.
    depth: u32,
    width: u32,
    // Heads that share their keys.
    sharing: u32,
    // How many keys the first query sees before its own.
    shift: i32,
    q_step: vec4<u32>,
    k_step: vec4<u32>,
    v_step: vec4<u32>,
    y_step: vec4<u32>,
    // Elements between batch entries, heads, queries and keys.
    mask_step: vec4<u32>,
    mask_first: u32,
    scale: f32,
    unused_0: u32,
    unused_1: u32,
}
