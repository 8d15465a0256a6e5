//! The metrics of TensorFlow itself that its server passes on, which dashboards are built on too: loads by version's folder, and
//! runs of graphs.

use std::path::Path;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::buckets::{graph_runs, latencies, micros};
use super::count::Count;
use super::series::Series;
use crate::model::Tried;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    model_path: String,
    status: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct PathLabels {
    model_path: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StageLabels {
    model_path: String,
    stage: &'static str,
}

/// Every one of them.
#[derive(Debug)]
pub(super) struct RuntimeMetrics {
    load_attempts: Series<AttemptLabels, Count>,
    load_latency: Series<PathLabels, Count>,
    load_stages: Series<StageLabels, Histogram>,
    builds: Count,
    build_micros: Count,
    runs: [Count; 2],
    run_micros: Count,
    run_times: Histogram,
}

impl RuntimeMetrics {
    /// Registers them under names of their own.
    pub(super) fn new(r: &mut Registry) -> Self {
        let load = |rest: &str| format!(":tensorflow:cc:saved_model:{rest}");
        let core = |rest: &str| format!(":tensorflow:core:{rest}");
        let (name, help) = (load("load_attempt_count"), "Tries to load a version, by what came of them");
        let load_attempts = Series::new(r, &name, None, help, Count::default);
        let (name, help) = (load("load_latency"), "Microseconds of loads that succeeded");
        let load_latency = Series::new(r, &name, None, help, Count::default);
        let (name, help) = (load("load_latency_by_stage"), "Microseconds of the parts of loads that succeeded");
        let load_stages = Series::new(r, &name, None, help, latencies);
        let mut count = |name: &str, help: &str| {
            let count = Count::default();
            r.register(core(name), help, count.clone());
            count
        };
        let builds = count("graph_build_calls", "Versions whose graph was made runnable");
        let build_micros = count("graph_build_time_usecs", "Microseconds of making graphs runnable");
        let runs = ["graph_runs", "direct_session_runs"].map(|name| count(name, "Runs of graphs: batches"));
        let run_micros = count("graph_run_time_usecs", "Microseconds of runs");
        let run_times = graph_runs();
        r.register(core("graph_run_time_usecs_histogram"), "Microseconds of each run", run_times.clone());
        Self { load_attempts, load_latency, load_stages, builds, build_micros, runs, run_micros, run_times }
    }

    /// The version in `folder` was loaded, or was to be.
    pub(super) fn tried(&self, folder: &Path, tried: &Tried) {
        let model_path = folder.display().to_string();
        let status = if tried.read.is_some() { "success" } else { "fail" };
        let labels = AttemptLabels { model_path: model_path.clone(), status };
        self.load_attempts.with(&labels, |count| count.0.inc());
        let Some(read) = tried.read else { return };
        let built = tried.elapsed.saturating_sub(read);
        self.load_latency.with(&PathLabels { model_path: model_path.clone() }, |sum| add(sum, tried.elapsed));
        for (stage, time) in [("restore_graph", read), ("init_graph", built)] {
            let labels = StageLabels { model_path: model_path.clone(), stage };
            self.load_stages.with(&labels, |times| times.observe(micros(time)));
        }
        self.builds.0.inc();
        add(&self.build_micros, built);
    }

    /// A batch took so long.
    pub(super) fn ran(&self, time: Duration) {
        for runs in &self.runs {
            runs.0.inc();
        }
        add(&self.run_micros, time);
        self.run_times.observe(micros(time));
    }
}

fn add(sum: &Count, time: Duration) {
    sum.0.inc_by(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_and_runs_are_told_as_tensorflow_does() {
        let mut registry = Registry::default();
        let metrics = RuntimeMetrics::new(&mut registry);
        let (folder, elapsed) = (Path::new("/models/m/1"), Duration::from_millis(50));
        metrics.tried(folder, &Tried { elapsed, read: None });
        for _ in 0..2 {
            metrics.tried(folder, &Tried { elapsed, read: Some(Duration::from_millis(20)) });
        }
        metrics.ran(Duration::from_micros(1500));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).expect("a string takes all");
        for line in [
            ":tensorflow:cc:saved_model:load_attempt_count{model_path=\"/models/m/1\",status=\"fail\"} 1",
            ":tensorflow:cc:saved_model:load_attempt_count{model_path=\"/models/m/1\",status=\"success\"} 2",
            ":tensorflow:cc:saved_model:load_latency{model_path=\"/models/m/1\"} 100000",
            ":tensorflow:cc:saved_model:load_latency_by_stage_sum{model_path=\"/models/m/1\",stage=\"restore_graph\"} 40000.0",
            ":tensorflow:cc:saved_model:load_latency_by_stage_count{model_path=\"/models/m/1\",stage=\"init_graph\"} 2",
            ":tensorflow:core:graph_build_calls 2",
            ":tensorflow:core:graph_build_time_usecs 60000",
            ":tensorflow:core:graph_runs 1",
            ":tensorflow:core:direct_session_runs 1",
            ":tensorflow:core:graph_run_time_usecs 1500",
            ":tensorflow:core:graph_run_time_usecs_histogram_bucket{le=\"2000.0\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
