// y is [planes, z, y, x] with rows of whole vectors of four. Element (z, y, x) of a plane is element (z, y, x) × step − pad of the
// plane in x; it is zero where that is outside, and from `width` on. Planes are entries × images × channels; entries[i] is the
// first element of entry i in x.
struct Params {
    // Vectors of a plane of y, and of a row.
    plane_vectors: u32,
    row_vectors: u32,
    width: u32,
    images: u32,
    channels: u32,
    image_stride: u32,
    channel_stride: u32,
    // The last vector of x.
    last: u32,
    // Along z, y, x, then vectors of y in all; the others have no fourth. Steps and padding wrap.
    extent: vec4<u32>,
    input: vec4<u32>,
    step: vec4<u32>,
    pad: vec4<u32>,
    stride: vec4<u32>,
}

// Where vector `at` of y lies: its plane, its row there, and its place there.
struct Spot {
    plane: u32,
    row: u32,
    place: u32,
}

fn spot_of(at: u32) -> Spot {
    let plane = quotient(at, params.plane_vectors);
    let within = at - plane * params.plane_vectors;
    let row = quotient(within, params.row_vectors);
    return Spot(plane, row, within - row * params.row_vectors);
}

// A row of y.
struct Row {
    // Where it starts in x.
    start: u32,
    inside: bool,
}

// Row `index` of plane `plane`, of an entry that starts where `entries` says.
fn row_at(index: u32, plane: u32) -> Row {
    let line = quotient(plane, params.channels);
    let entry = quotient(line, params.images);
    var slice = 0u;
    if SLICES == 1u {
        slice = quotient(index, params.extent.y);
    }
    let z = slice * params.step.x - params.pad.x;
    let y_place = (index - slice * params.extent.y) * params.step.y - params.pad.y;
    let base = entries[entry] + (line - entry * params.images) * params.image_stride
        + (plane - line * params.channels) * params.channel_stride;
    let inside = z < params.input.x && y_place < params.input.y;
    return Row(base + select(0u, z * params.stride.x + y_place * params.stride.y, inside), inside);
}
