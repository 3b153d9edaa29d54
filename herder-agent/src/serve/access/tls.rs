//! TLS as the file asks for it, made with rustls and ring, which kube has in the agent anyway.
//!
//! rustls has no versions, suites or curves that are known to be weak, so some names of the
//! shared format are known and cannot be had. Those are rejected by name.

use super::certificates::{Certificates, SubjectName};
use rustls::{
    RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::{CryptoProvider, SupportedKxGroup, ring as provider},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{
        NoClientAuth, NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
    version::{TLS12, TLS13},
};
use serde_saphyr::Location;
use std::{path::PathBuf, sync::Arc};

/// What clients have to show (Go's `tls.ClientAuthType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ClientAuth {
    #[default]
    None,
    Request,
    RequireAny,
    VerifyIfGiven,
    RequireAndVerify,
}

/// Where a part is: in the file itself or in one of its own, each with its place in the file.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Source {
    Inline(Location, String),
    File(Location, PathBuf),
}

pub(super) struct TlsSettings {
    pub(super) certificate: Source,
    pub(super) key: Source,
    pub(super) client_ca: Option<Source>,
    pub(super) client_auth: ClientAuth,
    allowed: Vec<SubjectName>,
    least: &'static SupportedProtocolVersion,
    most: &'static SupportedProtocolVersion,
    suites: Vec<SupportedCipherSuite>,
    groups: Vec<&'static dyn SupportedKxGroup>,
    /// Whether the order of the suites is this server's, not the client's.
    pub(super) own_order: bool,
}

/// The texts of the parts, in PEM.
pub(super) struct Texts<'a> {
    pub(super) certificate: &'a str,
    pub(super) key: &'a str,
    pub(super) client_ca: Option<&'a str>,
}

/// Which part is wrong, and why.
pub(super) enum Fault {
    Certificate(String),
    Key(String),
    ClientCa(String),
}

impl ClientAuth {
    /// Whether each client has shown who it is.
    pub(super) fn proves(self) -> bool {
        self == ClientAuth::RequireAndVerify
    }

    pub(super) fn parse(word: &str) -> Result<Self, String> {
        match word {
            "NoClientCert" => Ok(ClientAuth::None),
            "RequestClientCert" => Ok(ClientAuth::Request),
            // The first name that the format had for it is still one.
            "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::RequireAny),
            "VerifyClientCertIfGiven" => Ok(ClientAuth::VerifyIfGiven),
            "RequireAndVerifyClientCert" => Ok(ClientAuth::RequireAndVerify),
            other => Err(format!(
                "{other:?} is none of NoClientCert, RequestClientCert, RequireAnyClientCert, \
                 VerifyClientCertIfGiven, RequireAndVerifyClientCert"
            )),
        }
    }
}

impl ClientAuth {
    /// The word that the file has for it.
    pub(super) fn word(self) -> &'static str {
        match self {
            ClientAuth::None => "NoClientCert",
            ClientAuth::Request => "RequestClientCert",
            ClientAuth::RequireAny => "RequireAnyClientCert",
            ClientAuth::VerifyIfGiven => "VerifyClientCertIfGiven",
            ClientAuth::RequireAndVerify => "RequireAndVerifyClientCert",
        }
    }
}

impl Source {
    pub(super) fn at(&self) -> Location {
        match self {
            Source::Inline(at, _) | Source::File(at, _) => *at,
        }
    }
}

impl TlsSettings {
    pub(super) fn new(
        certificate: Source,
        key: Source,
        client_ca: Option<Source>,
        client_auth: ClientAuth,
    ) -> Self {
        TlsSettings {
            certificate,
            key,
            client_ca,
            client_auth,
            allowed: Vec::new(),
            least: &TLS12,
            most: &TLS13,
            suites: provider::DEFAULT_CIPHER_SUITES.to_vec(),
            groups: provider::DEFAULT_KX_GROUPS.to_vec(),
            own_order: true,
        }
    }

    /// Lets in certificates with this name among others.
    pub(super) fn allow(&mut self, name: &str) -> Result<(), String> {
        self.allowed.push(SubjectName::parse(name)?);
        Ok(())
    }

    pub(super) fn limit_version(&mut self, word: &str, is_least: bool) -> Result<(), String> {
        let version = match word {
            "TLS12" => &TLS12,
            "TLS13" => &TLS13,
            "TLS10" | "TLS11" => {
                return Err(format!("{word} cannot be had: Herder speaks TLS12 and TLS13"));
            }
            _ => return Err(format!("{word:?} is none of TLS12, TLS13")),
        };
        *(if is_least { &mut self.least } else { &mut self.most }) = version;
        Ok(())
    }

    /// Suites of TLS 1.3 are all kept, as Go does, unless some are named.
    pub(super) fn choose_suites(
        &mut self,
        names: &[(Location, String)],
    ) -> Result<(), (Location, String)> {
        let all = provider::ALL_CIPHER_SUITES;
        let mut chosen = Vec::new();
        for (at, name) in names {
            match all.iter().find(|suite| suite_name(suite) == *name) {
                Some(suite) => chosen.push(*suite),
                None => {
                    let known: Vec<_> = all.iter().map(suite_name).collect();
                    let why = format!("{name} cannot be had; there are {}", known.join(", "));
                    return Err((*at, why));
                }
            }
        }
        let is_newer = |suite: &SupportedCipherSuite| suite.version() == &TLS13;
        if !chosen.iter().any(is_newer) {
            chosen.extend(all.iter().filter(|suite| is_newer(suite)));
        }
        self.suites = chosen;
        Ok(())
    }

    pub(super) fn choose_curves(
        &mut self,
        names: &[(Location, String)],
    ) -> Result<(), (Location, String)> {
        self.groups = Vec::new();
        for (at, name) in names {
            self.groups.push(match name.as_str() {
                "X25519" => provider::kx_group::X25519,
                "CurveP256" => provider::kx_group::SECP256R1,
                "CurveP384" => provider::kx_group::SECP384R1,
                _ => {
                    let why =
                        format!("{name} cannot be had; there are X25519, CurveP256, CurveP384");
                    return Err((*at, why));
                }
            });
        }
        Ok(())
    }

    /// Whether the parts fit each other.
    pub(super) fn check(&self) -> Result<(), String> {
        let versions = self.versions();
        if versions.is_empty() {
            return Err("`min_version` is above `max_version`".into());
        }
        if !self.suites.iter().any(|suite| versions.contains(&suite.version())) {
            return Err(
                "none of `cipher_suites` is one of the versions of TLS that are left".into()
            );
        }
        Ok(())
    }

    fn versions(&self) -> Vec<&'static SupportedProtocolVersion> {
        let within = |version: &&&'static SupportedProtocolVersion| {
            let number = u16::from(version.version);
            number >= u16::from(self.least.version) && number <= u16::from(self.most.version)
        };
        [&TLS13, &TLS12].iter().filter(within).copied().collect()
    }

    /// What rustls makes of it.
    pub(super) fn build(&self, texts: &Texts<'_>) -> Result<ServerConfig, Fault> {
        let chain = certificates(texts.certificate).map_err(Fault::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(texts.key.as_bytes())
            .map_err(|error| Fault::Key(format!("it holds no private key in PEM: {error}")))?;
        let provider = Arc::new(CryptoProvider {
            cipher_suites: self.suites.clone(),
            kx_groups: self.groups.clone(),
            ..provider::default_provider()
        });
        let verifier = self.verifier(texts.client_ca, &provider).map_err(Fault::ClientCa)?;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.versions())
            .map_err(|error| Fault::Certificate(error.to_string()))?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .map_err(|error| match error {
                rustls::Error::InconsistentKeys(_) => {
                    Fault::Key("it is not the key of the certificate".into())
                }
                error => Fault::Key(format!("it cannot be used: {error}")),
            })?;
        config.ignore_client_order = self.own_order;
        // A session that is resumed would be let in by a certificate that was verified before;
        // and each that is kept costs memory. A scrape a minute can pay for a handshake.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }

    fn verifier(
        &self,
        client_ca: Option<&str>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, String> {
        let mut roots = RootCertStore::empty();
        for one in client_ca.map(certificates).transpose()?.unwrap_or_default() {
            roots.add(one).map_err(|error| format!("it cannot be used: {error}"))?;
        }
        let hints = roots.subjects();
        let authorities = match self.client_auth {
            ClientAuth::None => return Ok(Arc::new(NoClientAuth)),
            ClientAuth::Request | ClientAuth::RequireAny => None,
            ClientAuth::VerifyIfGiven | ClientAuth::RequireAndVerify => {
                let roots = Arc::new(roots);
                let builder = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
                Some(builder.build().map_err(|error| format!("it cannot be used: {error}"))?)
            }
        };
        Ok(Arc::new(Certificates {
            authorities,
            allowed: self.allowed.clone(),
            is_mandatory: matches!(
                self.client_auth,
                ClientAuth::RequireAny | ClientAuth::RequireAndVerify
            ),
            hints,
            algorithms: provider.signature_verification_algorithms,
        }))
    }
}

/// The name that Go has for a suite.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    suite.suite().as_str().unwrap_or_default().replace("TLS13_", "TLS_")
}

fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|error| format!("it is no certificate in PEM: {error}"))?;
    if all.is_empty() {
        return Err("it holds no certificate in PEM".into());
    }
    Ok(all)
}
