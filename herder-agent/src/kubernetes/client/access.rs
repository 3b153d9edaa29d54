//! Where the API server is, and the credentials for it: those of the pod that the agent
//! runs in, or a kubeconfig's.
//!
//! The agent connects directly. kube would take `HTTPS_PROXY` for a kubeconfig's cluster,
//! though not in a pod; one variable that is meant for other programs would then decide
//! whether pods get their names.

use super::{ApiServer, OnFailure, Times};
use herder_model::causes::Causes;
use kube::{
    Config,
    client::ClientBuilder,
    config::{KubeConfigOptions, Kubeconfig},
};
use std::time::Duration;

/// For a connection, with its TLS.
const CONNECT: Duration = Duration::from_secs(10);

/// kube looks for a variable only where a cluster has no proxy, and then also refuses one
/// that it cannot parse. Nothing is ever sent there.
const UNUSED_PROXY: &str = "http://unused.invalid";

/// Why there is no access.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error(
        "no access to a Kubernetes API server: {0}; run in a pod with a service account, give a kubeconfig, or use --kubernetes off"
    )]
    NoConfig(String),
    #[error("the configured access to the API server cannot be used: {}", Causes(.0))]
    Unusable(#[source] kube::Error),
    #[error(
        "the kubeconfig's cluster {0} has a proxy-url, but the agent connects to the API server without a proxy: remove proxy-url and give an address as server that the node reaches itself"
    )]
    Proxy(String),
}

/// The API server of the cluster that the agent runs in, or with `elsewhere` also
/// the one that a kubeconfig names. Nothing is sent yet.
pub async fn connect(
    elsewhere: bool,
    times: Times,
    on_failure: OnFailure,
) -> Result<ApiServer, ConnectError> {
    let config = match Config::incluster() {
        Ok(config) => config,
        Err(error) if !elsewhere => return Err(ConnectError::NoConfig(Causes(&error).to_string())),
        Err(error) => {
            let kubeconfig = Kubeconfig::read().map_err(|kubeconfig| {
                let (pod, file) = (Causes(&error), Causes(&kubeconfig));
                ConnectError::NoConfig(format!("in a pod: {pod}; by a kubeconfig: {file}"))
            })?;
            of_kubeconfig(kubeconfig).await?
        }
    };
    connect_with(config, times, on_failure)
}

/// The configuration that a kubeconfig stands for, without any proxy.
async fn of_kubeconfig(mut kubeconfig: Kubeconfig) -> Result<Config, ConnectError> {
    let current = kubeconfig.current_context.as_ref();
    let context = kubeconfig.contexts.iter().find(|context| Some(&context.name) == current);
    let current = context.and_then(|named| Some(named.context.as_ref()?.cluster.clone()));
    for named in &mut kubeconfig.clusters {
        let Some(cluster) = &mut named.cluster else { continue };
        let proxy = cluster.proxy_url.replace(UNUSED_PROXY.to_owned());
        if proxy.is_some_and(|url| !url.is_empty()) && current.as_ref() == Some(&named.name) {
            return Err(ConnectError::Proxy(named.name.clone()));
        }
    }
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await;
    let mut config = config.map_err(|error| ConnectError::NoConfig(Causes(&error).to_string()))?;
    config.proxy_url = None;
    Ok(config)
}

/// Access by this configuration.
pub fn connect_with(
    mut config: Config,
    times: Times,
    on_failure: OnFailure,
) -> Result<ApiServer, ConnectError> {
    // kube's `RetryPolicy` heeds Retry-After too, but for one request alone and however long it is,
    // and what it tries again is neither counted nor seen. It knows no lost connection.
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT);
    config.read_timeout = Some(times.silence);
    config.reset_reader_on_write = true;
    let url = config.cluster_url.to_string();
    let client = ClientBuilder::try_from(config).map_err(ConnectError::Unusable)?.build();
    Ok(ApiServer::new(client, url, times, on_failure))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn kubeconfig(cluster: &Value) -> Kubeconfig {
        let text = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [
                {"name": "other", "cluster": {"server": "https://other", "proxy-url": "http://p"}},
                {"name": "mine", "cluster": cluster},
            ],
            "contexts": [{"name": "c", "context": {"cluster": "mine", "user": "u"}}],
            "users": [{"name": "u", "user": {}}],
        });
        Kubeconfig::from_yaml(&text.to_string()).unwrap()
    }

    #[tokio::test]
    async fn a_proxy_is_refused_where_it_is_meant_and_else_ignored() {
        let server = "https://10.0.0.1:6443";
        for proxy in [Value::Null, json!("")] {
            let config = kubeconfig(&json!({"server": server, "proxy-url": proxy}));
            let config = of_kubeconfig(config).await.unwrap();
            assert_eq!((config.proxy_url, config.cluster_url.port_u16()), (None, Some(6443)));
        }
        for proxy in ["http://proxy:3128", "socks5://proxy:1080", "no url"] {
            let config = kubeconfig(&json!({"server": server, "proxy-url": proxy}));
            let error = of_kubeconfig(config).await.unwrap_err().to_string();
            for part in ["cluster mine", "proxy-url", "without a proxy"] {
                assert!(error.contains(part), "{part}: {error}");
            }
        }
    }

    #[tokio::test]
    async fn what_a_kubeconfig_lacks_is_printed_with_its_cause() {
        let missing = json!({"server": "https://x", "certificate-authority": "/nowhere/ca.pem"});
        let error = of_kubeconfig(kubeconfig(&missing)).await.unwrap_err().to_string();
        for part in ["/nowhere/ca.pem", "os error 2", "--kubernetes off"] {
            assert!(error.contains(part), "{part}: {error}");
        }
    }
}
