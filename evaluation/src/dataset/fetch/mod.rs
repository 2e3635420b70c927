//! Training data over http(s): resumable, checked when a sum is known, kept in a cache.
//!
//! A download grows in `NAME.part` beside its final name; `NAME.part.json` keeps the validator (`ETag` or date) that
//! proves to the server that the rest still belongs to the beginning. When all bytes are there and the sum is right,
//! one rename makes the file visible. A lock file keeps parallel evaluations from fetching the same file twice.

mod error;
mod transfer;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use reqwest::Url;
use reqwest::blocking::Client;
use sha2::{Digest, Sha256};

pub use error::FetchError;

/// A file on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    url: Url,
    sha256: Option<String>,
}

impl Remote {
    /// Reads a URL, whose fragment may hold a sum: `https://host/file.npz#sha256=0123…`.
    ///
    /// # Errors
    /// When the text is not an http(s) URL or the sum does not have 64 hexadecimal digits.
    pub fn new(url: &str, sha256: Option<&str>) -> Result<Self, FetchError> {
        let invalid = |reason: String| FetchError::Url {
            url: url.to_owned(),
            reason,
        };
        let mut parsed = Url::parse(url).map_err(|error| invalid(error.to_string()))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            return Err(invalid("only `http` and `https` can be fetched".to_owned()));
        }
        let in_fragment = parsed
            .fragment()
            .and_then(|fragment| fragment.strip_prefix("sha256="))
            .map(str::to_owned);
        parsed.set_fragment(None);
        let sha256 = sha256.map(str::to_owned).or(in_fragment).map(|sum| sum.to_lowercase());
        if let Some(sum) = &sha256
            && (sum.len() != 64 || !sum.bytes().all(|byte| byte.is_ascii_hexdigit()))
        {
            return Err(invalid(format!("`sha256` needs 64 hexadecimal digits, found `{sum}`")));
        }
        Ok(Self { url: parsed, sha256 })
    }

    /// The URL without user, password and query, fit for messages and metadata.
    #[must_use]
    pub fn shown(&self) -> String {
        let mut url = self.url.clone();
        // Both fail only for URLs without a host, which http(s) URLs have.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_query(None);
        url.to_string()
    }

    /// The name in the cache: short hash of the URL, then the last part of its path, whose extension tells the format.
    fn file_name(&self) -> String {
        let hash = hex(&Sha256::digest(self.url.as_str().as_bytes()));
        let last = self
            .url
            .path_segments()
            .and_then(|mut parts| parts.next_back())
            .unwrap_or_default();
        let last: String = last
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') {
                    c
                } else {
                    '_'
                }
            })
            .collect();
        let start = last.len().saturating_sub(80);
        format!("{}-{}", &hash[..16], &last[start..])
    }
}

/// How downloads behave.
#[derive(Debug, Clone)]
pub struct FetchOptions {
    /// Where finished files are kept.
    pub directory: PathBuf,
    /// Files larger than this are refused, in bytes.
    pub max_bytes: Option<u64>,
    /// Failures in a row, without a byte gained, after which a download is given up.
    pub attempts: u32,
    /// Pause after the first failure; doubles with each further one.
    pub first_pause: Duration,
    /// Longest silence of a server.
    pub timeout: Duration,
}

impl FetchOptions {
    /// Five attempts, half a second of first pause, one minute of silence, no limit of size.
    #[must_use]
    pub fn new(directory: PathBuf) -> Self {
        Self {
            directory,
            max_bytes: None,
            attempts: 5,
            first_pause: Duration::from_millis(500),
            timeout: Duration::from_mins(1),
        }
    }
}

/// Brings a file here, or finds it in the cache, and returns its path; `note` hears about retries.
///
/// On return the file is complete and, where a sum is known, checked.
///
/// # Errors
/// When the server refuses, stays unreachable or sends something else, or when the file cannot be written.
pub fn fetch(remote: &Remote, options: &FetchOptions, note: &mut dyn FnMut(&str)) -> Result<PathBuf, FetchError> {
    let shown = remote.shown();
    let local = |path: &Path| {
        let (path, url) = (path.to_owned(), shown.clone());
        move |source: io::Error| FetchError::Local { url, path, source }
    };
    fs::create_dir_all(&options.directory).map_err(local(&options.directory))?;
    let target = options.directory.join(remote.file_name());
    let lock_path = with_suffix(&target, ".lock");
    let lock = File::create(&lock_path).map_err(local(&lock_path))?;
    lock.lock().map_err(local(&lock_path))?;

    if let Some(sum) = &remote.sha256
        && target.exists()
    {
        if sha256_of(&target).map_err(local(&target))? == *sum {
            return Ok(target);
        }
        note(&format!("{shown}: the cached copy has another sum, fetching it again"));
        fs::remove_file(&target).map_err(local(&target))?;
    }

    // Already installed by an earlier call is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = Client::builder()
        .timeout(options.timeout)
        .connect_timeout(options.timeout.min(Duration::from_secs(20)))
        .user_agent(concat!("evaluation/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| FetchError::Network {
            url: shown.clone(),
            reason: error::chain(&error),
        })?;

    let outcome = transfer::Transfer::new(&client, remote, &target, options).run(note);
    match outcome {
        Ok(transfer::Outcome::Unchanged) => Ok(target),
        Ok(transfer::Outcome::Fetched(part)) => {
            if let Some(expected) = &remote.sha256 {
                let found = sha256_of(&part).map_err(local(&part))?;
                if found != *expected {
                    transfer::discard(&target);
                    return Err(FetchError::Checksum {
                        url: shown,
                        expected: expected.clone(),
                        found,
                    });
                }
            }
            File::open(&part)
                .and_then(|file| file.sync_all())
                .map_err(local(&part))?;
            fs::rename(&part, &target).map_err(local(&target))?;
            transfer::keep_validator(&target);
            Ok(target)
        }
        Err(error) if error.is_unreachable() && target.exists() => {
            note(&format!("{error}; using the copy fetched earlier"));
            Ok(target)
        }
        Err(error) => Err(error),
    }
}

/// The SHA-256 of a file in hexadecimal digits.
pub(crate) fn sha256_of(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hash.finalize()));
        }
        hash.update(&buffer[..count]);
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_may_stand_in_the_fragment() {
        let sum = "AB".repeat(32);
        let remote = Remote::new(&format!("https://host/a/b.npz?k=1#sha256={sum}"), None).unwrap();
        assert_eq!(remote.sha256.as_deref(), Some("ab".repeat(32).as_str()));
        assert_eq!(remote.url.as_str(), "https://host/a/b.npz?k=1");
    }

    #[test]
    fn secrets_in_a_url_are_not_shown() {
        let remote = Remote::new("https://me:word@host/b.csv?token=x", None).unwrap();
        assert_eq!(remote.shown(), "https://host/b.csv");
    }

    #[test]
    fn the_name_in_the_cache_is_tame_and_keeps_the_extension() {
        let remote = Remote::new("http://host/a%20b/%2e%2e/c d.csv.gz", None).unwrap();
        let name = remote.file_name();
        assert!(
            name.ends_with(".csv.gz") && !name.contains('/') && !name.contains(' '),
            "{name}"
        );
    }

    #[test]
    fn impossible_urls_are_refused() {
        let ftp = Remote::new("ftp://host/a.npz", None).unwrap_err().to_string();
        assert_eq!(
            ftp,
            "training data `ftp://host/a.npz`: only `http` and `https` can be fetched"
        );
        let short = Remote::new("http://host/a.npz#sha256=12", None)
            .unwrap_err()
            .to_string();
        assert!(
            short.ends_with("`sha256` needs 64 hexadecimal digits, found `12`"),
            "{short}"
        );
    }
}
