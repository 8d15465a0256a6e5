//! Folders and files of models that go, come back, change or cannot be read, at the worst moments.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::tensor::Tensor;

use crate::folders::{AVAILABLE, Asking, CHANGE_MAX, END, add, right, serve};
use crate::onnx::{constant, external, input, model, node, output};
use crate::server::{Server, has_adapter};

const LOADING: i32 = 20;
/// A load is tried again until the test is over.
const TRIES: [&str; 2] = ["--max_num_load_retries=1000000", "--load_retry_interval_micros=20000"];

/// `y = x + w` of one number, where `w` lies in a file of its own.
fn plus_w() -> Vec<u8> {
    let graph = [node("Add", &["x", "w"], &["y"], &[]), constant("w", 1, &[1], &external("w"))];
    model(&[graph.concat(), input("x", &[1]), output("y", &[1])])
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + CHANGE_MAX;
    while !is_so() {
        assert!(Instant::now() < end, "not within {CHANGE_MAX:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn is_unusable(server: &Server) -> bool {
    server.metric("coracle_model_folder_unusable{model=\"m\"}") == Some(1.0)
}

/// Calls the model `m` until told to stop; every answer must come.
async fn call(address: String, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let client = Client::connect(&address, None).await.expect("it answers");
    let x = [("x".to_owned(), Tensor::from_vec([1], vec![1.0f32]).expect("one number"))];
    while !stop.load(Ordering::Acquire) {
        let reply = client.predict("m", "", &x, &[]).await.expect("what serves goes on serving");
        assert_eq!(reply.outputs[0].1.values::<f32>().expect("f32")[0], 2.5);
        answered.fetch_add(1, Ordering::AcqRel);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_serves_outlives_its_folder() {
    if !has_adapter() {
        return;
    }
    let (server, base) = serve(&["1"], "", &[]);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let caller = tokio::spawn(call(server.grpc.clone(), Arc::clone(&stop), Arc::clone(&answered)));
    let mut asking = Asking::of(&server).await;
    asking.becomes(&[(1, AVAILABLE)]).await;
    // The model's file alone, its version, all of it.
    let version = base.join("1");
    std::fs::remove_file(version.join("model.onnx")).expect("it is there");
    std::fs::remove_dir_all(&version).expect("it is there");
    until("an empty folder is told", || is_unusable(&server)).await;
    std::fs::remove_dir_all(&base).expect("it is there");
    until("that there is none is told", || server.log().contains("No such file or directory")).await;
    // Something that nobody can read, whoever asks.
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&base, &base).expect("links can be made");
        until("a circle of links is told", || server.log().contains("evels of symbolic links")).await;
        std::fs::remove_file(&base).expect("it is there");
    }
    let before = answered.load(Ordering::Acquire);
    until("callers are answered", || answered.load(Ordering::Acquire) > before + 10).await;
    asking.becomes(&[(1, AVAILABLE)]).await;
    add(&base, "2", "model.onnx", &right());
    asking.serves(2).await;
    until("all is well again", || !is_unusable(&server)).await;
    stop.store(true, Ordering::Release);
    caller.await.expect("no call failed");
}

/// Adds a version whose weights are missing, so that its load is tried again and again, and waits for that.
async fn add_without_weights(server: &Server, base: &Path, version: &str) {
    add(base, version, "model.onnx", &plus_w());
    let told = format!("{version}/model.onnx");
    let is_trying = |line: &str| line.contains("loading failed, trying again") && line.contains(&told);
    until("the load is tried again", || server.log().lines().any(is_trying)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_load_outlasts_files_that_come_late_and_gives_up_on_those_that_go() {
    if !has_adapter() {
        return;
    }
    let (server, base) = serve(&["1"], "", &TRIES);
    let mut asking = Asking::of(&server).await;
    // What is missing comes.
    add_without_weights(&server, &base, "2").await;
    asking.becomes(&[(2, LOADING), (1, AVAILABLE)]).await;
    assert_eq!(asking.answering(None).await, Ok(1));
    std::fs::write(base.join("2/w"), 5.0_f32.to_le_bytes()).expect("writable");
    asking.serves(2).await;
    // The model is replaced, meanwhile, by half of one, and that by a whole one.
    add_without_weights(&server, &base, "3").await;
    std::fs::write(base.join("3/model.onnx"), &plus_w()[..40]).expect("writable");
    asking.becomes(&[(3, END), (2, AVAILABLE), (1, END)]).await;
    let (_, told) = asking.states().await;
    assert!(told.contains("3/model.onnx: the file is not an ONNX model"), "{told}");
    assert_eq!(asking.answering(None).await, Ok(2));
    std::fs::write(base.join("3/model.onnx"), right()).expect("writable");
    asking.serves(3).await;
    // The weights are cut short.
    std::fs::create_dir_all(base.with_file_name("draft")).expect("writable");
    std::fs::write(base.with_file_name("draft").join("w"), [0; 3]).expect("writable");
    add(&base, "4", "model.onnx", &plus_w());
    asking.becomes(&[(4, END), (3, AVAILABLE), (2, END), (1, END)]).await;
    let (_, told) = asking.states().await;
    assert!(told.contains("external data \"w\": the file has 3 bytes, 4 from 0 on are needed"), "{told}");
    std::fs::remove_dir_all(base.join("4")).expect("it is there");
    // All of it goes.
    add_without_weights(&server, &base, "5").await;
    std::fs::remove_dir_all(base.join("5")).expect("it is there");
    assert_eq!(asking.answering(None).await, Ok(3));
    add(&base, "6", "model.onnx", &right());
    asking.serves(6).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn to_save_memory_the_old_version_goes_before_the_new_one_comes() {
    if !has_adapter() {
        return;
    }
    let (server, base) = serve(&["1"], "", &[&TRIES[..], &["--version_transition=save_memory"]].concat());
    let mut asking = Asking::of(&server).await;
    assert_eq!(asking.answering(None).await, Ok(1));
    add_without_weights(&server, &base, "2").await;
    // The new one does not come, the old one has gone.
    asking.becomes(&[(2, LOADING), (1, END)]).await;
    let nobody = asking.answering(None).await.expect_err("none serves");
    assert_eq!(nobody, "Servable not found for request: Latest(m)");
    std::fs::write(base.join("2/w"), 5.0_f32.to_le_bytes()).expect("writable");
    asking.serves(2).await;
}

/// In a user's namespace of its own, in which the system watches nothing for anybody.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn where_the_system_cannot_watch_folders_they_are_looked_at() {
    use std::process::{Command, Stdio};

    if !has_adapter() {
        return;
    }
    let none_left = "echo 0 > /proc/sys/user/max_inotify_instances";
    let unshared = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "sh", "-c", script]);
        command
    };
    let can = unshared(none_left).stdout(Stdio::null()).stderr(Stdio::null()).status();
    if !can.is_ok_and(|status| status.success()) {
        eprintln!("skipped: no namespace of its own");
        return;
    }
    let (plain, base) = crate::folders::prepare(&["1"], "", &[]);
    let (command, folder) = plain;
    let mut wrapped = unshared(&format!("{none_left}; exec \"$0\" \"$@\""));
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdout(Stdio::null());
    let server = Server::launch(wrapped, folder);
    let mut asking = Asking::of(&server).await;
    assert_eq!(asking.answering(None).await, Ok(1));
    let log = server.log();
    assert!(log.contains("cannot be watched, they are only looked at from time to time"), "{log}");
    add(&base, "2", "model.onnx", &right());
    asking.serves(2).await;
}
