use proptest::prelude::*;

use super::*;
use crate::batch::report::Closed;
use crate::batch::row::Row;
use crate::batch::terms::Piece;
use crate::tensor::Tensor;

const WAIT_MAX: Duration = Duration::from_millis(1);
const PADDED_BYTES_MAX: u64 = 400;
const FREE: Slots = Slots { busy: 0, all: 1, hold: Duration::ZERO };

fn bounds(delay_us: u64, batches_max: usize) -> Bounds {
    let (delay, priority_wait_max) = (Duration::from_micros(delay_us), WAIT_MAX);
    Bounds {
        delay,
        batches_max,
        rows_of_batch: 1,
        tells_capacity: false,
        priority_wait_max,
        padded_bytes_max: PADDED_BYTES_MAX,
    }
}

fn queue(delay_us: u64, batches_max: usize) -> Queue<u8, usize> {
    Queue::new(bounds(delay_us, batches_max))
}

fn entry(payload: usize, rows: usize, arrived: Instant) -> Entry<usize> {
    Entry { payload, rows, arrived, priority: Priority::Normal, is_cut: false, row: None }
}

/// One whose rows are numbers of 4 bytes in these extents, to be padded to others.
fn padded(payload: usize, rows: usize, extents: &[usize], arrived: Instant) -> Entry<usize> {
    let dims = [&[rows], extents].concat();
    let numbers = vec![0.0f32; dims.iter().product()];
    let row = Row::exact(&[Tensor::from_vec(dims, numbers).expect("as many")]);
    Entry { row: row.map(Arc::new), ..entry(payload, rows, arrived) }
}

fn extents(batch: &Batch<usize>) -> Vec<usize> {
    batch.row.as_ref().expect("it is padded").shapes(1)[0][1..].to_vec()
}

fn up_to(rows_max: usize) -> Join {
    Join::Rows((0..).map(|i| 1 << i).take_while(|size| *size <= rows_max).collect())
}

fn ids(batch: &Batch<usize>) -> Vec<usize> {
    batch.pieces.iter().map(|p| p.payload).collect()
}

#[test]
fn a_free_slot_takes_what_waits_at_once() {
    let (mut queue, now) = (queue(0, 8), Instant::now());
    for i in 0..3 {
        queue.push(0, up_to(8), entry(i, 1, now)).expect("room");
    }
    let batch = queue.next(now, FREE, |_| false).expect("no delay");
    assert_eq!((ids(&batch), batch.size, batch.closed), (vec![0, 1, 2], Some(4), Closed::SlotFree));
    assert!(queue.is_empty());
}

#[test]
fn nothing_goes_without_a_slot_and_little_while_others_run() {
    let (mut queue, now) = (queue(0, 8), Instant::now());
    queue.push(0, up_to(4), entry(0, 1, now)).expect("room");
    let hold = Duration::from_micros(50);
    let taken = Slots { busy: 2, all: 2, hold };
    assert_eq!((queue.next(now, taken, |_| false), queue.due(taken)), (None, None));
    let busy = Slots { busy: 1, all: 2, hold };
    assert_eq!((queue.next(now, busy, |_| false), queue.due(busy)), (None, Some(now + hold)));
    queue.push(0, up_to(4), entry(1, 3, now)).expect("room");
    assert_eq!(queue.next(now, busy, |_| false).expect("full").closed, Closed::Full);
}

#[test]
fn what_is_full_because_sizes_were_cut_says_so() {
    let (mut queue, now) = (queue(100, 8), Instant::now());
    let cut = |payload| Entry { is_cut: true, ..entry(payload, 1, now) };
    queue.push(0, up_to(2), cut(0)).expect("room");
    queue.push(0, up_to(2), cut(1)).expect("room");
    queue.push(0, up_to(2), cut(2)).expect("room");
    assert_eq!(queue.next(now, FREE, |_| false).expect("full").closed, Closed::Time);
    let later = now + Duration::from_micros(100);
    assert_eq!(queue.next(later, FREE, |_| false).expect("due").closed, Closed::Delay);
    // Sizes were measured anew.
    queue.push(0, up_to(2), cut(3)).expect("room");
    queue.push(0, up_to(2), entry(4, 1, now)).expect("room");
    assert_eq!(queue.next(now, FREE, |_| false).expect("full").closed, Closed::Full);
}

#[test]
fn sizes_that_were_cut_come_back_for_what_waits() {
    let (mut queue, now) = (queue(0, 100), Instant::now());
    queue.push(0, up_to(2), Entry { is_cut: true, ..entry(0, 20, now) }).expect("room");
    let sizes =
        |max: usize| move |_: &usize| ((0..).map(|i| 1 << i).take_while(|size| *size <= max).collect(), max < 8);
    for (max, batches) in [(1, 10), (2, 10), (4, 5), (8, 3), (16, 3)] {
        queue.widen(&0, sizes(max));
        assert_eq!(queue.batches(), batches, "{max}");
    }
    assert_eq!(queue.next(now, FREE, |_| false).map(|batch| (batch.size, batch.closed)), Some((Some(8), Closed::Full)));
}

#[test]
fn the_oldest_waits_no_longer_than_the_delay() {
    let (mut queue, start) = (queue(100, 8), Instant::now());
    let due = start + Duration::from_micros(100);
    queue.push(0, up_to(4), entry(0, 1, start)).expect("room");
    queue.push(0, up_to(4), entry(1, 1, start + Duration::from_micros(60))).expect("room");
    assert_eq!(queue.next(due - Duration::from_micros(1), FREE, |_| false), None);
    assert_eq!(queue.due(FREE), Some(due));
    assert_eq!(queue.next(due, FREE, |_| false).expect("due").closed, Closed::Delay);
}

#[test]
fn a_large_request_is_divided_and_its_rest_finds_company() {
    let (mut queue, now) = (queue(0, 8), Instant::now());
    queue.push(0, up_to(4), entry(7, 6, now)).expect("room");
    queue.push(0, up_to(4), entry(8, 2, now)).expect("room");
    assert_eq!(queue.batches(), 2);
    let first = queue.next(now, FREE, |_| false).expect("full");
    let second = queue.next(now, FREE, |_| false).expect("full");
    assert_eq!(first.pieces, [Piece { payload: 7, start: 0, rows: 4 }]);
    assert_eq!(second.pieces, [Piece { payload: 7, start: 4, rows: 2 }, Piece { payload: 8, start: 0, rows: 2 }]);
}

#[test]
fn the_bound_counts_batches_and_frees_those_nobody_waits_for() {
    let (mut queue, now) = (queue(0, 2), Instant::now());
    for i in 0..4 {
        queue.push(0, up_to(2), entry(i, 1, now)).expect("two batches of two");
    }
    let error = queue.push(1, up_to(2), entry(4, 1, now)).expect_err("a third batch");
    assert_eq!(
        error.message(),
        "The batch scheduling queue to which this task was submitted is full; currently 2 batches enqueued and \
         max_enqueued_batches is 2"
    );
    queue.purge(|id| *id < 2);
    queue.push(1, up_to(2), entry(4, 1, now)).expect("room was made");
    assert_eq!(ids(&queue.next(now, FREE, |_| false).expect("waiting")), [2, 3]);
}

#[test]
fn where_dividing_was_asked_for_the_refusal_tells_the_room() {
    let (mut queue, now) = (Queue::<u8, usize>::new(Bounds { tells_capacity: true, ..bounds(0, 2) }), Instant::now());
    let full = "The batch scheduling queue to which this task was submitted is full; ";
    queue.push(0, up_to(4), entry(0, 3, now)).expect("one batch");
    let error = queue.push(0, up_to(4), entry(1, 6, now)).expect_err("nine rows are three batches");
    assert_eq!(
        error.message().strip_prefix(full),
        Some(
            "task size is 6 but scheduling capacity is only 5 (num_enqueued_batches=1, max_enqueued_batches=2, \
             open_batch_size=3, max_execution_batch_size=4)"
        )
    );
    queue.push(0, up_to(4), entry(1, 5, now)).expect("as much as was told");
    let error = queue.push(1, up_to(2), entry(2, 1, now)).expect_err("another key has no open batch");
    assert!(error.message().contains("only 0 (num_enqueued_batches=2"), "{error}");
    assert!(error.message().contains("open_batch_size=0, max_execution_batch_size=2"), "{error}");
    let error = queue.push(1, Join::Alone, entry(2, 1, now)).expect_err("what runs alone is no number of rows");
    assert!(error.message().contains("currently 2 batches"), "{error}");
}

#[test]
fn a_lone_request_of_any_size_is_taken() {
    let (mut queue, now) = (queue(0, 2), Instant::now());
    queue.push(0, up_to(4), entry(0, 100, now)).expect("it waits for itself only");
    assert_eq!(queue.batches(), 25);
    assert!(queue.push(0, up_to(4), entry(1, 4, now)).is_err(), "others wait elsewhere");
    // What is not ready yet counts as it will be.
    let bounds = Bounds { rows_of_batch: 64, ..bounds(0, 2) };
    let mut queue = Queue::<u8, usize>::new(bounds);
    for i in 0..2 {
        queue.push(0, up_to(2), entry(i, 64, now)).expect("two batches once 64 rows are ready");
    }
    assert!(queue.push(0, up_to(2), entry(2, 1, now)).is_err());
}

#[test]
fn urgent_requests_overtake_those_that_have_not_waited_long() {
    let (mut queue, start) = (queue(0, 64), Instant::now());
    let of = |payload, priority, arrived| Entry { priority, ..entry(payload, 1, arrived) };
    let soon = start + WAIT_MAX / 2;
    for (payload, priority, arrived) in [
        (0, Priority::Low, start),
        (1, Priority::Normal, start),
        (2, Priority::High, soon),
        (3, Priority::Normal, soon),
        (4, Priority::High, start + WAIT_MAX),
        (5, Priority::High, start + WAIT_MAX + WAIT_MAX),
        (6, Priority::High, start + WAIT_MAX * 3),
    ] {
        queue.push(0, up_to(1), of(payload, priority, arrived)).expect("room");
    }
    let now = start + WAIT_MAX * 4;
    let order = std::iter::from_fn(|| queue.next(now, FREE, |_| false)).flat_map(|b| ids(&b)).collect::<Vec<_>>();
    assert_eq!(order, [2, 1, 4, 3, 0, 5, 6]);
}

#[test]
fn nothing_gets_between_the_parts_of_a_request() {
    let (mut queue, now) = (queue(0, 64), Instant::now());
    queue.push(0, up_to(2), entry(0, 3, now)).expect("room");
    queue.next(now, FREE, |_| false).expect("its first two rows");
    queue.push(0, up_to(2), Entry { priority: Priority::High, ..entry(1, 1, now) }).expect("room");
    let rest = queue.next(now, FREE, |_| false).expect("its last, and the urgent one");
    assert_eq!(rest.pieces, [Piece { payload: 0, start: 2, rows: 1 }, Piece { payload: 1, start: 0, rows: 1 }]);
}

#[test]
fn what_lies_ahead_is_counted_in_device_time() {
    let (mut queue, now) = (queue(0, 64), Instant::now());
    // A row takes a millisecond, and every batch one more; alone 7.
    let cost = |_: &u8, _: u64, size: usize| Duration::from_millis(if size == 0 { 7 } else { size as u64 + 1 });
    queue.push(0, up_to(4), entry(0, 6, now)).expect("room");
    queue.push(1, Join::Alone, entry(1, 1, now)).expect("room");
    assert_eq!(queue.time(cost), Duration::from_millis(5 + 3 + 7));
    let ahead = |key, join: Join, entry: Entry<usize>| {
        let ahead = queue.ahead(&key, &join, &entry, cost);
        (ahead.queued.as_millis(), ahead.last.as_millis())
    };
    assert_eq!(ahead(0, up_to(4), entry(9, 1, now)), (7 + 5, 5), "it joins the two that are left over");
    assert_eq!(ahead(0, up_to(4), entry(9, 6, now)), (7 + 5 + 5, 5));
    assert_eq!(ahead(1, Join::Alone, entry(9, 1, now)), (5 + 3 + 7, 7));
    assert_eq!(ahead(2, up_to(2), entry(9, 1, now)), (5 + 3 + 7, 2));
    let urgent = Entry { priority: Priority::High, ..entry(9, 1, now) };
    assert_eq!(ahead(0, up_to(4), urgent), (0, 2), "it goes before all of them");
}

#[test]
fn alone_means_one_at_a_time() {
    let (mut queue, now) = (queue(1000, 8), Instant::now());
    queue.push(0, Join::Alone, entry(0, 1, now)).expect("room");
    queue.push(0, Join::Alone, entry(1, 1, now)).expect("room");
    let batch = queue.next(now, FREE, |_| false).expect("company is of no use to it");
    assert_eq!((ids(&batch), batch.size), (vec![0], None));
}

#[test]
fn a_vast_request_leaves_small_ones_alone() {
    let (mut queue, now) = (queue(0, 8), Instant::now());
    for (payload, extent) in [(0, 2), (1, 5), (2, 60), (3, 1)] {
        queue.push(0, up_to(8), padded(payload, 1, &[extent], now)).expect("room");
    }
    assert_eq!(queue.elements(&0), 60);
    let batches: Vec<_> = std::iter::from_fn(|| queue.next(now, FREE, |_| false)).collect();
    // Two rows of 60 numbers would take 480 bytes.
    let found: Vec<_> = batches.iter().map(|batch| (ids(batch), extents(batch))).collect();
    assert_eq!(found, [(vec![0, 1], vec![5]), (vec![2], vec![60]), (vec![3], vec![1])]);
    assert_eq!(batches[0].closed, Closed::Full, "what comes next does not fit");
}

#[test]
fn the_widest_that_waits_tells_what_lies_ahead() {
    let (mut queue, now) = (queue(0, 8), Instant::now());
    let cost = |_: &u8, elements: u64, size: usize| Duration::from_millis(elements * size as u64);
    for (payload, extent) in [(0, 3), (1, 20)] {
        queue.push(0, up_to(2), padded(payload, 1, &[extent], now)).expect("room");
    }
    assert_eq!(queue.time(cost), Duration::from_millis(40));
    let ahead = queue.ahead(&0, &up_to(2), &padded(2, 1, &[30], now), cost);
    assert_eq!((ahead.queued, ahead.last), (Duration::from_millis(60), Duration::from_millis(30)));
    queue.purge(|id| *id == 1);
    assert_eq!(queue.time(cost), Duration::from_millis(3));
}

/// What a random client does.
#[derive(Clone, Debug)]
enum Act {
    Push { key: u8, rows: usize },
    Die,
    Run { busy: usize },
    Wait { us: u64 },
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        4 => (0u8..3, 1usize..12).prop_map(|(key, rows)| Act::Push { key, rows }),
        1 => Just(Act::Die),
        3 => (0usize..3).prop_map(|busy| Act::Run { busy }),
        1 => (0u64..80).prop_map(|us| Act::Wait { us }),
    ];
    prop::collection::vec(act, 1..80)
}

proptest! {
    /// Against a plain list of what was accepted: nothing is lost, doubled, overtaken or too large, the bound holds.
    #[test]
    fn every_row_leaves_once_and_in_order(acts in acts(), delay_us in 0u64..50) {
        let (mut queue, mut now) = (queue(delay_us, 6), Instant::now());
        let join = |key: u8| if key == 2 { Join::Alone } else { up_to(8) };
        let mut accepted: Vec<(u8, usize)> = Vec::new();
        let mut served: Vec<Vec<usize>> = Vec::new();
        let mut dead = std::collections::BTreeSet::new();
        let check = |batch: &Batch<usize>, accepted: &[(u8, usize)], served: &mut Vec<Vec<usize>>| {
            let key = accepted[batch.pieces[0].payload].0;
            let rows: usize = batch.pieces.iter().map(|p| p.rows).sum();
            for piece in &batch.pieces {
                assert_eq!(accepted[piece.payload].0, key, "one key a batch");
                served[piece.payload].extend(piece.start..piece.start + piece.rows);
            }
            match batch.size {
                None => assert_eq!((key, batch.pieces.len()), (2, 1)),
                Some(size) => assert!(rows <= size && size <= 8 && size < 2 * rows, "{rows} rows in {size}"),
            }
        };
        for act in acts {
            match act {
                Act::Push { key, rows } => {
                    if queue.push(key, join(key), entry(accepted.len(), rows, now)).is_ok() {
                        accepted.push((key, rows));
                        served.push(Vec::new());
                    }
                    prop_assert!(queue.batches() <= 6);
                }
                Act::Die => {
                    if let Some(id) = served.iter().position(Vec::is_empty) {
                        dead.insert(id);
                    }
                }
                Act::Run { busy } => {
                    let slots = Slots { busy, all: 2, hold: Duration::from_micros(20) };
                    let batch = queue.next(now, slots, |id| dead.contains(id));
                    prop_assert!(batch.is_none() || busy < 2);
                    batch.iter().for_each(|b| check(b, &accepted, &mut served));
                }
                Act::Wait { us } => now += Duration::from_micros(us),
            }
        }
        now += Duration::from_micros(50);
        while let Some(batch) = queue.next(now, FREE, |id| dead.contains(id)) {
            check(&batch, &accepted, &mut served);
        }
        prop_assert!(queue.is_empty());
        prop_assert_eq!(queue.batches(), 0);
        for (id, (_, rows)) in accepted.iter().enumerate() {
            let whole = (0..*rows).collect::<Vec<_>>();
            prop_assert!(served[id] == whole || (dead.contains(&id) && served[id].is_empty()), "{id}: {:?}", served[id]);
        }
    }

    /// Whatever the extents: a batch is padded to the largest of its own, within the bound, and what is divided has no company.
    #[test]
    fn padded_rows_leave_once_within_the_bound(
        requests in prop::collection::vec((1usize..12, prop::collection::vec(1usize..9, 2)), 1..30),
    ) {
        let (mut queue, now) = (queue(0, 100), Instant::now());
        for (i, (rows, extents)) in requests.iter().enumerate() {
            queue.push(0, up_to(8), padded(i, *rows, extents, now)).expect("room");
        }
        let mut served = vec![Vec::new(); requests.len()];
        while let Some(batch) = queue.next(now, FREE, |_| false) {
            let own = batch.pieces.iter().map(|p| &requests[p.payload]);
            let largest = |axis: usize| own.clone().map(|(_, extents)| extents[axis]).max().expect("a piece");
            prop_assert_eq!(extents(&batch), [largest(0), largest(1)]);
            let bytes = 4 * batch.size.expect("merged") * largest(0) * largest(1);
            prop_assert!(batch.pieces.len() == 1 || bytes as u64 <= PADDED_BYTES_MAX, "{bytes} bytes");
            let parts = batch.pieces.iter().filter(|p| p.rows < requests[p.payload].0).count();
            prop_assert!(parts == 0 || batch.pieces.len() == 1, "{:?}", batch.pieces);
            batch.pieces.iter().for_each(|p| served[p.payload].extend(p.start..p.start + p.rows));
        }
        prop_assert!(queue.is_empty() && queue.elements(&0) == 0);
        for (served, (rows, _)) in served.iter().zip(&requests) {
            prop_assert_eq!(served, &(0..*rows).collect::<Vec<_>>());
        }
    }

    /// Within a key, rows leave in the order in which they came.
    #[test]
    fn requests_of_a_key_never_overtake(rows in prop::collection::vec(1usize..12, 1..30)) {
        let (mut queue, now) = (queue(0, 100), Instant::now());
        for (i, rows) in rows.iter().enumerate() {
            queue.push(0, up_to(8), entry(i, *rows, now)).expect("room");
        }
        let batches = std::iter::from_fn(|| queue.next(now, FREE, |_| false));
        let order: Vec<_> = batches.flat_map(|b| b.pieces).map(|p| (p.payload, p.start)).collect();
        prop_assert!(order.is_sorted());
    }
}
