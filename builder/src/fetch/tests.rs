#[allow(dead_code, reason = "shared: each user takes what it needs")]
#[path = "../../tests/support/server.rs"]
mod server;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use fs_err as fs;

use self::server::{Reply, Request, Server};
use super::*;

fn body() -> Vec<u8> {
    (0..300_000u32).map(|n| (n * 7 % 251) as u8).collect()
}

fn impatient() -> Patience {
    Patience {
        attempts: 3,
        allowance: 10,
        pause: Duration::from_millis(2),
        longest_pause: Duration::from_millis(20),
        connect: Duration::from_secs(5),
        stall: Duration::from_millis(400),
    }
}

/// A store of its own and a fetcher that does not wait long.
struct Bench {
    folder: tempfile::TempDir,
    store: Store,
    fetcher: Fetcher,
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(Some(folder.path().to_owned())).unwrap();
        Self { folder, store, fetcher: Fetcher::with_patience(Progress::silent(), impatient()) }
    }

    fn fetch(&self, wanted: Download) -> Result<PathBuf, FetchError> {
        self.fetcher.to_store(&self.store, &[wanted]).pop().unwrap()
    }

    fn partials(&self) -> usize {
        fs::read_dir(self.folder.path().join("v1/partial")).unwrap().count()
    }

    fn leave_partial(&self, content: &[u8]) {
        fs::write(self.store.partial_path(&Hash::of(body())), content).unwrap();
    }
}

fn wanted(urls: &[&str]) -> Download {
    let body = body();
    Download {
        urls: urls.iter().map(|url| (*url).to_owned()).collect(),
        sha256: Hash::of(&body),
        size: body.len() as u64,
        label: "file 1.0".into(),
    }
}

/// Serves one file with a fault; `bench` fetches it from there.
fn fetch_from(
    handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> (Bench, Server, Result<PathBuf, FetchError>) {
    let (bench, server) = (Bench::new(), Server::start(handler));
    let result = bench.fetch(wanted(&[&server.url("file")]));
    (bench, server, result)
}

fn ranges(server: &Server) -> Vec<Option<usize>> {
    server.requests().iter().map(|request| request.range).collect()
}

fn refusing_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[test]
fn a_file_is_stored_under_its_hash_and_fetched_once() {
    let (bench, server, result) = fetch_from(|_| Reply::whole(&body()));
    assert_eq!(fs::read(result.unwrap()).unwrap(), body());
    bench.fetch(wanted(&[&server.url("file")])).unwrap();
    assert_eq!(server.requests().len(), 1);
    assert_eq!(bench.partials(), 0);
}

#[test]
fn a_connection_that_closes_midway_is_resumed_by_range() {
    let (bench, server, result) = fetch_from(|request| {
        let reply = Reply::ranged(&body(), request).header("ETag", "\"v1\"");
        if request.nth == 0 { reply.cut(100_000) } else { reply }
    });
    assert_eq!(fs::read(result.unwrap()).unwrap(), body());
    assert_eq!(ranges(&server), [None, Some(100_000)]);
    assert_eq!(server.requests()[1].if_range.as_deref(), Some("\"v1\""));
    assert_eq!(bench.partials(), 0);
}

#[test]
fn what_an_earlier_run_left_is_continued() {
    let (bench, server) = (Bench::new(), Server::start(|request| Reply::ranged(&body(), request)));
    bench.leave_partial(&body()[..200_000]);
    bench.fetch(wanted(&[&server.url("file")])).unwrap();
    assert_eq!(ranges(&server), [Some(200_000)]);
}

#[test]
fn a_file_that_an_earlier_run_completed_needs_no_request() {
    let (bench, server) = (Bench::new(), Server::start(|_| Reply::status(500)));
    bench.leave_partial(&body());
    bench.fetch(wanted(&[&server.url("file")])).unwrap();
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_bad_left_over_is_thrown_away() {
    for left in [vec![9; 1000], vec![9; 300_000], vec![9; 400_000]] {
        let (bench, server) = (Bench::new(), Server::start(|request| Reply::ranged(&body(), request)));
        bench.leave_partial(&left);
        assert_eq!(fs::read(bench.fetch(wanted(&[&server.url("file")])).unwrap()).unwrap(), body());
        assert_eq!(bench.partials(), 0);
    }
}

#[test]
fn a_server_that_ignores_ranges_still_serves() {
    let (bench, server) = (Bench::new(), Server::start(|_| Reply::whole(&body())));
    bench.leave_partial(&body()[..200_000]);
    let path = bench.fetch(wanted(&[&server.url("file")])).unwrap();
    assert_eq!(fs::read(path).unwrap(), body());
    assert_eq!(ranges(&server), [Some(200_000)]);
}

#[test]
fn a_range_that_cannot_be_satisfied_starts_over() {
    let (bench, server) = (
        Bench::new(),
        Server::start(|request| if request.range.is_some() { Reply::status(416) } else { Reply::whole(&body()) }),
    );
    bench.leave_partial(&body()[..200_000]);
    bench.fetch(wanted(&[&server.url("file")])).unwrap();
    assert_eq!(ranges(&server), [Some(200_000), None]);
}

#[test]
fn a_range_other_than_the_one_asked_for_is_not_mixed_in() {
    let (bench, server) = (
        Bench::new(),
        Server::start(|request| {
            let wrong = Request { range: request.range.map(|first| first + 1), ..request.clone() };
            Reply::ranged(&body(), &wrong)
        }),
    );
    bench.leave_partial(&body()[..200_000]);
    assert_eq!(fs::read(bench.fetch(wanted(&[&server.url("file")])).unwrap()).unwrap(), body());
}

#[test]
fn wrong_bytes_are_refused_naming_file_address_and_hashes() {
    let (bench, server, result) = fetch_from(|_| Reply::whole(&vec![7; 300_000]));
    let error = result.unwrap_err();
    assert!(matches!(error, FetchError::Mismatch { .. }), "{error}");
    for part in
        ["file 1.0", &server.url("file"), &Hash::of(body()).to_string(), &Hash::of(vec![7; 300_000]).to_string()]
    {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(server.requests().len(), 2, "one retry from scratch");
    assert_eq!(bench.partials(), 0);
    assert_eq!(bench.store.blob(&Hash::of(body())), None);
}

#[test]
fn an_endless_body_is_cut_off() {
    let endless: [fn() -> Reply; 2] = [|| Reply::unframed(&body()).endless(), || Reply::unframed(b"").endless()];
    for reply in endless {
        let (bench, _server, result) = fetch_from(move |_| reply());
        assert!(matches!(result, Err(FetchError::TooLarge { limit: 300_000, .. })), "{result:?}");
        assert_eq!(bench.partials(), 0);
    }
}

#[test]
fn a_body_announced_too_large_is_not_read() {
    let (_bench, server, result) = fetch_from(|_| Reply::whole(&vec![0; 300_001]));
    assert!(matches!(result, Err(FetchError::TooLarge { .. })), "{result:?}");
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_body_that_is_always_cut_is_an_error_and_kept_for_later() {
    for framed in [true, false] {
        let (bench, server, result) = fetch_from(move |_| {
            let reply = if framed { Reply::whole(&body()) } else { Reply::unframed(&body()) };
            reply.cut(1000)
        });
        let error = result.unwrap_err();
        assert!(matches!(error, FetchError::Truncated { expected: 300_000, .. }), "{error:?}");
        assert!(server.requests().len() > 2);
        assert_eq!(bench.partials(), 1);
    }
}

#[test]
fn a_missing_file_is_told_apart_and_not_retried() {
    let (bench, server, result) = fetch_from(|_| Reply::status(404));
    assert!(matches!(result, Err(FetchError::NotFound { .. })), "{result:?}");
    assert_eq!(server.requests().len(), 1);
    assert_eq!(bench.partials(), 0);
}

#[test]
fn a_busy_server_is_asked_again() {
    let (_bench, server, result) =
        fetch_from(
            |request| {
                if request.nth < 2 { Reply::status(503).header("Retry-After", "1") } else { Reply::whole(&body()) }
            },
        );
    result.unwrap();
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_server_that_stays_busy_is_left_alone() {
    let (_bench, server, result) = fetch_from(|_| Reply::status(503));
    assert!(matches!(result, Err(FetchError::Status { status: 503, .. })), "{result:?}");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_stalled_transfer_is_broken_off_and_retried() {
    let (_bench, server, result) = fetch_from(|request| {
        let reply = Reply::ranged(&body(), request);
        if request.nth == 0 { reply.stall(Duration::from_secs(20)) } else { reply }
    });
    result.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn the_next_address_is_tried_when_the_mirror_dropped_the_file() {
    let handler = |request: &Request| {
        if request.path == "mirror" { Reply::status(404) } else { Reply::whole(&body()) }
    };
    let (bench, server) = (Bench::new(), Server::start(handler));
    bench.fetch(wanted(&[&server.url("mirror"), &server.url("snapshot")])).unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_file_gone_from_the_mirror_is_not_found_even_if_the_snapshot_archive_is_unreachable() {
    let (bench, server) = (Bench::new(), Server::start(|_| Reply::status(404)));
    let result = bench.fetch(wanted(&[&server.url("mirror"), &refusing_address()]));
    assert!(matches!(result, Err(FetchError::NotFound { .. })), "{result:?}");
}

#[test]
fn nobody_waits_again_for_a_server_that_does_not_answer() {
    let bench = Bench::new();
    let url = refusing_address();
    let downloads: Vec<_> =
        (0..200).map(|n| Download { sha256: Hash::of([n]), ..wanted(&[&format!("{url}/{n}")]) }).collect();
    let start = Instant::now();
    let results = bench.fetcher.to_store(&bench.store, &downloads);
    assert!(results.iter().all(|result| matches!(result, Err(FetchError::Unreachable { .. }))), "{results:?}");
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!(bench.partials(), 0);
}

#[test]
fn an_unknown_host_is_unreachable() {
    let result = Bench::new().fetcher.get("http://no-such-host.invalid/", 10, None);
    assert!(matches!(result, Err(FetchError::Unreachable { .. })), "{result:?}");
}

#[test]
fn a_text_that_is_no_address_is_refused() {
    let result = Bench::new().fetch(wanted(&["not an address"]));
    assert!(matches!(result, Err(FetchError::BadUrl { .. })), "{result:?}");
}

#[test]
fn a_full_disk_is_reported_as_such_and_leaves_nothing() {
    let (bench, server) = (Bench::new(), Server::start(|_| Reply::whole(&body())));
    let batch = Batch {
        fetcher: &bench.fetcher,
        store: &bench.store,
        unreachable: Mutex::default(),
        disk_full: AtomicBool::new(false),
    };
    let error = transfer::run_on_full_disk(&batch, &wanted(&[&server.url("file")])).unwrap_err();
    let FetchError::Disk { source, .. } = &error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(bench.partials(), 0);
    assert!(batch.check_disk().is_err(), "the others stop too");
}

#[test]
fn many_files_share_few_connections_and_keep_their_order() {
    let bench = Bench::new();
    let server = Server::start(|request| Reply::whole(request.path.repeat(100).as_bytes()));
    let download = |n: usize| {
        let content = format!("f{n}").repeat(100);
        Download {
            urls: vec![server.url(&format!("f{n}"))],
            sha256: Hash::of(&content),
            size: content.len() as u64,
            label: format!("f{n}"),
        }
    };
    let downloads: Vec<_> = (0..60).map(download).collect();
    let results = bench.fetcher.to_store(&bench.store, &downloads);
    for (n, result) in results.into_iter().enumerate() {
        assert_eq!(fs::read_to_string(result.unwrap()).unwrap(), format!("f{n}").repeat(100));
    }
    assert!(server.connections() <= CONNECTIONS, "{} connections", server.connections());
}

#[test]
fn the_same_file_wanted_twice_at_once_is_fetched_once() {
    let (bench, server) = (Bench::new(), Server::start(|_| Reply::whole(&body()).stall(Duration::from_millis(100))));
    let one = wanted(&[&server.url("file")]);
    for result in bench.fetcher.to_store(&bench.store, &[one.clone(), one.clone(), one]) {
        result.unwrap();
    }
    assert_eq!(server.requests().len(), 1);
    assert_eq!(bench.partials(), 0);
}

#[test]
fn a_small_file_is_read_up_to_its_limit() {
    let server = Server::start(|request| match request.path.as_str() {
        "cut" if request.nth == 0 => Reply::whole(b"release").cut(3),
        "endless" => Reply::unframed(b"").endless(),
        "gone" => Reply::status(404),
        _ => Reply::whole(b"release"),
    });
    let fetcher = Bench::new().fetcher;
    assert_eq!(fetcher.get(&server.url("cut"), 7, None).unwrap().unwrap().content, b"release");
    assert!(matches!(fetcher.get(&server.url("whole"), 6, None), Err(FetchError::TooLarge { limit: 6, .. })));
    assert!(matches!(fetcher.get(&server.url("endless"), 100, None), Err(FetchError::TooLarge { .. })));
    assert!(matches!(fetcher.get(&server.url("gone"), 100, None), Err(FetchError::NotFound { .. })));
}

#[test]
fn a_file_that_has_not_changed_is_not_sent_again() {
    for validator in ["\"v1\"", "Sat, 12 Sep 2026 07:55:41 GMT"] {
        let name = if validator.starts_with('"') { "ETag" } else { "Last-Modified" };
        let server = Server::start(move |request| match request.unless.as_deref() {
            Some(known) if known == validator => Reply::status(304),
            _ => Reply::whole(b"release").header(name, validator),
        });
        let fetcher = Bench::new().fetcher;
        let first = fetcher.get(&server.url("file"), 100, None).unwrap().unwrap();
        assert_eq!(first.validator.as_deref(), Some(validator));
        assert_eq!(fetcher.get(&server.url("file"), 100, first.validator.as_deref()).unwrap(), None);
        assert_eq!(fetcher.get(&server.url("file"), 100, Some("\"v0\"")).unwrap().unwrap().content, b"release");
    }
}
