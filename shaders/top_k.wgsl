// The k first of each line of x along the middle axis of [outer, extent, inner], largest or smallest first, ties by place, and
// where they are. Values are compared by keys, unsigned numbers of BITS bits in the same order. CLASS 0: floats of 32 bits, 1: signed
// integers, 2: unsigned ones.
// STAGE 0 finds, a workgroup a line, the key of the last one taken (the threshold) and how many of that key are taken, eight bits
//   at a time from histograms: found[line] = (threshold, taken).
// STAGE 1 collects, a workgroup a line, the places of those taken, in order: picked[line, k].
// STAGE 2 orders, an invocation each of those: how many come before it is where it goes. With `direct` all of a line are compared
//   and stages 0 and 1 are left out: for short lines.
// Grid: stages 0 and 1 a workgroup a line; stage 2 linear over lines × (extent if direct, else k), 64 a workgroup.
// uses: index
// target: y
// variants: In = f32 f16 i32 u32 i64 u64 f64
// variants: Out = f32 f16 i32 u32 i64 u64 f64
// variants: Key = u32 u64
// variants: Place = i32 i64
// variants: const BITS = 32 64
// variants: const STAGE = 0 1 2
// variants: const CLASS = 0 1 2
// variants: const SMALLEST = 0 1
struct Params {
    lines: u32,
    extent: u32,
    inner: u32,
    k: u32,
    direct: u32,
}
@group(0) @binding(0) var<storage, read> x: array<In>;
@group(0) @binding(1) var<storage, read_write> found: array<vec2<Key>>;
@group(0) @binding(2) var<storage, read_write> picked: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<Out>;
@group(0) @binding(4) var<storage, read_write> places: array<Place>;
@group(0) @binding(5) var<uniform> params: Params;

var<workgroup> histogram: array<atomic<u32>, 256>;
var<workgroup> chosen: vec2<u32>;
var<workgroup> counts: array<vec2<u32>, 64>;

// A number that grows with the value, or falls where the smallest come first.
fn key_of(value: In) -> Key {
    var key = Key(value);
    if CLASS == 0u {
        let bits = bitcast<u32>(f32(value));
        key = Key(select(bits | 0x80000000u, ~bits, (bits >> 31u) == 1u));
    } else if CLASS == 1u {
        // The top bit. Constant shifts are checked, also for the width that is not meant.
        var by = BITS - 1u;
        key ^= Key(1) << by;
    }
    return select(key, ~key, SMALLEST == 1u);
}

fn base_of(line: u32) -> u32 {
    let outer = line / params.inner;
    return outer * params.extent * params.inner + (line - outer * params.inner);
}

fn threshold(line: u32, local: u32) {
    let base = base_of(line);
    var prefix = Key(0);
    var wanted = params.k;
    for (var shift = i32(BITS) - 8; shift >= 0; shift -= 8) {
        for (var bin = local; bin < 256u; bin += 64u) {
            atomicStore(&histogram[bin], 0u);
        }
        workgroupBarrier();
        let above = u32(shift) + 8u;
        for (var i = local; i < params.extent; i += 64u) {
            let key = key_of(x[base + i * params.inner]);
            if above == BITS || (key >> above) == (prefix >> above) {
                atomicAdd(&histogram[u32((key >> u32(shift)) & Key(255))], 1u);
            }
        }
        workgroupBarrier();
        if local == 0u {
            var bin = 255u;
            var left = wanted;
            loop {
                let count = atomicLoad(&histogram[bin]);
                if left <= count || bin == 0u {
                    break;
                }
                left -= count;
                bin -= 1u;
            }
            chosen = vec2<u32>(bin, left);
        }
        workgroupBarrier();
        prefix |= Key(chosen.x) << u32(shift);
        wanted = chosen.y;
        workgroupBarrier();
    }
    if local == 0u {
        found[line] = vec2<Key>(prefix, Key(wanted));
    }
}

fn collect(line: u32, local: u32) {
    let base = base_of(line);
    let limit = found[line];
    // Each invocation looks through a stretch of its own, so that order is kept.
    let stretch = (params.extent + 63u) / 64u;
    let first = min(local * stretch, params.extent);
    let end = min(first + stretch, params.extent);
    var beyond = 0u;
    var equal = 0u;
    for (var i = first; i < end; i += 1u) {
        let key = key_of(x[base + i * params.inner]);
        beyond += u32(key > limit.x);
        equal += u32(key == limit.x);
    }
    counts[local] = vec2<u32>(beyond, equal);
    workgroupBarrier();
    var before = vec2<u32>(0u);
    for (var other = 0u; other < local; other += 1u) {
        before += counts[other];
    }
    // Of the equal ones the first `limit.y` are taken.
    var place = before.x + min(before.y, u32(limit.y));
    var seen = before.y;
    for (var i = first; i < end; i += 1u) {
        let key = key_of(x[base + i * params.inner]);
        let taken = key > limit.x || (key == limit.x && seen < u32(limit.y));
        seen += u32(key == limit.x);
        if taken && place < params.k {
            picked[line * params.k + place] = i;
            place += 1u;
        }
    }
}

fn order(at: u32) {
    let count = select(params.k, params.extent, params.direct != 0u);
    let line = at / count;
    if line >= params.lines {
        return;
    }
    let own = at - line * count;
    let base = base_of(line);
    var place = own;
    if params.direct == 0u {
        place = picked[line * params.k + own];
    }
    let value = x[base + place * params.inner];
    let key = key_of(value);
    var rank = 0u;
    for (var i = 0u; i < count; i += 1u) {
        var other = i;
        if params.direct == 0u {
            other = picked[line * params.k + i];
        }
        let against = key_of(x[base + other * params.inner]);
        rank += u32(against > key || (against == key && i < own));
    }
    if rank >= params.k {
        return;
    }
    let outer = line / params.inner;
    let goal = (outer * params.k + rank) * params.inner + (line - outer * params.inner);
    store(Value(value), goal, 0u);
    places[goal] = Place(place);
}

@compute @workgroup_size(64)
fn main(
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
) {
    if STAGE == 2u {
        order(linear_index(group, groups, local, 64u));
        return;
    }
    let line = linear_index(group, groups, 0u, 1u);
    if line >= params.lines {
        return;
    }
    if STAGE == 0u {
        threshold(line, local);
    } else {
        collect(line, local);
    }
}
