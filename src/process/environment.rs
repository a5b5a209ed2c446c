//! The environment of children: the one that we were started with.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// Variables to add to the environment that a child inherits; without a value, to leave out of it.
pub(crate) type Variables = Vec<(&'static str, Option<OsString>)>;

/// gRPC's variables, which were in our own environment.
static GRPC_VARIABLES: OnceLock<Vec<(OsString, OsString)>> = OnceLock::new();

/// Takes gRPC's variables out of our own environment: they are meant for the application, and some values
/// would make C-core abort. Children get them. To be called before there is another thread.
pub(crate) fn set_grpc_variables_aside() {
    let is_of_grpc = |(name, _): &(OsString, OsString)| name.as_bytes().starts_with(b"GRPC_");
    let variables: Vec<_> = std::env::vars_os().filter(is_of_grpc).collect();
    for (name, _) in &variables {
        #[allow(unsafe_code, reason = "another thread may read the environment")]
        // SAFETY: there is no other thread.
        unsafe {
            std::env::remove_var(name);
        }
    }
    let _ = GRPC_VARIABLES.set(variables);
}

/// The environment that we were started with, and these variables.
pub(super) fn for_child(variables: &Variables) -> Vec<(OsString, OsString)> {
    let inherited = std::env::vars_os().chain(GRPC_VARIABLES.get().into_iter().flatten().cloned());
    let inherited = inherited.filter(|(name, _)| variables.iter().all(|(own, _)| name != own));
    let own = variables.iter().filter_map(|(name, value)| Some((OsString::from(name), value.clone()?)));
    inherited.chain(own).collect()
}
