//! What a request that was not answered failed of, and what to do about it. Pure.
//!
//! All of these come out of the client as `client error (Connect)`; what differs is the
//! innermost cause.

use herder_model::causes::{Causes, chain};
use rustls::{AlertDescription, CertificateError};
use std::{error::Error, io};

const CLOSED: &str = "the connection was closed at the other end; does the API server, or a load balancer in front of it, restart?";

/// The error with its causes, and what to do, if that is known.
pub(super) fn explained(error: &(dyn Error + 'static)) -> String {
    let causes = Causes(error);
    match chain(error).find_map(advice) {
        Some(advice) => format!("{causes}; {advice}"),
        None => causes.to_string(),
    }
}

fn advice(error: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(error) = error.downcast_ref::<rustls::Error>() {
        return of_tls(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        // What it wraps is not among its sources.
        let inner = error.get_ref().and_then(|inner| advice(inner));
        return inner.or_else(|| of_kind(error.kind()));
    }
    if let Some(error) = error.downcast_ref::<hyper::Error>() {
        let speaks_else = "the other end does not speak HTTP/1.1; is the server's URL right, with https if it expects TLS?";
        return match error {
            error if error.is_parse() => Some(speaks_else),
            error if error.is_incomplete_message() => Some(CLOSED),
            _ => None,
        };
    }
    // The type of hyper-util's connector is its own.
    (error.to_string() == "dns error").then_some(
        "the server's name cannot be resolved; check the name, and the DNS of the node or of the pod (dnsPolicy)",
    )
}

fn of_kind(kind: io::ErrorKind) -> Option<&'static str> {
    Some(match kind {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens at that address and port; is the API server running, and is its address right?"
        }
        io::ErrorKind::HostUnreachable
        | io::ErrorKind::NetworkUnreachable
        | io::ErrorKind::NetworkDown
        | io::ErrorKind::AddrNotAvailable => {
            "there is no route to that address; check the node's network and routes"
        }
        io::ErrorKind::TimedOut => {
            "no answer came in time; look for a firewall or NetworkPolicy in between"
        }
        io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionAborted
        | io::ErrorKind::BrokenPipe
        | io::ErrorKind::UnexpectedEof => CLOSED,
        io::ErrorKind::PermissionDenied => {
            "the kernel does not allow the connection; look for a rule of the firewall or a security module"
        }
        _ => return None,
    })
}

fn of_tls(error: &rustls::Error) -> Option<&'static str> {
    Some(match error {
        rustls::Error::InvalidCertificate(error) => match error {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "renew the server's certificate, or set the node's clock"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "set the clock of the node or of the server"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "the certificate is for other names; use one of them in the server's URL, or add this one to the certificate (subjectAltName)"
            }
            CertificateError::UnknownIssuer => {
                "the certificate is not signed by the CA of the service account or kubeconfig; is that CA up to date, and does a proxy in between terminate TLS?"
            }
            CertificateError::Revoked => "the server's certificate was revoked; renew it",
            _ => "the server's certificate is not acceptable; renew it",
        },
        rustls::Error::AlertReceived(alert) => match alert {
            AlertDescription::CertificateExpired => {
                "the client certificate is expired for the server; renew the kubeconfig"
            }
            AlertDescription::HandshakeFailure
            | AlertDescription::ProtocolVersion
            | AlertDescription::InsufficientSecurity => {
                "server and agent have no version or cipher of TLS in common"
            }
            AlertDescription::UnrecognisedName => {
                "the server does not know that name; use another one, or set tls-server-name"
            }
            _ => {
                "the server ended the handshake; check the client certificate of the kubeconfig, if it has one"
            }
        },
        rustls::Error::InvalidMessage(_) | rustls::Error::InappropriateMessage { .. } => {
            "the other end does not speak TLS; is the server's URL right?"
        }
        rustls::Error::PeerIncompatible(_) => {
            "server and agent have no version or cipher of TLS in common"
        }
        _ => return None,
    })
}
