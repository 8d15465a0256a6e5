//! A disk that is full: requests are answered, what cannot be kept is told, and nothing is left half written.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use coracle::api::{Client, Records};

use crate::calls::{batch, digits};
use crate::server::{Server, command, has_adapter, model};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(60);
/// Bytes of the file system.
const DISK_BYTES: usize = 4 << 20;

/// A small file system of its own, unmounted when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    /// `None` where this user may not mount any.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let size = format!("size={DISK_BYTES}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(folder.path()).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }

    /// Leaves no room for a byte.
    fn fill(&self) {
        let mut file = std::fs::File::options().append(true).create(true).open(self.ballast()).expect("writable");
        for size in [64 << 10, 4096, 1] {
            while file.write_all(&vec![1; size]).is_ok() {}
        }
    }

    fn make_room(&self) {
        std::fs::remove_file(self.ballast()).expect("it is there");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What stays mounted is the machine's to clear up.
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// All files below `folder` with their sizes, but folders and the ballast.
fn files(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("readable") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            found.extend(files(&path));
        } else if let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| *name != "ballast") {
            found.push((name.to_owned(), path.metadata().expect("it is there").len()));
        }
    }
    found
}

async fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + CHANGE_MAX;
    while !is_so() {
        assert!(Instant::now() < end, "not within {CHANGE_MAX:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_disk_costs_nobody_an_answer_and_leaves_nothing_half_written() {
    if !has_adapter() {
        return;
    }
    let Some(disk) = Disk::mount() else {
        eprintln!("skipped: no file system can be mounted");
        return;
    };
    let (cache, logs) = (disk.path().join("cache"), disk.path().join("logs"));
    std::fs::create_dir(&logs).expect("there is room");
    disk.fill();
    let flags = [
        &format!("--cache_dir={}", cache.display()),
        &format!("--request_log_dir={}", logs.display()),
        "--tune=load",
        "--enable_batching=false",
    ];
    let (command, folder) = command(&[], &flags);
    let logging =
        "logging_config { log_collector_config { filename_prefix: 'asked' } sampling_config { sampling_rate: 1 } }";
    let base = model("digits");
    let config =
        format!("config {{ name: 'digits' base_path: '{}' model_platform: 'tensorflow' {logging} }}", base.display());
    std::fs::write(folder.path().join("models.config"), format!("model_config_list {{ {config} }}")).expect("writable");
    let server = Server::launch(command, folder);
    let client = Client::connect(&server.grpc, None).await.expect("it answers");
    let (images, _) = digits();
    let ask = async || {
        let reply = client.predict("digits", "", &batch(&images[..1]), &[]).await.expect("an answer");
        assert_eq!(reply.outputs[0].1.shape().dims(), [1, 10]);
    };
    let counted = |outcome: &str| {
        let name = format!("coracle_request_log_total{{model=\"digits\",version=\"1\",reason=\"{outcome}\"}}");
        server.metric(&name).unwrap_or(0.0)
    };
    for _ in 0..3 {
        ask().await;
    }
    until("what is not written down is counted", || counted("failed") >= 3.0).await;
    assert_eq!(counted("written"), 0.0);
    let log = server.log();
    assert_eq!(log.matches("a request could not be written down").count(), 1, "{log}");
    // Where there is something to keep, that it cannot be kept is told once and counted.
    for what in ["compiled kernels cannot be kept", "measured choices cannot be kept"] {
        assert!(log.matches(what).count() <= 1, "{log}");
    }
    let told = ["compiled kernels cannot be kept", "measured choices cannot be kept"].iter().any(|w| log.contains(w));
    let unwritten = server.metric("coracle_cache_unwritten").expect("it is told");
    assert_eq!(unwritten > 0.0, told, "{unwritten}: {log}");
    let ours = |(name, size): &(String, u64)| {
        let name = name.as_str();
        // The driver keeps its own files.
        (name.ends_with(".draft") || name == "tuning.json" || name.ends_with(".bin") || name.ends_with(".tfrecord"))
            && *size > 0
    };
    let left: Vec<_> = files(disk.path()).into_iter().filter(ours).collect();
    assert!(left.is_empty(), "{left:?}");
    // As soon as there is room, it is used.
    disk.make_room();
    ask().await;
    until("it is written down", || counted("written") >= 1.0).await;
    let asked = std::fs::File::open(logs.join("asked.tfrecord")).expect("it is there");
    let mut records = Records::new(asked, 1 << 20);
    let whole = std::iter::from_fn(|| records.next(|_| Ok(())).expect("whole records")).count();
    assert_eq!(whole, 1);
}
