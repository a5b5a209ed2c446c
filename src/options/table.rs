//! The options. One entry each: help, name, type, placeholder, default, a variable beside
//! `HELPER_NAME`, the modes in which it may be given, and those that read its variable, if these are fewer.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::row::Row;
use super::sources::Sources;
use super::value::{Mode, Value};
use crate::identity::spiffe_id::SpiffeId;
use crate::layout::X509Layouts;
use crate::layout::pkcs12::Alias;
use crate::logging::LogFormat;
use crate::material::{Audience, ChangeKinds, JwtSvidFile, KeyFormat};
use crate::mode::items::OnRevoked;
use crate::mode::token::OutputFormat;
use crate::notify::ProcessName;
use crate::process::signal::SignalNumber;
use crate::store::file::{FileMode, FileName};
use crate::store::owner::Owner;
use crate::supervise::OnRenewal;
use crate::words::Flaw;
use crate::workload_api::endpoint::Endpoint;

const EVERY_MODE: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Run, Mode::Check, Mode::Inspect, Mode::Token];
const FETCHING: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Run];
const ASKING: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Run, Mode::Inspect, Mode::Token];
const IN_TIME: &[Mode] = &[Mode::Init, Mode::Inspect, Mode::Token];
const SELECTING: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Run, Mode::Token];
const OF_AN_ID: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Run, Mode::Check, Mode::Token];
const NOTIFYING: &[Mode] = &[Mode::Init, Mode::Refresh];
const FOLLOWING: &[Mode] = &[Mode::Refresh, Mode::Run];
const REFRESH: &[Mode] = &[Mode::Refresh];
const RUN: &[Mode] = &[Mode::Run];
const FILES: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Run, Mode::Check];
const CHECK: &[Mode] = &[Mode::Check];
const PRINTING: &[Mode] = &[Mode::Inspect, Mode::Token];
const TOKEN: &[Mode] = &[Mode::Token];
const OF_TOKENS: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Run, Mode::Check, Mode::Inspect];

macro_rules! options {
    ($($group:literal, in $modes:ident: {$(
        $(#[doc = $help:literal])+
        $field:ident: $type:ty $(= $placeholder:literal)?
            $(, default $default:literal)?
            $(, else $fallback:literal)?
            $(, in $own_modes:ident)?
            $(, variable in $variable_modes:ident)?;
    )+})+) => {
        /// The value of every option.
        #[derive(Debug, Clone)]
        pub(crate) struct Options {
            $($( $(#[doc = $help])+ pub(crate) $field: $type, )+)+
            /// The words after `--`: a program and its arguments, or nothing.
            pub(crate) command: Vec<OsString>,
        }

        /// Every option, in the order of the help.
        pub static TABLE: &[&Row] = &[$($(&row::$field),+),+];

        #[allow(non_upper_case_globals, reason = "named as the fields are")]
        pub(super) mod row {
            use super::*;
            // Each list begins with the entry's own value, if it has one. Then comes the default.
            $($(pub(crate) static $field: Row = Row {
                field: stringify!($field),
                group: $group,
                placeholder: [$($placeholder,)? ""][0],
                default: [$(Some($default),)? None][0],
                fallback_variable: [$(Some($fallback),)? None][0],
                help: concat!($($help),+),
                allowed: <$type as Value>::ALLOWED,
                modes: [$($own_modes,)? $modes][0],
                variable_modes: [$($variable_modes,)? $($own_modes,)? $modes][0],
                repeats: <$type as Value>::REPEATS,
            };)+)+
        }

        impl Options {
            /// Takes each option's value from where it is set, or its default.
            pub(super) fn from_sources(sources: &Sources) -> Result<Self, Flaw> {
                Ok(Self {
                    $($($field: sources.value(&row::$field)?,)+)+
                    command: sources.command.clone(),
                })
            }
        }
    };
}

options! {
    "What to do", in EVERY_MODE: {
        /// init: fetch once, write, end. refresh: follow every rotation.
        /// run: refresh with the application as its child. check: verify
        /// the files. inspect: show what the agent offers. token: print
        /// a JWT-SVID
        mode: Mode = "MODE", default "init";

        /// time limit of init, inspect and token: a number with ms, s, m
        /// or h
        init_timeout: Duration = "DURATION", default "30s", in IN_TIME;

        /// the files after the agent has withdrawn the identity: keep or
        /// remove
        on_revoked: OnRevoked = "ACTION", default "keep", in FOLLOWING;

        /// check fails if the SVID expires sooner than this
        min_ttl: Option<Duration> = "DURATION", in CHECK;

        /// for whom the token of --mode=token is
        audience: Option<Audience> = "AUDIENCE[,...]", in TOKEN;

        /// format of inspect and token: text, json or, for the token,
        /// exec-credential (Kubernetes)
        output: OutputFormat = "FORMAT", default "text", in PRINTING;
    }

    "Which identity", in FETCHING: {
        /// the Workload API: /PATH, unix:PATH, unix:///PATH or
        /// tcp://IP:PORT; also read from SPIFFE_ENDPOINT_SOCKET
        workload_api_socket: Endpoint = "ADDRESS", default "/var/run/spire/agent.sock", else "SPIFFE_ENDPOINT_SOCKET", in ASKING;

        /// SPIFFE ID of the SVID to use (default: the first the agent offers)
        pod_spiffe_id: Option<SpiffeId> = "ID", in OF_AN_ID;

        /// use the SVID with this hint; with --pod-spiffe-id, both must match
        hint: Option<String> = "HINT", in SELECTING;
    }

    "Files", in FILES: {
        /// directory for all files; created if its parent exists
        svid_path: PathBuf = "DIR", default "/tmp";

        /// write the X.509 files; --x509=false writes tokens and keys only
        x509: bool, default "true";

        /// pem: the next three files. spiffe: the credential folder of
        /// the SPIFFE draft. pem,spiffe: both
        layout: X509Layouts = "LAYOUT", default "pem";

        /// the certificate chain, leaf first
        svid_file_name: FileName = "NAME", default "svid.pem";

        /// the private key, PKCS#8
        svid_key_file_name: FileName = "NAME", default "svid-key.pem";

        /// the CA certificates of the trust domain
        bundle_file_name: FileName = "NAME", default "bundle.pem";

        /// one more file with the key and the chain, in this order
        combined_file_name: Option<FileName> = "NAME";

        /// one more file with the key and the chain: PKCS#12, for a JVM
        keystore_file_name: Option<FileName> = "NAME";

        /// one more file with the CA certificates: PKCS#12, for a JVM
        truststore_file_name: Option<FileName> = "NAME";

        /// alias of the key in --keystore-file-name
        keystore_alias: Alias = "NAME", default "svid";

        /// file with the password of both keystores (default: "changeit")
        keystore_password_file: Option<PathBuf> = "PATH";

        /// permissions of public files, whatever the umask
        cert_file_mode: FileMode = "OCTAL", default "0644";

        /// owner of all files, as numbers; root alone can give files away
        file_owner: Option<Owner> = "UID[:GID]", in FETCHING;

        /// permissions of files that hold the private key
        key_file_mode: FileMode = "OCTAL", default "0400";
    }

    "Bundles", in FILES: {
        /// one more file TRUST-DOMAIN.bundle.pem per federated trust domain;
        /// use it only to verify peers of that trust domain
        include_federated_bundles: bool, default "false";

        /// add the federated CAs to the bundle; each of them can then vouch
        /// for any identity of any of these trust domains
        merge_federated_bundles: bool, default "false";

        /// write intermediates to the bundle (and the truststore), not to the chain
        add_intermediates_to_bundle: bool, default "false";

        /// one more file: the CAs of all trust domains, a SPIFFE bundle map
        bundle_map_file_name: Option<FileName> = "NAME";

        /// one more file: the agent's certificate revocation lists, PEM
        crl_file_name: Option<FileName> = "NAME";

        /// leave out expired CA certificates
        omit_expired: bool, default "false";
    }

    "JWT and WIT", in FILES: {
        /// keep a JWT-SVID for this audience in a file (inspect: show its claims);
        /// repeatable (in the variable: one per line)
        jwt_svid: Vec<JwtSvidFile> = "FILE=AUDIENCE[,...]", in OF_TOKENS;

        /// permissions of JWT-SVIDs
        jwt_file_mode: FileMode = "OCTAL", default "0600";

        /// the trust domain's JWT keys (JWKS); --include-federated-bundles
        /// adds TRUST-DOMAIN.NAME per federated trust domain
        jwt_bundle_file_name: Option<FileName> = "NAME";

        /// keep the WIT-SVID, a token that is bound to a key, in a file
        wit_svid_file_name: Option<FileName> = "NAME";

        /// its private key; permissions as --key-file-mode
        wit_key_file_name: Option<FileName> = "NAME";

        /// jwk: the key as received. pem: PKCS#8
        wit_key_format: KeyFormat = "FORMAT", default "jwk";

        /// the same of the trust domain's WIT keys
        wit_bundle_file_name: Option<FileName> = "NAME";
    }

    "Notifying the application, after each publication", in FETCHING: {
        /// signal the process whose number this file holds
        pid_file: Option<PathBuf> = "PATH", in NOTIFYING, variable in REFRESH;

        /// signal the oldest process of this name; with --mode=init, the
        /// variables of this option and of --pid-file are ignored
        signal_process: Option<ProcessName> = "NAME", in NOTIFYING, variable in REFRESH;

        /// the signal to send, by name or number (default: SIGHUP)
        renew_signal: Option<SignalNumber> = "SIGNAL";

        /// effect of a rotation on the application of --mode=run: signal,
        /// restart (SIGTERM, wait, start) or nothing
        on_renewal: OnRenewal = "ACTION", default "signal", in RUN;

        /// which changes notify: svid,bundle,token,keys,wit,crl
        /// (default: all; for restart: svid,bundle,wit)
        notify_for: Option<ChangeKinds> = "KINDS";

        /// random wait up to this, so that replicas do
        /// not restart at once; less if the SVID is old
        notify_splay: Option<Duration> = "DURATION", in FOLLOWING;
    }

    "Probes, metrics and log", in EVERY_MODE: {
        /// serve HTTP here: /live and /ready for probes, /metrics for
        /// Prometheus
        http_address: Option<SocketAddr> = "IP:PORT", in FOLLOWING;

        /// off, error, warn, info, debug, trace (default debug; token: warn)
        log_level: Option<LevelFilter> = "LEVEL";

        /// text or json (one object a line), on stderr
        log_format: LogFormat = "FORMAT", default "text";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn switches_are_the_options_without_a_placeholder() {
        for row in TABLE {
            assert_eq!(row.placeholder.is_empty(), row.allowed == bool::ALLOWED, "{}", row.name());
        }
    }
}
