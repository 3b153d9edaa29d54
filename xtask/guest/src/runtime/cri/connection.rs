//! containerd's socket.

use super::messages::{Image, ImageStatus, Name, Nothing};
use std::time::Duration;
use tonic::{Request, Status, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};
use tonic_prost::ProstCodec;

const SOCKET: &str = "unix:///run/containerd/containerd.sock";

/// A connection to containerd.
pub struct Cri {
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

impl Cri {
    pub fn connect() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let endpoint = tonic::transport::Endpoint::from_static(SOCKET);
        let channel = runtime.block_on(async { endpoint.connect_lazy() });
        Cri { runtime, channel }
    }

    pub(super) fn ask<Q, A>(&self, method: &'static str, question: Q) -> Result<A, Status>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        self.runtime.block_on(async {
            let mut client = Grpc::new(self.channel.clone());
            client.ready().await.map_err(|error| Status::unknown(error.to_string()))?;
            let mut request = Request::new(question);
            request.set_timeout(Duration::from_secs(120));
            let path = PathAndQuery::from_static(method);
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            Ok(client.unary(request, path, codec).await?.into_inner())
        })
    }

    pub(super) fn has_image(&self, image: &str) -> bool {
        let question = ImageStatus { image: Some(Image { image: image.into() }) };
        let answer = self.ask("/runtime.v1.ImageService/ImageStatus", question);
        answer.is_ok_and(|answer: ImageStatus| answer.image.is_some())
    }

    pub(super) fn forget(&self, method: &'static str, id: &str) {
        let question = Name { id: id.into(), timeout: 0 };
        let _: Nothing = self.ask(method, question).unwrap();
    }
}
