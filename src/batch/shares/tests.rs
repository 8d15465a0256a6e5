use std::collections::BTreeMap;

use super::*;

const fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn due(weight: f64) -> Due {
    Due { weight, turns_max: usize::MAX, priority_wait_max: millis(100) }
}

/// One of the models of a simulation.
struct Model {
    flow: u64,
    batch: Duration,
    priority: Priority,
}

/// A device that works off turns in order, `lanes` at a time, for models that always have work. Gives, by flow, its device time
/// and the longest that it waited for a turn.
fn simulate(
    shares: &mut Shares,
    models: &[Model],
    lanes: usize,
    time: Duration,
) -> BTreeMap<u64, (Duration, Duration)> {
    let start = Instant::now();
    let mut now = start;
    let mut free = vec![start; lanes];
    let mut under_way: Vec<(Instant, u64, u64, Duration)> = Vec::new();
    let mut found: BTreeMap<u64, (Duration, Duration)> = BTreeMap::new();
    let mut wished: BTreeMap<u64, Instant> = BTreeMap::new();
    while now < start + time {
        for model in models {
            wished.entry(model.flow).or_insert(now);
            shares.wish(model.flow, model.priority, now);
        }
        while let Some(flow) = shares.give(now) {
            let model = models.iter().find(|model| model.flow == flow).expect("one of them");
            let waited = now - wished.remove(&flow).expect("it wished");
            let entry = found.entry(flow).or_default();
            entry.1 = entry.1.max(waited);
            let turn = shares.begin(flow, model.batch, now);
            let lane = free.iter_mut().min().expect("a lane");
            *lane = (*lane).max(now) + model.batch;
            under_way.push((*lane, flow, turn, model.batch));
            wished.insert(flow, now);
            shares.wish(flow, model.priority, now);
        }
        under_way.sort_by_key(|(end, ..)| std::cmp::Reverse(*end));
        let (end, flow, turn, spent) = under_way.pop().expect("the device is never idle");
        now = end;
        shares.end(flow, turn, Some(spent), now);
        found.entry(flow).or_default().0 += spent;
    }
    found
}

fn share(found: &BTreeMap<u64, (Duration, Duration)>, flow: u64) -> f64 {
    let all: Duration = found.values().map(|(spent, _)| *spent).sum();
    found[&flow].0.as_secs_f64() / all.as_secs_f64()
}

#[test]
fn a_slow_model_does_not_starve_a_fast_one() {
    for (lanes, in_flight) in [(1, 1), (1, 2), (2, 2), (2, 4)] {
        let mut shares = Shares::new(lanes, in_flight);
        let (slow, fast) = (shares.join(due(1.0)), shares.join(due(1.0)));
        let priority = Priority::Normal;
        let models =
            [Model { flow: slow, batch: millis(100), priority }, Model { flow: fast, batch: millis(1), priority }];
        let found = simulate(&mut shares, &models, lanes, Duration::from_secs(60));
        let half = share(&found, fast);
        assert!((0.45..0.55).contains(&half), "{lanes} lanes, {in_flight} each: {half} of the device time");
        assert!(found[&fast].1 <= millis(101), "{lanes} lanes: it waited {:?}", found[&fast].1);
    }
}

#[test]
fn device_time_is_shared_by_weight() {
    let mut shares = Shares::new(1, 2);
    let flows: Vec<_> = [1.0, 2.0, 5.0].into_iter().map(|weight| shares.join(due(weight))).collect();
    let batches = [30, 7, 3].map(millis);
    let models: Vec<_> = flows
        .iter()
        .zip(batches)
        .map(|(flow, batch)| Model { flow: *flow, batch, priority: Priority::Normal })
        .collect();
    let found = simulate(&mut shares, &models, 1, Duration::from_secs(60));
    for (flow, expected) in flows.iter().zip([0.125, 0.25, 0.625]) {
        let share = share(&found, *flow);
        assert!((share - expected).abs() < 0.02, "{share} in place of {expected}");
    }
}

#[test]
fn priorities_go_first_but_starve_nobody() {
    let mut shares = Shares::new(1, 1);
    let (high, low) = (shares.join(due(1.0)), shares.join(due(1.0)));
    let models = [
        Model { flow: high, batch: millis(10), priority: Priority::High },
        Model { flow: low, batch: millis(10), priority: Priority::Low },
    ];
    let found = simulate(&mut shares, &models, 1, Duration::from_secs(60));
    assert!(share(&found, high) > 0.9, "{}", share(&found, high));
    // Two steps of 100 ms, and the batch that runs when they are over.
    assert!(found[&low].1 <= millis(210), "{:?}", found[&low].1);
    assert!(found[&low].0 >= millis(10) * (60_000 / 220));
}

#[test]
fn nothing_is_saved_up_while_idle() {
    let (mut shares, now) = (Shares::new(1, 1), Instant::now());
    let (busy, idle) = (shares.join(due(1.0)), shares.join(due(1.0)));
    for _ in 0..100 {
        shares.wish(busy, Priority::Normal, now);
        assert_eq!(shares.give(now), Some(busy));
        shares.withdraw(busy);
        let turn = shares.begin(busy, millis(10), now);
        shares.end(busy, turn, Some(millis(10)), now);
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        shares.wish(busy, Priority::Normal, now);
        shares.wish(idle, Priority::Normal, now);
        let flow = shares.give(now).expect("a turn is free");
        let turn = shares.begin(flow, millis(10), now);
        shares.end(flow, turn, None, now);
        order.push(flow);
    }
    assert!(order.iter().filter(|flow| **flow == busy).count() >= 2, "{order:?}");
    assert_eq!(shares.spent(busy) + shares.spent(idle), millis(10) * 106);
}

#[test]
fn long_batches_leave_room_for_company() {
    let (mut shares, now) = (Shares::new(1, 2), Instant::now());
    let (big, small) = (shares.join(due(1.0)), shares.join(due(1.0)));
    let give = |shares: &mut Shares| {
        shares.wish(big, Priority::Normal, now);
        shares.give(now).map(|flow| shares.begin(flow, millis(100), now))
    };
    let first = give(&mut shares).expect("free");
    let second = give(&mut shares).expect("free: nothing is known of it");
    shares.end(big, first, None, now);
    assert!(give(&mut shares).is_some(), "it is alone");
    shares.end(big, second, None, now);
    shares.withdraw(big);
    shares.wish(small, Priority::Normal, now);
    assert_eq!(shares.give(now), Some(small));
    shares.withdraw(small);
    let turn = shares.begin(small, millis(1), now);
    shares.end(small, turn, None, now);
    assert!(give(&mut shares).is_none(), "the small one may come back within a second");
    let later = now + COMPANY;
    assert_eq!(shares.give(later), Some(big));
}

#[test]
fn of_several_lanes_long_batches_leave_one_to_company() {
    for (lanes, turns) in [(1, 1), (2, 1), (3, 2)] {
        let (mut shares, now) = (Shares::new(lanes, 2), Instant::now());
        let (big, small) = (shares.join(due(1.0)), shares.join(due(1.0)));
        shares.wish(big, Priority::Normal, now);
        assert_eq!(shares.give(now), Some(big));
        let turn = shares.begin(big, millis(100), now);
        shares.end(big, turn, None, now);
        shares.wish(small, Priority::Normal, now);
        shares.withdraw(small);
        let given = std::iter::from_fn(|| shares.give(now).map(|flow| shares.begin(flow, millis(100), now)));
        assert_eq!(given.count(), turns, "{lanes} lanes");
    }
}

#[test]
fn turns_that_are_not_used_are_free_again() {
    let (mut shares, now) = (Shares::new(1, 1), Instant::now());
    let (a, b) = (shares.join(due(1.0)), shares.join(due(1.0)));
    shares.wish(a, Priority::Normal, now);
    assert_eq!(shares.give(now), Some(a));
    shares.wish(b, Priority::Normal, now);
    assert_eq!(shares.give(now), None);
    shares.withdraw(a);
    shares.forgo(a);
    assert_eq!(shares.give(now), Some(b));
    shares.begin(b, millis(1), now);
    shares.withdraw(b);
    shares.wish(a, Priority::Normal, now);
    shares.leave(b);
    assert_eq!(shares.give(now), Some(a), "a model that went away holds nothing");
}

#[test]
fn waits_are_told_from_what_runs_and_what_others_are_due() {
    let (mut shares, now) = (Shares::new(1, 2), Instant::now());
    let (a, b) = (shares.join(due(1.0)), shares.join(due(3.0)));
    assert_eq!(shares.wait(a, millis(20), now), millis(20));
    shares.wish(b, Priority::Normal, now);
    shares.give(now).expect("free");
    let turn = shares.begin(b, millis(30), now);
    shares.withdraw(b);
    assert_eq!(shares.wait(a, millis(20), now), millis(50));
    assert_eq!(shares.wait(a, millis(20), now + millis(12)), millis(38), "it has worked since");
    shares.queue(b, millis(45));
    assert_eq!(shares.wait(a, millis(20), now), millis(95), "three times as much goes to the other, as it has");
    assert_eq!(shares.wait(a, millis(10), now), millis(30 + 10 + 30));
    shares.end(b, turn, Some(millis(28)), now + millis(28));
    assert_eq!(shares.wait(a, Duration::ZERO, now + millis(28)), Duration::ZERO);
    let mut two = Shares::new(2, 2);
    let flow = two.join(due(1.0));
    assert_eq!(two.wait(flow, millis(20), now), millis(10));
}
