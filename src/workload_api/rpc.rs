//! The RPCs of the Workload API that the helper calls, each with its messages.

use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, StreamExt};
use grpcio::{CallOption, Client, Marshaller, Method, MethodType};
use zeroize::Zeroizing;

use super::decode::decode;
use super::proto::workload::{
    JWTBundlesRequest, JWTBundlesResponse, JWTSVIDRequest, JWTSVIDResponse, X509SVIDRequest, X509SVIDResponse,
};
use crate::identity::raw::{RawJwtBundles, RawJwtSvid, RawX509Context, RawX509Svid};
use crate::identity::spiffe_id::SpiffeId;

/// The messages of one call, as gRPC brings them.
pub(crate) type Messages<M> = Box<dyn Stream<Item = grpcio::Result<M>> + Unpin>;

/// An RPC, with the parameters of its request.
pub(crate) trait Rpc {
    /// The message of a response.
    type Response;
    /// The plain parts of a response, not yet checked.
    type Raw;
    /// The procedure's name.
    const NAME: &'static str;
    /// The response's name, for the log.
    const RESPONSE: &'static str;
    /// Whether the agent keeps the call open and sends a response for every change, or sends one
    /// response.
    const STREAMS: bool;

    /// Begins a call.
    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<Self::Response>>;

    /// Takes a response apart; secrets in it are moved, not copied.
    fn raw(response: Self::Response) -> Self::Raw;
}

/// `LAST` is the largest number of a field in the response.
const fn method<Request, Response, const LAST: u32>(
    ty: MethodType,
    name: &'static str,
) -> Method<Request, Response>
where
    Request: protobuf::Message,
    Response: protobuf::Message,
{
    Method {
        ty,
        name,
        req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
        resp_mar: Marshaller { ser: grpcio::pb_ser, de: decode::<Response, LAST> },
    }
}

/// `FetchX509SVID`: all X.509-SVIDs of this process (SPIFFE Workload API standard, section 5.2.1).
pub(crate) struct FetchX509Svid;

impl Rpc for FetchX509Svid {
    type Response = X509SVIDResponse;
    type Raw = RawX509Context;
    const NAME: &'static str = "FetchX509SVID";
    const RESPONSE: &'static str = "X509SVIDResponse";
    const STREAMS: bool = true;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<X509SVIDResponse>> {
        const METHOD: Method<X509SVIDRequest, X509SVIDResponse> =
            method::<_, _, 5>(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchX509SVID");
        Ok(Box::new(client.server_streaming(&METHOD, &X509SVIDRequest::new(), options)?))
    }

    fn raw(response: X509SVIDResponse) -> RawX509Context {
        RawX509Context {
            svids: response
                .svids
                .into_iter()
                .map(|svid| RawX509Svid {
                    spiffe_id: svid.spiffe_id,
                    hint: svid.hint,
                    chain: svid.x509_svid,
                    key: Zeroizing::new(svid.x509_svid_key),
                    bundle: svid.bundle,
                })
                .collect(),
            crls: response.crl,
            federated_bundles: response.federated_bundles.into_iter().collect(),
        }
    }
}

/// `FetchJWTSVID`: JWT-SVIDs of this process, made for these audiences (section 6.2.1).
pub(crate) struct FetchJwtSvid {
    /// The audience of the token, one or more.
    pub(crate) audience: Vec<String>,
    /// The identity; `None`: all of them.
    pub(crate) id: Option<SpiffeId>,
}

impl Rpc for FetchJwtSvid {
    type Response = JWTSVIDResponse;
    type Raw = Vec<RawJwtSvid>;
    const NAME: &'static str = "FetchJWTSVID";
    const RESPONSE: &'static str = "JWTSVIDResponse";
    const STREAMS: bool = false;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<JWTSVIDResponse>> {
        const METHOD: Method<JWTSVIDRequest, JWTSVIDResponse> =
            method::<_, _, 3>(MethodType::Unary, "/SpiffeWorkloadAPI/FetchJWTSVID");
        let request = JWTSVIDRequest {
            audience: self.audience.clone(),
            spiffe_id: self.id.as_ref().map(SpiffeId::to_string).unwrap_or_default(),
            ..Default::default()
        };
        let response = client.unary_call_async(&METHOD, &request, options)?;
        Ok(Box::new(stream::once(response.boxed_local()).boxed_local()))
    }

    fn raw(response: JWTSVIDResponse) -> Vec<RawJwtSvid> {
        let raw = |svid: super::proto::workload::JWTSVID| RawJwtSvid {
            spiffe_id: svid.spiffe_id,
            hint: svid.hint,
            token: Zeroizing::new(svid.svid),
        };
        response.svids.into_iter().map(raw).collect()
    }
}

/// `FetchJWTBundles`: the keys of all trust domains to verify JWT-SVIDs with (section 6.2.2).
pub(crate) struct FetchJwtBundles;

impl Rpc for FetchJwtBundles {
    type Response = JWTBundlesResponse;
    type Raw = RawJwtBundles;
    const NAME: &'static str = "FetchJWTBundles";
    const RESPONSE: &'static str = "JWTBundlesResponse";
    const STREAMS: bool = true;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<JWTBundlesResponse>> {
        const METHOD: Method<JWTBundlesRequest, JWTBundlesResponse> =
            method::<_, _, 2>(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchJWTBundles");
        Ok(Box::new(client.server_streaming(&METHOD, &JWTBundlesRequest::new(), options)?))
    }

    fn raw(response: JWTBundlesResponse) -> RawJwtBundles {
        response.bundles.into_iter().collect()
    }
}
