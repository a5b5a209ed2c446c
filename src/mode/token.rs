//! `token`: fetches one JWT-SVID, and prints it. For scripts, and for kubectl, which calls this when it needs one.

use std::ffi::OsStr;
use std::time::Duration;

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::identity::selection::Selection;
use crate::logging::shortened;
use crate::material::{Until, ask, good_token};
use crate::time::timestamp::rfc3339;
use crate::wait::Waiter;
use crate::words::words;
use crate::words::{Flaw, flaw};
use crate::workload_api::endpoint::Endpoint;
use crate::workload_api::rpc::FetchJwtSvid;

words! {
    /// How `token` prints a token. `inspect` has the first two as well.
    OutputFormat {
        Text = "text",
        Json = "json",
        ExecCredential = "exec-credential",
    }
}

/// Which token to fetch, and how to print it.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    /// For how long to retry.
    pub(crate) timeout: Duration,
    pub(crate) selection: Selection,
    /// One or more.
    pub(crate) audience: Vec<String>,
    pub(crate) output: OutputFormat,
}

/// A token that is valid now, ready to be printed. The text is wiped when it is dropped.
pub(crate) fn run(settings: &Settings, waiter: &Waiter) -> Result<Zeroizing<String>, Flaw> {
    let Settings { endpoint, timeout, selection, audience, output } = settings;
    // Before the agent is asked: a version that we do not know ends it.
    let version = match output {
        OutputFormat::Text | OutputFormat::Json => "",
        OutputFormat::ExecCredential => api_version(std::env::var_os(EXEC_INFO).as_deref())?,
    };
    let rpc = FetchJwtSvid { audience: audience.clone(), id: selection.id.clone() };
    let svid = ask(endpoint, rpc, (Until::FirstSuccess, *timeout), waiter, |raw, now| {
        good_token("the JWT-SVID", raw, selection, audience, now)
    });
    let svid = svid.map_err(|error| flaw!("no JWT-SVID: {error}"))?;
    let (id, expires_at) = (svid.info.id.as_str(), rfc3339(svid.info.not_after, 0));
    // What stands before the token, and what after it.
    let (before, after) = match output {
        OutputFormat::Text => (String::new(), String::new()),
        OutputFormat::Json => {
            let (id, audience) = (Value::from(id), json!(audience));
            let after = format!(r#"","spiffe_id":{id},"audience":{audience},"expires_at":"{expires_at}"}}"#);
            (r#"{"token":""#.to_owned(), after)
        }
        OutputFormat::ExecCredential => (
            format!(r#"{{"apiVersion":"{version}","kind":"ExecCredential","status":{{"token":""#),
            format!(r#"","expirationTimestamp":"{expires_at}"}}}}"#),
        ),
    };
    // A token needs no escapes: it is base64url and dots. No copy stays in memory: `concat` allocates once,
    // and stdout has no buffer for a text that ends with a line break.
    Ok(Zeroizing::new([before.as_str(), &svid.token, &after, "\n"].concat()))
}

/// In this variable, kubectl and other clients of Kubernetes say what they want: an ExecCredential as JSON.
const EXEC_INFO: &str = "KUBERNETES_EXEC_INFO";

/// The versions of ExecCredential that have a token and its end.
const API_VERSIONS: [&str; 2] = ["client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1"];

/// The version that the variable asks for; the first one without it.
fn api_version(exec_info: Option<&OsStr>) -> Result<&'static str, Flaw> {
    let Some(exec_info) = exec_info.filter(|info| !info.is_empty()) else { return Ok(API_VERSIONS[0]) };
    let json: Option<Value> = serde_json::from_slice(exec_info.as_encoded_bytes()).ok();
    let wanted = json.as_ref().and_then(|json| json.get("apiVersion")?.as_str());
    let [newest, other] = API_VERSIONS;
    let wanted = wanted.ok_or_else(|| {
        let given = shortened(&exec_info.to_string_lossy(), 300);
        flaw!("{EXEC_INFO} is not an ExecCredential: it has no apiVersion in {given:?}; unset it to get {newest}")
    })?;
    let known = API_VERSIONS.into_iter().find(|version| *version == wanted);
    known.ok_or_else(|| {
        let wanted = shortened(wanted, 300);
        flaw!(
            "{EXEC_INFO} asks for the apiVersion {wanted:?}, which this helper does not know; set apiVersion in users[].user.exec of the kubeconfig to {newest} or {other}"
        )
    })
}
