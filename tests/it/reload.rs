//! Another configuration while the server runs, over the wire and from its file.

use std::path::Path;
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::api::wire::serving::model_service_client::ModelServiceClient;
use coracle::api::wire::serving::servable_version_policy::{PolicyChoice, Specific};
use coracle::api::wire::serving::{
    GetModelStatusRequest, ModelConfig, ModelConfigList, ModelServerConfig, ModelSpec, ReloadConfigRequest,
    ServableVersionPolicy, StatusProto,
};
use coracle::tensor::Tensor;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::server::{Server, command, has_adapter, model};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(60);

fn config(name: &str, base: &Path) -> ModelConfig {
    let (base_path, model_platform) = (base.display().to_string(), "tensorflow".into());
    ModelConfig { name: name.into(), base_path, model_platform, ..ModelConfig::default() }
}

fn request(config: Vec<ModelConfig>) -> ReloadConfigRequest {
    let list = ModelConfigList { config };
    ReloadConfigRequest { config: Some(ModelServerConfig { model_config_list: Some(list) }), metric_names: Vec::new() }
}

async fn models(server: &Server) -> ModelServiceClient<Channel> {
    ModelServiceClient::connect(format!("http://{}", server.grpc)).await.expect("the server answers")
}

async fn reload(client: &mut ModelServiceClient<Channel>, configs: Vec<ModelConfig>) -> Result<StatusProto, Status> {
    let reply = client.handle_reload_config_request(request(configs)).await?;
    Ok(reply.into_inner().status.expect("a status"))
}

async fn half_plus_two(client: &Client, name: &str) -> Result<f32, coracle::error::Error> {
    let x = Tensor::from_vec([1], vec![1.0f32]).expect("one number");
    let reply = client.predict(name, "", &[("x".to_owned(), x)], &[]).await?;
    Ok(reply.outputs[0].1.values::<f32>()?[0])
}

#[tokio::test]
async fn each_model_of_a_reload_is_applied_by_itself() {
    if !has_adapter() {
        return;
    }
    // Their parent is the default root for what comes over the wire.
    let server = Server::start(&["half_plus_two"], &["--reload_timeout_s=50"]);
    let (mut models, client) = (models(&server).await, Client::connect(&server.grpc, None).await.expect("it answers"));
    let base = model("half_plus_two");
    let status =
        reload(&mut models, vec![config("half_plus_two", &base), config("again", &base)]).await.expect("right");
    assert_eq!((status.error_code, status.error_message.as_str()), (0, ""));
    assert_eq!(half_plus_two(&client, "again").await.expect("it was added"), 2.5);

    // One is broken, one missing, one has a label too many: the others are served all the same, the one left out is not.
    let missing = base.with_file_name("missing");
    let mut labelled = config("labelled", &base);
    labelled.version_labels = [("stable".to_owned(), 1), ("canary".to_owned(), 3)].into();
    let configs =
        vec![config("good", &base), config("broken", &model("broken")), config("missing", &missing), labelled];
    let status = reload(&mut models, configs).await.expect("nothing is wrong with it as a whole");
    let lines: Vec<&str> = status.error_message.lines().collect();
    assert_eq!(status.error_code, Code::InvalidArgument as i32, "{lines:?}");
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("broken: version 1: ") && lines[1].starts_with("missing: model folder "), "{lines:?}");
    assert_eq!(
        lines[2],
        "labelled: Request to assign label to version 3 of model labelled, which is not currently available for inference"
    );
    assert_eq!(half_plus_two(&client, "good").await.expect("it was added"), 2.5);
    let error = half_plus_two(&client, "again").await.expect_err("it was left out");
    assert_eq!(error.message(), "Servable not found for request: Latest(again)");

    // What is wrong as a whole changes nothing.
    let mut platform = config("good", &base);
    platform.model_platform = "onnx".into();
    let mut unsaid = config("good", &base);
    unsaid.model_platform.clear();
    let mut unknown = config("good", &base);
    unknown.model_platform = "pytorch".into();
    let mut nothing = config("good", &base);
    nothing.model_version_policy =
        Some(ServableVersionPolicy { policy_choice: Some(PolicyChoice::Specific(Specific { versions: Vec::new() })) });
    let elsewhere = std::env::temp_dir();
    let cases = [
        (
            vec![config("m", &base), config("m", &base)],
            Code::InvalidArgument,
            "Illegal to list model m multiple times in config list".to_owned(),
        ),
        (
            vec![config("m", Path::new("models/m"))],
            Code::InvalidArgument,
            "Expected model m to have an absolute path or URI; got base_path()=models/m".to_owned(),
        ),
        (
            vec![platform],
            Code::InvalidArgument,
            "Illegal to change a model's platform. For model good platform was tensorflow and new platform requested is onnx"
                .to_owned(),
        ),
        (
            vec![unsaid],
            Code::InvalidArgument,
            "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform, model name is good"
                .to_owned(),
        ),
        (
            vec![unknown],
            Code::InvalidArgument,
            "Model good requests unsupported platform pytorch: expected tensorflow, onnx or onnxruntime_onnx".to_owned(),
        ),
        (
            vec![nothing],
            Code::InvalidArgument,
            "model good: the policy specific names no version, expected one or more".to_owned(),
        ),
        (
            vec![config("a/b", &base)],
            Code::InvalidArgument,
            "the model name \"a/b\" is not allowed, expected no slash and no colon".to_owned(),
        ),
        (
            vec![config("m", &elsewhere)],
            Code::PermissionDenied,
            format!("model m: base_path {} does not lie below one of --model_roots", elsewhere.display()),
        ),
    ];
    for (configs, code, text) in cases {
        let error = reload(&mut models, configs).await.expect_err(&text);
        assert_eq!((error.code(), error.message()), (code, text.as_str()));
    }
    let error = models.handle_reload_config_request(ReloadConfigRequest::default()).await.expect_err("no list");
    assert_eq!(
        (error.code(), error.message()),
        (
            Code::InvalidArgument,
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
        )
    );
    assert_eq!(half_plus_two(&client, "good").await.expect("still there"), 2.5);
}

#[tokio::test]
async fn versions_and_labels_are_chosen_by_the_configuration() {
    if !has_adapter() {
        return;
    }
    let base = tempfile::tempdir().expect("a temporary folder");
    for version in ["0003", "7", "12"] {
        let folder = base.path().join(version);
        std::fs::create_dir(&folder).expect("writable");
        std::fs::copy(model("half_plus_two").join("1/model.onnx"), folder.join("model.onnx")).expect("readable");
    }
    let root = format!("--model_roots={},{}", base.path().display(), model("half_plus_two").display());
    let server = Server::start(&["half_plus_two"], &[&root, "--version_settle_ms=0"]);
    let mut models = models(&server).await;
    let mut two = config("m", base.path());
    let choice = PolicyChoice::Specific(Specific { versions: vec![3, 7] });
    two.model_version_policy = Some(ServableVersionPolicy { policy_choice: Some(choice) });
    two.version_labels = [("stable".to_owned(), 3)].into();
    let status = reload(&mut models, vec![two]).await.expect("right");
    assert_eq!(status.error_message, "");
    let ask = |choice| GetModelStatusRequest {
        model_spec: Some(ModelSpec { name: "m".into(), version_choice: choice, ..ModelSpec::default() }),
    };
    let reply = models.get_model_status(ask(None)).await.expect("known").into_inner();
    let states: Vec<_> = reply.model_version_status.iter().map(|s| (s.version, s.state)).collect();
    assert_eq!(states, [(7, 30), (3, 30)]);
    let label = coracle::api::wire::serving::model_spec::VersionChoice::VersionLabel("stable".into());
    let reply = models.get_model_status(ask(Some(label))).await.expect("known").into_inner();
    assert_eq!(reply.model_version_status[0].version, 3);
}

#[tokio::test]
async fn the_file_of_models_is_followed() {
    if !has_adapter() {
        return;
    }
    let server = Server::start(&["half_plus_two"], &["--model_config_file_poll_wait_seconds=1"]);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let file = server.folder.path().join("models.config");
    let write = |text: String| {
        let draft = file.with_extension("draft");
        std::fs::write(&draft, text).expect("writable");
        std::fs::rename(&draft, &file).expect("writable");
    };
    write("model_config_list { confg {} }".to_owned());
    let json = format!(
        "{{\"model_config_list\": [{{\"name\": \"other\", \"base_path\": \"{}\"}}]}}",
        model("half_plus_two").display()
    );
    write(json);
    let end = Instant::now() + CHANGE_MAX;
    while half_plus_two(&client, "other").await.is_err() {
        assert!(Instant::now() < end, "the change was not taken up within {CHANGE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(half_plus_two(&client, "half_plus_two").await.is_err(), "it was left out");
}

#[test]
fn every_mistake_in_the_configuration_is_told_at_once() {
    let run = |flags: &[&str], file: &str| {
        let (mut command, folder) = command(&[], flags);
        std::fs::write(folder.path().join("models.config"), file).expect("writable");
        let output = command.arg("--check").output().expect("the binary runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let wrong = "model_config_list {\n config { name: 'a' }\n config { name: 'b:c' base_path: '/m' }\n}";
    let cases: [(&[&str], &str, &[&str]); 3] = [
        (
            &["--in_flight=no", "--use_alts_credentials"],
            "",
            &["--in_flight: in_flight is \"no\", expected a number", "Google's ALTS"],
        ),
        (
            &["--ready=some"],
            wrong,
            &[
                "models.config:2: model a has no base_path",
                "models.config:3: the model name \"b:c\"",
                "--ready: ready is \"some\"",
            ],
        ),
        (
            &[],
            "model_config_list { config { name: 'm' base_path: '/no/such/folder' model_platform: 'tensorflow' } }",
            &["model folder /no/such/folder"],
        ),
    ];
    for (flags, file, expected) in cases {
        let (is_right, text) = run(flags, file);
        assert!(!is_right, "{text}");
        for part in expected {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
    let right = format!(
        "model_config_list {{ config {{ name: 'm' base_path: '{}' model_platform: 'tensorflow' }} }}",
        model("half_plus_two").display()
    );
    let (is_right, text) = run(&[], &right);
    assert!(is_right, "{text}");
}

/// Puts a version of a model below `base`, all of it at once.
fn add_version(base: &Path, version: &str) {
    let draft = base.with_file_name("draft");
    std::fs::create_dir_all(&draft).expect("writable");
    std::fs::copy(model("half_plus_two").join("1/model.onnx"), draft.join("model.onnx")).expect("readable");
    std::fs::create_dir_all(base).expect("writable");
    std::fs::rename(&draft, base.join(version)).expect("writable");
}

#[tokio::test]
async fn new_versions_are_seen_without_looking_again_and_again() {
    if !has_adapter() {
        return;
    }
    let (command, folder) = command(&[], &["--file_system_poll_wait_seconds=-1", "--version_settle_ms=0"]);
    let base = folder.path().join("models/m");
    add_version(&base, "1");
    let text = format!(
        "model_config_list {{ config {{ name: 'm' base_path: '{}' model_platform: 'tensorflow' }} }}",
        base.display()
    );
    std::fs::write(folder.path().join("models.config"), text).expect("writable");
    let server = Server::launch(command, folder);
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let serves = async |version: i64| {
        let end = Instant::now() + CHANGE_MAX;
        let x = || Tensor::from_vec([1], vec![1.0f32]).expect("one number");
        while client.predict("m", "", &[("x".to_owned(), x())], &[]).await.expect("it serves").version != Some(version)
        {
            assert!(Instant::now() < end, "version {version} was not seen within {CHANGE_MAX:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    serves(1).await;
    add_version(&base, "2");
    serves(2).await;
    // A folder that goes and comes back keeps what serves meanwhile.
    std::fs::remove_dir_all(&base).expect("writable");
    add_version(&base, "3");
    serves(3).await;
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_that_changes_while_models_are_loaded_is_taken_up() {
    if !has_adapter() {
        return;
    }
    let (command, folder) = command(&[], &["--model_config_file_poll_wait_seconds=1"]);
    let (base, file) = (folder.path().join("m"), folder.path().join("models.config"));
    add_version(&base, "1");
    // The load waits for what is written into this.
    let pipe = base.join("1/signatures.toml");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("there is mkfifo").success());
    let models = |names: &[&str]| {
        let entry = |name: &&str| {
            let path = if *name == "m" { base.clone() } else { model("half_plus_two") };
            format!("config {{ name: '{name}' base_path: '{}' model_platform: 'tensorflow' }}", path.display())
        };
        format!("model_config_list {{ {} }}", names.iter().map(entry).collect::<String>())
    };
    std::fs::write(&file, models(&["m"])).expect("writable");
    let changed = models(&["m", "other"]);
    let changing = std::thread::spawn(move || {
        // Opens once somebody reads, which is when the file of models was read.
        let pipe = std::fs::OpenOptions::new().write(true).open(pipe).expect("the load reads it");
        std::fs::write(file, changed).expect("writable");
        drop(pipe);
    });
    let server = Server::launch(command, folder);
    changing.join().expect("no panic");
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let end = Instant::now() + CHANGE_MAX;
    while half_plus_two(&client, "other").await.is_err() {
        assert!(Instant::now() < end, "the change was not taken up within {CHANGE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
