//! The dialogue with a provider that answers from a list, on a clock that only waiting moves.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;

use serde_json::json;

use super::super::token_file::token_until;
use super::*;

const ABOUT: &str = "https://panda/auth/vo_auth_config.json";

/// Answers in the order in which they are given, and notes what was asked.
struct Fake {
    answers: RefCell<VecDeque<Result<(u16, Value), PandaError>>>,
    asked: RefCell<Vec<String>>,
    said: RefCell<Vec<String>>,
    /// Seconds since 1970.
    now: Cell<u64>,
    folder: tempfile::TempDir,
}

impl Fake {
    fn new(answers: Vec<(u16, Value)>) -> Fake {
        let about = json!({"oidc_config_url": "https://provider/about", "client_id": "me", "client_secret": "s&t",
                           "audience": "panda", "jwt_profile": "wlcg"});
        let provider = json!({"token_endpoint": "https://provider/token", "device_authorization_endpoint": "https://provider/device"});
        let all = [(200, about), (200, provider)].into_iter().chain(answers);
        Fake {
            answers: RefCell::new(all.map(Ok).collect()),
            asked: RefCell::default(),
            said: RefCell::default(),
            now: Cell::new(1000),
            folder: tempfile::tempdir().unwrap(),
        }
    }

    fn kept(&self) -> PathBuf {
        self.folder.path().join(".token")
    }

    fn token(&self) -> Result<String, String> {
        token(self, "https://panda", "vo", &self.kept()).map_err(|error| error.to_string())
    }

    fn answer(&self, asked: String) -> Result<(u16, String), PandaError> {
        self.asked.borrow_mut().push(asked);
        let answer = self
            .answers
            .borrow_mut()
            .pop_front()
            .expect("an answer to every question");
        answer.map(|(status, document)| (status, document.to_string()))
    }
}

impl World for Fake {
    fn get(&self, url: &str) -> Result<(u16, String), PandaError> {
        self.answer(url.to_owned())
    }

    fn post(&self, url: &str, form: &[(&str, &str)]) -> Result<(u16, String), PandaError> {
        let form: Vec<String> = form.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.answer(format!("{url} {}", form.join("; ")))
    }

    fn now(&self) -> f64 {
        self.now.get() as f64
    }

    fn wait(&self, time: Duration) {
        self.now.set(self.now.get() + time.as_secs());
    }

    fn say(&self, text: &str) {
        self.said.borrow_mut().push(text.to_owned());
    }
}

fn invitation() -> (u16, Value) {
    let page = "https://provider/sign-in?code=AB";
    (
        200,
        json!({"device_code": "code", "user_code": "AB", "verification_uri_complete": page, "expires_in": 60, "interval": 7}),
    )
}

fn refused(word: &str) -> (u16, Value) {
    (400, json!({"error": word, "error_description": "so it is"}))
}

#[test]
fn who_has_no_token_signs_in_and_is_asked_no_more() {
    let token = token_until(9999.0);
    let granted = json!({"id_token": token, "refresh_token": "later", "expires_in": 3600});
    let world = Fake::new(vec![
        invitation(),
        refused("authorization_pending"),
        refused("slow_down"),
        (200, granted.clone()),
    ]);
    assert_eq!(world.token(), Ok(token.clone()));
    let question = "https://provider/token client_id=me; grant_type=urn:ietf:params:oauth:grant-type:device_code; device_code=code; client_secret=s&t";
    assert_eq!(
        *world.asked.borrow(),
        [
            ABOUT,
            "https://provider/about",
            "https://provider/device client_id=me; scope=openid profile email offline_access wlcg wlcg.groups; audience=panda",
            question,
            question,
            question,
        ]
    );
    assert_eq!(world.now.get(), 1000 + 7 + 7 + 12, "as long as the provider wants it");
    assert_eq!(
        *world.said.borrow(),
        ["sign in at https://provider/sign-in?code=AB with any browser; waiting until that has happened"]
    );
    let kept: Value = serde_json::from_slice(&std::fs::read(world.kept()).unwrap()).unwrap();
    assert_eq!(kept, granted);
    assert_eq!(world.token(), Ok(token), "nothing further is asked");
}

#[test]
fn an_old_token_is_renewed_without_the_user() {
    let new = token_until(9999.0);
    let world = Fake::new(vec![(200, json!({ "id_token": new }))]);
    token_file::write(
        &world.kept(),
        &json!({"id_token": token_until(1100.0), "refresh_token": "old"}),
    )
    .unwrap();
    assert_eq!(world.token(), Ok(new));
    assert_eq!(
        world.asked.borrow().last().unwrap(),
        "https://provider/token client_id=me; client_secret=s&t; grant_type=refresh_token; refresh_token=old"
    );
    let kept: Value = serde_json::from_slice(&std::fs::read(world.kept()).unwrap()).unwrap();
    assert_eq!(
        kept["refresh_token"], "old",
        "what the provider does not replace stays valid"
    );
    assert!(world.said.borrow().is_empty());
}

#[test]
fn who_cannot_renew_or_read_a_token_signs_in() {
    let token = token_until(9999.0);
    let granted = (200, json!({ "id_token": token }));
    let world = Fake::new(vec![refused("invalid_grant"), invitation(), granted.clone()]);
    token_file::write(
        &world.kept(),
        &json!({"id_token": token_until(0.0), "refresh_token": "old"}),
    )
    .unwrap();
    assert_eq!(world.token(), Ok(token.clone()));
    assert_eq!(
        world.said.borrow()[0],
        "the token cannot be renewed: `https://provider/token` answers 400: invalid_grant: so it is"
    );
    let world = Fake::new(vec![invitation(), granted]);
    std::fs::write(world.kept(), "{").unwrap();
    assert_eq!(world.token(), Ok(token));
    assert!(world.said.borrow()[0].contains("is of no use: it is not JSON"));
}

#[test]
fn a_sign_in_that_does_not_come_about_says_why() {
    let ends = |answers: Vec<(u16, Value)>| Fake::new(answers).token().unwrap_err();
    let waiting = std::iter::repeat_n(refused("authorization_pending"), 9);
    let late = ends([invitation()].into_iter().chain(waiting).collect());
    assert_eq!(late, "nobody has signed in within 60 s; run the command again");
    assert_eq!(ends(vec![invitation(), refused("expired_token")]), late);
    assert_eq!(
        ends(vec![invitation(), refused("access_denied")]),
        "the sign-in was refused, by you or by the provider"
    );
    assert_eq!(
        ends(vec![invitation(), refused("invalid_client")]),
        "`https://provider/token` answers 400: invalid_client: so it is"
    );
    assert_eq!(
        ends(vec![refused("unauthorized_client")]),
        "`https://provider/device` answers 400: unauthorized_client: so it is"
    );
    assert_eq!(
        ends(vec![invitation(), (200, json!({"access_token": "a"}))]),
        "the identity provider gives no `id_token`"
    );
    let nameless = json!({"device_code": "code", "expires_in": 60});
    assert_eq!(
        ends(vec![(200, nameless)]),
        "`https://provider/device` names no page on which to sign in"
    );
}

#[test]
fn a_moment_without_a_network_is_waited_out() {
    let token = token_until(9999.0);
    let world = Fake::new(vec![invitation()]);
    let answers = [
        Err(PandaError::Network("gone".to_owned())),
        Ok((200, json!({ "id_token": token }))),
    ];
    world.answers.borrow_mut().extend(answers);
    assert_eq!(world.token(), Ok(token));
    assert_eq!(world.now.get(), 1000 + 7 + 14);
}

#[test]
fn a_server_that_does_not_know_the_organisation_is_named() {
    let world = Fake::new(Vec::new());
    world.answers.borrow_mut()[0] = Ok((404, json!("not found")));
    assert_eq!(
        world.token().unwrap_err(),
        format!("`{ABOUT}` answers 404; is the organisation in PANDA_AUTH_VO right, and known to this server?")
    );
    world
        .answers
        .borrow_mut()
        .push_front(Ok((200, json!({"client_id": "me"}))));
    assert_eq!(
        world.token().unwrap_err(),
        format!("`{ABOUT}` answers what is not understood: missing field `oidc_config_url` at line 1 column 18")
    );
}

#[test]
fn secrets_go_nowhere_without_encryption_and_providers_without_a_dialogue_are_named() {
    let world = Fake::new(Vec::new());
    world.answers.borrow_mut()[1] = Ok((200, json!({"token_endpoint": "http://provider/token"})));
    assert_eq!(
        world.token().unwrap_err(),
        "`token_endpoint` must begin with `https://`, found `http://provider/token`: nobody else may read a token"
    );
    let world = Fake::new(Vec::new());
    world.answers.borrow_mut()[1] = Ok((200, json!({"token_endpoint": "https://provider/token"})));
    assert!(
        world
            .token()
            .unwrap_err()
            .contains("names no `device_authorization_endpoint`")
    );
}

#[test]
fn a_page_without_its_code_is_shown_with_the_code() {
    let invitation =
        json!({"device_code": "code", "user_code": "AB", "verification_uri": "https://p/", "expires_in": 60});
    let world = Fake::new(vec![(200, invitation), (200, json!({"id_token": token_until(9999.0)}))]);
    world.token().unwrap();
    assert!(world.said.borrow()[0].starts_with("sign in at https://p/ with any browser and the code AB"));
    assert_eq!(world.now.get(), 1000 + INTERVAL);
}
