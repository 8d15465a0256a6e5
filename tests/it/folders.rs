//! What happens in a model's folder while it is served, and which versions and labels a configuration chooses.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use coracle::api::wire::serving::model_service_client::ModelServiceClient;
use coracle::api::wire::serving::model_spec::VersionChoice;
use coracle::api::wire::serving::prediction_service_client::PredictionServiceClient;
use coracle::api::wire::serving::servable_version_policy::{All, Latest, PolicyChoice, Specific};
use coracle::api::wire::serving::{
    GetModelStatusRequest, ModelConfig, ModelConfigList, ModelServerConfig, ModelSpec, PredictRequest,
    ReloadConfigRequest, ServableVersionPolicy,
};
use coracle::api::wire::{TensorProto, TensorShapeProto, tensor_shape_proto::Dim};
use tonic::transport::Channel;

use crate::health::channel;
use crate::server::{Server, command, has_adapter, model};

/// Longest that a change may take to be seen.
pub(crate) const CHANGE_MAX: Duration = Duration::from_secs(60);
pub(crate) const AVAILABLE: i32 = 30;
pub(crate) const END: i32 = 50;

pub(crate) struct Asking {
    predictions: PredictionServiceClient<Channel>,
    models: ModelServiceClient<Channel>,
}

impl Asking {
    pub(crate) async fn of(server: &Server) -> Self {
        let channel = channel(server).await;
        Self { predictions: PredictionServiceClient::new(channel.clone()), models: ModelServiceClient::new(channel) }
    }

    /// The version that answers, or the text of what refuses.
    pub(crate) async fn answering(&mut self, version_choice: Option<VersionChoice>) -> Result<i64, String> {
        let dim = vec![Dim { size: 1, name: String::new() }];
        let tensor_shape = Some(TensorShapeProto { dim, unknown_rank: false });
        let x = TensorProto { dtype: 1, tensor_shape, float_val: vec![1.0], ..TensorProto::default() };
        let request = PredictRequest {
            model_spec: Some(ModelSpec { name: "m".into(), version_choice, ..ModelSpec::default() }),
            inputs: [("x".to_owned(), x)].into(),
            ..PredictRequest::default()
        };
        let reply = self.predictions.predict(request).await.map_err(|status| status.message().to_owned())?;
        match reply.into_inner().model_spec.expect("who answered").version_choice {
            Some(VersionChoice::Version(version)) => Ok(version),
            other => panic!("{other:?} answered"),
        }
    }

    async fn by_label(&mut self, label: &str) -> Result<i64, String> {
        self.answering(Some(VersionChoice::VersionLabel(label.into()))).await
    }

    /// Versions and their states, highest first, and what is said of the first.
    pub(crate) async fn states(&mut self) -> (Vec<(i64, i32)>, String) {
        let model_spec = Some(ModelSpec { name: "m".into(), ..ModelSpec::default() });
        let reply = self.models.get_model_status(GetModelStatusRequest { model_spec }).await;
        let versions = reply.map(|reply| reply.into_inner().model_version_status).unwrap_or_default();
        let told = versions.first().and_then(|v| v.status.clone()).unwrap_or_default().error_message;
        (versions.iter().map(|v| (v.version, v.state)).collect(), told)
    }

    pub(crate) async fn becomes(&mut self, expected: &[(i64, i32)]) {
        let end = Instant::now() + CHANGE_MAX;
        loop {
            let (found, told) = self.states().await;
            if found == expected {
                return;
            }
            assert!(Instant::now() < end, "{found:?} ({told}), not {expected:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(crate) async fn serves(&mut self, version: i64) {
        let end = Instant::now() + CHANGE_MAX;
        while self.answering(None).await != Ok(version) {
            assert!(Instant::now() < end, "version {version} was not seen within {CHANGE_MAX:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Takes up a configuration of the model `m` in `base`; gives the status' message.
    async fn reload(&mut self, base: &Path, policy: PolicyChoice, labels: &[(&str, i64)]) -> String {
        let config = vec![ModelConfig {
            name: "m".into(),
            base_path: base.display().to_string(),
            model_platform: "tensorflow".into(),
            model_version_policy: Some(ServableVersionPolicy { policy_choice: Some(policy) }),
            version_labels: labels.iter().map(|(label, version)| ((*label).to_owned(), *version)).collect(),
            ..ModelConfig::default()
        }];
        let model_config_list = Some(ModelConfigList { config });
        let request = ReloadConfigRequest {
            config: Some(ModelServerConfig { model_config_list }),
            metric_names: vec!["/a".into(), "/a".into(), "/b".into()],
        };
        let reply = self.models.handle_reload_config_request(request).await.expect("right as a whole").into_inner();
        let names: Vec<_> = reply.metric.iter().map(|metric| metric.name.as_str()).collect();
        assert_eq!(names, ["/a", "/b"]);
        reply.status.expect("a status").error_message
    }
}

/// Puts a version below `base`, all of it at once: this file, with what is in it.
pub(crate) fn add(base: &Path, version: &str, file: &str, content: &[u8]) {
    let draft = base.with_file_name("draft");
    std::fs::create_dir_all(&draft).expect("writable");
    std::fs::write(draft.join(file), content).expect("writable");
    std::fs::create_dir_all(base).expect("writable");
    std::fs::rename(&draft, base.join(version)).expect("writable");
}

pub(crate) fn right() -> Vec<u8> {
    std::fs::read(model("half_plus_two").join("1/model.onnx")).expect("readable")
}

/// The command of a server of the model `m`, with these versions and this in its configuration, with its folder, and the model's.
pub(crate) fn prepare(versions: &[&str], more: &str, flags: &[&str]) -> ((Command, tempfile::TempDir), PathBuf) {
    let flags = [&["--version_settle_ms=0"], flags].concat();
    let (command, folder) = command(&[], &flags);
    let base = folder.path().join("models").join("m");
    versions.iter().for_each(|version| add(&base, version, "model.onnx", &right()));
    let text = format!(
        "model_config_list {{ config {{ name: 'm' base_path: '{}' model_platform: 'tensorflow' {more} }} }}",
        base.display()
    );
    std::fs::write(folder.path().join("models.config"), text).expect("writable");
    ((command, folder), base)
}

/// Such a server, and the model's folder.
pub(crate) fn serve(versions: &[&str], more: &str, flags: &[&str]) -> (Server, PathBuf) {
    let ((command, folder), base) = prepare(versions, more, flags);
    (Server::launch(command, folder), base)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn what_lies_in_the_folder_is_served_and_what_is_broken_changes_nothing() {
    if !has_adapter() {
        return;
    }
    let (server, base) = serve(&["1"], "", &[]);
    let mut asking = Asking::of(&server).await;
    assert_eq!(asking.answering(None).await, Ok(1));
    add(&base, "0000002", "model.onnx", &right());
    asking.serves(2).await;
    asking.becomes(&[(2, AVAILABLE), (1, END)]).await;
    let gone = Err("Servable not found for request: Specific(m, 1)".to_owned());
    assert_eq!(asking.answering(Some(VersionChoice::Version(1))).await, gone);
    // Broken: it has ended, says why, and the one before serves on, until its file changes.
    add(&base, "3", "model.onnx", b"no model");
    asking.becomes(&[(3, END), (2, AVAILABLE), (1, END)]).await;
    let (_, told) = asking.states().await;
    assert!(told.contains("not an ONNX model"), "{told}");
    assert_eq!(asking.answering(None).await, Ok(2));
    std::fs::write(base.join("3/model.onnx"), right()).expect("writable");
    asking.serves(3).await;
    // Without a model file it is no version; names that are no numbers are none either.
    add(&base, "9", "something_else", b"");
    add(&base, "v8", "model.onnx", &right());
    add(&base, "4", "model.onnx", &right());
    asking.serves(4).await;
    // An empty folder keeps what serves, and is told.
    std::fs::remove_dir_all(&base).expect("writable");
    std::fs::create_dir(&base).expect("writable");
    let end = Instant::now() + CHANGE_MAX;
    while !server.page("/metrics").1.contains("coracle_model_folder_unusable{model=\"m\"} 1") {
        assert!(Instant::now() < end, "the empty folder was not seen within {CHANGE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(asking.answering(None).await, Ok(4));
    add(&base, "5", "model.onnx", &right());
    asking.serves(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn policies_choose_versions_and_labels_go_over() {
    if !has_adapter() {
        return;
    }
    let (server, base) = serve(&["0003", "7", "12"], "", &[]);
    let mut asking = Asking::of(&server).await;
    let latest = |num_versions| PolicyChoice::Latest(Latest { num_versions });
    let some = || PolicyChoice::Specific(Specific { versions: vec![3, 7] });
    asking.becomes(&[(12, AVAILABLE)]).await;
    assert_eq!(asking.reload(&base, latest(2), &[]).await, "");
    assert_eq!(asking.states().await.0, [(12, AVAILABLE), (7, AVAILABLE)]);
    assert_eq!(asking.reload(&base, PolicyChoice::All(All {}), &[]).await, "");
    assert_eq!(asking.states().await.0, [(12, AVAILABLE), (7, AVAILABLE), (3, AVAILABLE)]);
    assert_eq!(asking.answering(Some(VersionChoice::Version(3))).await, Ok(3));
    assert_eq!(asking.reload(&base, some(), &[("stable", 3), ("canary", 7)]).await, "");
    asking.becomes(&[(12, END), (7, AVAILABLE), (3, AVAILABLE)]).await;
    assert_eq!((asking.by_label("stable").await, asking.by_label("canary").await), (Ok(3), Ok(7)));
    assert_eq!(asking.reload(&base, some(), &[("stable", 7)]).await, "");
    let unknown = |label: &str| Err(format!("Unrecognized servable version label: {label}"));
    assert_eq!((asking.by_label("stable").await, asking.by_label("canary").await), (Ok(7), unknown("canary")));
    // One for a version that is not there is told, and changes nothing.
    let told = asking.reload(&base, some(), &[("stable", 12), ("next", 13)]).await;
    assert!(told.starts_with("m: Request to assign label to version 1"), "{told}");
    assert_eq!((asking.by_label("stable").await, asking.by_label("next").await), (Ok(7), unknown("next")));
    drop((asking, server));

    let labels = "version_labels { key: 'next' value: 2 }";
    let (server, _) = serve(&["1"], labels, &[]);
    assert_eq!(Asking::of(&server).await.by_label("next").await, unknown("next"));
    let (server, base) = serve(&["1"], labels, &["--allow_version_labels_for_unavailable_models"]);
    let mut asking = Asking::of(&server).await;
    let early = Err("Servable not found for request: Specific(m, 2)".to_owned());
    assert_eq!(asking.by_label("next").await, early);
    add(&base, "2", "model.onnx", &right());
    asking.serves(2).await;
    assert_eq!(asking.by_label("next").await, Ok(2));
}
