use std::fs;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::super::servable::Asked;
use super::*;
use crate::batch::Priority;
use crate::engine::NoRoom;
use crate::error::Code;
use crate::model::config::VersionPolicy;
use crate::model::fake::{FakeLoader, PausedClock, context};
use crate::model::state::State;

fn folder(versions: &[&str]) -> tempfile::TempDir {
    let base = tempfile::tempdir().expect("a folder");
    versions.iter().for_each(|v| add(base.path(), v));
    base
}

fn add(base: &Path, version: &str) {
    fs::create_dir(base.join(version)).expect("a version's folder");
    fs::write(base.join(version).join("model.onnx"), version).expect("a model file");
}

fn options() -> ManagerOptions {
    ManagerOptions { settle: Duration::ZERO, ..ManagerOptions::default() }
}

fn start(configs: Vec<ModelConfig>, loader: &Arc<FakeLoader>) -> Manager {
    let context: Context<PausedClock> = context();
    Manager::start(configs, options(), loader.clone(), context).expect("good configuration")
}

fn latest(manager: &Manager, name: &str) -> i64 {
    manager.servable(name, &VersionChoice::Latest).expect("loaded").id().version
}

/// Waits until `version` of model `m` is in `state`.
async fn reaches(manager: &Manager, version: i64, state: State) -> Status {
    let is = |board: &Board| board.models.get("m").and_then(|m| m.versions.get(&version)).cloned();
    let mut board = manager.watch();
    let seen = board.wait_for(|b| is(b).is_some_and(|s| s.state == state)).await.expect("the manager lives");
    is(&seen).expect("it was just there")
}

#[tokio::test]
async fn every_model_is_loaded_or_has_failed_when_settled() {
    let (good, empty) = (folder(&["1", "2", "3"]), folder(&[]));
    let loader = Arc::new(FakeLoader::default());
    let mut two = ModelConfig::new("two", good.path());
    two.version_policy = VersionPolicy::Latest(2);
    two.labels.insert("stable".into(), 2);
    let configs = vec![
        ModelConfig::new("one", good.path()),
        two,
        ModelConfig::new("empty", empty.path()),
        ModelConfig::new("missing", empty.path().join("no")),
    ];
    let manager = start(configs, &loader);
    let board = manager.settled().await.expect("the manager lives");
    assert!(board.models["one"].is_available() && board.models["two"].is_available());
    for (name, text) in [("empty", "no version to serve"), ("missing", "model folder")] {
        let failure = board.models[name].failure().expect("it cannot be served");
        assert_eq!(failure.code(), Code::NotFound);
        assert!(failure.message().contains(text), "{failure}");
    }
    assert_eq!(latest(&manager, "one"), 3);
    let labelled = manager.servable("two", &VersionChoice::Label("stable".into())).expect("labelled");
    assert_eq!(labelled.id().version, 2);
    let listed: Vec<_> = manager.status("two", None).expect("two versions").into_iter().map(|(v, _)| v).collect();
    assert_eq!(listed, [3, 2]);
    assert_eq!(manager.labelled("two", "stable").expect("known"), 2);
}

#[tokio::test]
async fn what_is_not_there_is_named_as_tensorflow_serving_does() {
    let base = folder(&["1"]);
    let manager = start(vec![ModelConfig::new("m", base.path())], &Arc::default());
    manager.settled().await.expect("the manager lives");
    let refusal = |name, choice| {
        let error = manager.servable(name, &choice).err().expect("not there");
        (error.code(), error.message().to_string())
    };
    let not_found = |text: &str| (Code::NotFound, text.to_string());
    assert_eq!(refusal("x", VersionChoice::Latest), not_found("Servable not found for request: Latest(x)"));
    assert_eq!(refusal("m", VersionChoice::Specific(99)), not_found("Servable not found for request: Specific(m, 99)"));
    assert_eq!(
        refusal("m", VersionChoice::Label("l".into())),
        (Code::InvalidArgument, "Unrecognized servable version label: l".into())
    );
    let status = |name, version| manager.status(name, version).expect_err("not there").message().to_string();
    assert_eq!(status("x", None), "Could not find any versions of model x");
    assert_eq!(status("m", Some(9)), "Could not find version 9 of model m");
}

#[tokio::test]
async fn a_new_version_replaces_the_old_once_it_answers() {
    let base = folder(&["1"]);
    let loader = Arc::new(FakeLoader::default());
    loader.failures.lock().expect("unpoisoned").insert(2, (1, Error::unimplemented("no such operator")));
    let mut options = ManagerOptions { poll_interval: Some(Duration::from_millis(1)), ..options() };
    options.load_threads = 1;
    let configs = vec![ModelConfig::new("m", base.path())];
    let manager = Manager::start(configs, options, loader.clone(), context()).expect("good configuration");
    reaches(&manager, 1, State::Available).await;
    add(base.path(), "2");
    let broken = reaches(&manager, 2, State::End).await;
    assert_eq!(broken.error.expect("it failed").code(), Code::Unimplemented);
    assert_eq!(latest(&manager, "m"), 1, "a broken version changes nothing");
    let pinned = manager.servable("m", &VersionChoice::Latest).expect("version 1");
    add(base.path(), "3");
    reaches(&manager, 3, State::Available).await;
    reaches(&manager, 1, State::Unloading).await;
    assert_eq!(latest(&manager, "m"), 3);
    drop(pinned);
    reaches(&manager, 1, State::End).await;
    assert_eq!(loader.loads.load(Ordering::Relaxed), 3, "a failed version is not loaded again and again");
}

#[tokio::test]
async fn only_failures_that_may_pass_are_tried_again() {
    let base = folder(&["1", "2"]);
    let loader = Arc::new(FakeLoader::default());
    let reading = Error::from(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
    loader.failures.lock().expect("unpoisoned").extend([(1, (9, Error::internal("broken"))), (2, (2, reading))]);
    let mut config = ModelConfig::new("m", base.path());
    config.version_policy = VersionPolicy::All;
    let options = ManagerOptions { load_retry_interval: Duration::ZERO, ..options() };
    let manager = Manager::start(vec![config], options, loader.clone(), context()).expect("good configuration");
    let board = manager.settled().await.expect("the manager lives");
    let states: Vec<_> = board.models["m"].versions.values().map(|s| s.state).collect();
    assert_eq!(states, [State::End, State::Available]);
    assert_eq!(loader.loads.load(Ordering::Relaxed), 1 + 3);
}

#[tokio::test]
async fn a_new_configuration_unloads_what_it_leaves_out() {
    let base = folder(&["1"]);
    let manager = start(vec![ModelConfig::new("m", base.path())], &Arc::default());
    manager.settled().await.expect("the manager lives");
    let twice = vec![ModelConfig::new("a", base.path()), ModelConfig::new("a", base.path())];
    let error = manager.reconfigure(twice).await.expect_err("one name twice");
    assert_eq!(error.message(), "Illegal to list model a multiple times in config list");
    manager.reconfigure(vec![ModelConfig::new("a", base.path())]).await.expect("good configuration");
    assert!(manager.servable("m", &VersionChoice::Latest).is_err());
    manager.settled().await.expect("the manager lives");
    let pinned = manager.servable("a", &VersionChoice::Latest).expect("version 1");
    manager.reconfigure(Vec::new()).await.expect("good configuration");
    manager.reconfigure(vec![ModelConfig::new("a", base.path())]).await.expect("good configuration");
    drop(pinned);
    let mut board = manager.watch();
    board
        .wait_for(|b| b.models["a"].is_available())
        .await
        .expect("what comes back while it is unloaded is loaded again");
    assert_eq!(latest(&manager, "a"), 1);
    manager.shut_down().await.expect("the manager lives");
    assert!(manager.servable("a", &VersionChoice::Latest).is_err());
}

#[tokio::test]
async fn a_failed_version_is_tried_again_when_its_files_change() {
    let base = folder(&["1"]);
    let loader = Arc::new(FakeLoader::default());
    loader.failures.lock().expect("unpoisoned").insert(1, (1, Error::invalid_argument("no model")));
    let options = ManagerOptions { poll_interval: Some(Duration::from_millis(1)), ..options() };
    let manager =
        Manager::start(vec![ModelConfig::new("m", base.path())], options, loader.clone(), context()).expect("good");
    reaches(&manager, 1, State::End).await;
    fs::write(base.path().join("1/model.onnx"), "a better one").expect("writable");
    reaches(&manager, 1, State::Available).await;
    assert_eq!(loader.loads.load(Ordering::Relaxed), 2);
}

#[tokio::test]
async fn a_folder_that_gets_lost_keeps_what_serves() {
    let base = folder(&["1"]);
    let manager = start(vec![ModelConfig::new("m", base.path())], &Arc::default());
    manager.settled().await.expect("the manager lives");
    for gone in [base.path().join("1"), base.path().to_path_buf()] {
        fs::remove_dir_all(gone).expect("it was there");
        let failures = manager.reload(vec![ModelConfig::new("m", base.path())], Duration::from_secs(9)).await;
        let failures = failures.expect("nothing is wrong with the configuration");
        assert_eq!((failures[0].0.as_str(), failures[0].1.code()), ("m", Code::NotFound));
        assert_eq!(latest(&manager, "m"), 1);
    }
}

#[tokio::test]
async fn each_model_of_a_new_configuration_is_applied_by_itself() {
    let base = folder(&["1", "2"]);
    let loader = Arc::new(FakeLoader::default());
    loader.failures.lock().expect("unpoisoned").insert(2, (9, Error::unimplemented("no such operator")));
    let manager = start(vec![ModelConfig::new("a", base.path())], &loader);
    let reload = async |configs| manager.reload(configs, Duration::from_secs(9)).await;
    let specific = |name: &str, version: i64, label: i64| {
        let mut config = ModelConfig::new(name, base.path());
        config.version_policy = VersionPolicy::Specific(vec![version]);
        config.labels = [("stable".to_owned(), label)].into();
        config.platform = "tensorflow".into();
        config
    };
    let missing = ModelConfig::new("missing", base.path().join("no"));
    let configs = vec![specific("good", 1, 1), specific("bad", 2, 2), missing, specific("mislabelled", 1, 3)];
    let failures = reload(configs).await.expect("nothing is wrong with the configuration");
    let shown: Vec<_> = failures.iter().map(|(name, error)| format!("{name}: {}", error.code().name())).collect();
    assert_eq!(shown, ["bad: UNIMPLEMENTED", "missing: NOT_FOUND", "mislabelled: FAILED_PRECONDITION"]);
    assert_eq!(failures[0].1.message(), "version 2: no such operator");
    assert_eq!(
        failures[2].1.message(),
        "Request to assign label to version 3 of model mislabelled, which is not currently available for inference"
    );
    assert_eq!((latest(&manager, "good"), latest(&manager, "mislabelled")), (1, 1));
    assert!(manager.servable("a", &VersionChoice::Latest).is_err(), "left out, so unloaded");
    let mut other = specific("good", 1, 1);
    other.platform = "onnx".into();
    let error = reload(vec![other]).await.expect_err("another platform");
    assert_eq!(
        error.message(),
        "Illegal to change a model's platform. For model good platform was tensorflow and new platform requested is onnx"
    );
    assert_eq!(latest(&manager, "mislabelled"), 1, "a refused configuration changes nothing");
    let unnamed = ModelConfig { platform: String::new(), ..specific("good", 1, 1) };
    for config in [unnamed, ModelConfig { platform: "onnx".into(), ..specific("good", 1, 1) }] {
        assert!(reload(vec![config]).await.expect("what is not said is not another").is_empty());
    }
}

#[tokio::test]
async fn memory_is_saved_by_unloading_first() {
    let base = folder(&["1"]);
    let options = ManagerOptions { transition: Transition::SaveMemory, poll_interval: None, ..options() };
    let configs = || vec![ModelConfig::new("m", base.path())];
    let manager = Manager::start(configs(), options, Arc::<FakeLoader>::default(), context()).expect("good");
    manager.settled().await.expect("the manager lives");
    let pinned = manager.servable("m", &VersionChoice::Latest).expect("version 1");
    add(base.path(), "2");
    manager.reconfigure(configs()).await.expect("nothing is wrong with it");
    assert!(manager.servable("m", &VersionChoice::Latest).is_err(), "nothing serves meanwhile");
    let states: Vec<_> =
        manager.status("m", None).expect("two versions").into_iter().map(|(v, s)| (v, s.state)).collect();
    assert_eq!(states, [(2, State::Start), (1, State::Unloading)]);
    drop(pinned);
    reaches(&manager, 2, State::Available).await;
    assert_eq!(latest(&manager, "m"), 2);
}

#[tokio::test]
async fn a_version_of_the_same_number_in_another_folder_takes_its_place() {
    let (first, second) = (folder(&["1"]), folder(&["1"]));
    for transition in [Transition::KeepServing, Transition::SaveMemory] {
        let (options, loader) = (ManagerOptions { transition, ..options() }, Arc::new(FakeLoader::default()));
        let configs = |base: &Path| vec![ModelConfig::new("m", base)];
        let manager = Manager::start(configs(first.path()), options, loader.clone(), context()).expect("good");
        manager.settled().await.expect("the manager lives");
        for base in [second.path(), second.path()] {
            let failures = manager.reload(configs(base), Duration::from_secs(9)).await.expect("good");
            assert!(failures.is_empty(), "{failures:?}");
        }
        reaches(&manager, 1, State::Available).await;
        assert_eq!(latest(&manager, "m"), 1);
        assert_eq!(loader.loads.load(Ordering::Relaxed), 2, "once from each folder");
    }
}

/// Waits until a version of a model of that name is in `state`, and gives its status.
async fn model_reaches(manager: &Manager, name: &str, state: State) -> Status {
    let is = |board: &Board| board.models.get(name)?.versions.values().find(|s| s.state == state).cloned();
    let mut board = manager.watch();
    let seen = board.wait_for(|b| is(b).is_some()).await.expect("the manager lives");
    is(&seen).expect("it was just there")
}

#[tokio::test]
async fn what_was_not_asked_for_lately_makes_room_and_comes_back() {
    let (one, two, three) = (folder(&["1"]), folder(&["2"]), folder(&["3"]));
    let loader = Arc::new(FakeLoader::default());
    let full = || Error::resource_exhausted("full").with_source(NoRoom { needed: 2, free: 1 });
    let models =
        [("one", &one), ("two", &two), ("three", &three)].map(|(name, base)| ModelConfig::new(name, base.path()));
    let options = ManagerOptions { unload_idle: true, ..options() };
    let manager = Manager::start(models[..2].to_vec(), options, loader.clone(), context()).expect("good configuration");
    manager.settled().await.expect("the manager lives");
    // One is asked for after two.
    let ask = async |name: &str| {
        let servable = manager.servable_by(name, &VersionChoice::Latest, None).await?;
        let x = crate::tensor::Tensor::from_vec([1, 3], vec![0.0f32; 3])?;
        let answer = servable
            .predict(vec![x], Asked { deadline: None, priority: Priority::default(), guard: Box::new(()) })
            .await?;
        answer.outputs[0].values::<f32>().map(|values| values[0])
    };
    for name in ["two", "one"] {
        ask(name).await.expect("it is there");
    }
    loader.failures.lock().expect("no test panics in it").insert(3, (1, full()));
    manager.reconfigure(models.to_vec()).await.expect("good configuration");
    let board = manager.settled().await.expect("the manager lives");
    assert!(board.models["two"].versions[&2].idle && board.models["two"].is_available(), "{board:?}");
    assert_eq!((latest(&manager, "one"), latest(&manager, "three")), (1, 3));
    assert_eq!(manager.servable("two", &VersionChoice::Latest).err().expect("gone").code(), Code::NotFound);
    // It stays away until it is asked for, and then another goes for it: not the one asked for last.
    loader.failures.lock().expect("no test panics in it").insert(2, (1, full()));
    ask("three").await.expect("it is there");
    assert_eq!(ask("two").await.expect("it is loaded again"), 2.0);
    model_reaches(&manager, "one", State::End).await;
    assert_eq!(latest(&manager, "three"), 3);
    // What cannot come back says why, and comes back when it can.
    loader.failures.lock().expect("no test panics in it").insert(1, (1, Error::data_loss("damaged")));
    let error = ask("one").await.expect_err("it is damaged");
    assert_eq!(error.code(), Code::Unavailable);
    assert!(error.message().ends_with("could not be loaded again: damaged"), "{error}");
    assert_eq!(ask("one").await.expect("it is loaded again"), 1.0);
}

#[tokio::test]
async fn memory_that_others_hold_is_waited_for_and_nobody_goes_unasked() {
    let (one, two) = (folder(&["1"]), folder(&["2"]));
    let loader = Arc::new(FakeLoader::default());
    let full = Error::resource_exhausted("full").with_source(NoRoom { needed: 2, free: 1 });
    loader.failures.lock().expect("no test panics in it").insert(2, (1, full));
    let models = [("one", &one), ("two", &two)].map(|(name, base)| ModelConfig::new(name, base.path()));
    let manager = start(models.to_vec(), &loader);
    let board = manager.settled().await.expect("the manager lives");
    assert_eq!(board.models["two"].failure().map(Error::code), Some(Code::ResourceExhausted));
    assert_eq!(latest(&manager, "one"), 1);
    // Once another has gone, it is tried again.
    manager.reconfigure(models[1..].to_vec()).await.expect("good configuration");
    model_reaches(&manager, "two", State::Available).await;
}

#[tokio::test]
async fn labels_go_over_to_versions_that_are_available() {
    let base = folder(&["1"]);
    let loader = Arc::new(FakeLoader::default());
    let labelled = |labels: &[(&str, i64)]| {
        let mut config = ModelConfig::new("m", base.path());
        config.version_policy = VersionPolicy::All;
        config.labels = labels.iter().map(|(label, version)| ((*label).to_owned(), *version)).collect();
        vec![config]
    };
    let manager = start(labelled(&[("stable", 1), ("canary", 2)]), &loader);
    manager.settled().await.expect("the manager lives");
    let ask = |label: &str| {
        let found = manager.servable("m", &VersionChoice::Label(label.into()));
        found.map(|servable| servable.id().version).map_err(|error| error.message().to_owned())
    };
    let unknown = || Err("Unrecognized servable version label: canary".to_owned());
    assert_eq!((ask("stable"), ask("canary")), (Ok(1), unknown()));
    // A label moves when its version is there, not before.
    let timeout = Duration::from_secs(60);
    let failures = manager.reload(labelled(&[("stable", 2), ("canary", 2)]), timeout).await.expect("it is taken up");
    assert_eq!(failures[0].1.code(), Code::FailedPrecondition);
    assert_eq!((ask("stable"), ask("canary")), (Ok(1), unknown()));
    add(base.path(), "2");
    reaches(&manager, 2, State::Available).await;
    assert_eq!((ask("stable"), ask("canary")), (Ok(2), Ok(2)));
    // One that is left out is unknown.
    assert!(manager.reload(labelled(&[("stable", 2)]), timeout).await.expect("it is taken up").is_empty());
    assert_eq!((ask("stable"), ask("canary")), (Ok(2), unknown()));
}

#[tokio::test]
async fn new_labels_may_stand_for_what_is_not_there_where_that_is_allowed() {
    let base = folder(&["1"]);
    let options = ManagerOptions { lenient_labels: true, ..options() };
    let mut config = ModelConfig::new("m", base.path());
    config.labels = [("stable".to_owned(), 1)].into();
    let manager = Manager::start(vec![config.clone()], options, Arc::<FakeLoader>::default(), context());
    let manager = manager.expect("good configuration");
    manager.settled().await.expect("the manager lives");
    config.labels = [("stable".to_owned(), 5), ("next".to_owned(), 5)].into();
    let failures = manager.reload(vec![config], Duration::from_secs(60)).await.expect("it is taken up");
    // The one that stands for a version already does so until the other is there.
    assert_eq!(
        failures[0].1.message(),
        "Request to assign label to version 5 of model m, which is not currently available for inference"
    );
    let stands_for = |label| manager.labelled("m", label).ok();
    assert_eq!((stands_for("stable"), stands_for("next")), (Some(1), Some(5)));
}
