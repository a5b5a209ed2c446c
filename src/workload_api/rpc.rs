//! The RPCs of the Workload API that the helper calls, each with its messages: the fields of its response by
//! number, as in proto/workload.proto.

use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, StreamExt};
use grpcio::{CallOption, Client, Error, Marshaller, Method, MethodType};

use super::decode::{Field, Message, decode};
use super::proto::workload::{
    JWTBundlesRequest, JWTSVIDRequest, WITBundlesRequest, WITSVIDRequest, X509SVIDRequest,
};
use crate::identity::raw::{RawJwtBundles, RawJwtSvid, RawWitSvid, RawX509Context, RawX509Svid};
use crate::identity::spiffe_id::SpiffeId;

/// The responses of one call, as gRPC brings them.
pub(crate) type Messages<M> = Box<dyn Stream<Item = grpcio::Result<M>> + Unpin>;

/// An RPC, with the parameters of its request.
pub(crate) trait Rpc {
    /// The plain parts of a response, not yet checked.
    type Raw: Message + Default + 'static;
    /// The procedure's name.
    const NAME: &'static str;
    /// The response's name, for the log.
    const RESPONSE: &'static str;
    /// Whether the agent keeps the call open and sends a response for every change, or sends one
    /// response.
    const STREAMS: bool;
    /// What it means that an agent does not have the RPC, where that is the agent's right.
    const IF_OFF: Option<&'static str> = None;

    /// Begins a call.
    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<Self::Raw>>;

    /// For whom a token is asked for.
    #[cfg(test)]
    fn audience(&self) -> &[String] {
        &[]
    }
}

const fn method<Request: protobuf::Message, Raw: Message + Default>(
    ty: MethodType,
    name: &'static str,
) -> Method<Request, Raw> {
    Method {
        ty,
        name,
        req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
        resp_mar: Marshaller { ser: |_, _| Err(Error::Codec("only agents respond".into())), de: decode },
    }
}

/// `FetchX509SVID`: all X.509-SVIDs of this process (SPIFFE Workload API standard, section 5.2.1).
pub(crate) struct FetchX509Svid;

impl Rpc for FetchX509Svid {
    type Raw = RawX509Context;
    const NAME: &'static str = "FetchX509SVID";
    const RESPONSE: &'static str = "X509SVIDResponse";
    const STREAMS: bool = true;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<RawX509Context>> {
        const METHOD: Method<X509SVIDRequest, RawX509Context> =
            method(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchX509SVID");
        Ok(Box::new(client.server_streaming(&METHOD, &X509SVIDRequest::new(), options)?))
    }
}

impl Message for RawX509Context {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        Some(match number {
            1 => &mut self.svids,
            2 => &mut self.crls,
            3 => &mut self.federated_bundles,
            _ => return None,
        })
    }
}

impl Message for RawX509Svid {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        Some(match number {
            1 => &mut self.spiffe_id,
            2 => &mut self.svid.chain,
            3 => &mut self.svid.key,
            4 => &mut self.svid.bundle,
            5 => &mut self.hint,
            _ => return None,
        })
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
    const NAME: &'static str = "FetchJWTSVID";
    const RESPONSE: &'static str = "JWTSVIDResponse";
    const STREAMS: bool = false;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<Vec<RawJwtSvid>>> {
        const METHOD: Method<JWTSVIDRequest, Vec<RawJwtSvid>> =
            method(MethodType::Unary, "/SpiffeWorkloadAPI/FetchJWTSVID");
        let request = JWTSVIDRequest {
            audience: self.audience.clone(),
            spiffe_id: self.id.as_ref().map(SpiffeId::to_string).unwrap_or_default(),
            ..Default::default()
        };
        let response = client.unary_call_async(&METHOD, &request, options)?;
        Ok(Box::new(stream::once(response.boxed_local()).boxed_local()))
    }

    #[cfg(test)]
    fn audience(&self) -> &[String] {
        &self.audience
    }
}

/// A response with nothing but a list.
impl<M: Message + Default> Message for Vec<M> {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        (number == 1).then_some(self)
    }
}

impl Message for RawJwtSvid {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        Some(match number {
            1 => &mut self.spiffe_id,
            2 => &mut self.svid,
            3 => &mut self.hint,
            _ => return None,
        })
    }
}

/// `FetchJWTBundles`: the keys of all trust domains to verify JWT-SVIDs with (SPIFFE Workload API standard,
/// section 6.2.2).
pub(crate) struct FetchJwtBundles;

impl Rpc for FetchJwtBundles {
    type Raw = RawJwtBundles;
    const NAME: &'static str = "FetchJWTBundles";
    const RESPONSE: &'static str = "JWTBundlesResponse";
    const STREAMS: bool = true;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<RawJwtBundles>> {
        const METHOD: Method<JWTBundlesRequest, RawJwtBundles> =
            method(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchJWTBundles");
        Ok(Box::new(client.server_streaming(&METHOD, &JWTBundlesRequest::new(), options)?))
    }
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
    const NAME: &'static str = "FetchWITSVID";
    const RESPONSE: &'static str = "WITSVIDResponse";
    const STREAMS: bool = true;
    const IF_OFF: Option<&'static str> = Some(WIT_IS_OFF);

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<Vec<RawWitSvid>>> {
        const METHOD: Method<WITSVIDRequest, Vec<RawWitSvid>> =
            method(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchWITSVID");
        Ok(Box::new(client.server_streaming(&METHOD, &WITSVIDRequest::new(), options)?))
    }
}

const WIT_IS_OFF: &str = "the agent's WIT-SVID profile is off \
    (SPIRE agent: experimental { feature_flags = [\"wit-svid\"], enable_wit_svids = true }; \
    SPIRE server: experimental { feature_flags = [\"wit-svid\"] })";

impl Message for RawWitSvid {
    fn field(&mut self, number: u32) -> Option<&mut dyn Field> {
        Some(match number {
            1 => &mut self.spiffe_id,
            2 => &mut self.svid.token,
            3 => &mut self.svid.key,
            4 => &mut self.hint,
            _ => return None,
        })
    }
}

/// `FetchWITBundles`: the keys of all trust domains to verify WIT-SVIDs with (SPIFFE Workload API standard,
/// section 7.2.2).
pub(crate) struct FetchWitBundles;

impl Rpc for FetchWitBundles {
    /// As bytes, like the documents of JWT bundles.
    type Raw = RawJwtBundles;
    const NAME: &'static str = "FetchWITBundles";
    const RESPONSE: &'static str = "WITBundlesResponse";
    const STREAMS: bool = true;
    const IF_OFF: Option<&'static str> = Some(WIT_IS_OFF);

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<RawJwtBundles>> {
        const METHOD: Method<WITBundlesRequest, RawJwtBundles> =
            method(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchWITBundles");
        Ok(Box::new(client.server_streaming(&METHOD, &WITBundlesRequest::new(), options)?))
    }
}
