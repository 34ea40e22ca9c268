use std::cell::Cell;

use super::testing::{Fault, TestServer};
use super::*;
use crate::update::engine::Payload as _;

fn impatient() -> Patience {
    Patience {
        attempts: 3,
        pause: Duration::from_millis(1),
        longest_pause: Duration::from_millis(5),
        stall: Duration::from_millis(400),
        small: Duration::from_secs(2),
    }
}

fn content() -> Vec<u8> {
    (0..1 << 20).map(|i: u32| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn served() -> (TestServer, Object, Vec<u8>) {
    let content = content();
    let object = Object::of(&content);
    (TestServer::new([(object.path(), content.clone())]), object, content)
}

/// Fetches ranges; what came, and how many bytes were received for it.
fn fetch(server: &TestServer, object: Object, ranges: &[std::ops::Range<u64>]) -> anyhow::Result<(Vec<u8>, u64)> {
    let http = Http::new(server.address(), &impatient());
    let received = Cell::new(0);
    let watch = |count| received.set(received.get() + count);
    let mut fetcher = Fetcher::new(&http, object, impatient(), Limiter::new(None), &watch);
    fetcher.expect(ranges.to_vec());
    let mut all = Vec::new();
    for range in ranges {
        all.extend(fetcher.fetch(range.clone())?);
    }
    Ok((all, received.get()))
}

fn parts(content: &[u8], ranges: &[std::ops::Range<u64>]) -> Vec<u8> {
    ranges.iter().flat_map(|range| content[range.start as usize..range.end as usize].to_vec()).collect()
}

const RANGES: [std::ops::Range<u64>; 4] = [10..5_000, 5_000..90_000, 100_000..200_000, 900_000..1_000_000];

#[test]
fn ranges_that_lie_close_together_are_one_request() {
    let (server, object, content) = served();
    let (all, received) = fetch(&server, object, &RANGES).unwrap();
    assert_eq!(all, parts(&content, &RANGES));
    let asked: Vec<_> = server.requests().into_iter().map(|(_, range)| range.unwrap()).collect();
    assert_eq!(asked, [10..200_000, 900_000..1_000_000]);
    assert_eq!(received, 10_000 + parts(&content, &RANGES).len() as u64);
}

#[test]
fn a_server_that_ignores_ranges_serves_all_the_same() {
    let (server, object, content) = served();
    server.fail(Some(Fault::NoRanges));
    let (all, received) = fetch(&server, object, &RANGES).unwrap();
    assert_eq!(all, parts(&content, &RANGES));
    assert!(received <= 2 * content.len() as u64 && server.requests().len() <= 2, "{received}");
}

#[test]
fn what_was_received_before_a_dropped_link_is_not_fetched_again() {
    let (server, object, content) = served();
    server.fail(Some(Fault::BreaksAfter(30_000)));
    let (all, received) = fetch(&server, object, &RANGES).unwrap();
    assert_eq!(all, parts(&content, &RANGES));
    assert!(received < 10_000 + all.len() as u64 + 64, "{received} for {}", all.len());
    assert!(server.requests().len() >= all.len() / 30_000);
}

#[test]
fn a_busy_server_is_asked_again_and_a_dead_one_is_given_up() {
    let (server, object, content) = served();
    server.fail(Some(Fault::Busy(2)));
    assert_eq!(fetch(&server, object, &RANGES).unwrap().0, parts(&content, &RANGES));
    server.fail(Some(Fault::Busy(1000)));
    server.requests();
    let error = fetch(&server, object, &RANGES).unwrap_err();
    assert_eq!(error.to_string(), "the server answers with status 503");
    assert_eq!(server.requests().len(), 3);
}

#[test]
fn a_server_that_is_down_is_the_users_to_mend() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let http = Http::new(&format!("http://{address}"), &impatient());
    let error = small(&http, "stable/qemu.json", 1000, &impatient()).unwrap_err();
    assert_eq!(error.to_string(), "the server cannot be reached: nobody listens there");
    assert!(error.is_transient() && crate::report::is_mendable(&Mistake::from(error).into()));
}

#[test]
fn a_truncated_answer_is_an_error() {
    let (server, object, _) = served();
    server.fail(Some(Fault::Truncates));
    let error = super::object(&Http::new(server.address(), &impatient()), &object, &impatient()).unwrap_err();
    assert_eq!(error, SourceError::Damaged(object.path()));
}

#[test]
fn an_endless_answer_is_read_as_far_as_it_may_go() {
    let (server, object, _) = served();
    server.fail(Some(Fault::Endless));
    let http = Http::new(server.address(), &impatient());
    let error = small(&http, &object.path(), 10_000, &impatient()).unwrap_err();
    assert_eq!(error, SourceError::TooLong { path: object.path(), limit: 10_000 });
    // Of a payload, only what was asked for is looked at; its digest tells the rest.
    assert_eq!(fetch(&server, object, &RANGES).unwrap().0.len(), parts(&content(), &RANGES).len());
}

#[test]
fn a_server_that_falls_silent_is_not_waited_for() {
    let (server, object, _) = served();
    server.fail(Some(Fault::Stalls));
    let start = Instant::now();
    assert!(super::object(&Http::new(server.address(), &impatient()), &object, &impatient()).is_err());
    assert!(start.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_corrupted_object_is_not_what_its_name_says() {
    let (server, object, _) = served();
    server.fail(Some(Fault::Corrupts(77)));
    let error = super::object(&Http::new(server.address(), &impatient()), &object, &impatient()).unwrap_err();
    assert_eq!(error, SourceError::Damaged(object.path()));
}

#[test]
fn a_file_that_is_not_there_is_not_asked_for_twice() {
    let (server, _, _) = served();
    let http = Http::new(server.address(), &impatient());
    let error = small(&http, "keys/2.json", 1000, &impatient()).unwrap_err();
    assert_eq!(error, SourceError::NotFound("keys/2.json".to_owned()));
    assert_eq!(server.requests().len(), 1);
}
