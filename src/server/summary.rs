//! What is said once everything is up.

use std::fmt::Write as _;

use crate::engine::{Engine, Merging, Way};
use crate::fleet::Fleet;
use crate::model::{Board, DEFAULT_SIGNATURE, Manager, Servable, VersionChoice};

/// The start-up summary, for a person.
pub(super) fn summary(fleet: &Fleet, manager: &Manager, board: &Board, grpc: Option<u16>, http: Option<u16>) -> String {
    let mut text = format!("coracle {}\n", env!("CARGO_PKG_VERSION"));
    fleet.engines().for_each(|(name, engine)| describe_engine(&mut text, name, engine));
    let shown = |port: Option<u16>| port.map_or("none".to_owned(), |port| port.to_string());
    let _ = writeln!(text, "  ports    gRPC {}, HTTP {}", shown(grpc), shown(http));
    for (name, status) in &board.models {
        if let Some(error) = status.failure() {
            let _ = writeln!(text, "  model    {name}: failed: {error}");
        }
        for version in status.versions.keys().rev() {
            let choice = VersionChoice::Specific(*version);
            if let Ok(servable) = manager.servable(name, &choice) {
                describe(&mut text, name, *version, &servable);
            }
        }
    }
    text
}

fn describe_engine(text: &mut String, name: &str, engine: &Engine) {
    let adapter = engine.adapter();
    let kind = if adapter.is_software() { "software" } else { "GPU" };
    let _ = writeln!(text, "  adapter  {name} ({kind}, {:?})", adapter.info().backend);
    let (memory, weights) = (engine.memory(), engine.weights());
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / 1048576.0);
    let limit = memory.limit.map(|limit| format!(" (of {})", mib(limit))).unwrap_or_default();
    let _ = writeln!(text, "  lanes    {}, {} of device memory{limit}", engine.lanes().len(), mib(memory.allocated));
    let how = engine.sharing().map_or("each lane has a copy", Way::describe);
    let _ = writeln!(text, "  weights  {}, {:.1} copies: {how}", mib(weights.distinct), weights.copies());
}

fn describe(text: &mut String, name: &str, version: i64, servable: &Servable) {
    let _ = writeln!(text, "  model    {name} version {version}");
    let signature = servable.signature();
    let list = |specs: &[crate::tensor::Spec]| specs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "           {} → {}", list(&signature.inputs), list(&signature.outputs));
    let named = servable.faces().iter().filter(|(name, _)| *name != DEFAULT_SIGNATURE);
    for (name, face) in named {
        let (inputs, outputs) = (list(&face.signature.inputs), list(&face.signature.outputs));
        let _ = writeln!(text, "           {name}: {inputs} → {outputs}");
    }
    let _ = match servable.declared_merging() {
        None => writeln!(text, "           shapes are open: each is compiled when it first comes"),
        Some(Merging::Rows { batch_sizes }) => {
            writeln!(text, "           batches of {batch_sizes:?}, more are warming")
        }
        Some(Merging::Alone { reason }) => writeln!(text, "           one request at a time: {reason}"),
    };
}
