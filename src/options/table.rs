//! The options. One entry each: help, name, type, placeholder, default, where its value may come
//! from beside `--name` and `HELPER_NAME`, and in which modes it may be given.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::parse::{Sources, UsageError};
use super::value::{
    JwtSvidFile, Layouts, LogFormat, LogLevel, Mode, OnRevoked, OutputFormat, ProcessName, RenewSignal, Span,
    Value,
};
use crate::identity::spiffe_id::SpiffeId;
use crate::store::layout::{FileMode, FileName};
use crate::workload_api::endpoint::Endpoint;

/// What an entry of the table says of its option.
#[derive(Debug)]
pub struct Row {
    /// The field's name: `svid_path` for `--svid-path` and `HELPER_SVID_PATH`.
    field: &'static str,
    /// The heading above it in the help.
    pub group: &'static str,
    /// What stands for the value in the help; nothing for a switch.
    pub placeholder: &'static str,
    /// `None`: the option may be left out, and `help` says what happens then.
    pub default: Option<&'static str>,
    /// A variable that counts when neither flag nor `HELPER_` variable is set.
    pub fallback_variable: Option<&'static str>,
    /// Lines that say what it is for.
    pub help: &'static [&'static str],
    /// What a value may be, as the error for a bad one says it.
    pub allowed: &'static str,
    /// Where the flag may be given. init and refresh have the same, so that they can share a
    /// command line; a variable that does not count in a mode is passed over.
    pub modes: &'static [Mode],
    /// Whether the flag alone means `true`.
    pub is_switch: bool,
    /// Whether the flag may be given again, for one more value.
    pub repeats: bool,
}

impl Row {
    /// The flag's name, without its dashes.
    pub fn name(&self) -> String {
        self.field.replace('_', "-")
    }

    /// The environment variable.
    pub fn variable(&self) -> String {
        format!("HELPER_{}", self.field.to_uppercase())
    }
}

const EVERY_MODE: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Check, Mode::Inspect];
const FETCHING: &[Mode] = &[Mode::Init, Mode::Refresh];
const ASKING: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Inspect];
const FILES: &[Mode] = &[Mode::Init, Mode::Refresh, Mode::Check];
const CHECK: &[Mode] = &[Mode::Check];
const INSPECT: &[Mode] = &[Mode::Inspect];

macro_rules! options {
    ($($group:literal, in $modes:ident: {$(
        $(#[doc = $help:literal])+
        $field:ident: $type:ty $(= $placeholder:literal)?
            $(, default $default:literal)?
            $(, else $fallback:literal)?
            $(, in $own_modes:ident)?;
    )+})+) => {
        /// The value of every option.
        #[derive(Debug, Clone)]
        pub struct Options {
            $($( $(#[doc = $help])+ pub $field: $type, )+)+
            /// What follows `--`: a program and its arguments, or nothing.
            pub command: Vec<OsString>,
        }

        /// Every option, in the order of the help.
        pub const TABLE: &[Row] = &[$($(row::$field),+),+];

        #[allow(non_upper_case_globals, reason = "named as the fields are")]
        pub(super) mod row {
            use super::*;
            $($(pub const $field: Row = Row {
                field: stringify!($field),
                group: $group,
                placeholder: or(&[$($placeholder)?], ""),
                default: first(&[$($default)?]),
                fallback_variable: first(&[$($fallback)?]),
                help: &[$($help),+],
                allowed: <$type as Value>::ALLOWED,
                modes: modes(&[$($own_modes)?], $modes),
                is_switch: <$type as Value>::IS_SWITCH,
                repeats: <$type as Value>::REPEATS,
            };)+)+
        }

        impl Options {
            /// Takes each option's value from where it is set, or its default.
            pub(super) fn from_sources(sources: &Sources) -> Result<Self, UsageError> {
                Ok(Self {
                    $($($field: sources.value(&row::$field)?,)+)+
                    command: sources.command.clone(),
                })
            }
        }
    };
}

const fn first(values: &[&'static str]) -> Option<&'static str> {
    match values {
        [] => None,
        [first, ..] => Some(first),
    }
}

const fn or(values: &[&'static str], otherwise: &'static str) -> &'static str {
    match values {
        [] => otherwise,
        [first, ..] => first,
    }
}

const fn modes(own: &[&'static [Mode]], of_the_group: &'static [Mode]) -> &'static [Mode] {
    match own {
        [] => of_the_group,
        [first, ..] => first,
    }
}

options! {
    "What to do", in EVERY_MODE: {
        /// init: fetch once, write, end. refresh: follow every rotation.
        /// check: are the files good? inspect: what does the agent offer?
        mode: Mode = "MODE", default "init";

        /// how long init and inspect may try: a number with ms, s, m or h
        init_timeout: Span = "DURATION", default "30s", in ASKING;

        /// when the agent withdraws the identity, refresh keeps the files
        /// (and logs an error) or removes them: keep or remove
        on_revoked: OnRevoked = "ACTION", default "keep", in FETCHING;

        /// check fails when an SVID is not valid for so long any more
        min_ttl: Option<Span> = "DURATION", in CHECK;

        /// what inspect prints: text or json
        output: OutputFormat = "FORMAT", default "text", in INSPECT;

        /// off, error, warn, info, debug or trace
        log_level: LogLevel = "LEVEL", default "debug";

        /// text or json (one object a line), on stderr
        log_format: LogFormat = "FORMAT", default "text";
    }

    "Which identity", in FETCHING: {
        /// the Workload API: /PATH, unix:PATH, unix:///PATH or
        /// tcp://IP:PORT; else SPIFFE_ENDPOINT_SOCKET
        workload_api_socket: Endpoint = "ADDRESS", default "/var/run/spire/agent.sock", else "SPIFFE_ENDPOINT_SOCKET", in ASKING;

        /// the wanted SVID's; else the first one offered
        pod_spiffe_id: Option<SpiffeId> = "ID", in FILES;

        /// the wanted SVID's; with an ID, both must be right
        hint: Option<String> = "HINT";
    }

    "Files", in FILES: {
        /// directory for all files; created if its parent exists
        svid_path: PathBuf = "DIR", default "/tmp";

        /// --x509=false: no X.509 files, JWT alone
        x509: bool, default "true";

        /// pem: the next three files. spiffe: the credential folder of
        /// SPIFFE's draft. pem,spiffe: both
        layout: Layouts = "LAYOUT", default "pem";

        /// the certificate chain, leaf first
        svid_file_name: FileName = "NAME", default "svid.pem";

        /// the private key, PKCS#8
        svid_key_file_name: FileName = "NAME", default "svid-key.pem";

        /// the CA certificates of the trust domain
        bundle_file_name: FileName = "NAME", default "bundle.pem";

        /// one more file: key and chain, in this order
        combined_file_name: Option<FileName> = "NAME";

        /// one more file, when the agent sends revocation lists
        crl_file_name: Option<FileName> = "NAME";

        /// permissions of what is public, whatever the umask
        cert_file_mode: FileMode = "OCTAL", default "0644";

        /// permissions of what has the private key in it
        key_file_mode: FileMode = "OCTAL", default "0400";
    }

    "Bundles", in FILES: {
        /// a file TRUST-DOMAIN.bundle.pem for each federated trust domain:
        /// a bundle is to verify its own trust domain's peers alone
        include_federated_bundles: bool, default "false";

        /// federated CAs go into the bundle too, where each of them can
        /// then vouch for every trust domain
        merge_federated_bundles: bool, default "false";

        /// intermediates go into the bundle instead of the chain
        add_intermediates_to_bundle: bool, default "false";

        /// CA certificates that have expired are left out
        omit_expired: bool, default "false";
    }

    "JWT", in FILES: {
        /// keep a JWT-SVID for this audience in a file; repeatable (in the
        /// variable: one a line)
        jwt_svid: Vec<JwtSvidFile> = "FILE=AUDIENCE[,...]";

        /// permissions of JWT-SVIDs
        jwt_file_mode: FileMode = "OCTAL", default "0600";

        /// the trust domain's JWT keys (JWKS); with federated bundles, also
        /// TRUST-DOMAIN.NAME for each other trust domain
        jwt_bundle_file_name: Option<FileName> = "NAME";
    }

    "Telling the application, after each publication", in FETCHING: {
        /// signal the process whose number is in this file
        pid_file: Option<PathBuf> = "PATH";

        /// signal the oldest process of this name
        signal_process: Option<ProcessName> = "NAME";

        /// by name or number; also for a COMMAND that still runs (SIGHUP)
        renew_signal: Option<RenewSignal> = "SIGNAL";

        /// init tells the application too, and waits for COMMAND
        init_notify: bool, default "false";

        /// serve the gRPC health protocol here: services readiness,
        /// liveness, and "" for both
        health_address: Option<SocketAddr> = "IP:PORT";
    }
}
