//! Downloads from a server that answers as the test says.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use evaluation::dataset::fetch::{FetchError, FetchOptions, Remote, fetch};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::support::{Work, blobs, model};

/// A server that answers the n-th request with the n-th answer and keeps the requests.
struct Server {
    url: String,
    requests: Arc<Mutex<Vec<String>>>,
    thread: JoinHandle<()>,
}

type Answer = Box<dyn FnOnce(&mut TcpStream, &str) + Send>;

impl Server {
    fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/blobs.csv", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let thread = std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = String::new();
                let mut reader = BufReader::new(stream.try_clone().unwrap());
                while !request.ends_with("\r\n\r\n") && reader.read_line(&mut request).unwrap() > 0 {}
                kept.lock().unwrap().push(request.to_lowercase());
                answer(&mut stream, &request);
            }
        });
        Self { url, requests, thread }
    }

    /// All requests, after the last answer.
    fn requests(self) -> Vec<String> {
        self.thread.join().unwrap();
        self.requests.lock().unwrap().clone()
    }
}

/// An answer with this status and headers that announces `length` bytes and sends `body`.
fn answer(status: &'static str, headers: &'static str, length: usize, body: Vec<u8>) -> Answer {
    Box::new(move |stream, _| {
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&body).unwrap();
        stream.flush().unwrap();
    })
}

fn whole(body: &[u8]) -> Answer {
    answer("200 OK", "ETag: \"v1\"\r\n", body.len(), body.to_vec())
}

fn options(directory: &Path) -> FetchOptions {
    let mut options = FetchOptions::new(directory.to_owned());
    options.first_pause = Duration::ZERO;
    options.attempts = 3;
    options
}

fn get(url: &str, sum: Option<&str>, directory: &Path) -> Result<Vec<u8>, FetchError> {
    let path = fetch(&Remote::new(url, sum)?, &options(directory), &mut |_| {})?;
    Ok(std::fs::read(path).unwrap())
}

fn body() -> Vec<u8> {
    (0..50_000u32).flat_map(u32::to_le_bytes).collect()
}

fn sum(body: &[u8]) -> String {
    Sha256::digest(body)
        .iter()
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[test]
fn a_broken_connection_is_taken_up_where_it_broke() {
    let (directory, body) = (TempDir::new().unwrap(), body());
    let rest = body[120_000..].to_vec();
    let server = Server::start(vec![
        answer("200 OK", "ETag: \"v1\"\r\n", body.len(), body[..120_000].to_vec()),
        answer(
            "206 Partial Content",
            "Content-Range: bytes 120000-199999/200000\r\n",
            rest.len(),
            rest,
        ),
    ]);
    assert_eq!(
        get(&server.url.clone(), Some(&sum(&body)), directory.path()).unwrap(),
        body
    );
    let requests = server.requests();
    assert!(
        requests[1].contains("range: bytes=120000-") && requests[1].contains("if-range: \"v1\""),
        "{requests:?}"
    );
    let left: Vec<_> = std::fs::read_dir(directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    assert!(
        left.iter().all(|path| !path.to_string_lossy().contains(".part")),
        "{left:?}"
    );
}

#[test]
fn a_file_that_changed_meanwhile_is_fetched_from_its_beginning() {
    let (directory, body) = (TempDir::new().unwrap(), body());
    let server = Server::start(vec![
        answer("200 OK", "ETag: \"v0\"\r\n", 999_999, vec![7; 1000]),
        whole(&body),
    ]);
    assert_eq!(get(&server.url.clone(), None, directory.path()).unwrap(), body);
    server.requests();
}

#[test]
fn a_file_in_the_cache_is_checked_with_the_server_or_by_its_sum() {
    let (directory, body) = (TempDir::new().unwrap(), body());
    let server = Server::start(vec![whole(&body), answer("304 Not Modified", "", 0, Vec::new())]);
    let url = server.url.clone();
    assert_eq!(get(&url, None, directory.path()).unwrap(), body);
    assert_eq!(get(&url, None, directory.path()).unwrap(), body);
    let requests = server.requests();
    assert!(requests[1].contains("if-none-match: \"v1\""), "{requests:?}");
    // The server is gone: the sum, or else the copy, is enough.
    assert_eq!(get(&url, Some(&sum(&body)), directory.path()).unwrap(), body);
    assert_eq!(get(&url, None, directory.path()).unwrap(), body);
}

#[test]
fn a_server_in_trouble_is_asked_again() {
    let (directory, body) = (TempDir::new().unwrap(), body());
    let busy = || answer("503 Service Unavailable", "", 0, Vec::new());
    let server = Server::start(vec![busy(), busy(), whole(&body)]);
    assert_eq!(get(&server.url.clone(), None, directory.path()).unwrap(), body);
    server.requests();
}

#[test]
fn an_end_of_patience_names_the_last_failure() {
    let directory = TempDir::new().unwrap();
    let busy = || answer("503 Service Unavailable", "", 0, Vec::new());
    let server = Server::start(vec![busy(), busy(), busy()]);
    let error = get(&server.url.clone(), None, directory.path()).unwrap_err();
    assert!(error.is_infrastructure());
    assert_eq!(
        error.to_string(),
        format!(
            "training data `{}`: the server answers 503 Service Unavailable",
            server.url
        )
    );
    let url = server.url.clone();
    server.requests();
    let error = get(&url, None, directory.path()).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with(&format!("training data `{url}`: cannot connect: ")),
        "{error}"
    );
}

#[test]
fn refusals_wrong_sums_and_oversize_are_final() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(vec![answer("404 Not Found", "", 0, Vec::new())]);
    let error = get(&server.url.clone(), None, directory.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "training data `{}`: the server answers 404 Not Found; check the address",
            server.url
        )
    );
    assert!(!error.is_infrastructure());
    server.requests();

    let server = Server::start(vec![whole(b"one")]);
    let expected = sum(b"two");
    let error = get(&server.url.clone(), Some(&expected), directory.path()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "training data `{}`: wrong content, its SHA-256 must be {expected}, found {}; correct the sum or fetch \
             from elsewhere",
            server.url,
            sum(b"one")
        )
    );
    server.requests();

    let server = Server::start(vec![whole(b"12345")]);
    let mut small = options(directory.path());
    small.max_bytes = Some(4);
    let error = fetch(&Remote::new(&server.url, None).unwrap(), &small, &mut |_| {}).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("training data `{}`: 5 bytes are over the limit of 4", server.url)
    );
    server.requests();
}

#[test]
fn the_program_trains_from_a_url_with_a_sum() {
    let mut body = Vec::new();
    std::fs::File::open(crate::support::fixture("blobs.csv"))
        .unwrap()
        .read_to_end(&mut body)
        .unwrap();
    let server = Server::start(vec![whole(&body)]);
    let work = Work::new(&model(&blobs()));
    work.write(
        "input_ds.json",
        format!(r#"[{{"url": "{}", "sha256": "{}"}}]"#, server.url, sum(&body)),
    );
    work.succeed(&["--quiet", "--device", "cpu", "--cache", "cache"]);
    server.requests();
    // The second time the sum proves the cached copy, and no server is needed.
    work.succeed(&["--quiet", "--device", "cpu", "--cache", "cache"]);
}
