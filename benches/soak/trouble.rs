//! What happens to the server while it is called.

use std::io::Write as _;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::error::Error;
use coracle::tensor::Tensor;

use super::callers::Callers;
use super::options::Options;
use super::process::Server;

/// Longest until everything is right again after anything.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Connections that say half of something and then nothing.
const HALF_OPEN: usize = 100;
/// Bad requests at a time.
const BAD: usize = 50;

/// Makes trouble, one kind after the other.
pub(crate) struct Trouble<'a> {
    server: &'a Server,
    models: Vec<(String, PathBuf)>,
    made: Vec<(Instant, &'static str)>,
    losses: u32,
    half_open: Vec<TcpStream>,
}

type Outcome = Result<String, String>;

impl<'a> Trouble<'a> {
    pub(crate) fn new(server: &'a Server, options: &Options) -> Self {
        Self { server, models: options.models.clone(), made: Vec::new(), losses: 0, half_open: Vec::new() }
    }

    /// The next kind; returns when everything answers rightly again.
    pub(crate) async fn next(&mut self, callers: &Callers) -> Outcome {
        let begin = Instant::now();
        let kind =
            ["a lost device", "bad input", "another model", "a lost device", "a new version", "half-open connections"]
                [self.made.len() % 6];
        self.made.push((begin, kind));
        let client = Client::connect(&self.server.grpc, Some(RECOVERY_MAX)).await.map_err(|e| e.to_string())?;
        let done = match kind {
            "a lost device" => self.lose(),
            "bad input" => bad_input(&client, self.server).await,
            "another model" => self.another_model(&client).await,
            "a new version" => self.new_version(&client).await,
            _ => self.half_open(),
        };
        done.map_err(|wrong| format!("{kind}: {wrong}"))?;
        loop {
            match callers.ask_all(&client).await {
                Ok(()) => break,
                Err(error) if begin.elapsed() > RECOVERY_MAX => {
                    return Err(format!("{kind}: not right again: {error}\n{}", self.server.log()));
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
        Ok(format!("{kind}: every model answered rightly {:.2} s after it began", begin.elapsed().as_secs_f64()))
    }

    fn lose(&mut self) -> Result<(), String> {
        let lane = self.losses % 2;
        self.losses += 1;
        let answer = self.server.http("POST", &format!("/faults/lanes/{lane}/lose")).map_err(|e| e.to_string())?;
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(answer) }
    }

    /// A model comes and goes by configuration.
    async fn another_model(&self, client: &Client) -> Result<(), String> {
        let mut models = self.models.clone();
        models.push(("coming".into(), self.models[0].1.clone()));
        self.server.configure(&models);
        wait("it is served", async || client.signature("coming", "serving_default").await.is_ok()).await?;
        self.server.configure(&self.models);
        wait("it is gone", async || client.signature("coming", "serving_default").await.is_err()).await
    }

    /// A version comes into a folder, and goes again.
    async fn new_version(&self, client: &Client) -> Result<(), String> {
        let base = self.server.folder.path().join("growing");
        let from = self.models[0].1.join("1");
        copy(&from, &base.join("1")).map_err(|e| e.to_string())?;
        let mut models = self.models.clone();
        models.push(("growing".into(), base.clone()));
        self.server.configure(&models);
        let signature = async || client.signature("growing", "serving_default").await.is_ok();
        wait("the first is served", signature).await?;
        copy(&from, &base.join("2")).map_err(|e| e.to_string())?;
        let page = async || {
            let text = self.server.http("GET", "/v1/models/growing").unwrap_or_default();
            text.contains("\"2\"") && text.contains("AVAILABLE")
        };
        wait("the second is served", page).await?;
        self.server.configure(&self.models);
        wait("both are gone", async || client.signature("growing", "serving_default").await.is_err()).await?;
        std::fs::remove_dir_all(&base).map_err(|e| e.to_string())
    }

    fn half_open(&mut self) -> Result<(), String> {
        self.half_open.clear();
        for number in 0..HALF_OPEN {
            let address = if number % 2 == 0 { &self.server.grpc } else { &self.server.http };
            let mut stream = TcpStream::connect(address).map_err(|e| e.to_string())?;
            stream.write_all(b"PRI * HTTP/2.0\r\n").map_err(|e| e.to_string())?;
            self.half_open.push(stream);
        }
        Ok(())
    }

    /// Lets go of what is held.
    pub(crate) fn end(&mut self) {
        self.half_open.clear();
    }

    /// Devices lost so far.
    pub(crate) fn losses(&self) -> u32 {
        self.losses
    }

    /// When what began.
    pub(crate) fn times(&self, begin: Instant) -> Vec<(Duration, &'static str)> {
        self.made.iter().map(|(at, kind)| (at.duration_since(begin), *kind)).collect()
    }
}

async fn wait(what: &str, is: impl AsyncFn() -> bool) -> Result<(), String> {
    let begin = Instant::now();
    while !is().await {
        if begin.elapsed() > RECOVERY_MAX {
            return Err(format!("waited in vain until {what}"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            std::fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
    }
    Ok(())
}

/// Requests that must be refused with a clear error, and bytes that are no requests.
async fn bad_input(client: &Client, server: &Server) -> Result<(), String> {
    let text = Tensor::from_vec([1], vec![1i64]).expect("one number");
    for number in 0..BAD {
        let unknown = client.predict(&format!("nobody-{number}"), "", &[("x".into(), text.clone())], &[]).await;
        let wrong = client.predict("digits", "", &[("nothing".into(), text.clone())], &[]).await;
        for refused in [unknown, wrong] {
            if refused.is_ok() || refused.is_err_and(|e: Error| e.message().is_empty()) {
                return Err("a bad request was not refused with a reason".into());
            }
        }
        let mut stream = TcpStream::connect(&server.grpc).map_err(|e| e.to_string())?;
        // The server may be quicker to close than this to write.
        drop(stream.write_all(&[number as u8; 4096]));
    }
    Ok(())
}
