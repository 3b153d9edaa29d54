//! The one API server that is asked, and the agents behind its proxy of pods.

use crate::{
    agents::Agent,
    args::Common,
    fault::{Error, Fault},
};
use http_body_util::BodyExt;
use hyper::{Request, Response, StatusCode, header::HeaderValue};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Config,
    api::ListParams,
    client::{Body, ClientBuilder},
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};
use serde_json::Value;
use std::{
    env,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout_at};

/// Longest answer that is read, bytes: some 4 KiB for each of 1,000 kills.
const LONGEST: usize = 16 << 20;

/// Most of all answers that are read at once, MiB. Each is parsed when it is whole.
const LONGEST_TOGETHER: usize = 256;

/// Agents that can be asked; Kubernetes is made for 5,000 nodes.
const MOST_AGENTS: usize = 100_000;

/// Pods of one page of the list.
const PAGE: u32 = 500;

/// What an agent with TLS answers to a request without.
const SPEAKS_TLS: &str = "This port speaks TLS";

/// Access to a cluster. Clones are the same.
#[derive(Clone)]
pub(crate) struct Cluster {
    client: Client,
    namespace: String,
    agents_namespace: String,
    agents_selector: String,
    within: Duration,
    /// Bytes of answers that are held now.
    held: Arc<AtomicUsize>,
}

impl Cluster {
    /// Access as kubectl has it. Nothing is asked yet, but a program of the kubeconfig that
    /// gets credentials may run. It may ask a person to log in, so that no time is set for it.
    pub(crate) async fn connect(common: &Common) -> Result<Self, Error> {
        let options = KubeConfigOptions { context: common.context.clone(), ..Default::default() };
        let kubeconfig = match &common.kubeconfig {
            Some(path) => Kubeconfig::read_from(path),
            None => as_kubectl_reads_it(),
        };
        let kubeconfig = kubeconfig.map_err(Error::Kubeconfig)?;
        let config = Config::from_custom_kubeconfig(kubeconfig, &options);
        let mut config = config.await.map_err(Error::Kubeconfig)?;
        // An agent that does not answer is named, not asked again.
        config.default_retry = false;
        config.read_timeout = None;
        config.connect_timeout = Some(common.timeout());
        let namespace = common.namespace.clone().unwrap_or(config.default_namespace.clone());
        let client = ClientBuilder::try_from(config).map_err(Error::Unusable)?.build();
        Ok(Cluster {
            client,
            namespace,
            agents_namespace: common.agents_namespace.clone(),
            agents_selector: common.agents_selector.clone(),
            within: common.timeout(),
            held: Arc::default(),
        })
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.namespace
    }

    pub(crate) async fn agents(&self, deadline: Instant) -> Result<Vec<Agent>, Error> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &self.agents_namespace);
        let mut params = ListParams::default().labels(&self.agents_selector).limit(PAGE);
        let mut agents = Vec::new();
        loop {
            let page = timeout_at(deadline, pods.list(&params)).await;
            let page = page.map_err(|_| Error::SlowList(self.within))?;
            let page = page.map_err(|source| Error::List {
                namespace: self.agents_namespace.clone(),
                source,
            })?;
            agents.extend(page.items.into_iter().filter_map(Agent::of));
            if agents.len() > MOST_AGENTS {
                return Err(Error::ManyAgents(MOST_AGENTS));
            }
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        if agents.is_empty() {
            let (namespace, selector) =
                (self.agents_namespace.clone(), self.agents_selector.clone());
            return Err(Error::NoAgents { namespace, selector });
        }
        agents.sort_by(|one, other| (&one.node, &one.pod).cmp(&(&other.node, &other.pod)));
        Ok(agents)
    }

    pub(crate) async fn list(&self, agent: &Agent, path: &str) -> Result<Vec<Value>, Fault> {
        let answer = self.ask(agent, path, None).await?;
        let body = self.whole(answer.into_body()).await?;
        serde_json::from_slice(&body.bytes).map_err(|error| Fault::Garbage(error.to_string()))
    }

    /// The answer of an agent, as soon as its head is there. One that has TLS is asked by TLS.
    pub(crate) async fn ask(
        &self,
        agent: &Agent,
        path: &str,
        last_event: Option<&str>,
    ) -> Result<Response<Body>, Fault> {
        let answer = self.ask_by("", agent, path, last_event).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let body = self.whole(answer.into_body()).await?;
        if status != StatusCode::BAD_REQUEST
            || !String::from_utf8_lossy(&body.bytes).contains(SPEAKS_TLS)
        {
            return Err(Fault::refused(status, &body.bytes));
        }
        let answer = self.ask_by("https:", agent, path, last_event).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        Err(Fault::refused(status, &self.whole(answer.into_body()).await?.bytes))
    }

    /// All of a body.
    async fn whole(&self, mut body: Body) -> Result<Held, Fault> {
        let mut all = Held { bytes: Vec::new(), held: self.held.clone() };
        while let Some(frame) = body.frame().await {
            if let Some(data) = frame.map_err(Fault::Broken)?.data_ref() {
                all.add(data)?;
            }
        }
        Ok(all)
    }

    async fn ask_by(
        &self,
        scheme: &str,
        agent: &Agent,
        path: &str,
        last_event: Option<&str>,
    ) -> Result<Response<Body>, Fault> {
        let Agent { pod, port, .. } = agent;
        let namespace = &self.agents_namespace;
        let url = format!("/api/v1/namespaces/{namespace}/pods/{scheme}{pod}:{port}/proxy/{path}");
        let mut request = Request::new(Body::empty());
        // Names of pods and namespaces have no letters that a URL may not have.
        *request.uri_mut() = url.parse().map_err(|_| Fault::Garbage(format!("no URL: {url}")))?;
        if let Some(last) = last_event.and_then(|last| HeaderValue::from_str(last).ok()) {
            request.headers_mut().insert("last-event-id", last);
        }
        self.client.send(request).await.map_err(Fault::Broken)
    }
}

/// The files of KUBECONFIG without those that are not there, as kubectl has it; else the default one.
fn as_kubectl_reads_it() -> Result<Kubeconfig, KubeconfigError> {
    let listed = env::var_os("KUBECONFIG").unwrap_or_default();
    let is_there = |path: &PathBuf| path.try_exists().unwrap_or(true);
    let files: Vec<_> = env::split_paths(&listed).filter(is_there).collect();
    if files.is_empty() {
        return Kubeconfig::read();
    }
    let merge = |all: Kubeconfig, path| all.merge(Kubeconfig::read_from(path)?);
    files.into_iter().try_fold(Kubeconfig::default(), merge)
}

/// A body, which counts as held until it is dropped.
struct Held {
    bytes: Vec<u8>,
    held: Arc<AtomicUsize>,
}

impl Held {
    fn add(&mut self, data: &[u8]) -> Result<(), Fault> {
        let before = self.held.fetch_add(data.len(), Ordering::Relaxed);
        self.bytes.extend_from_slice(data);
        if self.bytes.len() > LONGEST {
            return Err(Fault::Garbage(format!("it is longer than {} MiB", LONGEST >> 20)));
        }
        if before + data.len() > LONGEST_TOGETHER << 20 {
            return Err(Fault::TooMuch(LONGEST_TOGETHER));
        }
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_of_one_and_of_all_is_bounded() {
        let held = Arc::<AtomicUsize>::default();
        let piece = vec![0; 1 << 20];
        let new = || Held { bytes: Vec::new(), held: held.clone() };
        let fill = |mut one: Held, times: usize| -> Result<Held, Fault> {
            (0..times).try_for_each(|_| one.add(&piece))?;
            Ok(one)
        };
        let error = fill(new(), 17).err().unwrap().to_string();
        assert!(error.contains("longer than 16 MiB"), "{error}");
        assert_eq!(held.load(Ordering::Relaxed), 0, "what is given up is not held");
        let all: Vec<_> = (0..16).map(|_| fill(new(), 16).unwrap()).collect();
        let error = fill(new(), 1).err().unwrap().to_string();
        assert!(error.contains("more than 256 MiB"), "{error}");
        drop(all);
        assert!(fill(new(), 16).is_ok());
    }
}
