//! What a rotation does to the application.

use crate::words::words;

words! {
    /// What a rotation does to the application.
    OnRenewal {
        Signal = "signal",
        Restart = "restart",
        Nothing = "nothing",
    }
}
