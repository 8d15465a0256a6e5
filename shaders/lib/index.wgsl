// The index of an invocation in a grid made by `linear_groups`.
fn linear_index(group: vec3<u32>, groups: vec3<u32>, local: u32, size: u32) -> u32 {
    return (group.y * groups.x + group.x) * size + local;
}

// a / b for b > 0 and a below 2³¹. Software adapters divide integers lane by lane but floats all at once, so a float
// guesses, a second guess takes up what rounding lost, and one step either way makes it exact.
fn quotient(a: u32, b: u32) -> u32 {
    let divisor = f32(b);
    let guess = u32(f32(a) / divisor);
    let rest = i32(a - guess * b);
    let near = guess + u32(i32(f32(rest) / divisor));
    let left = i32(a - near * b);
    return near + select(0u, 1u, left >= i32(b)) - select(0u, 1u, left < 0);
}

// a % b, for the same a and b.
fn remainder(a: u32, b: u32) -> u32 {
    return a - quotient(a, b) * b;
}
