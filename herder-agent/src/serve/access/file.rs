//! The file of `--web-config-file` as it is written: the format that Prometheus' exporters share
//! (exporter-toolkit, docs/web-configuration.md), and what is checked beyond its syntax.
//!
//! No key is ignored. An unknown one is rejected, as in the agent's own configuration. One that
//! this server cannot honour is rejected with the reason, since the operator who wrote it counts on
//! it.

use super::{
    passwords::check_hash,
    tls::{ClientAuth, Source, TlsSettings},
};
use herder_model::rules::parse::{
    InvalidConfig, from_yaml, is_empty, place,
    raw::{Item, Key, Wrong, item_value, items, value, wrong},
};
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Location;
use std::{collections::BTreeMap, path::Path};

pub(super) struct Settings {
    pub(super) tls: Option<TlsSettings>,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    /// Names, and bcrypt's hashes of their passwords.
    pub(super) users: BTreeMap<String, String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(expecting = "the keys `tls_server_config`, `http_server_config` and `basic_auth_users`")]
struct RawFile {
    tls_server_config: Key<RawTls>,
    http_server_config: Key<RawHttp>,
    basic_auth_users: Key<BTreeMap<String, Item<String>>>,
    rate_limit: Key<IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(expecting = "keys such as `cert_file` and `key_file`")]
struct RawTls {
    cert: Key<String>,
    key: Key<String>,
    client_ca: Key<String>,
    cert_file: Key<String>,
    key_file: Key<String>,
    client_ca_file: Key<String>,
    client_auth_type: Key<String>,
    client_allowed_sans: Key<Vec<Item<String>>>,
    min_version: Key<String>,
    max_version: Key<String>,
    cipher_suites: Key<Vec<Item<String>>>,
    prefer_server_cipher_suites: Key<bool>,
    curve_preferences: Key<Vec<Item<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(expecting = "the keys `http2` and `headers`")]
struct RawHttp {
    http2: Key<bool>,
    headers: Key<RawHeaders>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[serde(expecting = "names of headers, and their values")]
struct RawHeaders {
    #[serde(rename = "Content-Security-Policy")]
    content_security_policy: Key<String>,
    #[serde(rename = "X-Frame-Options")]
    frame_options: Key<String>,
    #[serde(rename = "X-Content-Type-Options")]
    content_type_options: Key<String>,
    #[serde(rename = "X-XSS-Protection")]
    xss_protection: Key<String>,
    #[serde(rename = "Strict-Transport-Security")]
    strict_transport_security: Key<String>,
}

impl Settings {
    /// Reads a text; `path` is for error messages, and files in it are beside that one.
    pub(super) fn parse(text: &str, path: &Path) -> Result<Self, InvalidConfig> {
        if is_empty(text) {
            let why = "nothing is in it; write `{}` to serve plain HTTP to everyone";
            return Err(invalid(path, "1:1", why.into()));
        }
        let raw: RawFile = from_yaml(text, &path.display().to_string())?;
        let checked = raw.check(path.parent().unwrap_or(Path::new("")));
        checked.map_err(|Wrong(location, why)| invalid(path, &place(location), why))
    }
}

/// Something is wrong at a place of the file.
pub(super) fn invalid(path: &Path, place: &str, why: String) -> InvalidConfig {
    InvalidConfig { path: path.display().to_string(), place: place.into(), why }
}

impl RawFile {
    fn check(self, directory: &Path) -> Result<Settings, Wrong> {
        if let Some(at) = self.rate_limit.at() {
            let why = "`rate_limit` cannot be kept: Herder bounds connections and the time of each \
                       by itself; remove it";
            return wrong(at, why);
        }
        let http = value(self.http_server_config, "http_server_config")?;
        let headers = http.map(RawHttp::check).transpose()?.unwrap_or_default();
        let mut users = BTreeMap::new();
        let users_at = self.basic_auth_users.at();
        let named = value(self.basic_auth_users, "basic_auth_users")?;
        // An operator who removes the last user must not open the port to all.
        if let (Some(at), Some(true)) = (users_at, named.as_ref().map(|users| users.is_empty())) {
            let why = "`basic_auth_users` names no user; remove the key to ask for no password";
            return wrong(at, why);
        }
        for (name, hash) in named.unwrap_or_default() {
            let at = hash.referenced;
            let hash = item_value(hash, &format!("`{name}`"))?;
            if name.contains(':') {
                return wrong(
                    at,
                    format!("the name {name:?} has a colon, which no client can send"),
                );
            }
            check_hash(&hash).or_else(|why| wrong(at, why))?;
            users.insert(name, hash);
        }
        let at = self.tls_server_config.at();
        let tls = value(self.tls_server_config, "tls_server_config")?;
        let tls = tls.zip(at).map(|(tls, at)| tls.check(at, directory)).transpose()?;
        Ok(Settings { tls, headers, users })
    }
}

impl RawTls {
    fn check(self, at: Location, directory: &Path) -> Result<TlsSettings, Wrong> {
        let source = |inline, file, name: &str| source(inline, file, name, directory);
        let certificate = source(self.cert, self.cert_file, "cert")?;
        let key = source(self.key, self.key_file, "key")?;
        let (Some(certificate), Some(key)) = (certificate, key) else {
            return wrong(at, "TLS needs `cert_file` and `key_file`, or `cert` and `key`");
        };
        let client_ca = source(self.client_ca, self.client_ca_file, "client_ca")?;
        let auth_at = self.client_auth_type.at().unwrap_or(at);
        let client_auth = value(self.client_auth_type, "client_auth_type")?;
        let client_auth = match client_auth.as_deref() {
            None => ClientAuth::None,
            Some(word) => ClientAuth::parse(word).or_else(|why| wrong(auth_at, why))?,
        };
        match (&client_ca, client_auth) {
            (Some(ca), ClientAuth::None) => {
                let why = "a client CA has no effect with NoClientCert; set `client_auth_type`";
                return wrong(ca.at(), why);
            }
            (None, ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify) => {
                let why = "`client_auth_type` needs `client_ca_file`, or `client_ca`: Herder trusts no \
                           authorities of the system for clients";
                return wrong(auth_at, why);
            }
            _ => {}
        }
        let mut settings = TlsSettings::new(certificate, key, client_ca, client_auth);
        let names_at = self.client_allowed_sans.at().unwrap_or(at);
        if let Some(names) = list(self.client_allowed_sans, "client_allowed_sans")? {
            // Exporters take RequireAnyClientCert too, although a name in an unverified certificate
            // proves nothing.
            if !matches!(client_auth, ClientAuth::RequireAny | ClientAuth::RequireAndVerify) {
                let why =
                    "`client_allowed_sans` needs the `client_auth_type` RequireAndVerifyClientCert";
                return wrong(names_at, why);
            }
            for (at, name) in names {
                settings.allow(&name).or_else(|why| wrong(at, why))?;
            }
        }
        for (word, name) in [(self.min_version, "min_version"), (self.max_version, "max_version")] {
            let at = word.at().unwrap_or(at);
            if let Some(word) = value(word, name)? {
                let is_least = name == "min_version";
                settings.limit_version(&word, is_least).or_else(|why| wrong(at, why))?;
            }
        }
        if let Some(names) = list(self.cipher_suites, "cipher_suites")? {
            settings.choose_suites(&names).or_else(|(at, why)| wrong(at, why))?;
        }
        if let Some(names) = list(self.curve_preferences, "curve_preferences")? {
            settings.choose_curves(&names).or_else(|(at, why)| wrong(at, why))?;
        }
        let prefer = value(self.prefer_server_cipher_suites, "prefer_server_cipher_suites")?;
        settings.own_order = prefer.unwrap_or(true);
        settings.check().or_else(|why| wrong(at, why))?;
        Ok(settings)
    }
}

impl RawHttp {
    fn check(self) -> Result<Vec<(HeaderName, HeaderValue)>, Wrong> {
        let at = self.http2.at();
        if let (Some(true), Some(at)) = (value(self.http2, "http2")?, at) {
            let why = "Herder speaks HTTP/1.1 only; write `http2: false`, or remove it";
            return wrong(at, why);
        }
        let Some(headers) = value(self.headers, "headers")? else { return Ok(Vec::new()) };
        let table = [
            ("content-security-policy", headers.content_security_policy, &[][..]),
            ("x-frame-options", headers.frame_options, &["deny", "sameorigin"]),
            ("x-content-type-options", headers.content_type_options, &["nosniff"]),
            ("x-xss-protection", headers.xss_protection, &[]),
            ("strict-transport-security", headers.strict_transport_security, &[]),
        ];
        let mut kept = Vec::new();
        for (name, item, allowed) in table {
            let Some(item) = item.0 else { continue };
            let at = item.referenced;
            let text = item.value.unwrap_or_default();
            if text.is_empty() {
                continue;
            }
            if !allowed.is_empty() && !allowed.contains(&text.as_str()) {
                return wrong(at, format!("write one of {} for {name}", allowed.join(", ")));
            }
            match HeaderValue::from_str(&text) {
                Ok(text) => kept.push((HeaderName::from_static(name), text)),
                Err(_) => return wrong(at, format!("{name} has letters that no header may have")),
            }
        }
        Ok(kept)
    }
}

/// What is given in the file itself or in one of its own, but not both.
fn source(
    inline: Key<String>,
    file: Key<String>,
    name: &str,
    directory: &Path,
) -> Result<Option<Source>, Wrong> {
    let [inline, file] = [(inline, name.to_owned()), (file, format!("{name}_file"))].map(
        |(item, name)| -> Result<_, Wrong> {
            let Some(item) = item.0 else { return Ok(None) };
            let at = item.referenced;
            match item_value(item, &format!("`{name}`"))? {
                text if text.is_empty() => wrong(at, format!("`{name}` is empty")),
                text => Ok(Some((at, text))),
            }
        },
    );
    match (inline?, file?) {
        (Some(_), Some((at, _))) => wrong(at, format!("`{name}` is given too; keep one of them")),
        (Some((at, text)), None) => Ok(Some(Source::Inline(at, text))),
        (None, Some((at, path))) => Ok(Some(Source::File(at, directory.join(path)))),
        (None, None) => Ok(None),
    }
}

/// The items of a list that is there. An empty one would allow nothing.
fn list(key: Key<Vec<Item<String>>>, name: &str) -> Result<Option<Vec<(Location, String)>>, Wrong> {
    let Some(at) = key.at() else { return Ok(None) };
    let all = items(value(key, name)?.unwrap_or_default(), name)?;
    if all.is_empty() {
        return wrong(
            at,
            format!("`{name}` is empty, which would allow none; remove it to allow all"),
        );
    }
    Ok(Some(all))
}
