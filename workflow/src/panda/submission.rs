//! Sending a task to the servers of PanDA: the requests of its own client, version 2.2.
//!
//! | request | what it is for |
//! | --- | --- |
//! | `POST file_server/validate_cache_file` | is an archive of this size and checksum there already? |
//! | `POST file_server/upload_cache_file` | if not, the archive |
//! | `POST task/submit` | the task |

use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use reqwest::Url;
use reqwest::blocking::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE};
use serde_json::{Map, Value, json};

use super::PandaError;
use super::credentials::describe;
use crate::task::SandboxFile;

/// Largest archive that the server takes, in bytes.
pub(crate) const LARGEST_ARCHIVE: usize = 10 << 20;
/// Between the parts of an upload; compressed files have it by no likely chance, and it is looked for all the same.
const BOUNDARY: &str = "hpo-archive-8c1f6f0d2b7a4e59";

/// Where the servers are.
#[derive(Debug, Clone)]
pub(crate) struct Servers {
    /// Takes tasks.
    pub(crate) panda: String,
    /// Keeps files.
    pub(crate) cache: String,
}

impl Servers {
    /// Those that the environment names, or those of the experiment ATLAS; `integration` means its servers for trying things out.
    pub(crate) fn find(variable: super::Environment<'_>, integration: bool) -> Servers {
        let of = |name: &str, standard: &str| match variable(name) {
            _ if integration => "https://aipanda123.cern.ch:25443".to_owned(),
            Some(url) => origin(&url),
            None => standard.to_owned(),
        };
        Servers {
            panda: of("PANDA_URL_SSL", "https://pandaserver.cern.ch"),
            cache: of("PANDACACHE_URL", "https://pandacache.cern.ch"),
        }
    }
}

/// Scheme, host and port of an address.
fn origin(url: &str) -> String {
    match url.split_once("://") {
        Some((scheme, rest)) => format!("{scheme}://{}", rest.split('/').next().unwrap_or(rest)),
        None => url.to_owned(),
    }
}

/// The files as a compressed archive. Equal files give equal archives, so that the server knows them again.
pub(crate) fn archive(root: &Path, files: &[SandboxFile]) -> std::io::Result<Vec<u8>> {
    let mut builder = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
    builder.mode(tar::HeaderMode::Deterministic);
    for file in files {
        builder.append_path_with_name(root.join(&file.path), Path::new(".").join(&file.path))?;
    }
    builder.into_inner()?.finish()
}

/// A server of PanDA, and who we are to it.
#[derive(Debug)]
pub(crate) struct Submission<'a> {
    pub(crate) client: &'a Client,
    pub(crate) servers: Servers,
}

impl Submission<'_> {
    /// Brings the archive to the server, unless it has one like it; returns the name under which it lies there.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses it.
    pub(crate) fn upload(&mut self, name: &str, archive: &[u8]) -> Result<String, PandaError> {
        // The last bytes of a compressed file are its checksum and the length of what it holds.
        let checksum = archive
            .len()
            .checked_sub(8)
            .and_then(|at| archive[at..at + 4].try_into().ok());
        let checksum = u32::from_le_bytes(checksum.unwrap_or_default());
        let question = json!({"file_size": archive.len(), "checksum": checksum});
        let found = self.post(&self.servers.panda, "file_server/validate_cache_file", &question)?;
        if let Some(place) = found["message"].as_str().and_then(|text| text.strip_prefix("FOUND:"))
            && let Some((host, known)) = place.rsplit_once(':')
        {
            self.servers.cache = with_host(&self.servers.cache, host);
            return Ok(known.to_owned());
        }
        let mut body = Vec::with_capacity(archive.len() + 300);
        let head = format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(archive);
        write!(body, "\r\n--{BOUNDARY}--\r\n").expect("memory takes what is written");
        let url = format!("{}/api/v1/file_server/upload_cache_file", self.servers.cache);
        let request = self.client.post(&url).header(ACCEPT, "application/json");
        let request = request.header(CONTENT_TYPE, format!("multipart/form-data; boundary={BOUNDARY}"));
        let answer = answer(&url, request.body(body).send())?;
        if answer["success"] == true {
            return Ok(name.to_owned());
        }
        Err(refused("the archive", &answer))
    }

    /// Submits the task; returns its number, if the server tells it, and what the server says.
    ///
    /// # Errors
    /// When the server cannot be reached or refuses it.
    pub(crate) fn submit(&self, parameters: &Map<String, Value>) -> Result<(Option<u64>, String), PandaError> {
        let body = json!({"task_parameters": parameters, "parent_tid": null});
        let answer = self.post(&self.servers.panda, "task/submit", &body)?;
        // A task that goes on with what is already there is refused with code 3, and yet accepted.
        if answer["success"] != true && answer["data"] != 3 {
            return Err(refused("the task", &answer));
        }
        let message = answer["message"].as_str().unwrap_or_default().to_owned();
        let digits = message.split_once("jediTaskID=").map_or("", |(_, rest)| rest);
        let end = digits
            .find(|letter: char| !letter.is_ascii_digit())
            .unwrap_or(digits.len());
        Ok((digits[..end].parse().ok(), message))
    }

    fn post(&self, server: &str, endpoint: &str, body: &Value) -> Result<Value, PandaError> {
        let url = format!("{server}/api/v1/{endpoint}");
        let request = self.client.post(&url).header(CONTENT_TYPE, "application/json");
        let request = request.header(ACCEPT, "application/json").body(body.to_string());
        answer(&url, request.send())
    }
}

/// The same address with another host.
fn with_host(url: &str, host: &str) -> String {
    let port = Url::parse(url).ok().and_then(|url| url.port());
    let scheme = url.split("://").next().unwrap_or("https");
    port.map_or_else(
        || format!("{scheme}://{host}"),
        |port| format!("{scheme}://{host}:{port}"),
    )
}

fn answer(url: &str, sent: reqwest::Result<reqwest::blocking::Response>) -> Result<Value, PandaError> {
    let unreachable = |error: reqwest::Error| PandaError::Network(describe(&error));
    let response = sent.map_err(unreachable)?;
    let status = response.status();
    let text = response.text().map_err(unreachable)?;
    let shown: String = text.chars().take(300).collect();
    if matches!(status.as_u16(), 401 | 403) {
        return Err(PandaError::Credentials(format!(
            "`{url}` answers {status}: {shown}; renew the proxy certificate or token (`hpo submit --help` says where they lie)"
        )));
    }
    if !status.is_success() {
        return Err(PandaError::Network(format!("`{url}` answers {status}: {shown}")));
    }
    serde_json::from_str(&text).map_err(|_| PandaError::Network(format!("`{url}` answers what is not JSON: {shown}")))
}

fn refused(what: &str, answer: &Value) -> PandaError {
    let reason = answer["message"]
        .as_str()
        .map_or_else(|| answer.to_string(), str::to_owned);
    PandaError::Refused(format!("the server refuses {what}: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_from_the_environment_without_their_paths() {
        let given = |name: &str| (name == "PANDA_URL_SSL").then(|| "https://host:25443/server/panda".to_owned());
        let servers = Servers::find(&given, false);
        assert_eq!(
            (servers.panda.as_str(), servers.cache.as_str()),
            ("https://host:25443", "https://pandacache.cern.ch")
        );
        assert_eq!(Servers::find(&given, true).panda, "https://aipanda123.cern.ch:25443");
        assert_eq!(with_host("https://a:25443", "b.ch"), "https://b.ch:25443");
    }

    #[test]
    fn equal_files_give_equal_archives() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("d")).unwrap();
        std::fs::write(root.path().join("d/a.json"), "{}").unwrap();
        let files = [SandboxFile {
            path: "d/a.json".into(),
            bytes: 2,
        }];
        let first = archive(root.path(), &files).unwrap();
        std::fs::write(root.path().join("d/a.json"), "{}").unwrap();
        assert_eq!(first, archive(root.path(), &files).unwrap());
        let mut read = tar::Archive::new(flate2::read::GzDecoder::new(&first[..]));
        let names: Vec<_> = read
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().into_owned())
            .collect();
        assert_eq!(names, [Path::new("d/a.json")]);
    }
}
