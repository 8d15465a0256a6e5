//! Merging, splitting and the queue: `cargo bench --bench batching`. No adapter is needed.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coracle::batch::{Bounds, Entry, Join, Priority, Queue, Rows, Slots, merge, split};
use coracle::tensor::{Shape, Tensor};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// Elements of one row: an image of 224 × 224.
const ROW: [usize; 3] = [3, 224, 224];
/// Rows of the merged batch.
const BATCH: usize = 32;

fn request(rows: usize) -> Vec<Tensor> {
    let shape = Shape::new([&[rows], &ROW[..]].concat());
    let values = vec![0.5f32; shape.elements()];
    vec![Tensor::from_vec(shape, values).expect("the count is the shape's")]
}

fn merging(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("merge");
    for rows in [1, 8, BATCH] {
        let requests: Vec<_> = (0..BATCH / rows).map(|_| request(rows)).collect();
        let parts: Vec<_> = requests.iter().map(|r| Rows::all(r)).collect();
        group.throughput(Throughput::Bytes((BATCH * ROW.iter().product::<usize>() * 4) as u64));
        group.bench_function(BenchmarkId::new("rows_a_request", rows), |bencher| {
            bencher.iter(|| merge(black_box(&parts), BATCH).expect("equal shapes"));
        });
    }
    group.finish();
}

fn splitting(criterion: &mut Criterion) {
    let outputs = request(BATCH);
    let counts = [1; BATCH];
    criterion.bench_function("split/rows_32", |bencher| {
        bencher.iter(|| split(black_box(&outputs), &counts, BATCH).expect("enough rows"));
    });
}

/// Requests come one by one and leave in batches, with others of another key between them.
fn queueing(criterion: &mut Criterion) {
    let sizes: Arc<[usize]> = [1, 2, 4, 8, 16, 32].into();
    let slots = Slots { busy: 0, all: 2, hold: Duration::ZERO };
    let mut group = criterion.benchmark_group("queue");
    for waiting in [32usize, 1024] {
        group.throughput(Throughput::Elements(waiting as u64));
        group.bench_function(BenchmarkId::new("push_and_take", waiting), |bencher| {
            bencher.iter(|| {
                let mut queue = Queue::new(Bounds {
                    delay: Duration::ZERO,
                    batches_max: waiting,
                    rows_of_batch: 1,
                    tells_capacity: false,
                    priority_wait_max: Duration::ZERO,
                    padded_bytes_max: 0,
                });
                let now = Instant::now();
                for number in 0..waiting {
                    let priority = Priority::Normal;
                    let entry = Entry { payload: number, rows: 1, arrived: now, priority, is_cut: false, row: None };
                    queue.push(number % 2, Join::Rows(Arc::clone(&sizes)), entry).expect("there is room");
                }
                let mut taken = 0;
                while let Some(batch) = queue.next(now, slots, |_| false) {
                    taken += batch.pieces.len();
                }
                assert_eq!(taken, waiting);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, merging, splitting, queueing);
criterion_main!(benches);
