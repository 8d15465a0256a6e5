//! Attention in its forms, and the sums of products that Einsum writes.

use coracle::tensor::{DType, Tensor};

use crate::case::{Case, extents, floats, integers, random};

pub(crate) fn cases() -> Vec<Case> {
    let groups = [products(), caches(), linear(), rotations()];
    let mut cases: Vec<Case> = groups.into_iter().flatten().collect();
    for seed in 0..3 {
        cases.extend(scores(seed));
        cases.extend(whole(seed));
    }
    cases
}

fn scores(seed: u64) -> Vec<Case> {
    let [batch, heads, queries, keys, head] = extents(5, 1, 5, 80 + seed)[..] else { unreachable!("there are five") };
    let new = |name| Case::new("Attention", name).opset(24).tolerance(1e-5);
    let fill = |case: Case, shared: usize| {
        case.varying(floats(&[batch, heads * shared, queries, head], seed))
            .varying(floats(&[batch, heads, keys, head], seed + 1))
            .varying(floats(&[batch, heads, keys, head + 1], seed + 2))
    };
    let flat = |case: Case, name: &str, steps: usize| {
        let width = heads * head;
        case.int(name, heads as i64).varying(floats(&[batch, steps, width], seed))
    };
    let many = |name| {
        let case = Case::new("com.microsoft:MultiHeadAttention", name).tolerance(1e-5);
        let case = flat(case, "num_heads", queries).varying(floats(&[batch, keys, heads * head], seed + 1));
        case.varying(floats(&[batch, keys, heads * head], seed + 2)).constant(floats(&[3 * heads * head], seed + 3))
    };
    let mask = random(DType::I32, &[batch, keys], 0.0, 2.0, seed + 4);
    vec![
        fill(new("causal").int("is_causal", 1), 1),
        fill(new("shared_keys").float("softcap", 2.0).outputs(4), 3),
        fill(new("mask"), 1).varying(random(DType::Bool, &[queries, keys], 0.0, 2.0, seed + 3)),
        many("bias"),
        many("mask").varying(mask),
        Case::new("ai.onnx.preview:FlexAttention", "shared_keys")
            .tolerance(1e-5)
            .varying(floats(&[batch, 2 * heads, queries, head], seed))
            .varying(floats(&[batch, heads, keys, head], seed + 1))
            .varying(floats(&[batch, heads, keys, 3], seed + 2)),
    ]
}

/// Large enough to run as one kernel where there is one.
fn whole(seed: u64) -> Vec<Case> {
    let [batch, heads, queries, more, depth] = extents(5, 1, 3, 70 + seed)[..] else { unreachable!("there are five") };
    let (heads, queries, depth) = (heads + 1, 37 + 3 * queries, 12 + 8 * depth);
    let keys = queries + 8 * more;
    let flat = |name, shared: usize, keys: usize| {
        Case::new("Attention", name)
            .opset(24)
            .tolerance(1e-5)
            .int("q_num_heads", (heads * shared) as i64)
            .int("kv_num_heads", heads as i64)
            .varying(floats(&[batch, queries, heads * shared * depth], seed))
            .varying(floats(&[batch, keys, heads * depth], seed + 1))
            .varying(floats(&[batch, keys, heads * 2 * depth], seed + 2))
    };
    let fours = 4 * (10 + more);
    let hiding = random(DType::Bool, &[batch, 1, queries, fours], 0.0, 2.0, seed + 3);
    let far = random(DType::F32, &[keys], -2.0, -1.0, seed + 4);
    let far = far.to_f64s().expect("real");
    let far: Vec<f64> = far.iter().map(|v| if *v < -1.5 { f64::from(f32::MIN) } else { *v }).collect();
    vec![
        flat("whole", 1, keys),
        flat("whole_shared_keys", 3, keys),
        flat("whole_causal", 1, fours).int("is_causal", 1),
        flat("whole_hiding", 2, fours).varying(hiding),
        flat("whole_mask", 1, fours).varying(floats(&[batch, heads, queries, fours], seed + 5)),
        flat("whole_key_mask", 2, keys).varying(Tensor::from_f64s(DType::F32, [keys], &far).expect("as many")),
        // Where a mask adds the least number to all keys, none counts more than another.
        flat("whole_all_masked", 1, keys)
            .varying(Tensor::from_f64s(DType::F32, [keys], &vec![f64::from(f32::MIN); keys]).expect("as many")),
    ]
}

fn products() -> Vec<Case> {
    let einsum = |name, equation| Case::new("Einsum", name).string("equation", equation).tolerance(1e-5);
    vec![
        einsum("batches", "bij,bjk->bik").varying(floats(&[3, 2, 5], 1)).varying(floats(&[3, 5, 4], 2)),
        einsum("heads", "bqhd,bkhd->bhqk").varying(floats(&[2, 3, 2, 4], 3)).varying(floats(&[2, 5, 2, 4], 4)),
        einsum("outer", "i,j->ji").varying(floats(&[5], 5)).varying(floats(&[3], 6)),
        einsum("dots", "...ij,...j->...i").varying(floats(&[2, 3, 4, 5], 7)).varying(floats(&[2, 3, 5], 8)),
        einsum("sum", "ijk->j").varying(floats(&[3, 4, 5], 9)),
        einsum("diagonal", "bii->bi").varying(floats(&[2, 4, 4], 10)),
        Case::new("com.microsoft:FusedMatMul", "transposed")
            .int("transA", 1)
            .int("transB", 1)
            .float("alpha", 0.25)
            .tolerance(1e-5)
            .varying(floats(&[3, 5, 2], 11))
            .varying(floats(&[3, 4, 5], 12)),
        Case::new("com.microsoft:Attention", "one_way")
            .int("num_heads", 2)
            .int("unidirectional", 1)
            .tolerance(1e-5)
            .outputs(2)
            .varying(floats(&[2, 5, 6], 13))
            .constant(floats(&[6, 24], 14))
            .constant(floats(&[24], 15))
            .varying(Tensor::from_vec([2], vec![3i32, 5]).expect("two")),
    ]
}

/// GroupQueryAttention over a cache of 6 steps, of rows that are 4 and 7 long.
fn caches() -> Vec<Case> {
    let new = |name| Case::new("com.microsoft:GroupQueryAttention", name).outputs(3).tolerance(1e-5);
    let fill = |case: Case| {
        case.int("num_heads", 4)
            .int("kv_num_heads", 2)
            .varying(floats(&[2, 1, 32], 20))
            .varying(floats(&[2, 1, 16], 21))
            .varying(floats(&[2, 1, 16], 22))
            .varying(floats(&[2, 2, 6, 8], 23))
            .varying(floats(&[2, 2, 6, 8], 24))
            .varying(Tensor::from_vec([2], vec![3i32, 6]).expect("two"))
            .constant(Tensor::from_vec([1], vec![7i32]).expect("one"))
    };
    vec![
        fill(new("plain")),
        fill(new("window").int("local_window_size", 2)),
        fill(new("rotated").int("do_rotary", 1)).constant(floats(&[9, 4], 25)).constant(floats(&[9, 4], 26)),
    ]
}

fn linear() -> Vec<Case> {
    let mut cases = Vec::new();
    for (rule, seed) in ["linear", "gated", "delta", "gated_delta"].into_iter().zip(0..) {
        let [batch, steps, heads, key, value] = extents(5, 1, 5, 90 + seed)[..] else { unreachable!("there are five") };
        let small = |width: usize, seed| random(DType::F32, &[batch, steps, width], -0.7, 0.7, seed);
        cases.push(
            Case::new("LinearAttention", rule)
                .opset(27)
                .string("update_rule", rule)
                .int("q_num_heads", 2 * heads as i64)
                .int("kv_num_heads", heads as i64)
                .outputs(2)
                .tolerance(1e-5)
                .varying(small(2 * heads * key, 30))
                .varying(small(heads * key, 31))
                .varying(small(heads * value, 32))
                .varying(floats(&[batch, heads, key, value], 33))
                .varying(small(if rule == "gated" { heads } else { heads * key }, 34))
                .varying(small(if rule == "delta" { 1 } else { heads }, 35)),
        );
    }
    let conv = |name| {
        let case = Case::new("CausalConvWithState", name).opset(27).outputs(2).tolerance(1e-5);
        case.string("activation", "silu").varying(floats(&[2, 5, 3], 36)).constant(floats(&[5, 1, 4], 37))
    };
    cases.push(conv("no_past"));
    cases.push(conv("past").constant(floats(&[5], 38)).varying(floats(&[2, 5, 3], 39)));
    cases.push(
        Case::new("SwiGLU", "alpha")
            .opset(28)
            .float("alpha", 0.7)
            .varying(floats(&[3, 7], 40))
            .varying(floats(&[3, 7], 41)),
    );
    cases
}

fn rotations() -> Vec<Case> {
    let positions = Tensor::from_vec([2, 3], vec![0i64, 1, 2, 5, 6, 7]).expect("six");
    let new = |name| Case::new("RotaryEmbedding", name).opset(23).varying(floats(&[2, 2, 3, 8], 50));
    let angles = |case: Case, half: usize| case.constant(floats(&[8, half], 51)).constant(floats(&[8, half], 52));
    vec![
        angles(new("halves"), 4).varying(positions.clone()),
        angles(new("pairs").int("interleaved", 1), 4).varying(positions.clone()),
        angles(new("part").int("rotary_embedding_dim", 4), 2).varying(positions.clone()),
        angles(
            Case::new("RotaryEmbedding", "most_of_wide_heads")
                .opset(23)
                .int("rotary_embedding_dim", 24)
                .int("num_heads", 5)
                .varying(floats(&[2, 3, 5 * 28], 56)),
            12,
        )
        .varying(positions),
        Case::new("com.microsoft:RotaryEmbedding", "from_one_position")
            .varying(floats(&[2, 3, 16], 53))
            .varying(integers(&[4]))
            .constant(floats(&[8, 4], 54))
            .constant(floats(&[8, 4], 55)),
    ]
}
