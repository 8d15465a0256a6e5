//! The binary under the name of TensorFlow Serving's, started as its users' scripts and articles do.

use std::process::{Command, Stdio};

use coracle::api::Client;
use coracle::tensor::Tensor;

use crate::server::{Server, has_adapter, model};

/// A command that starts a link to the binary, and the folder that it needs.
fn linked() -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let link = folder.path().join("tensorflow_model_server");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_coracle"), &link).expect("links can be made");
    let mut command = Command::new(link);
    command.env("CORACLE_CACHE_DIR", "none").stdout(Stdio::null()).stderr(Stdio::piped());
    (command, folder)
}

/// A port that was free a moment ago.
/// Below those that systems give to clients: other tests have thousands of them.
fn free_port() -> u16 {
    let first = 20_000 + (std::process::id() % 10_000) as u16;
    let is_free = |port: &u16| std::net::TcpListener::bind(("127.0.0.1", *port)).is_ok();
    (first..32_000).find(is_free).expect("there is a port")
}

#[tokio::test]
async fn an_articles_command_and_file_work_as_they_stand() {
    if !has_adapter() {
        return;
    }
    let (mut command, folder) = linked();
    let (file, port) = (folder.path().join("model_server_config.json"), free_port());
    let text = r#"{"model_config_list": [{"name": "my_model", "base_path": "/path/to/my/model", "model_platform": "tensorflow",
        "model_version_policy": {"specific": {"versions": [1]}},
        "config": {"gpu_options": {"allow_growth": true, "per_process_gpu_memory_fraction": 0.7}}}]}"#;
    let base = model("half_plus_two").display().to_string();
    std::fs::write(&file, text.replace("/path/to/my/model", &base)).expect("writable");
    command
        .current_dir(folder.path())
        .args(["--model_config_file=model_server_config.json", &format!("--port={port}")])
        .args(["--intra_op_parallelism_threads=8", "--xla_cpu_compilation_enabled=true", "--enable_model_warmup"])
        .arg(format!("--grpc_socket_path={}", folder.path().join("socket").display()))
        .arg("--ports_file=ports");
    let server = Server::launch(command, folder);
    assert_eq!(server.grpc, format!("127.0.0.1:{port}"));
    assert_eq!(server.http, "", "HTTP is off unless asked for");
    let client = Client::connect(&server.grpc, None).await.expect("the server answers");
    let x = Tensor::from_vec([1], vec![1.0f32]).expect("one number");
    let reply = client.predict("my_model", "", &[("x".to_owned(), x)], &[]).await.expect("an answer");
    assert_eq!(reply.outputs[0].1.values::<f32>().expect("f32").as_ref(), [2.5]);
    assert!(std::os::unix::net::UnixStream::connect(server.folder.path().join("socket")).is_ok());
}

#[test]
fn flags_that_would_not_be_kept_are_refused() {
    let cases = [
        (&["--use_alts_credentials=true"][..], "--use_alts_credentials: "),
        (&["--ssl_config_file=tls.pbtxt"], "tls.pbtxt"),
        (&["--grpc_channel_arguments=grpc.so_reuseaddr"], "expected a list of key=value"),
        (&["--prefer_tflite_model"], "--prefer_tflite_model: "),
        (&["--batching_parameters_file=b.pbtxt"], "batching_parameters_file is set without enable_batching"),
        (&["--port=0"], "port is 0 and there is no grpc_socket_path"),
        (&["--no_such_flag=1"], "--no_such_flag"),
    ];
    for (flags, expected) in cases {
        let (mut command, _folder) = linked();
        let output = command.arg("--model_base_path=/m").args(flags).output().expect("the binary runs");
        assert!(!output.status.success(), "{flags:?}");
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(text.contains(expected), "{expected}: {text}");
    }
}
