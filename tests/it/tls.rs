//! TLS on both ports, with certificates of clients, and exchanged while the server runs.

use std::io::{Read as _, Write as _};
use std::net::{TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use coracle::api::wire::serving::model_service_client::ModelServiceClient;
use coracle::api::wire::serving::{
    GetModelStatusRequest, ModelConfig, ModelConfigList, ModelServerConfig, ModelSpec, ReloadConfigRequest,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::http::exchange;
use crate::identity::{Authority, Pair};
use crate::server::{Server, command, has_adapter, model};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(60);

const PREDICT: &str = "/v1/models/half_plus_two:predict";
const BODY: &[u8] = br#"{"instances": [1.0]}"#;

/// A text as a text format has it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\n', "\\n"))
}

fn ssl_config(own: &Pair, client_ca: Option<&Authority>) -> String {
    let mut text = format!("server_key: {}\nserver_cert: {}\n", quoted(&own.key), quoted(&own.certificate));
    if let Some(authority) = client_ca {
        text += &format!("custom_ca: {}\nclient_verify: true\n", quoted(&authority.pem()));
    }
    text
}

async fn status(channel: Channel) -> Result<(), tonic::Status> {
    let spec = ModelSpec { name: "half_plus_two".into(), ..ModelSpec::default() };
    let request = GetModelStatusRequest { model_spec: Some(spec) };
    ModelServiceClient::new(channel).get_model_status(request).await.map(drop)
}

/// Configures what is configured already.
async fn reload(channel: Channel) -> Result<(), tonic::Status> {
    let base_path = model("half_plus_two").display().to_string();
    let (name, model_platform) = ("half_plus_two".into(), "tensorflow".into());
    let config = vec![ModelConfig { name, base_path, model_platform, ..ModelConfig::default() }];
    let list = ModelServerConfig { model_config_list: Some(ModelConfigList { config }) };
    let request = ReloadConfigRequest { config: Some(list), metric_names: Vec::new() };
    ModelServiceClient::new(channel).handle_reload_config_request(request).await.map(drop)
}

/// An address of this machine that is not a loopback one, if it has any: nothing is sent.
fn own_address() -> Option<String> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let ip = socket.local_addr().ok()?.ip();
    (!ip.is_loopback() && !ip.is_unspecified()).then(|| ip.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn files_cover_both_ports_and_are_exchanged_while_the_server_runs() {
    if !has_adapter() {
        return;
    }
    let (old, new, clients) = (Authority::new("old"), Authority::new("new"), Authority::new("clients"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name).display().to_string();
    let write = |name: &str, text: &str| std::fs::write(file(name), text).expect("writable");
    let own = old.issue();
    write("cert.pem", &own.certificate);
    write("key.pem", &own.key);
    write("ca.pem", &clients.pem());
    let flags = [
        format!("--tls_cert_file={}", file("cert.pem")),
        format!("--tls_key_file={}", file("key.pem")),
        format!("--tls_client_ca_file={}", file("ca.pem")),
        "--tls_client_certificates=optional".to_owned(),
        "--host=0.0.0.0".to_owned(),
    ];
    let server = Server::start(&["half_plus_two"], &flags.each_ref().map(String::as_str));
    let known = clients.issue();
    status(old.channel(&server.grpc, None).await.expect("TLS")).await.expect("an answer");
    let answer = exchange(old.stream(&server.http, None), "POST", PREDICT, &[], BODY).expect("an answer");
    assert_eq!((answer.code, answer.text()), (200, r#"{"predictions":[2.5]}"#));

    // A stranger's certificate is none; that of a known client lets it administer, from wherever it comes.
    let stranger = Authority::new("strangers").issue();
    assert!(exchange(old.stream(&server.http, Some(&stranger)), "GET", "/healthz", &[], b"").is_err());
    match own_address() {
        None => eprintln!("skipped in part: no address but loopback"),
        Some(ip) => {
            let address = server.grpc.replace("127.0.0.1", &ip);
            let refused = reload(old.channel(&address, None).await.expect("TLS")).await.expect_err("no right");
            assert_eq!(refused.code(), Code::PermissionDenied);
            reload(old.channel(&address, Some(&known)).await.expect("TLS")).await.expect("a right");
        }
    }

    // Plain requests to a port with TLS are not answered, and harm nobody.
    let mut plain = TcpStream::connect(&server.http).expect("it listens");
    plain.write_all(b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n").expect("writable");
    let mut bytes = Vec::new();
    let _ = plain.read_to_end(&mut bytes);
    assert!(!bytes.starts_with(b"HTTP"), "{bytes:?}");

    // A pair that is none is not taken up; a right one is, and connections that are there live on.
    let kept = old.channel(&server.grpc, None).await.expect("TLS");
    status(kept.clone()).await.expect("an answer");
    let next = new.issue();
    write("key.pem", &next.key);
    let end = Instant::now() + Duration::from_secs(3);
    while Instant::now() < end {
        assert_eq!(
            exchange(old.stream(&server.http, None), "GET", "/healthz", &[], b"").expect("the old pair").code,
            200
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    write("cert.pem", &next.certificate);
    let end = Instant::now() + CHANGE_MAX;
    while exchange(new.stream(&server.http, None), "GET", "/healthz", &[], b"").is_err() {
        assert!(Instant::now() < end, "the new certificate was not taken up within {CHANGE_MAX:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    status(new.channel(&server.grpc, None).await.expect("TLS")).await.expect("an answer");
    assert!(old.channel(&server.grpc, None).await.is_err(), "the old certificate is not shown any more");
    status(kept).await.expect("an answer over the old connection");
}

#[tokio::test]
async fn an_ssl_config_covers_its_own_port_and_clients_must_show_certificates() {
    if !has_adapter() {
        return;
    }
    let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("ssl.pbtxt");
    std::fs::write(&file, ssl_config(&servers.issue(), Some(&clients))).expect("writable");
    let server = Server::start(&["half_plus_two"], &[&format!("--ssl_config_file={}", file.display())]);
    assert_eq!(server.page("/healthz").0, 200, "the other port is in the clear");
    let known = clients.issue();
    status(servers.channel(&server.grpc, Some(&known)).await.expect("TLS")).await.expect("an answer");
    for stranger in [None, Some(Authority::new("others").issue())] {
        // With TLS 1.3 a client learns of it when it reads.
        let refused = match servers.channel(&server.grpc, stranger.as_ref()).await {
            Err(_) => true,
            Ok(channel) => status(channel).await.is_err(),
        };
        assert!(refused);
    }
    let (_, metrics) = server.page("/metrics");
    assert!(metrics.contains(r#"coracle_connections_refused_total{port="grpc",reason="handshake"}"#), "{metrics}");
}

#[test]
fn mistakes_are_told_with_their_place_and_show_no_key() {
    let authority = Authority::new("servers");
    let (own, other) = (authority.issue(), authority.issue());
    let run = |texts: &[(&str, &str)], flags: &[&str]| {
        let (mut command, folder) = command(&["half_plus_two"], flags);
        for (name, text) in texts {
            std::fs::write(folder.path().join(name), text).expect("writable");
        }
        let output = command.current_dir(folder.path()).arg("--check").output().expect("the binary runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let broken = ssl_config(&own, None).replace("server_cert", "server_crt");
    let clientless = ssl_config(&own, None) + "client_verify: true\n";
    let files: [(&str, &str); 6] = [
        ("cert.pem", &own.certificate),
        ("key.pem", &own.key),
        ("other.pem", &other.key),
        ("right.pbtxt", &ssl_config(&own, Some(&authority))),
        ("broken.pbtxt", &broken),
        ("clientless.pbtxt", &clientless),
    ];
    let cases: [(&[&str], &str); 7] = [
        (
            &["--tls_cert_file=cert.pem", "--tls_key_file=other.pem"],
            "cert.pem: the first certificate does not belong to the key",
        ),
        (
            &["--tls_cert_file=key.pem", "--tls_key_file=key.pem"],
            "key.pem: no certificate, expected certificates in PEM",
        ),
        (
            &["--tls_cert_file=cert.pem"],
            "--tls_cert_file: tls_cert_file is \"cert.pem\", expected tls_key_file beside it",
        ),
        (&["--ssl_config_file=broken.pbtxt"], "broken.pbtxt:2: Error parsing text-format tensorflow.serving.SSLConfig"),
        (
            &["--rest_ssl_config_file=clientless.pbtxt"],
            "clientless.pbtxt:3: client_verify, expected custom_ca beside it",
        ),
        (&["--ssl_config_file=missing.pbtxt"], "missing.pbtxt"),
        (&["--tls_client_certificates=maybe"], "expected required or optional"),
    ];
    for (flags, expected) in cases {
        let (is_right, text) = run(&files, flags);
        assert!(!is_right && text.contains(expected), "{expected}\n{text}");
        assert!(
            own.key.lines().chain(other.key.lines()).all(|line| line.starts_with("---") || !text.contains(line)),
            "{text}"
        );
    }
    let (is_right, text) =
        run(&files, &["--ssl_config_file=right.pbtxt", "--tls_cert_file=cert.pem", "--tls_key_file=key.pem"]);
    assert!(is_right, "{text}");
}
