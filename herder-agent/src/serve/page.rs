//! The page at `/`: this node at a glance, for people. Its parts are in this
//! program; it asks for nothing from elsewhere.

use super::answer::{Answer, answer};
use hyper::{
    StatusCode,
    header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY},
};

/// Scripts and styles only from this server and never inline: whatever a victim
/// called itself, a browser will not run it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PARTS: [(&str, &str, &str); 4] = [
    ("/", "text/html; charset=utf-8", include_str!("page/page.html")),
    ("/page.css", "text/css; charset=utf-8", include_str!("page/page.css")),
    ("/page.js", "text/javascript; charset=utf-8", include_str!("page/page.js")),
    ("/page.svg", "image/svg+xml", include_str!("page/page.svg")),
];

pub(super) fn part(path: &str) -> Option<Answer> {
    let (_, kind, text) = PARTS.iter().find(|(name, ..)| *name == path)?;
    let mut answer = answer(StatusCode::OK, kind, text.as_bytes().to_vec());
    let headers = answer.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    Some(answer)
}
