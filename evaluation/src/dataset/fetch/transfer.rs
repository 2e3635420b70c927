//! One download: requests, resumption, retries.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::blocking::{Client, Response};
use reqwest::header::{
    ACCEPT_ENCODING, CONTENT_RANGE, ETAG, HeaderMap, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, LAST_MODIFIED, RANGE,
    RETRY_AFTER,
};
use serde::{Deserialize, Serialize};

use super::{FetchError, FetchOptions, Remote, error, with_suffix};

/// How a download ended.
pub(crate) enum Outcome {
    /// The cached file is still what the server has.
    Unchanged,
    /// All bytes are in this temporary file.
    Fetched(PathBuf),
}

/// What identifies the version of a file on its server.
#[derive(Debug, Default, Clone, PartialEq, Serialize, Deserialize)]
struct Validator {
    etag: Option<String>,
    last_modified: Option<String>,
}

impl Validator {
    fn of(headers: &HeaderMap) -> Self {
        let text = |name| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        Self {
            etag: text(ETAG),
            last_modified: text(LAST_MODIFIED),
        }
    }

    /// What may stand in `If-Range`: a strong tag or a date.
    fn for_range(&self) -> Option<&str> {
        self.etag
            .as_deref()
            .filter(|tag| !tag.starts_with("W/"))
            .or(self.last_modified.as_deref())
    }
}

pub(crate) struct Transfer<'a> {
    client: &'a Client,
    remote: &'a Remote,
    options: &'a FetchOptions,
    target: &'a Path,
    part: PathBuf,
    part_validator: PathBuf,
}

/// Whether trying again can help.
enum Failure {
    Final(FetchError),
    Again { error: FetchError, wait: Option<Duration> },
}

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        Self::Final(error)
    }
}

impl<'a> Transfer<'a> {
    pub(crate) fn new(client: &'a Client, remote: &'a Remote, target: &'a Path, options: &'a FetchOptions) -> Self {
        Self {
            client,
            remote,
            options,
            target,
            part: with_suffix(target, ".part"),
            part_validator: with_suffix(target, ".part.json"),
        }
    }

    /// Tries until all is here, the server refuses, or too many failures in a row brought no byte.
    pub(crate) fn run(&self, note: &mut dyn FnMut(&str)) -> Result<Outcome, FetchError> {
        let mut failures = 0;
        loop {
            let before = self.part_length();
            match self.attempt(note) {
                Ok(outcome) => return Ok(outcome),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Again { error, wait }) => {
                    failures = if self.part_length() > before { 1 } else { failures + 1 };
                    if failures >= self.options.attempts {
                        return Err(error);
                    }
                    let pause = wait.unwrap_or(self.options.first_pause * 2u32.saturating_pow(failures - 1));
                    note(&format!("{error}; trying again, {} bytes are here", self.part_length()));
                    std::thread::sleep(pause);
                }
            }
        }
    }

    fn attempt(&self, note: &mut dyn FnMut(&str)) -> Result<Outcome, Failure> {
        // Compression in transit would make ranges count other bytes than those on disk.
        let mut request = self
            .client
            .get(self.remote.url.clone())
            .header(ACCEPT_ENCODING, "identity");
        let mut start = self.part_length();
        let validator = read_validator(&self.part_validator).unwrap_or_default();
        match validator.for_range() {
            Some(value) if start > 0 => {
                request = request.header(RANGE, format!("bytes={start}-")).header(IF_RANGE, value);
            }
            _ => start = 0,
        }
        if start == 0 && self.target.exists() {
            let validator = read_validator(&with_suffix(self.target, ".json")).unwrap_or_default();
            if let Some(tag) = validator.etag {
                request = request.header(IF_NONE_MATCH, tag);
            } else if let Some(date) = validator.last_modified {
                request = request.header(IF_MODIFIED_SINCE, date);
            }
        }
        let response = request.send().map_err(|error| self.again(&error))?;

        let status = response.status();
        match status {
            StatusCode::NOT_MODIFIED => return Ok(Outcome::Unchanged),
            StatusCode::OK => start = 0,
            StatusCode::PARTIAL_CONTENT if range_start(response.headers()) == Some(start) => {}
            StatusCode::PARTIAL_CONTENT | StatusCode::RANGE_NOT_SATISFIABLE => {
                discard(self.target);
                return Err(Failure::Again {
                    error: self.refused(status),
                    wait: Some(Duration::ZERO),
                });
            }
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
                let wait = retry_after(response.headers());
                return Err(Failure::Again {
                    error: self.refused(status),
                    wait,
                });
            }
            _ if status.is_server_error() => {
                let wait = retry_after(response.headers());
                return Err(Failure::Again {
                    error: self.refused(status),
                    wait,
                });
            }
            _ => return Err(self.refused(status).into()),
        }
        let size = response
            .content_length()
            .map_or_else(String::new, |length| format!(", {length} bytes"));
        note(&format!("fetching {}{size}", self.remote.shown()));
        self.receive(response, start)?;
        Ok(Outcome::Fetched(self.part.clone()))
    }

    /// Appends the body to what is here, and checks the length that the server announced.
    fn receive(&self, mut response: Response, start: u64) -> Result<(), Failure> {
        let expected = response.content_length().map(|length| start + length);
        if let Some(length) = expected {
            self.check_size(length)?;
        }
        if start == 0 {
            let validator = Validator::of(response.headers());
            let text = serde_json::to_vec(&validator).expect("two strings always serialise");
            fs::write(&self.part_validator, text).map_err(|error| self.local(error))?;
        }
        let mut file = OpenOptions::new()
            .create(true)
            .write(true)
            .truncate(start == 0)
            .append(start > 0)
            .open(&self.part)
            .map_err(|error| self.local(error))?;
        let mut here = start;
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match response.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) => {
                    file.flush().map_err(|error| self.local(error))?;
                    return Err(self.broken(&format!("the connection broke after {here} bytes: {error}")));
                }
            };
            here += count as u64;
            self.check_size(here)?;
            file.write_all(&buffer[..count]).map_err(|error| self.local(error))?;
        }
        match expected {
            Some(length) if here < length => {
                Err(self.broken(&format!("the connection broke after {here} of {length} bytes")))
            }
            _ => Ok(()),
        }
    }

    fn check_size(&self, found: u64) -> Result<(), FetchError> {
        match self.options.max_bytes {
            Some(limit) if found > limit => {
                discard(self.target);
                Err(FetchError::TooLarge {
                    url: self.remote.shown(),
                    found,
                    limit,
                })
            }
            _ => Ok(()),
        }
    }

    fn part_length(&self) -> u64 {
        fs::metadata(&self.part).map_or(0, |metadata| metadata.len())
    }

    fn local(&self, source: std::io::Error) -> FetchError {
        FetchError::Local {
            url: self.remote.shown(),
            path: self.part.clone(),
            source,
        }
    }

    fn again(&self, error: &reqwest::Error) -> Failure {
        self.broken(&error::chain(error))
    }

    fn broken(&self, reason: &str) -> Failure {
        Failure::Again {
            error: FetchError::Network {
                url: self.remote.shown(),
                reason: reason.to_owned(),
            },
            wait: None,
        }
    }

    fn refused(&self, status: StatusCode) -> FetchError {
        FetchError::Refused {
            url: self.remote.shown(),
            status: status.to_string(),
            hint: match status.as_u16() {
                404 | 410 => "; check the address",
                401 | 403 => "; the file needs permission that this program does not have",
                _ => "",
            },
        }
    }
}

/// Removes what an unfinished download left.
pub(crate) fn discard(target: &Path) {
    // What is not there need not be removed, and what cannot be removed is overwritten by the next download.
    let _ = fs::remove_file(with_suffix(target, ".part"));
    let _ = fs::remove_file(with_suffix(target, ".part.json"));
}

/// Keeps the validator of a finished download, so that the next run can ask whether the file changed.
pub(crate) fn keep_validator(target: &Path) {
    // Without it the file is fetched again, nothing worse.
    let _ = fs::rename(with_suffix(target, ".part.json"), with_suffix(target, ".json"));
}

fn read_validator(path: &Path) -> Option<Validator> {
    serde_json::from_reader(File::open(path).ok()?).ok()
}

/// The first byte of `Content-Range: bytes 5-9/10`.
fn range_start(headers: &HeaderMap) -> Option<u64> {
    let text = headers.get(CONTENT_RANGE)?.to_str().ok()?;
    text.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}

/// Seconds that the server asks for, at most a minute.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds: u64 = headers.get(RETRY_AFTER)?.to_str().ok()?.parse().ok()?;
    Some(Duration::from_secs(seconds.min(60)))
}
