//! The dialogue for a token with the internet, the clock and the user themselves.

use std::time::{Duration, SystemTime};

use reqwest::Url;
use reqwest::blocking::{Client, RequestBuilder};
use reqwest::header::{ACCEPT, CONTENT_TYPE};

use super::credentials::{describe, trusting_client};
use super::dialogue::{self, World};
use super::{Environment, PandaError, token_file};

/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// The token of an organisation for a server of PanDA; `say` tells the user what to do for it.
///
/// # Errors
/// When the user does not sign in in time or may not, when an answer is not what it should be, and when nobody can be reached.
pub(crate) fn sign_in(
    variable: Environment<'_>,
    server: &str,
    organisation: &str,
    say: &dyn Fn(&str),
) -> Result<String, PandaError> {
    let builder = trusting_client(variable).timeout(PATIENCE).https_only(true);
    let client = builder
        .build()
        .map_err(|error| PandaError::Credentials(describe(&error)))?;
    let internet = Internet { client, say };
    dialogue::token(&internet, server, organisation, &token_file::path(variable))
}

struct Internet<'a> {
    client: Client,
    say: &'a dyn Fn(&str),
}

impl World for Internet<'_> {
    fn get(&self, url: &str) -> Result<(u16, String), PandaError> {
        sent(self.client.get(url))
    }

    fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<(u16, String), PandaError> {
        // The encoding of a form is that of the query of an address.
        let encoded = Url::parse_with_params("https://form/", form).expect("the address is one");
        let request = self.client.post(url);
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        sent(request.body(encoded.query().unwrap_or_default().to_owned()))
    }

    fn now(&self) -> f64 {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0.0, |since| since.as_secs_f64())
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn say(&self, text: &str) {
        (self.say)(text);
    }
}

fn sent(request: RequestBuilder) -> Result<(u16, String), PandaError> {
    let unreachable = |error: reqwest::Error| PandaError::Network(describe(&error));
    let response = request.header(ACCEPT, "application/json").send().map_err(unreachable)?;
    let status = response.status().as_u16();
    Ok((status, response.text().map_err(unreachable)?))
}
