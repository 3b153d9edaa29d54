//! What this client shows to an agent that asks for it (`--web-config-file`): TLS, a
//! certificate, a name and a password.

use super::ClientError;
use crate::cli::args::AgentArgs;
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::header::HeaderValue;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring::default_provider,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use std::{env, fmt::Display, fs, path::Path, sync::Arc};
use tokio_rustls::TlsConnector;

/// Where the password is, if it is in no file.
const PASSWORD: &str = "HERDER_PASSWORD";

/// TLS, and whom it is spoken with.
#[derive(Clone)]
pub(super) struct Tls {
    pub(super) connector: TlsConnector,
    pub(super) name: ServerName<'static>,
}

impl Tls {
    pub(super) fn of(args: &AgentArgs, host: &str) -> Result<Self, ClientError> {
        let name = args.tls.tls_server_name.as_deref();
        // An address of IPv6 has brackets in a URL.
        let name = name.unwrap_or(host.trim_start_matches('[').trim_end_matches(']')).to_owned();
        let name = ServerName::try_from(name.clone())
            .map_err(|_| wrong("--tls-server-name", &format!("{name} is no name of a server")))?;
        let roots = match &args.tls.ca_file {
            Some(file) => authorities(file)?,
            None => system_authorities()?,
        };
        let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| wrong("TLS", &error))?
            .with_root_certificates(roots);
        let config = match (&args.tls.cert_file, &args.tls.key_file) {
            (Some(certificate), Some(key)) => {
                let chain = certificates("--cert-file", certificate)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| wrong("--key-file", &format!("{}: {error}", key.display())))?;
                let config = config.with_client_auth_cert(chain, key);
                config.map_err(|error| wrong("--cert-file", &error))?
            }
            _ => config.with_no_client_auth(),
        };
        Ok(Tls { connector: Arc::new(config).into(), name })
    }
}

/// The header for a name and a password, if they are given.
pub(super) fn authorization(args: &AgentArgs) -> Result<Option<HeaderValue>, ClientError> {
    let Some(user) = &args.user else { return Ok(None) };
    let password = match &args.password_file {
        Some(file) => {
            let text = fs::read_to_string(file).map_err(|error| {
                wrong("--password-file", &format!("{}: {error}", file.display()))
            })?;
            text.trim_end_matches(['\r', '\n']).to_owned()
        }
        None => env::var(PASSWORD).map_err(|_| {
            wrong("--user", &format!("no password: set --password-file or {PASSWORD}"))
        })?,
    };
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    let mut header = HeaderValue::from_str(&text).map_err(|error| wrong("--user", &error))?;
    header.set_sensitive(true);
    Ok(Some(header))
}

fn authorities(file: &Path) -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    for one in certificates("--ca-file", file)? {
        roots.add(one).map_err(|error| wrong("--ca-file", &error))?;
    }
    Ok(roots)
}

/// A certificate of the system that cannot be read is one that certifies nothing here.
fn system_authorities() -> Result<RootCertStore, ClientError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(wrong("--ca-file", &"this system has no authorities; give the agent's"));
    }
    Ok(roots)
}

fn certificates(
    flag: &'static str,
    file: &Path,
) -> Result<Vec<CertificateDer<'static>>, ClientError> {
    let failed = |why: String| wrong(flag, &format!("{}: {why}", file.display()));
    let all = CertificateDer::pem_file_iter(file).map_err(|error| failed(error.to_string()))?;
    let all: Vec<_> = all.collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    if all.is_empty() {
        return Err(failed("it holds no certificate in PEM".into()));
    }
    Ok(all)
}

fn wrong(flag: &'static str, why: &dyn Display) -> ClientError {
    ClientError::Credentials { flag, why: why.to_string() }
}
