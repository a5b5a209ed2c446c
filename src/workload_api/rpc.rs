//! The RPCs of the Workload API that the helper calls, each with its messages: the fields of its response by
//! number, as in proto/workload.proto.

use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, StreamExt};
use grpcio::{CallOption, Client, Error, Marshaller, Method, MethodType};

use super::decode::{Field, Message, decode, nth};
use super::proto::workload::JWTSVIDRequest;
use crate::identity::raw::{RawJwtBundles, RawJwtSvid, RawWitSvid, RawX509Context, RawX509Svid};
use crate::identity::spiffe_id::SpiffeId;

/// The responses of one call, as gRPC brings them.
pub(crate) type Messages<M> = Box<dyn Stream<Item = grpcio::Result<M>> + Unpin>;

/// An RPC, with the parameters of its request.
pub(crate) trait Rpc {
    /// The plain parts of a response, not yet checked.
    type Raw: Message + Default + Unpin + 'static;
    /// The procedure with its service, as gRPC calls it.
    const PATH: &'static str;
    /// The procedure's name.
    const NAME: &'static str = Self::PATH.split_at(SERVICE.len()).1;
    /// Whether the agent keeps the call open and sends a response for every change, or sends one
    /// response.
    const STREAMS: bool = true;
    /// What it means that an agent does not have the RPC, where that is the agent's right.
    const IF_OFF: Option<&'static str> = None;

    /// The request, with the parameters. Most RPCs have none, and all messages without fields are the same bytes.
    fn request(&self) -> JWTSVIDRequest {
        JWTSVIDRequest::default()
    }

    /// Begins a call.
    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<Self::Raw>> {
        let method = Method {
            ty: if Self::STREAMS { MethodType::ServerStreaming } else { MethodType::Unary },
            name: Self::PATH,
            req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
            resp_mar: Marshaller { ser: |_, _| Err(Error::Codec("only agents respond".into())), de: decode },
        };
        if Self::STREAMS {
            return Ok(Box::new(client.server_streaming(&method, &self.request(), options)?));
        }
        let response = client.unary_call_async(&method, &self.request(), options)?;
        Ok(Box::new(stream::once(response.boxed_local()).boxed_local()))
    }
}

/// How each [`Rpc::PATH`] begins. (They repeat it: a constant cannot be put together from others.)
const SERVICE: &str = "/SpiffeWorkloadAPI/";

/// `FetchX509SVID`: all X.509-SVIDs of this process (SPIFFE Workload API standard, section 5.2.1).
pub(crate) struct FetchX509Svid;

impl Rpc for FetchX509Svid {
    type Raw = RawX509Context;
    const PATH: &'static str = "/SpiffeWorkloadAPI/FetchX509SVID";
}

impl Message for RawX509Context {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        nth(number, [&mut self.svids, &mut self.crls, &mut self.federated_bundles])
    }
}

impl Message for RawX509Svid {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        nth(
            number,
            [
                &mut self.spiffe_id,
                &mut self.fields.chain,
                &mut self.fields.key,
                &mut self.fields.bundle,
                &mut self.hint,
            ],
        )
    }
}

/// `FetchJWTSVID`: JWT-SVIDs of this process, made for these audiences (SPIFFE Workload API standard,
/// section 6.2.1).
pub(crate) struct FetchJwtSvid {
    /// The audience of the token, one or more.
    pub(crate) audience: Vec<String>,
    /// The identity; `None`: all of them.
    pub(crate) id: Option<SpiffeId>,
}

impl Rpc for FetchJwtSvid {
    type Raw = Vec<RawJwtSvid>;
    const PATH: &'static str = "/SpiffeWorkloadAPI/FetchJWTSVID";
    const STREAMS: bool = false;

    fn request(&self) -> JWTSVIDRequest {
        JWTSVIDRequest {
            audience: self.audience.clone(),
            spiffe_id: self.id.as_ref().map(SpiffeId::to_string).unwrap_or_default(),
            ..Default::default()
        }
    }
}

impl Message for RawJwtSvid {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        nth(number, [&mut self.spiffe_id, &mut self.fields, &mut self.hint])
    }
}

/// `FetchJWTBundles`: the keys of all trust domains to verify JWT-SVIDs with (SPIFFE Workload API standard,
/// section 6.2.2).
pub(crate) struct FetchJwtBundles;

impl Rpc for FetchJwtBundles {
    type Raw = RawJwtBundles;
    const PATH: &'static str = "/SpiffeWorkloadAPI/FetchJWTBundles";
}

impl Message for RawJwtBundles {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        (number == 1).then_some(self)
    }
}

/// `FetchWITSVID`: all WIT-SVIDs of this process, each with its private key (SPIFFE Workload API standard,
/// section 7.2.1).
pub(crate) struct FetchWitSvid;

impl Rpc for FetchWitSvid {
    type Raw = Vec<RawWitSvid>;
    const PATH: &'static str = "/SpiffeWorkloadAPI/FetchWITSVID";
    const IF_OFF: Option<&'static str> = Some(WIT_IS_OFF);
}

const WIT_IS_OFF: &str = "the agent's WIT-SVID profile is off \
    (SPIRE agent: experimental { feature_flags = [\"wit-svid\"], enable_wit_svids = true }; \
    SPIRE server: experimental { feature_flags = [\"wit-svid\"] })";

impl Message for RawWitSvid {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        nth(number, [&mut self.spiffe_id, &mut self.fields.token, &mut self.fields.key, &mut self.hint])
    }
}

/// `FetchWITBundles`: the keys of all trust domains to verify WIT-SVIDs with (SPIFFE Workload API standard,
/// section 7.2.2).
pub(crate) struct FetchWitBundles;

impl Rpc for FetchWitBundles {
    /// As bytes, like the documents of JWT bundles.
    type Raw = RawJwtBundles;
    const PATH: &'static str = "/SpiffeWorkloadAPI/FetchWITBundles";
    const IF_OFF: Option<&'static str> = Some(WIT_IS_OFF);
}
