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

/// A certificate is asked for and not verified; that the client has its key is.
#[derive(Debug)]
pub(super) struct AnyCertificate {
    is_mandatory: bool,
    hints: Vec<DistinguishedName>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl AnyCertificate {
    pub(super) fn new(
        is_mandatory: bool,
        hints: Vec<DistinguishedName>,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        AnyCertificate { is_mandatory, hints, algorithms }
    }
}

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.is_mandatory
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.hints
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        parsed(certificate).map(|_| ClientCertVerified::assertion())
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

/// What another verifier lets in, if it has one of these names.
#[derive(Debug)]
pub(super) struct NamedCertificate {
    verified: Arc<dyn ClientCertVerifier>,
    allowed: Vec<SubjectName>,
}

impl NamedCertificate {
    pub(super) fn new(verified: Arc<dyn ClientCertVerifier>, allowed: Vec<SubjectName>) -> Self {
        NamedCertificate { verified, allowed }
    }
}

impl ClientCertVerifier for NamedCertificate {
    fn client_auth_mandatory(&self) -> bool {
        self.verified.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verified.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verified.verify_client_cert(certificate, others, now)?;
        let parsed = parsed(certificate)?;
        if self.allowed.iter().any(|name| name.is_of(&parsed)) {
            Ok(verified)
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
        self.verified.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verified.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verified.supported_verify_schemes()
    }
}

fn parsed<'a>(certificate: &'a CertificateDer<'_>) -> Result<EndEntityCert<'a>, Error> {
    EndEntityCert::try_from(certificate).map_err(|_| CertificateError::BadEncoding.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
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
