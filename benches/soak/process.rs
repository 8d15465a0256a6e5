//! The server's process, and what the system tells of it.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::options::Options;

/// Longest that a start takes.
const START_MAX: Duration = Duration::from_secs(120);

/// A running server, killed when dropped.
pub(crate) struct Server {
    process: Mutex<Child>,
    id: u32,
    pub(crate) grpc: String,
    pub(crate) http: String,
    /// Holds its configuration, its log, and the folder of a model that comes and goes.
    pub(crate) folder: tempfile::TempDir,
}

/// The text of a configuration with these models.
fn configuration(models: &[(String, impl AsRef<Path>)]) -> String {
    let entry = |(name, base): &(String, _)| {
        format!(
            "config {{ name: '{name}' base_path: '{}' model_platform: 'tensorflow' }}\n",
            AsRef::<Path>::as_ref(base).display()
        )
    };
    format!("model_config_list {{ {} }}", models.iter().map(entry).collect::<String>())
}

impl Server {
    pub(crate) fn start(options: &Options) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (config, ports) = (folder.path().join("models.config"), folder.path().join("ports"));
        std::fs::write(&config, configuration(&options.models)).expect("writable");
        let log = std::fs::File::create(folder.path().join("log")).expect("writable");
        let mut process = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["serve", "--host=127.0.0.1", "--port=0", "--rest_api_port=0", "--fault_injection", "--lanes=2"])
            .args(["--model_config_file_poll_wait_seconds=1", "--version_settle_ms=300"])
            .arg(format!("--model_config_file={}", config.display()))
            .arg(format!("--ports_file={}", ports.display()))
            .args(&options.flags)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the binary runs");
        let end = Instant::now() + START_MAX;
        let text = loop {
            match std::fs::read_to_string(&ports) {
                Ok(text) => break text,
                Err(_) => assert!(Instant::now() < end, "the server did not start"),
            }
            assert!(process.try_wait().expect("it can be asked").is_none(), "the server ended at once");
            std::thread::park_timeout(Duration::from_millis(5));
        };
        let port = |name: &str| {
            let line = text.lines().find_map(|l| l.strip_prefix(name)).expect("both ports are named");
            format!("127.0.0.1:{}", line.trim_start_matches('='))
        };
        let (id, grpc, http) = (process.id(), port("grpc"), port("http"));
        Self { process: Mutex::new(process), id, grpc, http, folder }
    }

    /// Another configuration, which it takes up by itself.
    pub(crate) fn configure(&self, models: &[(String, impl AsRef<Path>)]) {
        let (draft, config) = (self.folder.path().join("draft"), self.folder.path().join("models.config"));
        std::fs::write(&draft, configuration(models)).expect("writable");
        std::fs::rename(draft, config).expect("writable");
    }

    pub(crate) fn lives(&self) -> bool {
        self.process.lock().expect("nobody panics").try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// The end of its log.
    pub(crate) fn log(&self) -> String {
        let text = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        text.lines().rev().take(5).collect::<Vec<_>>().join("\n")
    }

    /// The number behind `name:` in its status, in the unit that stands there.
    pub(crate) fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.id)).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0)
    }

    /// Its open files and connections.
    pub(crate) fn open_files(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.id)).map_or(0, Iterator::count)
    }

    /// An HTTP request without a body, and all of its answer.
    pub(crate) fn http(&self, method: &str, path: &str) -> std::io::Result<String> {
        let mut stream = std::net::TcpStream::connect(&self.http)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let head = "Host: soak\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "{method} {path} HTTP/1.1\r\n{head}\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    }

    /// The sum of a metric over its labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let text = self.http("GET", "/metrics").unwrap_or_default();
        let lines = text.lines().filter(|l| l.starts_with(name) && l[name.len()..].starts_with(['{', ' ']));
        lines.filter_map(|l| l.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let mut process = self.process.lock().expect("nobody panics");
        drop(process.kill());
        drop(process.wait());
    }
}
