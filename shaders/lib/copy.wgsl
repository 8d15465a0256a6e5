// A box of RANK axes, outermost first, each with signed strides in x and in y. Strides and offsets count elements in
// copy.wgsl, vectors of four in copy4.wgsl.
struct Params {
    // Coordinates of the box.
    count: u32,
    from_offset: i32,
    to_offset: i32,
    unused: u32,
    extents: array<vec4<u32>, 2>,
    from_strides: array<vec4<i32>, 2>,
    to_strides: array<vec4<i32>, 2>,
    // Between the four rows of a square in x and in y, where squares are turned.
    square: vec4<i32>,
}

// Where the coordinate of this number lies in x and in y.
fn ends(index: u32) -> vec2<i32> {
    var rest = index;
    var from_and_to = vec2<i32>(params.from_offset, params.to_offset);
    for (var i = 0u; i + 1u < RANK; i++) {
        let axis = RANK - 1u - i;
        let extent = params.extents[axis / 4u][axis % 4u];
        let next = quotient(rest, extent);
        from_and_to += i32(rest - next * extent)
            * vec2<i32>(params.from_strides[axis / 4u][axis % 4u], params.to_strides[axis / 4u][axis % 4u]);
        rest = next;
    }
    return from_and_to + i32(rest) * vec2<i32>(params.from_strides[0].x, params.to_strides[0].x);
}
