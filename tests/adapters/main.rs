//! Every operator case on every adapter, with and without optional features, against the operator's own host evaluation.

#![allow(clippy::print_stdout, reason = "a test program without a harness speaks through stdout")]

mod blocks;
mod case;
mod cases;
mod check;
mod nets;

use std::process::ExitCode;
use std::sync::Arc;

use coracle::engine::device::{Adapter, Lane, LaneOptions, Mask, Replay};
use coracle::engine::ir::{Precision, Profile};
use libtest_mimic::{Arguments, Trial};

/// The adapter as it is, and what is left of it without some features or with the other family of kernels.
fn profiles(adapter: &Adapter) -> Vec<(&'static str, Profile)> {
    let mask = |without: &[&str], family: Option<&str>| {
        let without: Vec<String> = without.iter().map(|w| (*w).to_owned()).collect();
        adapter.profile(&Mask::new(&without, family).expect("words that Mask knows"))
    };
    let masked = [
        ("", mask(&[], None)),
        (" without subgroups", mask(&["subgroups"], None)),
        (" without f16", mask(&["f16"], None)),
        (" without 64-bit types", mask(&["int64", "f64"], None)),
        (" as software", mask(&[], Some("software"))),
        (" as gpu", mask(&[], Some("gpu"))),
    ];
    // Compiled slowly by software adapters: a few cases of the largest kernels show that it sums the same.
    let unrolled = Profile { unrolls: true, ..mask(&[], Some("gpu")) };
    // Matrices that subgroups multiply as one, too, where there are some.
    let halves = Mask::new(&[], Some("gpu")).and_then(|m| m.with(&["matrices".to_owned()]));
    let mut halves = adapter.profile(&halves.expect("words that Mask knows"));
    halves.apply(Precision::F16);
    if adapter.is_software() && halves.fragments.is_some() {
        // Where a CPU compiles tiles of fragments for minutes, small ones stand for all.
        halves.max_workgroup_bytes = halves.max_workgroup_bytes.min(16 << 10);
    }
    let halves = Some((" in half precision", halves)).filter(|(_, profile)| profile.half_precision);
    let mut distinct: Vec<(&'static str, Profile)> = Vec::new();
    for (name, profile) in masked.into_iter().chain([(" unrolled", unrolled)]).chain(halves) {
        if distinct.iter().all(|(_, p)| *p != profile) {
            distinct.push((name, profile));
        }
    }
    distinct
}

fn trials(adapter: &Adapter) -> Vec<Trial> {
    let open = |replay| {
        let options = LaneOptions { fragments: true, replay, ..LaneOptions::default() };
        Arc::new(Lane::open(adapter, 0, &options).expect("an adapter gives a device"))
    };
    let lane = open(Replay::Auto);
    let mut trials = Vec::new();
    if lane.replays_recordings() {
        // The kernels are the same: whole networks show that they are given the same.
        let (encoding, profile) = (open(Replay::Encoded), adapter.profile(&Mask::default()));
        for net in nets::NETS {
            let name = format!("[{} encoded] nets/{}", adapter.label(), net.name);
            let (lane, profile) = (Arc::clone(&encoding), profile.clone());
            trials.push(Trial::test(name, move || net.check(&lane, &profile).map_err(Into::into)));
        }
    }
    for attention in blocks::ATTENTIONS {
        let (name, lane) = (format!("[{}] attention_blocks/{}", adapter.label(), attention.name), Arc::clone(&lane));
        trials.push(Trial::test(name, move || attention.check(&lane).map_err(Into::into)));
    }
    for (mask, profile) in profiles(adapter) {
        for net in nets::NETS {
            let name = format!("[{}{mask}] nets/{}", adapter.label(), net.name);
            let (lane, profile) = (Arc::clone(&lane), profile.clone());
            trials.push(Trial::test(name, move || net.check(&lane, &profile).map_err(Into::into)));
        }
        let software = adapter.is_software();
        // Numbers of other operators need not fit 16 bits.
        let products = ["MatMul", "Gemm", "Conv", "ConvTranspose"];
        let suits = |case: &case::Case| {
            let halved = products.contains(&case.operator) && (!software || case.name.starts_with("tiles_"));
            (!profile.half_precision || halved) && (!software || !profile.unrolls || case.name == "tiles_odd")
        };
        for case in cases::all().into_iter().filter(suits) {
            let name = format!("[{}{mask}] {}/{}", adapter.label(), case.operator.to_lowercase(), case.name);
            let (lane, profile) = (Arc::clone(&lane), profile.clone());
            trials.push(Trial::test(name, move || check::check(&lane, &profile, &case).map_err(Into::into)));
        }
    }
    trials
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let adapters = Adapter::all();
    if adapters.is_empty() {
        println!("skipped: no adapter");
        return ExitCode::SUCCESS;
    }
    let trials = adapters.iter().flat_map(trials).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
