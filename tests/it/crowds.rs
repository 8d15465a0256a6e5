//! Connections in great number.

use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use coracle::api::Client;
use coracle::tensor::Tensor;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::concurrency::resident_kib;
use crate::http::ask;
use crate::server::{Server, command, has_adapter};

/// Longest that a change may take to be seen.
const CHANGE_MAX: Duration = Duration::from_secs(120);
/// Connections, where the system lets a process have as many files.
const CROWD: usize = 10_000;
/// Files that a process needs besides.
const OTHER_FILES: usize = 500;
/// Callers who are answered meanwhile.
const CALLERS: usize = 8;

/// As many as may be; raises the limit of this process first, as the server does for itself.
fn crowd() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // What cannot be raised stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let files = getrlimit(Resource::Nofile).current.map_or(CROWD + OTHER_FILES, |most| most as usize);
    CROWD.min(files.saturating_sub(OTHER_FILES))
}

/// A connection from one of many addresses of this machine: ports are few.
fn connect(address: &str, number: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let from = SocketAddr::from((Ipv4Addr::new(127, 0, 0, 2 + (number / 2000) as u8), 0));
    socket.bind(&from.into()).expect("an address of this machine");
    let address: SocketAddr = address.parse().expect("an address");
    socket.connect(&address.into()).expect("it listens");
    socket.into()
}

/// Files that the server has open.
fn open_files(server: &Server) -> usize {
    std::fs::read_dir(Path::new("/proc").join(server.id().to_string()).join("fd")).expect("it runs").count()
}

fn until(what: &str, is_so: impl Fn() -> bool) {
    let end = Instant::now() + CHANGE_MAX;
    while !is_so() {
        assert!(Instant::now() < end, "not within {CHANGE_MAX:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Calls until told to stop, and counts.
async fn call(address: String, stop: Arc<AtomicBool>, answered: Arc<AtomicU64>) {
    let client = Client::connect(&address, None).await.expect("it answers");
    let x = [("x".to_owned(), Tensor::from_vec([1], vec![1.0f32]).expect("one number"))];
    while !stop.load(Ordering::Acquire) {
        let reply = client.predict("half_plus_two", "", &x, &[]).await.expect("callers lose nothing");
        assert_eq!(reply.outputs[0].1.values::<f32>().expect("f32")[0], 2.5);
        answered.fetch_add(1, Ordering::AcqRel);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_cost_callers_nothing_and_leave_nothing_behind() {
    if !has_adapter() {
        return;
    }
    let (most, start) = (crowd(), Instant::now());
    let flags = [&format!("--max_connections={most}"), "--first_request_timeout_ms=600000"];
    let (mut command, folder) = command(&["half_plus_two"], &flags);
    // With an arena for each thread, which of them keep how much is a matter of luck.
    command.env("MALLOC_ARENA_MAX", "1");
    let server = Server::launch(command, folder);
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let open = || server.metric("coracle_connections{port=\"grpc\"}").unwrap_or(0.0) as usize;
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| tokio::spawn(call(server.grpc.clone(), Arc::clone(&stop), Arc::clone(&answered))))
        .collect();
    until("all callers are there", || open() == CALLERS && answered.load(Ordering::Acquire) > 0);
    let (files, mut resident) = (open_files(&server), Vec::new());
    for round in 1..=2 {
        let crowd: Vec<TcpStream> = (0..most - CALLERS).map(|number| connect(&server.grpc, number)).collect();
        until("all are accepted", || open() == most);
        // One more is closed, and that is told; on another port there is room.
        let mut late = connect(&server.grpc, 0);
        late.set_read_timeout(Some(CHANGE_MAX)).expect("a time");
        assert!(matches!(late.read(&mut [0]), Ok(0)), "one more");
        let refused = server.metric("coracle_connections_refused_total{port=\"grpc\",reason=\"full\"}");
        assert_eq!(refused, Some(f64::from(round)));
        let path = "/v1/models/half_plus_two:predict";
        assert_eq!(ask(&server.http, "POST", path, &[], br#"{"instances": [1]}"#).code, 200);
        let before = answered.load(Ordering::Acquire);
        until("callers are answered", || answered.load(Ordering::Acquire) >= before + CALLERS as u64);
        drop(crowd);
        until("all have gone", || open() == CALLERS);
        until("their files are closed", || open_files(&server) <= files + 2);
        resident.extend(resident_kib(server.id()));
    }
    let log = server.log();
    assert!(log.contains(&format!("{most} connections are open (max_connections), more are closed")), "{log}");
    eprintln!("{most} connections, twice: {:?}; resident afterwards, in KiB: {resident:?}", start.elapsed());
    if let [first, second] = resident[..] {
        // Memory that the allocator keeps from the first crowd serves the second.
        assert!(second < first + first / 5 + (8 << 10), "{first} KiB after the first crowd, {second} after the second");
    }
    stop.store(true, Ordering::Release);
    for caller in callers {
        caller.await.expect("no caller failed");
    }
}
