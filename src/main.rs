//! The program: see the crate's documentation in lib.rs.

fn main() -> ! {
    pod_svid_helper::run()
}
