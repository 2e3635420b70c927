//! A token by a dialogue: the user signs in with any browser, and we ask until that has happened.
//!
//! | request | what it is for |
//! | --- | --- |
//! | `GET auth/ORGANISATION_auth_config.json` of PanDA | who we are to the organisation's identity provider, and where that is described |
//! | `GET` that description (OpenID Connect Discovery 1.0) | its endpoints |
//! | `POST` to `token_endpoint`, `refresh_token` (RFC 6749, section 6) | a new token for an old one |
//! | `POST` to `device_authorization_endpoint` (RFC 8628, section 3.1) | a code, and the page on which the user signs in |
//! | `POST` to `token_endpoint`, `device_code` (section 3.4), again and again | the token |

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::PandaError;
use super::token_file::{self, Kept};

/// Seconds between two questions where the provider names none (RFC 8628, section 3.2).
const INTERVAL: u64 = 5;
/// Seconds by which they become longer when the provider finds us too fast (section 3.5).
const SLOWER: u64 = 5;
/// Longest time between two questions, in seconds, when the provider cannot be reached.
const LONGEST_INTERVAL: u64 = 60;

/// The world as a dialogue needs it.
pub(super) trait World {
    /// Status and text of a page.
    fn get(&self, url: &str) -> Result<(u16, String), PandaError>;
    /// Sends a form; status and text of the answer.
    fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<(u16, String), PandaError>;
    /// Seconds since 1970.
    fn now(&self) -> f64;
    fn wait(&self, time: Duration);
    /// Tells the user something.
    fn say(&self, text: &str);
}

/// What PanDA knows of an organisation.
#[derive(Deserialize)]
struct Organisation {
    oidc_config_url: String,
    client_id: String,
    #[serde(default)]
    client_secret: String,
    #[serde(default)]
    audience: String,
    jwt_profile: Option<String>,
}

/// What the identity provider says of itself.
#[derive(Deserialize)]
struct Provider {
    token_endpoint: String,
    device_authorization_endpoint: Option<String>,
}

/// What a dialogue begins with.
#[derive(Deserialize)]
struct Invitation {
    device_code: String,
    #[serde(default)]
    user_code: String,
    verification_uri: Option<String>,
    verification_uri_complete: Option<String>,
    expires_in: u64,
    interval: Option<u64>,
}

/// A token for an organisation: the one that is kept, a new one for it, or one by a dialogue with the user.
///
/// # Errors
/// When the user does not sign in in time or may not, when an answer is not what it should be, and when nobody can be reached.
pub(super) fn token(world: &dyn World, server: &str, organisation: &str, kept: &Path) -> Result<String, PandaError> {
    let state = token_file::read(kept, world.now()).unwrap_or_else(|reason| {
        world.say(&format!("the token in `{}` is of no use: {reason}", kept.display()));
        Kept::Nothing
    });
    if let Kept::Valid(token) = state {
        return Ok(token);
    }
    encrypted("PANDA_URL_SSL", server)?;
    let about: Organisation = page(world, &format!("{server}/auth/{organisation}_auth_config.json"))?;
    let provider: Provider = page(world, &about.oidc_config_url)?;
    encrypted("token_endpoint", &provider.token_endpoint)?;
    if let Kept::Renewable(renewal) = &state {
        match renewed(world, &about, &provider, renewal) {
            Ok(answer) => return keep(world, kept, &answer),
            Err(error) => world.say(&format!("the token cannot be renewed: {error}")),
        }
    }
    let answer = signed_in(world, &about, &provider)?;
    keep(world, kept, &answer)
}

/// Keeps what was answered, and takes the token out of it.
fn keep(world: &dyn World, path: &Path, answer: &Value) -> Result<String, PandaError> {
    let token = answer["id_token"]
        .as_str()
        .ok_or_else(|| PandaError::Credentials("the identity provider gives no `id_token`".to_owned()))?;
    if let Err(error) = token_file::write(path, answer) {
        world.say(&format!("the token cannot be kept in `{}`: {error}", path.display()));
    }
    Ok(token.to_owned())
}

fn renewed(world: &dyn World, about: &Organisation, provider: &Provider, renewal: &str) -> Result<Value, PandaError> {
    let form = [
        ("client_id", about.client_id.as_str()),
        ("client_secret", &about.client_secret),
        ("grant_type", "refresh_token"),
        ("refresh_token", renewal),
    ];
    let (status, text) = world.post(&provider.token_endpoint, &form)?;
    let mut answer = if status == 200 {
        document(&provider.token_endpoint, &text)?
    } else {
        Value::Null
    };
    if !answer["id_token"].is_string() {
        return Err(PandaError::Credentials(complaint(
            &provider.token_endpoint,
            status,
            &text,
        )));
    }
    // A provider that gives no new one leaves the old one valid.
    if answer["refresh_token"].is_null() {
        answer["refresh_token"] = renewal.into();
    }
    Ok(answer)
}

/// Asks the user to sign in, and the provider whether that has happened.
fn signed_in(world: &dyn World, about: &Organisation, provider: &Provider) -> Result<Value, PandaError> {
    let Some(endpoint) = &provider.device_authorization_endpoint else {
        return Err(PandaError::Credentials(format!(
            "`{}` names no `device_authorization_endpoint`: this provider gives no tokens by a dialogue; give one in PANDA_AUTH_ID_TOKEN",
            about.oidc_config_url
        )));
    };
    encrypted("device_authorization_endpoint", endpoint)?;
    let mut scope = "openid profile email offline_access".to_owned();
    if about.jwt_profile.as_deref() == Some("wlcg") {
        scope.push_str(" wlcg wlcg.groups");
    }
    let form = [
        ("client_id", about.client_id.as_str()),
        ("scope", &scope),
        ("audience", &about.audience),
    ];
    let (status, text) = world.post(endpoint, &form)?;
    if status != 200 {
        return Err(PandaError::Credentials(complaint(endpoint, status, &text)));
    }
    let invitation: Invitation = document(endpoint, &text)?;
    world.say(
        &match (&invitation.verification_uri_complete, &invitation.verification_uri) {
            (Some(page), _) => format!("sign in at {page} with any browser; waiting until that has happened"),
            (None, Some(page)) => format!(
                "sign in at {page} with any browser and the code {}; waiting until that has happened",
                invitation.user_code
            ),
            (None, None) => {
                return Err(PandaError::Credentials(format!(
                    "`{endpoint}` names no page on which to sign in"
                )));
            }
        },
    );
    let mut form = vec![
        ("client_id", about.client_id.as_str()),
        ("grant_type", "urn:ietf:params:oauth:grant-type:device_code"),
        ("device_code", &invitation.device_code),
    ];
    if !about.client_secret.is_empty() {
        form.push(("client_secret", &about.client_secret));
    }
    let end = world.now() + invitation.expires_in as f64;
    let mut interval = invitation.interval.unwrap_or(INTERVAL).clamp(1, LONGEST_INTERVAL);
    while world.now() < end {
        world.wait(Duration::from_secs(interval));
        match world.post(&provider.token_endpoint, &form) {
            Ok((200, text)) => return document(&provider.token_endpoint, &text),
            Ok((status, text)) => match reason(&text).as_deref() {
                Some("authorization_pending") => {}
                Some("slow_down") => interval += SLOWER,
                Some("access_denied") => {
                    return Err(PandaError::Credentials(
                        "the sign-in was refused, by you or by the provider".to_owned(),
                    ));
                }
                Some("expired_token") => break,
                _ => {
                    return Err(PandaError::Credentials(complaint(
                        &provider.token_endpoint,
                        status,
                        &text,
                    )));
                }
            },
            // A moment without a network is no reason to begin anew.
            Err(PandaError::Network(_)) => interval = (interval * 2).min(LONGEST_INTERVAL),
            Err(other) => return Err(other),
        }
    }
    Err(PandaError::Credentials(format!(
        "nobody has signed in within {} s; run the command again",
        invitation.expires_in
    )))
}

fn page<T: DeserializeOwned>(world: &dyn World, url: &str) -> Result<T, PandaError> {
    let (status, text) = world.get(url)?;
    if status == 200 {
        return document(url, &text);
    }
    Err(PandaError::Credentials(format!(
        "`{url}` answers {status}; is the organisation in PANDA_AUTH_VO right, and known to this server?"
    )))
}

fn document<T: DeserializeOwned>(url: &str, text: &str) -> Result<T, PandaError> {
    serde_json::from_str(text)
        .map_err(|error| PandaError::Credentials(format!("`{url}` answers what is not understood: {error}")))
}

/// Secrets are sent there.
fn encrypted(name: &str, url: &str) -> Result<(), PandaError> {
    if url.starts_with("https://") {
        return Ok(());
    }
    Err(PandaError::Credentials(format!(
        "`{name}` must begin with `https://`, found `{url}`: nobody else may read a token"
    )))
}

/// The word for what is wrong, of an answer that says so (RFC 6749, section 5.2).
fn reason(text: &str) -> Option<String> {
    serde_json::from_str::<Value>(text).ok()?["error"]
        .as_str()
        .map(str::to_owned)
}

fn complaint(url: &str, status: u16, text: &str) -> String {
    let described = serde_json::from_str::<Value>(text).ok().and_then(|answer| {
        let word = answer["error"].as_str()?.to_owned();
        let more = answer["error_description"].as_str().map(|more| format!(": {more}"));
        Some(word + &more.unwrap_or_default())
    });
    let shown = described.unwrap_or_else(|| text.chars().take(300).collect());
    format!("`{url}` answers {status}: {shown}")
}

#[cfg(test)]
mod tests;
