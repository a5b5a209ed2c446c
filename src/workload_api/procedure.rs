//! The procedures of the Workload API that the helper calls, each with its messages.

use futures_util::stream::{self, Stream};
use futures_util::{FutureExt, StreamExt};
use grpcio::{CallOption, Client, Marshaller, Method, MethodType};
use zeroize::Zeroizing;

use super::proto::workload::{
    JWTBundlesRequest, JWTBundlesResponse, JWTSVIDRequest, JWTSVIDResponse, X509SVIDRequest, X509SVIDResponse,
};
use crate::identity::offered::{OfferedJwtBundles, OfferedJwtSvid, OfferedX509Context, OfferedX509Svid};
use crate::identity::spiffe_id::SpiffeId;

/// The messages of one call, as gRPC brings them.
pub type Messages<M> = Box<dyn Stream<Item = grpcio::Result<M>> + Unpin>;

/// A procedure, with the parameters of its request.
pub trait Procedure {
    /// The message of a response.
    type Response;
    /// What a response offers.
    type Offered;
    /// The response's name, for people.
    const RESPONSE: &'static str;
    /// Whether the agent keeps the call open and sends a response for every change. Otherwise
    /// there is one response.
    const STREAMS: bool;

    /// Begins a call.
    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<Self::Response>>;

    /// Takes a response apart; what is secret in it moves, it is not copied.
    fn offered(response: Self::Response) -> Self::Offered;
}

const fn method<Request, Response>(ty: MethodType, name: &'static str) -> Method<Request, Response>
where
    Request: protobuf::Message,
    Response: protobuf::Message,
{
    Method {
        ty,
        name,
        req_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
        resp_mar: Marshaller { ser: grpcio::pb_ser, de: grpcio::pb_de },
    }
}

/// `FetchX509SVID`: all X.509-SVIDs of this process (SPIFFE Workload API standard, section 5.2.1).
pub struct FetchX509Svid;

impl Procedure for FetchX509Svid {
    type Response = X509SVIDResponse;
    type Offered = OfferedX509Context;
    const RESPONSE: &'static str = "X509SVIDResponse";
    const STREAMS: bool = true;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<X509SVIDResponse>> {
        const METHOD: Method<X509SVIDRequest, X509SVIDResponse> =
            method(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchX509SVID");
        Ok(Box::new(client.server_streaming(&METHOD, &X509SVIDRequest::new(), options)?))
    }

    fn offered(response: X509SVIDResponse) -> OfferedX509Context {
        OfferedX509Context {
            svids: response
                .svids
                .into_iter()
                .map(|svid| OfferedX509Svid {
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
pub struct FetchJwtSvid {
    /// Whom the token is for, one or more.
    pub audience: Vec<String>,
    /// Of which identity; of all, if none is named.
    pub id: Option<SpiffeId>,
}

impl Procedure for FetchJwtSvid {
    type Response = JWTSVIDResponse;
    type Offered = Vec<OfferedJwtSvid>;
    const RESPONSE: &'static str = "JWTSVIDResponse";
    const STREAMS: bool = false;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<JWTSVIDResponse>> {
        const METHOD: Method<JWTSVIDRequest, JWTSVIDResponse> =
            method(MethodType::Unary, "/SpiffeWorkloadAPI/FetchJWTSVID");
        let request = JWTSVIDRequest {
            audience: self.audience.clone(),
            spiffe_id: self.id.as_ref().map(SpiffeId::to_string).unwrap_or_default(),
            ..Default::default()
        };
        let response = client.unary_call_async(&METHOD, &request, options)?;
        Ok(Box::new(stream::once(response.boxed_local()).boxed_local()))
    }

    fn offered(response: JWTSVIDResponse) -> Vec<OfferedJwtSvid> {
        let offered = |svid: super::proto::workload::JWTSVID| OfferedJwtSvid {
            spiffe_id: svid.spiffe_id,
            hint: svid.hint,
            token: Zeroizing::new(svid.svid),
        };
        response.svids.into_iter().map(offered).collect()
    }
}

/// `FetchJWTBundles`: the keys of all trust domains to verify JWT-SVIDs with (section 6.2.2).
pub struct FetchJwtBundles;

impl Procedure for FetchJwtBundles {
    type Response = JWTBundlesResponse;
    type Offered = OfferedJwtBundles;
    const RESPONSE: &'static str = "JWTBundlesResponse";
    const STREAMS: bool = true;

    fn call(&self, client: &Client, options: CallOption) -> grpcio::Result<Messages<JWTBundlesResponse>> {
        const METHOD: Method<JWTBundlesRequest, JWTBundlesResponse> =
            method(MethodType::ServerStreaming, "/SpiffeWorkloadAPI/FetchJWTBundles");
        Ok(Box::new(client.server_streaming(&METHOD, &JWTBundlesRequest::new(), options)?))
    }

    fn offered(response: JWTBundlesResponse) -> OfferedJwtBundles {
        response.bundles.into_iter().collect()
    }
}
