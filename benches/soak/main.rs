//! A server under everything at once for a while: callers of several models, lost devices, reloads, new versions, bad input and
//! half-open connections. `scripts/soak` says how to call it. It fails on a wrong answer, on an error that is not a clean one,
//! on a server that ends, and on memory, threads or open files that grow.

#![allow(clippy::print_stdout, reason = "a program for the terminal speaks through stdout")]

mod callers;
mod options;
mod plot;
mod process;
mod samples;
mod trouble;
mod verdict;

use std::sync::Arc;
use std::time::{Duration, Instant};

use callers::{Callers, Work};
use options::Options;
use process::Server;
use samples::Sample;
use trouble::Trouble;

/// Between samples.
const EVERY: Duration = Duration::from_secs(1);

fn main() {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(wrong) => {
            println!("{wrong}");
            return;
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads");
    let failures = runtime.block_on(soak(&options));
    assert!(failures.is_empty(), "the soak found:\n  {}", failures.join("\n  "));
    println!("nothing was wrong");
}

/// Runs all of it, prints what happened, and gives what was wrong.
async fn soak(options: &Options) -> Vec<String> {
    let server = Server::start(options);
    let works = Work::of(&server, &options.models).await;
    println!("{} callers of {} for {:?}", options.callers, options.names().join(", "), options.time);
    let callers = Arc::new(Callers::new(works));
    let begin = Instant::now();
    let end = begin + options.time;
    let tasks: Vec<_> = (0..options.callers)
        .map(|number| tokio::spawn(Arc::clone(&callers).call(server.grpc.clone(), number, end)))
        .collect();
    let mut trouble = Trouble::new(&server, options);
    let (mut samples, mut next, mut failures) = (Vec::<Sample>::new(), begin + options.trouble_every, Vec::new());
    while Instant::now() < end {
        tokio::time::sleep(EVERY).await;
        samples.push(Sample::take(begin.elapsed(), &server, &callers));
        if Instant::now() >= next && Instant::now() + options.trouble_every / 2 < end {
            match trouble.next(&callers).await {
                Ok(told) => println!("{:6.0} s  {told}", begin.elapsed().as_secs_f64()),
                Err(wrong) => failures.push(format!("at {:.0} s: {wrong}", begin.elapsed().as_secs_f64())),
            }
            next += options.trouble_every;
        }
        if !server.lives() {
            failures.push(format!("the server ended after {:?}", begin.elapsed()));
            break;
        }
    }
    for task in tasks {
        if let Err(error) = task.await {
            failures.push(format!("a caller failed: {error}"));
        }
    }
    trouble.end();
    // What ended callers held is given back.
    tokio::time::sleep(Duration::from_secs(3)).await;
    samples.push(Sample::take(begin.elapsed(), &server, &callers));
    samples::print(&samples);
    callers.print(begin.elapsed());
    failures.extend(callers.failures());
    failures.extend(verdict::grown(&samples, trouble.losses()));
    if let Some(path) = &options.svg {
        let drawn = plot::svg(&samples, &trouble.times(begin));
        std::fs::write(path, drawn).expect("the chart's folder is writable");
        println!("chart: {}", path.display());
    }
    failures
}
