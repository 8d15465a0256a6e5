//! What a request costs besides its model: processor time of a server a request, by protocol, for a model whose output is
//! constant. `cargo bench --bench rest`. Needs an adapter, and /proc.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::tensor::Tensor;

/// Requests measured.
const REQUESTS: usize = 20_000;
/// Callers at once.
const CALLERS: usize = 8;
/// Requests before.
const WARM_UP: usize = 2_000;
/// Processor time is counted in hundredths of a second.
const TICKS_A_SECOND: f64 = 100.0;

struct Server {
    process: Child,
    grpc: String,
    http: String,
    _folder: tempfile::TempDir,
}

impl Server {
    fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let ports = folder.path().join("ports");
        let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/models/constant");
        let process = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["serve", "--host=127.0.0.1", "--port=0", "--rest_api_port=0", "--cache_dir=none", "--model_name=m"])
            .arg(format!("--model_base_path={}", model.display()))
            .arg(format!("--ports_file={}", ports.display()))
            .args(std::env::args().skip(1).filter(|argument| argument != "--bench"))
            .stdout(Stdio::null())
            .spawn()
            .expect("the binary runs");
        let end = Instant::now() + Duration::from_secs(60);
        let text = loop {
            match std::fs::read_to_string(&ports) {
                Ok(text) => break text,
                Err(_) => assert!(Instant::now() < end, "the server did not start"),
            }
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let port = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("both ports are named");
            format!("127.0.0.1:{}", line.trim_start_matches('='))
        };
        Self { process, grpc: port("grpc"), http: port("http"), _folder: folder }
    }

    /// Seconds of processor time that it has used.
    fn used(&self) -> f64 {
        let text = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("there is /proc");
        // Its name, in brackets, may hold spaces. Of what follows, the 12th and 13th are user and system time.
        let (_, fields) = text.rsplit_once(") ").expect("a name in brackets");
        let ticks: u64 = fields.split(' ').skip(11).take(2).map(|f| f.parse::<u64>().expect("a number")).sum();
        ticks as f64 / TICKS_A_SECOND
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Sends as many requests over one connection each, and says how long all took.
fn rest(server: &Server, requests: usize) -> Duration {
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| rest_caller(&server.http, requests / CALLERS));
        }
    });
    start.elapsed()
}

fn rest_caller(address: &str, requests: usize) {
    const BODY: &str = r#"{"instances": [1.0]}"#;
    let request = format!(
        "POST /v1/models/m:predict HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{BODY}",
        BODY.len()
    );
    let mut stream = TcpStream::connect(address).expect("the server answers");
    stream.set_nodelay(true).expect("an option of TCP");
    let mut replies = BufReader::new(stream.try_clone().expect("a second handle"));
    for _ in 0..requests {
        stream.write_all(request.as_bytes()).expect("writable");
        let (mut line, mut length, mut ok) = (String::new(), 0, false);
        loop {
            line.clear();
            replies.read_line(&mut line).expect("a reply");
            let head = line.trim_end().to_ascii_lowercase();
            ok |= head.starts_with("http/1.1 200");
            if let Some(value) = head.strip_prefix("content-length: ") {
                length = value.parse().expect("a number");
            }
            if head.is_empty() {
                break;
            }
        }
        assert!(ok, "an error");
        let mut body = vec![0; length];
        replies.read_exact(&mut body).expect("a body");
        assert_eq!(body, br#"{"predictions":[[0.25,0.75]]}"#);
    }
}

/// The same over gRPC.
fn grpc(server: &Server, requests: usize) -> Duration {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    runtime.block_on(async {
        let start = Instant::now();
        let callers: Vec<_> = (0..CALLERS)
            .map(|_| {
                let address = server.grpc.clone();
                tokio::spawn(async move {
                    let client = Client::connect(&address, None).await.expect("the server answers");
                    let inputs = [("x".to_owned(), Tensor::from_vec([1], vec![1.0f32]).expect("one number"))];
                    for _ in 0..requests / CALLERS {
                        client.predict("m", "", &inputs, &[]).await.expect("an answer");
                    }
                })
            })
            .collect();
        for caller in callers {
            caller.await.expect("no panic");
        }
        start.elapsed()
    })
}

fn main() {
    let server = Server::start();
    for (name, send) in [("REST", rest as fn(&Server, usize) -> Duration), ("gRPC", grpc)] {
        send(&server, WARM_UP);
        let before = server.used();
        let took = send(&server, REQUESTS);
        let micros = (server.used() - before) * 1e6 / REQUESTS as f64;
        let rate = REQUESTS as f64 / took.as_secs_f64();
        let line = format!("{name}: {micros:.1} µs of processor time a request, {rate:.0} requests a second");
        writeln!(std::io::stdout(), "{line}").expect("writable");
    }
}
