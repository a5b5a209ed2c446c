//! Generates the Workload API's messages from workload.proto, in pure Rust: no `protoc` needed.

use protobuf_codegen::{Codegen, Customize};

fn main() {
    println!("cargo::rerun-if-changed=proto");
    Codegen::new()
        .pure()
        // Without descriptors and reflection, which the helper never uses.
        .customize(Customize::default().lite_runtime(true))
        .include("proto")
        .input("proto/workload.proto")
        .cargo_out_dir("workload_api")
        .run_from_script();
}
