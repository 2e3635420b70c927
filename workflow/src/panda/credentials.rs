//! Who we are to the servers of PanDA, from the same places in which its own client looks.

use std::fs;
use std::path::{Path, PathBuf};

use reqwest::blocking::{Client, ClientBuilder};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue, ORIGIN};
use reqwest::{Certificate, Identity};

use super::PandaError;

/// Certificates of authorities, where the grid keeps them.
const AUTHORITIES: &str = "/etc/grid-security/certificates";
/// As long as the client of PanDA waits for an answer.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(10);

/// Reads a variable of the environment; an empty one counts as none.
pub(crate) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// How we identify ourselves.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// A proxy certificate with its key, in one file.
    Proxy(PathBuf),
    /// A token, and the organisation for which it was given.
    Token { token: String, organisation: String },
}

impl Credentials {
    /// `PANDA_AUTH=oidc` wants a token; everything else a proxy certificate. A token that is nowhere comes from `sign_in`, which is
    /// given the organisation.
    ///
    /// # Errors
    /// When there is none.
    pub(crate) fn find(
        variable: Environment<'_>,
        sign_in: &dyn Fn(&str) -> Result<String, PandaError>,
    ) -> Result<Credentials, PandaError> {
        if variable("PANDA_AUTH").as_deref() != Some("oidc") {
            let path = variable("X509_USER_PROXY").map_or_else(
                || PathBuf::from(format!("/tmp/x509up_u{}", rustix::process::getuid().as_raw())),
                PathBuf::from,
            );
            return if path.is_file() {
                Ok(Credentials::Proxy(path))
            } else {
                Err(PandaError::Credentials(format!(
                    "there is no proxy certificate `{}`; make one with `voms-proxy-init`, name it in X509_USER_PROXY, or set PANDA_AUTH=oidc to use a token",
                    path.display()
                )))
            };
        }
        let organisation = variable("PANDA_AUTH_VO")
            .or_else(|| variable("OIDC_AUTH_VO"))
            .ok_or_else(|| {
                PandaError::Credentials("PANDA_AUTH=oidc needs the organisation in PANDA_AUTH_VO".to_owned())
            })?;
        let token = match (variable("PANDA_AUTH_ID_TOKEN"), variable("OIDC_AUTH_TOKEN_FILE")) {
            (Some(token), _) => Some(token),
            (None, Some(path)) => Some(fs::read_to_string(&path).map_err(|error| {
                PandaError::Credentials(format!(
                    "the token in OIDC_AUTH_TOKEN_FILE, `{path}`, cannot be read: {error}"
                ))
            })?),
            (None, None) => variable("OIDC_AUTH_ID_TOKEN"),
        };
        let token = match token {
            None => sign_in(&organisation)?,
            Some(token) if token.trim().is_empty() => {
                return Err(PandaError::Credentials(
                    "the token in the file that OIDC_AUTH_TOKEN_FILE names is empty; without that variable a new one is fetched".to_owned(),
                ));
            }
            Some(token) => token.trim().to_owned(),
        };
        Ok(Credentials::Token { token, organisation })
    }

    /// A client that shows these credentials and trusts what the grid and this machine trust.
    pub(crate) fn client(&self, variable: Environment<'_>) -> Result<Client, PandaError> {
        let mut builder = trusting_client(variable).timeout(PATIENCE);
        match self {
            Credentials::Proxy(path) => {
                let unusable = |reason: String| {
                    PandaError::Credentials(format!(
                        "proxy certificate `{}` cannot be used: {reason}",
                        path.display()
                    ))
                };
                let text = fs::read(path).map_err(|error| unusable(error.to_string()))?;
                let identity = Identity::from_pem(&text)
                    .map_err(|error| unusable(format!("{error}; expected certificate, key and chain in PEM form")))?;
                builder = builder.identity(identity);
            }
            Credentials::Token { token, organisation } => {
                let mut headers = HeaderMap::new();
                let value = |text: &str| {
                    HeaderValue::from_str(text).map_err(|_| {
                        PandaError::Credentials(
                            "the token or its organisation has characters that no header may have".to_owned(),
                        )
                    })
                };
                let mut token = value(&format!("Bearer {token}"))?;
                token.set_sensitive(true);
                headers.insert(AUTHORIZATION, token);
                headers.insert(ORIGIN, value(organisation)?);
                builder = builder.default_headers(headers);
            }
        }
        builder
            .build()
            .map_err(|error| PandaError::Credentials(describe(&error)))
    }
}

/// A client that trusts what the grid and this machine trust.
pub(super) fn trusting_client(variable: Environment<'_>) -> ClientBuilder {
    // Fails only where a provider is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut builder = Client::builder();
    if variable("PANDA_VERIFY_HOST").as_deref() == Some("off") {
        builder = builder.danger_accept_invalid_certs(true);
    }
    let authorities = variable("X509_CERT_DIR").unwrap_or_else(|| AUTHORITIES.to_owned());
    trusting(builder, Path::new(&authorities))
}

/// Adds the certificates in a directory, in which each stands under the hash of its name, and links to it do.
fn trusting(mut builder: ClientBuilder, directory: &Path) -> ClientBuilder {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        let is_certificate = path
            .extension()
            .is_some_and(|end| end == "pem" || end == "0" || end == "crt");
        if is_certificate && let Ok(text) = fs::read(&path) {
            for certificate in Certificate::from_pem_bundle(&text).unwrap_or_default() {
                builder = builder.add_root_certificate(certificate);
            }
        }
    }
    builder
}

/// An error of the network with all its causes: the outermost says little.
pub(super) fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(variables: &[(&str, &str)]) -> Result<Credentials, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let sign_in = |organisation: &str| Ok(format!("signed in for {organisation}"));
        Credentials::find(&variable, &sign_in).map_err(|error| error.to_string())
    }

    #[test]
    fn a_token_is_taken_from_where_the_client_of_panda_takes_it() {
        let oidc = ("PANDA_AUTH", "oidc");
        let token = |token: &str| {
            Ok(Credentials::Token {
                token: token.to_owned(),
                organisation: "vo".to_owned(),
            })
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), "inside\n").unwrap();
        let of_file = ("OIDC_AUTH_TOKEN_FILE", file.path().to_str().unwrap());
        let first = [oidc, ("PANDA_AUTH_VO", "vo"), ("PANDA_AUTH_ID_TOKEN", "one"), of_file];
        assert_eq!(find(&first), token("one"));
        assert_eq!(find(&[oidc, ("OIDC_AUTH_VO", "vo"), of_file]), token("inside"));
        assert_eq!(
            find(&[oidc, ("OIDC_AUTH_VO", "vo"), ("OIDC_AUTH_ID_TOKEN", "two")]),
            token("two")
        );
        assert!(find(&[oidc]).unwrap_err().contains("PANDA_AUTH_VO"));
        assert_eq!(find(&[oidc, ("PANDA_AUTH_VO", "vo")]), token("signed in for vo"));
        fs::write(file.path(), " \n").unwrap();
        assert!(
            find(&[oidc, ("PANDA_AUTH_VO", "vo"), of_file])
                .unwrap_err()
                .contains("is empty")
        );
    }

    #[test]
    fn a_proxy_that_is_not_there_is_said() {
        let missing = find(&[("X509_USER_PROXY", "/nowhere/proxy")]).unwrap_err();
        assert!(
            missing.contains("there is no proxy certificate `/nowhere/proxy`"),
            "{missing}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = find(&[("X509_USER_PROXY", file.path().to_str().unwrap())]).unwrap();
        assert_eq!(found, Credentials::Proxy(file.path().to_owned()));
        let unusable = found.client(&|_| None).unwrap_err().to_string();
        assert!(unusable.contains("cannot be used"), "{unusable}");
    }
}
