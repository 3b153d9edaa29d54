//! Pods' networks, made by CNI's own plugins: a pair of devices for each pod, with an address of
//! each family, and routes by way of the node, which translates nothing.

use serde_json::{Value, json};
use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
};

/// Where the runtime finds which plugins to ask.
pub(super) const DIRECTORY: &str = "/run/cni/networks";

/// How many pods with networks of their own there can be at once. One more gets the addresses of
/// one that is gone.
const PODS: u16 = 3;

const FIRST: u16 = 10;

/// Replaces the networks of other tests.
pub(super) fn configure() {
    // A test that failed has left pods, whose addresses must not be given again.
    let number = u16::try_from(std::process::id() % 200).expect("a small number");
    let four = |last: u16| Ipv4Addr::from(0x0a58_0000 | u32::from(number) << 8 | u32::from(last));
    let six = |last: u16| Ipv6Addr::new(0xfd00, 0x88, 0, number, 0, 0, 0, last);
    let (first, last) = (FIRST, FIRST + PODS - 1);
    let range = |subnet: String, addresses: [String; 3]| -> Value {
        let [gateway, first, last] = addresses;
        json!([{"subnet": subnet, "gateway": gateway, "rangeStart": first, "rangeEnd": last}])
    };
    let addresses = json!({
        "type": "host-local",
        "dataDir": "/run/cni/addresses",
        "ranges": [
            range(format!("{}/24", four(0)), [1, first, last].map(|last| four(last).to_string())),
            range(format!("{}/64", six(0)), [1, first, last].map(|last| six(last).to_string()))
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    });
    let network = json!({
        "cniVersion": "0.4.0",
        "name": format!("pods-{number}"),
        "plugins": [{"type": "ptp", "ipam": addresses}]
    });
    fs::create_dir_all(DIRECTORY).unwrap();
    fs::write(format!("{DIRECTORY}/pods.conflist"), network.to_string()).unwrap();
}
