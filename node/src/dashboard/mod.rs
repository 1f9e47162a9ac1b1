//! The dashboard on the admin port: a page for people that shows the fleet and this node.
//!
//! Who gives the admin token to its form gets a session, which is good for reading the figures of the dashboard and for nothing
//! else: no other route of the port looks at cookies. The page, its style and its script are files of their own, so that its
//! policy allows nothing that stands in a document.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    Json, Router,
    extract::{Form, Request, State, rejection::FormRejection},
    http::{
        HeaderMap, HeaderValue, StatusCode,
        header::{self, HeaderName},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use node_core::dashboard::{attempts::Attempts, sessions::Sessions};
use serde::Deserialize;

use crate::{api::Api, app::App, secrets};

mod data;
mod top;
mod visitor;

use visitor::Cookie;

/// The policy of every answer. Nothing that stands in a document runs, and nothing is loaded from elsewhere.
const CSP: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'";

const HEAD: &str = include_str!("head.html");
const LOGIN: &str = include_str!("login.html");
const PAGE: &str = include_str!("page.html");
const STYLE: &str = include_str!("dashboard.css");
const SCRIPT: &str = include_str!("dashboard.js");
const ICON: &str = include_str!("icon.svg");

/// Where the page is.
const HOME: &str = "/dashboard";
/// Where its form is.
const DOOR: &str = "/dashboard/login";

/// What the routes share.
#[derive(Debug)]
struct Dashboard {
    app: Arc<App>,
    api: Arc<Api>,
    cookie: Cookie,
    door: Mutex<Door>,
}

/// Who got in, and who tried.
#[derive(Debug, Default)]
struct Door {
    sessions: Sessions,
    attempts: Attempts,
}

type Shared = State<Arc<Dashboard>>;

/// Why somebody is not let in.
#[derive(Debug, Clone, Copy)]
enum Refusal {
    /// There is no session.
    NoSession,
    /// The token is wrong.
    Wrong,
    /// Too many tokens were wrong; seconds until the next one may be.
    TooMany(u64),
    /// The node cannot read its own token.
    NoToken,
    /// The request cannot be read; with its status.
    Unreadable(StatusCode),
    /// The request comes from a page of another site.
    Foreign,
}

impl Refusal {
    const fn parts(self) -> (StatusCode, &'static str) {
        match self {
            Self::NoSession => (StatusCode::UNAUTHORIZED, "There is no session. Log in first."),
            Self::Wrong => (StatusCode::UNAUTHORIZED, "This is not the admin token of this node."),
            Self::TooMany(_) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many tokens were wrong. Wait some seconds, then try again.",
            ),
            Self::NoToken => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The node cannot read its own admin token now. Its log says why.",
            ),
            Self::Unreadable(status) => (status, "The form cannot be read. Send it from this page."),
            Self::Foreign => (
                StatusCode::FORBIDDEN,
                "The form was sent from another site, or by a browser that does not say from where. Open this page itself.",
            ),
        }
    }
}

/// The form.
#[derive(Deserialize)]
struct Login {
    token: String,
}

/// The routes.
pub fn router(app: Arc<App>, api: Arc<Api>) -> Router {
    let dashboard = Dashboard { app, api, cookie: Cookie::new(), door: Mutex::default() };
    let posts = Router::new()
        .route("/dashboard/login", post(login))
        .route("/dashboard/logout", post(logout))
        .layer(middleware::from_fn(of_this_site));
    Router::new()
        .route("/dashboard", get(home))
        .route("/dashboard/login", get(door))
        .route("/dashboard/data", get(data))
        .route("/dashboard/dashboard.css", get(|| async { file("text/css; charset=utf-8", STYLE) }))
        .route("/dashboard/dashboard.js", get(|| async { file("text/javascript; charset=utf-8", SCRIPT) }))
        .route("/dashboard/icon.svg", get(|| async { file("image/svg+xml", ICON) }))
        .merge(posts)
        .layer(middleware::map_response(guarded))
        .with_state(Arc::new(dashboard))
}

/// The headers of every answer. The referrer stays within the site, since browsers say no origin of a form without one.
async fn guarded(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CSP),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Refuses forms that a page of another site sends.
async fn of_this_site(request: Request, next: Next) -> Response {
    if visitor::is_of_this_site(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    refuse(Refusal::Foreign)
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn html(status: StatusCode, parts: [&str; 3]) -> Response {
    (status, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], parts.concat()).into_response()
}

/// A page of the same site in the stead of an answer, asked for by GET.
fn see(path: &'static str) -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, path)]).into_response()
}

/// The form again, with the reason above it.
fn refuse(refusal: Refusal) -> Response {
    let (status, text) = refusal.parts();
    let mut response =
        html(status, [HEAD, &format!("<p class=\"problem\" role=\"alert\">{text}</p>\n"), LOGIN]);
    if let Refusal::TooMany(seconds) = refusal {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

impl Dashboard {
    fn lock(&self) -> MutexGuard<'_, Door> {
        self.door.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The admin token as it is now; none where none protects the port.
    fn token(&self) -> Result<Option<String>, Refusal> {
        let Some(file) = &self.app.token else { return Ok(None) };
        file.read().map(Some).map_err(|error| {
            tracing::error!(%error, "the dashboard is closed");
            Refusal::NoToken
        })
    }

    /// Checks that a visitor may read.
    fn admit(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(token) = self.token()? else { return Ok(()) };
        let id = self.cookie.read(headers).ok_or(Refusal::NoSession)?;
        let is_open = self.lock().sessions.is_open(&id, token.as_bytes(), self.app.now_millis());
        if is_open { Ok(()) } else { Err(Refusal::NoSession) }
    }

    /// Opens a session for who gives the token.
    fn open(&self, given: &str) -> Result<[u8; visitor::ID_BYTES], Refusal> {
        let token = self.token()?.unwrap_or_default();
        let (now, mut door) = (self.app.now_millis(), self.lock());
        if !secrets::equal(given.trim().as_bytes(), token.as_bytes()) {
            // Who has the token comes in, however often others guess.
            door.attempts.look(now).map_err(|millis| Refusal::TooMany(millis.div_ceil(1_000)))?;
            door.attempts.wrong(now);
            tracing::warn!("a wrong admin token was given to the dashboard");
            return Err(Refusal::Wrong);
        }
        let id = rand::random::<[u8; visitor::ID_BYTES]>();
        door.sessions.open(&id, token.as_bytes(), now);
        tracing::info!("somebody has logged in to the dashboard");
        Ok(id)
    }
}

/// `GET /dashboard`.
async fn home(State(dashboard): Shared, headers: HeaderMap) -> Response {
    match dashboard.admit(&headers) {
        Ok(()) => html(StatusCode::OK, [HEAD, "", PAGE]),
        Err(Refusal::NoSession) => see(DOOR),
        Err(refusal) => refuse(refusal),
    }
}

/// `GET /dashboard/login`.
async fn door(State(dashboard): Shared, headers: HeaderMap) -> Response {
    if dashboard.admit(&headers).is_ok() { see(HOME) } else { html(StatusCode::OK, [HEAD, "", LOGIN]) }
}

/// `POST /dashboard/login`.
async fn login(
    State(dashboard): Shared,
    headers: HeaderMap,
    form: Result<Form<Login>, FormRejection>,
) -> Response {
    if dashboard.app.token.is_none() {
        return see(HOME);
    }
    let opened = match form {
        Ok(Form(login)) => dashboard.open(&login.token),
        Err(error) => Err(Refusal::Unreadable(error.status())),
    };
    match opened {
        Ok(id) => with_cookie(dashboard.cookie.give(&id, visitor::is_by_tls(&headers)), HOME),
        Err(refusal) => refuse(refusal),
    }
}

/// `POST /dashboard/logout`.
async fn logout(State(dashboard): Shared, headers: HeaderMap) -> Response {
    if let Some(id) = dashboard.cookie.read(&headers) {
        dashboard.lock().sessions.close(&id);
    }
    with_cookie(dashboard.cookie.take(visitor::is_by_tls(&headers)), DOOR)
}

fn with_cookie(cookie: HeaderValue, path: &'static str) -> Response {
    let mut response = see(path);
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

/// `GET /dashboard/data`.
async fn data(State(dashboard): Shared, headers: HeaderMap) -> Response {
    match dashboard.admit(&headers) {
        Ok(()) => {
            let top = top::rooms(&dashboard.api).await;
            Json(data::data(&dashboard.app, &dashboard.api, top)).into_response()
        }
        Err(refusal) => {
            let (status, text) = refusal.parts();
            (status, Json(serde_json::json!({ "error": text }))).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_inline_and_nothing_is_loaded_from_elsewhere() {
        for text in [HEAD, LOGIN, PAGE, STYLE, SCRIPT, ICON] {
            let text = text.replace("http://www.w3.org/2000/svg", "");
            for forbidden in [
                "://",
                " style=",
                "<style",
                "onclick",
                "onload",
                "onerror",
                "javascript:",
                "innerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
            ] {
                assert!(!text.contains(forbidden), "{forbidden} in {text:.60}");
            }
        }
        let sources = PAGE.matches("<script type=\"module\" src=\"/dashboard/").count();
        assert_eq!((PAGE.matches("<script").count(), sources, LOGIN.matches("<script").count()), (1, 1, 0));
    }
}
