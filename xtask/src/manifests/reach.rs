//! Who may reach the agents, by a NetworkPolicy.

use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};

/// The port for pods may be reached by all of them, and no other.
pub fn by_pods(policy: &Value) -> Result<()> {
    for rule in policy["spec"]["ingress"].as_array().context("no ingress")? {
        let peers = rule["from"].as_array().map_or(&[][..], Vec::as_slice);
        let is_all = peers.is_empty()
            || peers.iter().any(|peer| {
                let namespaces = peer["namespaceSelector"].as_object();
                namespaces.is_some_and(Map::is_empty) && peer["podSelector"].is_null()
            });
        let ports = &rule["ports"];
        ensure!(!is_all || *ports == json!([{ "port": "self" }]), "all pods may reach {ports}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{command::workspace, render};
    use std::fs;

    #[test]
    fn a_policy_that_lets_pods_reach_more_is_seen() {
        let file = workspace().join("deploy/components/network-policy/network-policy.yaml");
        let mut policy = render::objects(&fs::read_to_string(file).unwrap()).unwrap().remove(0);
        by_pods(&policy).unwrap();
        let everybody = json!([{ "namespaceSelector": {} }]);
        let to_pods = json!({ "from": everybody, "ports": [{ "port": "self" }] });
        policy["spec"]["ingress"].as_array_mut().unwrap().push(to_pods);
        by_pods(&policy).unwrap();
        for ports in [json!([{ "port": "self" }, { "port": "metrics" }]), Value::Null] {
            policy["spec"]["ingress"][1]["ports"] = ports;
            assert!(by_pods(&policy).is_err(), "{policy}");
        }
        policy["spec"]["ingress"] = json!([{ "ports": [{ "port": "metrics" }] }]);
        assert!(by_pods(&policy).is_err(), "from anywhere");
    }
}
