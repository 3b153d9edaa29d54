use super::*;

const TLS: &str = "tls_server_config: {cert_file: tls.crt, key_file: tls.key";

#[test]
fn what_exporters_take_is_taken() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("taken", &authority);
    let inline = format!(
        "tls_server_config:\n  cert: |\n    {}\n  key: |\n    {}\n  client_ca: |\n    {}\n  client_auth_type: RequireAndVerifyClientCert\n",
        fs::read_to_string(directory.0.join("tls.crt")).unwrap().replace('\n', "\n    "),
        fs::read_to_string(directory.0.join("tls.key")).unwrap().replace('\n', "\n    "),
        authority.pem().replace('\n', "\n    "),
    );
    let table = [
        ("{}", (false, false)),
        (
            "basic_auth_users:\n  a: $2y$10$X0h1gDsPszWURQaxFh.zoubFi6DXncSjhoQNJgRrnGs7EsimhC7zG\n",
            (false, true),
        ),
        (&format!("{TLS}}}"), (true, false)),
        (
            &format!("{TLS}, client_auth_type: NoClientCert, prefer_server_cipher_suites: false}}"),
            (true, false),
        ),
        (
            &format!(
                "{TLS}, min_version: TLS12, max_version: TLS12, curve_preferences: [CurveP256, X25519]}}"
            ),
            (true, false),
        ),
        (
            &format!("{TLS}, cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256]}}"),
            (true, false),
        ),
        (
            &format!("{TLS}, cipher_suites: [TLS_AES_128_GCM_SHA256], min_version: TLS13}}"),
            (true, false),
        ),
        (
            &format!(
                "{TLS}, client_auth_type: RequireAnyClientCert, client_allowed_sans: [a, 10.0.0.1, spiffe://a/b]}}"
            ),
            (true, false),
        ),
        (
            &format!("{TLS}, client_ca_file: ca.crt, client_auth_type: VerifyClientCertIfGiven}}"),
            (true, false),
        ),
        (
            "http_server_config: {http2: false, headers: {X-Frame-Options: deny, X-XSS-Protection: \"\"}}",
            (false, false),
        ),
        (&inline, (true, false)),
    ];
    for (text, asks_for) in table {
        let taken = directory.take(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        let in_force = taken.in_force();
        assert_eq!((in_force.tls, in_force.users > 0), asks_for, "{text}");
    }
}

/// By name, with line and column, and with the reason.
#[test]
fn nothing_is_passed_over() {
    let authority = Authority::new("ca");
    let directory = Directory::certified("mistakes", &authority);
    directory.write("other.key", &authority.certify(&["x"]).key);
    directory.write("no.crt", "no certificate");
    let table = [
        ("", "web.yaml:1:1: nothing is in it; write `{}`"),
        ("# only\n", "web.yaml:1:1: nothing is in it"),
        ("basic_auth: {}", "web.yaml:1:1: there is no key \"basic_auth\" here"),
        (
            "tls_server_config:\n  cert-file: x\n",
            "web.yaml:2:3: there is no key \"cert-file\" here; the keys are cert,",
        ),
        (
            "http_server_config: {headers: {X-Other: a}}",
            "web.yaml:1:32: there is no key \"X-Other\" here; the keys are Content-Security-Policy",
        ),
        ("basic_auth_users: {}", "web.yaml:1:19: `basic_auth_users` names no user"),
        ("tls_server_config: [a]", "web.yaml:1:20: a mapping (`key: value`) is needed here"),
        ("tls_server_config:", "web.yaml:1:18: `tls_server_config` has no value"),
        ("tls_server_config: {}", "web.yaml:1:20: TLS needs `cert_file` and `key_file`"),
        ("tls_server_config: {cert_file: tls.crt}", "TLS needs"),
        ("tls_server_config: {cert_file: tls.crt, key_file: \"\"}", "`key_file` is empty"),
        ("tls_server_config: {min_version: TLS13}", "TLS needs"),
        (
            "tls_server_config: {cert: a, cert_file: tls.crt, key_file: tls.key}",
            "web.yaml:1:41: `cert` is given too",
        ),
        (
            "tls_server_config: {cert_file: none.crt, key_file: tls.key}",
            "web.yaml:1:32: cannot read none.crt: No such file",
        ),
        (
            "tls_server_config: {cert_file: no.crt, key_file: tls.key}",
            "web.yaml:1:32: no.crt: it holds no certificate in PEM",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: tls.crt}",
            "web.yaml:1:51: tls.crt: it holds no private key in PEM",
        ),
        (
            "tls_server_config: {cert_file: tls.crt, key_file: other.key}",
            "other.key: it is not the key of the certificate",
        ),
        (&format!("{TLS}, client_auth_type: Always}}"), "\"Always\" is none of NoClientCert"),
        (
            &format!("{TLS}, client_ca_file: ca.crt}}"),
            "a client CA has no effect with NoClientCert",
        ),
        (
            &format!("{TLS}, client_auth_type: RequireAndVerifyClientCert}}"),
            "`client_auth_type` needs `client_ca_file`",
        ),
        (
            &format!(
                "{TLS}, client_ca_file: no.crt, client_auth_type: RequireAndVerifyClientCert}}"
            ),
            "no.crt: it holds no certificate",
        ),
        (
            &format!("{TLS}, client_auth_type: RequestClientCert, client_allowed_sans: [a]}}"),
            "`client_allowed_sans` needs",
        ),
        (
            &format!("{TLS}, client_auth_type: RequireAnyClientCert, client_allowed_sans: []}}"),
            "`client_allowed_sans` is empty",
        ),
        (
            &format!("{TLS}, client_auth_type: RequireAnyClientCert, client_allowed_sans: [a@b]}}"),
            "names of e-mail cannot be compared",
        ),
        (&format!("{TLS}, min_version: TLS11}}"), "TLS11 cannot be had"),
        (&format!("{TLS}, max_version: SSL3}}"), "\"SSL3\" is none of"),
        (&format!("{TLS}, min_version: TLS13, max_version: TLS12}}"), "`min_version` is above"),
        (
            &format!("{TLS}, max_version: TLS12, cipher_suites: [TLS_AES_128_GCM_SHA256]}}"),
            "none of `cipher_suites`",
        ),
        (
            &format!("{TLS}, cipher_suites: [TLS_RSA_WITH_AES_128_CBC_SHA]}}"),
            "TLS_RSA_WITH_AES_128_CBC_SHA cannot be had; there are",
        ),
        (&format!("{TLS}, cipher_suites: []}}"), "`cipher_suites` is empty"),
        (&format!("{TLS}, curve_preferences: [CurveP521]}}"), "CurveP521 cannot be had"),
        ("http_server_config: {http2: true}", "web.yaml:1:29: Herder speaks HTTP/1.1 only"),
        (
            "http_server_config: {headers: {X-Frame-Options: maybe}}",
            "write one of deny, sameorigin",
        ),
        (
            "http_server_config: {headers: {Content-Security-Policy: \"a\\nb\"}}",
            "letters that no header may have",
        ),
        ("rate_limit: {interval: 1s, burst: 2}", "web.yaml:1:13: `rate_limit` cannot be kept"),
        ("basic_auth_users: {a: secret}", "web.yaml:1:23: this is no hash of bcrypt"),
        ("basic_auth_users: {a: }", "`a` has no value"),
        (
            "basic_auth_users: {\"a:b\": $2b$04$0pKvXgKkXyBM3qH2XeSvWeXeZqWvQe1w1yQfUdZlZ4V0cTQ0m8m2W}",
            "has a colon",
        ),
        (
            "basic_auth_users: {a: $2b$31$0pKvXgKkXyBM3qH2XeSvWeXeZqWvQe1w1yQfUdZlZ4V0cTQ0m8m2W}",
            "cost 31",
        ),
    ];
    for (text, part) in table {
        let error = directory.take(text).expect_err(text);
        assert!(error.contains(part), "{text}\n{error}");
    }
    let missing =
        AccessFiles::read(&directory.0.join("none.yaml"), |path| fs::read_to_string(path))
            .take()
            .unwrap_err()
            .to_string();
    assert!(missing.contains("none.yaml: No such file"), "{missing}");
}
