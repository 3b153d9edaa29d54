//! The messages of NRI that are needed, and of those the fields in use
//! (pkg/api/api.proto, containerd/nri 0.2 to 0.12; request.proto of ttrpc).
//!
//! They are written down here and derive their encoding: generated code would need
//! `protoc` to build, and would keep all that is skipped here, a container's
//! environment among it.

use std::collections::BTreeMap;

pub const RUNTIME_SERVICE: &str = "nri.pkg.api.v1alpha1.Runtime";

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(bytes = "bytes", tag = "3")]
    pub payload: bytes::Bytes,
    /// How long the answer may take, nanoseconds.
    #[prost(int64, tag = "4")]
    pub timeout: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Response {
    #[prost(message, optional, tag = "1")]
    pub status: Option<Status>,
    #[prost(bytes = "bytes", tag = "2")]
    pub payload: bytes::Bytes,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Status {
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// For people.
    #[prost(string, tag = "2")]
    pub message: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct RegisterPluginRequest {
    #[prost(string, tag = "1")]
    pub plugin_name: String,
    /// Two digits: plugins are asked in their order.
    #[prost(string, tag = "2")]
    pub plugin_idx: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigureRequest {
    #[prost(string, tag = "2")]
    pub runtime_name: String,
    #[prost(string, tag = "3")]
    pub runtime_version: String,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ConfigureResponse {
    /// A bit for each event that is wanted.
    #[prost(int32, tag = "2")]
    pub events: i32,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SynchronizeRequest {
    #[prost(message, repeated, tag = "1")]
    pub pods: Vec<PodSandbox>,
    #[prost(message, repeated, tag = "2")]
    pub containers: Vec<Container>,
    /// More of both are to come.
    #[prost(bool, tag = "3")]
    pub more: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SynchronizeResponse {
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<ContainerUpdate>,
    #[prost(bool, tag = "2")]
    pub more: bool,
}

/// A request or notification about one container: `CreateContainerRequest`,
/// `UpdateContainerRequest`, `PostStartContainerRequest` and the like have the same numbers.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerRequest {
    #[prost(message, optional, tag = "1")]
    pub pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "2")]
    pub container: Option<Container>,
    /// What it is to be given, at an update.
    #[prost(message, optional, tag = "3")]
    pub resources: Option<LinuxResources>,
}

/// `StateChangeEvent`, by which runtimes report what has already happened.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct StateChangeEvent {
    #[prost(int32, tag = "1")]
    pub event: i32,
    #[prost(message, optional, tag = "2")]
    pub pod: Option<PodSandbox>,
    #[prost(message, optional, tag = "3")]
    pub container: Option<Container>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct CreateContainerResponse {
    #[prost(message, optional, tag = "1")]
    pub adjust: Option<ContainerAdjustment>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct UpdateContainerResponse {
    #[prost(message, repeated, tag = "1")]
    pub update: Vec<ContainerUpdate>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct PodSandbox {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub name: String,
    /// Its uid, as its cgroup has it.
    #[prost(string, tag = "3")]
    pub uid: String,
    #[prost(string, tag = "4")]
    pub namespace: String,
    /// Its labels when it was made.
    #[prost(btree_map = "string, string", tag = "5")]
    pub labels: BTreeMap<String, String>,
    /// Its annotations when it was made.
    #[prost(btree_map = "string, string", tag = "6")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct Container {
    #[prost(string, tag = "1")]
    pub id: String,
    #[prost(string, tag = "2")]
    pub pod_sandbox_id: String,
    #[prost(string, tag = "3")]
    pub name: String,
    /// What it does (`enum ContainerState`).
    #[prost(int32, tag = "4")]
    pub state: i32,
    #[prost(message, optional, tag = "11")]
    pub linux: Option<LinuxContainer>,
    /// Its init; 0 before it is started, and where the runtime does not send it.
    #[prost(uint32, tag = "12")]
    pub pid: u32,
}

/// `CONTAINER_CREATED`.
const CREATED: i32 = 1;

/// `CONTAINER_RUNNING`.
const RUNNING: i32 = 3;

impl Container {
    /// Whether it is made and has not started yet.
    pub fn is_created(&self) -> bool {
        self.state == CREATED
    }

    /// Whether it runs. CRI-O before 1.36 sends its state and no process.
    pub fn runs(&self) -> bool {
        self.state == RUNNING || self.state == 0 && self.pid != 0
    }
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinuxContainer {
    #[prost(message, optional, tag = "3")]
    pub resources: Option<LinuxResources>,
    /// Its cgroup, as the driver wants it written.
    #[prost(string, tag = "5")]
    pub cgroups_path: String,
}

/// `LinuxResources`. What is read here is never sent back: only differences are.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinuxResources {
    #[prost(message, optional, tag = "1")]
    pub memory: Option<LinuxMemory>,
    /// Files of cgroup v2 and their values.
    #[prost(btree_map = "string, string", tag = "6")]
    pub unified: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinuxMemory {
    /// Of memory, bytes.
    #[prost(message, optional, tag = "1")]
    pub limit: Option<OptionalInt64>,
    /// Of memory and swap together.
    #[prost(message, optional, tag = "3")]
    pub swap: Option<OptionalInt64>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct OptionalInt64 {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerAdjustment {
    #[prost(message, optional, tag = "6")]
    pub linux: Option<LinuxContainerAdjustment>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinuxContainerAdjustment {
    #[prost(message, optional, tag = "2")]
    pub resources: Option<LinuxResources>,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct ContainerUpdate {
    #[prost(string, tag = "1")]
    pub container_id: String,
    #[prost(message, optional, tag = "2")]
    pub linux: Option<LinuxContainerUpdate>,
    /// The runtime is not to fail if it cannot.
    #[prost(bool, tag = "3")]
    pub ignore_failure: bool,
}

#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct LinuxContainerUpdate {
    #[prost(message, optional, tag = "1")]
    pub resources: Option<LinuxResources>,
}

/// Events, by their numbers (`enum Event`).
pub mod event {
    pub const CREATE_CONTAINER: i32 = 4;
    pub const POST_CREATE_CONTAINER: i32 = 5;
    pub const POST_START_CONTAINER: i32 = 7;
    pub const UPDATE_CONTAINER: i32 = 8;

    /// The bits of all that are asked for. Each one more is one more answer that
    /// the runtime waits for.
    pub const MASK: i32 = bit(CREATE_CONTAINER)
        | bit(POST_CREATE_CONTAINER)
        | bit(POST_START_CONTAINER)
        | bit(UPDATE_CONTAINER);

    const fn bit(event: i32) -> i32 {
        1 << (event - 1)
    }
}
