//! A server process of a test's own.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use coracle::engine::device::Adapter;

/// Longest that a start may take, driver compiling included.
const START_MAX: Duration = Duration::from_secs(120);

/// A running server, killed when dropped.
pub(crate) struct Server {
    process: Child,
    /// The gRPC address; empty when there is none.
    pub(crate) grpc: String,
    /// The HTTP address; empty when there is none.
    pub(crate) http: String,
    /// What the server was given.
    pub(crate) folder: tempfile::TempDir,
}

/// Whether there is anything to run on; says so if not.
pub(crate) fn has_adapter() -> bool {
    let found = !Adapter::all().is_empty();
    if !found {
        eprintln!("skipped: no adapter");
    }
    found
}

/// The folder of a model that the repository carries.
pub(crate) fn model(name: &str) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    if name == "digits" { root.join("models/digits") } else { root.join("tests/models").join(name) }
}

/// The command that serves these models, and the folder that it needs meanwhile.
pub(crate) fn command(models: &[&str], flags: &[&str]) -> (Command, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let entries: String = models
        .iter()
        .map(|name| {
            format!("config {{ name: '{name}' base_path: '{}' model_platform: 'tensorflow' }}\n", model(name).display())
        })
        .collect();
    let config = folder.path().join("models.config");
    std::fs::write(&config, format!("model_config_list {{ {entries} }}")).expect("writable");
    let mut command = Command::new(env!("CARGO_BIN_EXE_coracle"));
    command
        .env("CORACLE_CACHE_DIR", "none")
        .args(["serve", "--port=0", "--rest_api_port=0"])
        .args((!flags.iter().any(|flag| flag.starts_with("--host="))).then_some("--host=127.0.0.1"))
        .arg(format!("--model_config_file={}", config.display()))
        .arg(format!("--ports_file={}", folder.path().join("ports").display()))
        .args(flags)
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    (command, folder)
}

impl Server {
    /// Starts a server and waits until it answers.
    pub(crate) fn start(models: &[&str], flags: &[&str]) -> Self {
        let (command, folder) = command(models, flags);
        Self::launch(command, folder)
    }

    /// Starts what writes its ports to the file `ports` in `folder`, and waits until it answers.
    pub(crate) fn launch(mut command: Command, folder: tempfile::TempDir) -> Self {
        let log = std::fs::File::create(folder.path().join("log")).expect("writable");
        Self::launch_with(&mut command, folder, log.into())
    }

    /// As [`Server::launch`]; what it says goes to `errors`.
    pub(crate) fn launch_with(command: &mut Command, folder: tempfile::TempDir, errors: Stdio) -> Self {
        let mut process = command.stderr(errors).spawn().expect("the binary runs");
        let path = folder.path().join("ports");
        let end = Instant::now() + START_MAX;
        let ports = loop {
            if let Ok(text) = std::fs::read_to_string(&path) {
                break text;
            }
            let ended = process.try_wait().expect("it can be asked");
            assert!(ended.is_none(), "the server ended: {ended:?}");
            assert!(Instant::now() < end, "the server did not start within {START_MAX:?}");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let port = |name: &str| {
            let line = ports.lines().find_map(|l| l.strip_prefix(name));
            line.map(|line| format!("127.0.0.1:{}", line.trim_start_matches('='))).unwrap_or_default()
        };
        let (grpc, http) = (port("grpc"), port("http"));
        Self { process, grpc, http, folder }
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).expect("readable")
    }

    /// The process' number.
    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Asks the process to end, as an orchestrator does. False where there is no `kill`.
    pub(crate) fn terminate(&self) -> bool {
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status().is_ok_and(|status| status.success())
    }

    /// Waits for the end.
    pub(crate) fn wait(&mut self) -> std::process::ExitStatus {
        self.process.wait().expect("it can be waited for")
    }

    /// The number of a metric, whose labels stand in the name; `None` where it is not there.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, text) = self.page("/metrics");
        let number = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
        Some(number.parse().expect("a number"))
    }

    /// The sum of a metric over all labels after those, if any, that end `name`: `coracle_weights_bytes{`; `None` where it is not
    /// there.
    pub(crate) fn metric_sum(&self, name: &str) -> Option<f64> {
        let (_, text) = self.page("/metrics");
        let lines = text.lines().filter(|line| line.starts_with(name));
        let numbers: Vec<f64> = lines.filter_map(|line| line.rsplit(' ').next()?.parse().ok()).collect();
        (!numbers.is_empty()).then(|| numbers.iter().sum())
    }

    /// The status code and body of an HTTP page.
    pub(crate) fn page(&self, path: &str) -> (u16, String) {
        use std::io::Write as _;
        let mut stream = std::net::TcpStream::connect(&self.http).expect("the HTTP port answers");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("writable");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let code = text.split(' ').nth(1).and_then(|c| c.parse().ok()).expect("a status line");
        let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
        (code, body)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
