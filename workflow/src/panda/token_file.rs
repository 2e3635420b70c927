//! The file in which a token lies until it has run out: `.token`, what the token endpoint answered, as the client of PanDA keeps it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde_json::Value;

use super::Environment;

/// Seconds that a token must have left to be of use, as for the client of PanDA.
const LEAST_LEFT: f64 = 300.0;
/// Where its setup script has the client of PanDA keep its files, below the home directory.
const FOLDER: &str = ".pathena";
/// The parts of a token, with or without the signs that fill up the last.
const ENCODING: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// What the file says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// This token can be shown for a while.
    Valid(String),
    /// The token has run out, but a new one may be had for this.
    Renewable(String),
    /// There is nothing to go on with.
    Nothing,
}

/// Where the token lies: in the directory that `PANDA_CONFIG_ROOT` names, or in `~/.pathena`.
pub(super) fn path(variable: Environment<'_>) -> PathBuf {
    let home = || PathBuf::from(variable("HOME").unwrap_or_else(|| ".".to_owned()));
    let folder = match variable("PANDA_CONFIG_ROOT") {
        None => home().join(FOLDER),
        Some(folder) => match folder.strip_prefix('~') {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => home().join(rest.trim_start_matches('/')),
            _ => PathBuf::from(folder),
        },
    };
    folder.join(".token")
}

/// What lies there at `now`, in seconds since 1970.
///
/// # Errors
/// What is wrong with a file that is there and cannot be used.
pub(super) fn read(path: &Path, now: f64) -> Result<Kept, String> {
    match fs::read(path) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Kept::Nothing),
        read => understood(&read.map_err(|error| error.to_string())?, now),
    }
}

/// What the text of a file says at `now`.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn understood(text: &[u8], now: f64) -> Result<Kept, String> {
    let answer: Value = serde_json::from_slice(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let token = answer["id_token"].as_str().ok_or("it has no `id_token`")?;
    if expiry(token).ok_or("its `id_token` does not say until when it holds")? - now >= LEAST_LEFT {
        return Ok(Kept::Valid(token.to_owned()));
    }
    let renewal = answer["refresh_token"].as_str().filter(|text| !text.is_empty());
    Ok(renewal.map_or(Kept::Nothing, |text| Kept::Renewable(text.to_owned())))
}

/// Until when a token holds, in seconds since 1970: the claim `exp` in its middle part (RFC 7519, section 4.1.4).
fn expiry(token: &str) -> Option<f64> {
    let claims = ENCODING.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Value>(&claims).ok()?["exp"].as_f64()
}

/// Keeps an answer, for nobody else to read.
///
/// # Errors
/// What the system says.
pub(super) fn write(path: &Path, answer: &Value) -> std::io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".token.{}", std::process::id()));
    let written = File::options()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut file| file.write_all(answer.to_string().as_bytes()))
        .and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // What is left of it helps nobody.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// A token that holds until `expiry`, for tests; nobody has signed it.
#[cfg(test)]
pub(super) fn token_until(expiry: f64) -> String {
    let claims = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(format!("{{\"exp\":{expiry}}}"));
    format!("e30.{claims}.x")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_token_is_of_use_until_five_minutes_before_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deeper/.token");
        assert_eq!(read(&path, 0.0), Ok(Kept::Nothing));
        let token = token_until(1000.0);
        write(&path, &json!({"id_token": token, "refresh_token": "again"})).unwrap();
        assert_eq!(read(&path, 700.0), Ok(Kept::Valid(token.clone())));
        assert_eq!(read(&path, 700.5), Ok(Kept::Renewable("again".to_owned())));
        write(&path, &json!({"id_token": token})).unwrap();
        assert_eq!(read(&path, 700.5), Ok(Kept::Nothing));
    }

    #[test]
    fn only_the_user_may_read_it_and_nothing_else_is_left() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".token");
        write(&path, &json!({})).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_wrong_with_a_file_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(".token");
        let wrong = |text: &str| {
            fs::write(&path, text).unwrap();
            read(&path, 0.0).unwrap_err()
        };
        assert!(wrong("{").starts_with("it is not JSON"));
        assert_eq!(wrong("[]"), "it has no `id_token`");
        for token in ["a", "a.!.c", "a.e30.c", "..", "a.W10.c"] {
            let said = wrong(&json!({ "id_token": token }).to_string());
            assert_eq!(said, "its `id_token` does not say until when it holds", "{token}");
        }
    }

    #[test]
    fn the_directory_is_that_of_the_client_of_panda() {
        let with = |root: Option<&'static str>| {
            path(&move |name| match name {
                "HOME" => Some("/home/me".to_owned()),
                "PANDA_CONFIG_ROOT" => root.map(str::to_owned),
                _ => None,
            })
        };
        assert_eq!(with(None), Path::new("/home/me/.pathena/.token"));
        assert_eq!(with(Some("~/.panda")), Path::new("/home/me/.panda/.token"));
        assert_eq!(with(Some("~")), Path::new("/home/me/.token"));
        assert_eq!(with(Some("/etc/x")), Path::new("/etc/x/.token"));
    }
}
