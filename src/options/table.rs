//! The options. One entry each: help, name, type, placeholder, default, and where its value may
//! come from beside `--name` and `HELPER_NAME`.

use super::parse::{Sources, UsageError};
use super::value::{Directory, LogFormat, LogLevel, Mode, OnRevoked, Timeout, Value};
use crate::identity::spiffe_id::SpiffeId;
use crate::store::layout::{FileMode, FileName};
use crate::workload_api::endpoint::Endpoint;

/// What an entry of the table says of its option.
#[derive(Debug)]
pub struct Row {
    /// The field's name: `svid_path` for `--svid-path` and `HELPER_SVID_PATH`.
    field: &'static str,
    /// What stands for the value in the help.
    pub placeholder: &'static str,
    /// `None`: the option may be left out, and `help` says what happens then.
    pub default: Option<&'static str>,
    /// A variable that counts when neither flag nor `HELPER_` variable is set.
    pub fallback_variable: Option<&'static str>,
    /// Lines that say what it is for.
    pub help: &'static [&'static str],
    /// What a value may be, as the error for a bad one says it.
    pub allowed: &'static str,
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

macro_rules! options {
    ($(
        $(#[doc = $help:literal])+
        $field:ident: $type:ty = $placeholder:literal
            $(, default $default:literal)?
            $(, else $fallback:literal)?;
    )+) => {
        /// The value of every option.
        #[derive(Debug, Clone)]
        pub struct Options {
            $( $(#[doc = $help])+ pub $field: $type, )+
        }

        /// Every option, in the order of the help.
        pub const TABLE: &[Row] = &[$(row::$field),+];

        #[allow(non_upper_case_globals, reason = "named as the fields are")]
        mod row {
            use super::*;
            $(pub const $field: Row = Row {
                field: stringify!($field),
                placeholder: $placeholder,
                default: first(&[$($default)?]),
                fallback_variable: first(&[$($fallback)?]),
                help: &[$($help),+],
                allowed: <$type as Value>::ALLOWED,
            };)+
        }

        impl Options {
            /// Takes each option's value from where it is set, or its default.
            pub(super) fn from_sources(sources: &Sources) -> Result<Self, UsageError> {
                Ok(Self { $($field: sources.value(&row::$field)?,)+ })
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

options! {
    /// init fetches once, writes the files and exits;
    /// refresh follows every rotation and never gives up
    mode: Mode = "MODE", default "init";

    /// the Workload API: an absolute path, unix:PATH, unix:///PATH or tcp://IP:PORT
    workload_api_socket: Endpoint = "ADDRESS", default "/var/run/spire/agent.sock", else "SPIFFE_ENDPOINT_SOCKET";

    /// which SVID to write, when the pod has several;
    /// without it, the first one offered (the default identity)
    pod_spiffe_id: Option<SpiffeId> = "ID";

    /// directory for the files; created if its parent exists
    svid_path: Directory = "DIR", default "/tmp";

    /// the certificate chain, leaf first
    svid_file_name: FileName = "NAME", default "svid.pem";

    /// the private key, PKCS#8
    svid_key_file_name: FileName = "NAME", default "svid-key.pem";

    /// the CA certificates of the trust domain
    bundle_file_name: FileName = "NAME", default "bundle.pem";

    /// permissions of certificate and bundle, whatever the umask
    cert_file_mode: FileMode = "OCTAL", default "0644";

    /// permissions of the private key
    key_file_mode: FileMode = "OCTAL", default "0400";

    /// how long init may try: a number with ms, s, m or h
    init_timeout: Timeout = "DURATION", default "30s";

    /// what refresh does with the files when the agent withdraws the identity:
    /// keep them (and log an error) or remove them
    on_revoked: OnRevoked = "ACTION", default "keep";

    /// off, error, warn, info, debug or trace
    log_level: LogLevel = "LEVEL", default "debug";

    /// text or json (one object a line), on stderr
    log_format: LogFormat = "FORMAT", default "text";
}
