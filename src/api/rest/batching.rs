//! How a version's requests were batched, and why so: an extension.

use std::time::Duration;

use serde_json::{Map, Value, json};

use super::reply::Reply;
use crate::batch::{BatchReport, Closed, Dropped, Spread, Tally, Waiting};
use crate::engine::Merging;
use crate::model::{Batching, ServableId};

/// A share of padding above which it is worth a remark.
const PADDING_HIGH: f64 = 0.25;

/// The report as it is now.
pub(super) fn report(id: &ServableId, batching: &Batching) -> Reply {
    let Batching { parameters, policy, merging, waiting, tally } = batching;
    let merging = match merging {
        None => {
            json!({"merges": null, "reason": "the declared shapes are open: each is looked at when it first comes"})
        }
        Some(Merging::Rows { batch_sizes }) if parameters.is_some() => {
            json!({"merges": true, "batch_sizes": batch_sizes})
        }
        Some(Merging::Rows { .. }) => json!({"merges": false, "reason": "batching is off"}),
        Some(Merging::Alone { reason }) => json!({"merges": false, "reason": reason}),
    };
    let parameters = parameters.as_ref().map(|p| {
        json!({
            "max_batch_size": p.max_batch_size,
            "batch_timeout_micros": micros(p.batch_timeout),
            "max_enqueued_batches": p.max_enqueued_batches,
            "num_batch_threads": p.num_batch_threads,
            "allowed_batch_sizes": p.allowed_batch_sizes,
            "enable_large_batch_splitting": p.divides(),
            "max_execution_batch_size": p.max_execution_batch_size,
            "pad_variable_length_inputs": p.pad_variable_length_inputs,
        })
    });
    let mode = batching.parameters.as_ref().map(|p| if p.batch_timeout.is_zero() { "adaptive" } else { "timed" });
    let sizes = tally.sizes.iter().map(|(rows, of)| {
        json!({"rows": rows, "batches": of.batches, "requests": of.requests, "padded_rows": of.padded_rows})
    });
    let costs = waiting.costs.iter().map(|(rows, cost)| json!({"rows": rows, "device_micros": micros(*cost)}));
    let closed = tally.closed.iter().map(|(why, count)| {
        let entry = json!({"batches": count, "meaning": meaning(*why)});
        (why.name().to_owned(), entry)
    });
    let dropped = tally.dropped.iter().map(|(why, count)| (why.name().to_owned(), json!(count)));
    let report = json!({
        "model_spec": {"name": *id.name, "version": id.version.to_string()},
        "merging": merging,
        "mode": mode,
        "parameters": parameters,
        "policy": {
            "weight": policy.weight,
            "priority": policy.priority.name(),
            "latency_target_ms": policy.latency_target.map(|target| micros(target) / 1000),
            "batch_time_max_ms": micros(policy.batch_time_max) / 1000,
            "priority_wait_max_ms": micros(policy.priority_wait_max) / 1000,
            "padded_batch_bytes_max": policy.padded_bytes_max,
        },
        "now": {
            "waiting_requests": waiting.requests,
            "waiting_batches": waiting.batches,
            "batches_in_flight": waiting.in_flight,
            "batches_in_flight_max": waiting.slots,
            "batches_preparing": waiting.preparing,
            "hold_micros": micros(waiting.hold),
            "waiting_device_micros": micros(waiting.queued),
            "expected_latency_micros": micros(waiting.expected),
            "batch_rows_max": waiting.cut_to,
        },
        "expected": costs.collect::<Vec<_>>(),
        "device_micros": micros(waiting.spent),
        "batches": tally.batches,
        "failed": tally.failed,
        "requests": tally.requests,
        "rows": tally.rows,
        "padded_rows": tally.padded_rows,
        "closed": closed.collect::<Map<_, _>>(),
        "sizes": sizes.collect::<Vec<_>>(),
        "oldest_request_waited_micros": spread(&tally.queued),
        "run_micros": spread(&tally.ran),
        "dropped": dropped.collect::<Map<_, _>>(),
        "remarks": remarks(tally, waiting),
        "latest": tally.recent.iter().rev().map(one).collect::<Vec<_>>(),
    });
    Reply::json(report.to_string())
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn spread(spread: &Spread) -> Value {
    json!({
        "mean": micros(spread.mean()),
        "p50": micros(spread.quantile(0.5)),
        "p90": micros(spread.quantile(0.9)),
        "p99": micros(spread.quantile(0.99)),
        "max": micros(spread.max()),
    })
}

fn one(report: &BatchReport) -> Value {
    json!({
        "requests": report.requests,
        "rows": report.rows,
        "padded_rows": report.padded_rows,
        "closed": report.closed.name(),
        "oldest_request_waited_micros": micros(report.queued),
        "run_micros": micros(report.ran),
        "device_micros": micros(report.device),
        "succeeded": report.succeeded,
    })
}

fn meaning(why: Closed) -> &'static str {
    match why {
        Closed::Full => "the largest size was reached, or the next request did not fit",
        Closed::Time => "the largest size was reached that takes no longer than batch_time_max_ms",
        Closed::Delay => "the oldest request had waited as long as it may",
        Closed::SlotFree => "the device could take it and nothing said to wait: waiting would only have added latency",
        Closed::Alone => "its request is one that is not merged",
        Closed::Apart => "its request could not run with those that it was padded to",
    }
}

/// What stands out, for a person.
fn remarks(tally: &Tally, waiting: &Waiting) -> Vec<String> {
    let mut remarks = Vec::new();
    let run = tally.rows + tally.padded_rows;
    let count = |why: Closed| tally.closed.get(&why).copied().unwrap_or(0);
    if run > 0 && tally.padded_rows as f64 / run as f64 > PADDING_HIGH {
        let share = 100 * tally.padded_rows / run;
        remarks.push(format!("{share} % of all rows are padding: more batch sizes would save work"));
    }
    if tally.batches > 0 && count(Closed::SlotFree) * 2 > tally.batches && tally.requests < tally.batches * 2 {
        remarks.push("most batches hold one request, because the device was free when it came".to_owned());
    }
    if tally.batches > 0 && count(Closed::Full) * 2 > tally.batches {
        remarks.push("most batches are full: larger ones might give more throughput".to_owned());
    }
    if tally.batches > 0 && count(Closed::Time) * 2 > tally.batches {
        remarks.push("most batches are cut to batch_time_max_ms: more of it might give more throughput".to_owned());
    }
    for (why, advice) in [
        (Dropped::QueueFull, "the queue was full: more comes than the device can do, or max_enqueued_batches is low"),
        (Dropped::Expired, "their deadline passed in the queue: it is longer than callers wait"),
        (Dropped::Deadline, "the answer would have come after their deadline"),
        (Dropped::LatencyTarget, "the answer would have come later than latency_target_ms allows"),
        (Dropped::Cancelled, "their callers went away"),
    ] {
        if let Some(count) = tally.dropped.get(&why) {
            remarks.push(format!("{count} requests were not run, since {advice}"));
        }
    }
    if let Some(rows) = waiting.cut_to {
        remarks.push(format!("batches hold {rows} rows at most: larger ones would take longer than batch_time_max_ms"));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::{Parameters, Policy};

    #[test]
    fn reports_say_what_happened_and_why() {
        let mut tally = Tally::default();
        for (closed, padded_rows) in [(Closed::SlotFree, 3), (Closed::Delay, 0)] {
            tally.batch(&BatchReport {
                requests: 1,
                rows: 1,
                padded_rows,
                closed,
                queued: Duration::from_micros(7),
                ran: Duration::from_micros(900),
                device: Duration::from_micros(800),
                succeeded: true,
            });
        }
        tally.dropped(Dropped::Expired);
        tally.dropped(Dropped::LatencyTarget);
        let waiting = Waiting {
            expected: Duration::from_micros(1700),
            costs: [(4, Duration::from_micros(800))].into(),
            cut_to: Some(4),
            ..Waiting::default()
        };
        let policy = Policy { weight: 2.0, latency_target: Some(Duration::from_millis(50)), ..Policy::default() };
        let merging = Some(Merging::Rows { batch_sizes: vec![1, 4] });
        let batching = Batching { parameters: Some(Parameters::default()), policy, merging, waiting, tally };
        let reply = report(&ServableId { name: "m".into(), version: 3 }, &batching);
        let json: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(json["model_spec"], json!({"name": "m", "version": "3"}));
        assert_eq!(json["merging"], json!({"merges": true, "batch_sizes": [1, 4]}));
        assert_eq!(json["closed"]["delay"]["batches"], 1);
        assert_eq!(json["sizes"][1], json!({"rows": 4, "batches": 1, "requests": 1, "padded_rows": 3}));
        assert_eq!(json["run_micros"]["max"], 900);
        assert_eq!(json["latest"][0]["closed"], "delay");
        assert_eq!((&json["mode"], &json["policy"]["weight"]), (&json!("adaptive"), &json!(2.0)));
        assert_eq!((&json["policy"]["latency_target_ms"], &json["dropped"]["latency_target"]), (&json!(50), &json!(1)));
        assert_eq!(json["expected"], json!([{"rows": 4, "device_micros": 800}]));
        assert_eq!(json["now"]["expected_latency_micros"], 1700);
        let remarks = json["remarks"].to_string();
        assert!(remarks.contains("60 % of all rows are padding") && remarks.contains("1 requests were not run"));
        assert!(remarks.contains("batches hold 4 rows at most"));
    }
}
