//! Certificates of clients, beyond what rustls verifies by itself: any certificate whose key
//! the client has, and certificates with one of certain names.

use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, IpAddr, ServerName, UnixTime},
    server::danger::{ClientCertVerified, ClientCertVerifier},
};
use std::{net, sync::Arc};
use webpki::EndEntityCert;

/// What is asked of a client's certificate. That the client has its key is always verified.
#[derive(Debug)]
pub(super) struct Certificates {
    /// Verifies who has certified it; without, any certificate will do.
    pub(super) authorities: Option<Arc<dyn ClientCertVerifier>>,
    /// It has one of these names; without any, whatever name it has.
    pub(super) allowed: Vec<SubjectName>,
    pub(super) is_mandatory: bool,
    pub(super) hints: Vec<DistinguishedName>,
    pub(super) algorithms: WebPkiSupportedAlgorithms,
}

impl ClientCertVerifier for Certificates {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if let Some(authorities) = &self.authorities {
            authorities.verify_client_cert(certificate, others, now)?;
        }
        let parsed = EndEntityCert::try_from(certificate);
        let parsed = parsed.map_err(|_| CertificateError::BadEncoding)?;
        if self.allowed.is_empty() || self.allowed.iter().any(|name| name.is_of(&parsed)) {
            Ok(ClientCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// A name that a certificate may have (Subject Alternative Name).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum SubjectName {
    /// Of DNS, letter by letter: also a wildcard is only itself.
    Dns(String),
    Ip(net::IpAddr),
    Uri(String),
}

impl SubjectName {
    pub(super) fn parse(name: &str) -> Result<Self, String> {
        if let Ok(address) = name.parse() {
            return Ok(SubjectName::Ip(address));
        }
        if name.is_empty() {
            return Err("an empty name is in no certificate".into());
        }
        if name.contains(':') {
            return Ok(SubjectName::Uri(name.to_owned()));
        }
        if name.contains('@') {
            return Err(
                "names of e-mail cannot be compared; use a name of DNS, an address or a URI".into(),
            );
        }
        Ok(SubjectName::Dns(name.to_owned()))
    }

    fn is_of(&self, certificate: &EndEntityCert<'_>) -> bool {
        match self {
            SubjectName::Dns(name) => certificate.valid_dns_names().any(|other| other == name),
            SubjectName::Uri(name) => certificate.valid_uri_names().any(|other| other == name),
            SubjectName::Ip(address) => {
                let name = ServerName::IpAddress(IpAddr::from(*address));
                certificate.verify_is_valid_for_subject_name(&name).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_distinguished() {
        let table = [
            ("prometheus.monitoring.svc", SubjectName::Dns("prometheus.monitoring.svc".into())),
            ("10.0.0.1", SubjectName::Ip([10, 0, 0, 1].into())),
            ("0:0::1", SubjectName::Ip(net::Ipv6Addr::LOCALHOST.into())),
            ("spiffe://cluster/ns/a", SubjectName::Uri("spiffe://cluster/ns/a".into())),
        ];
        for (text, name) in table {
            assert_eq!(SubjectName::parse(text), Ok(name));
        }
        for wrong in ["a@example.com", ""] {
            assert!(SubjectName::parse(wrong).is_err(), "{wrong}");
        }
    }
}
