//! Compiles the .proto files without protoc and keeps the descriptor set for reflection and JSON.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files =
        ["agent", "analysis", "audit", "capture", "check", "fleet", "probe", "probe_service", "topology"]
            .map(|f| format!("lastseen/v1/{f}.proto"));
    println!("cargo:rerun-if-changed=lastseen");
    let descriptors = protox::compile(&files, ["."])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // `AgentService.Connect` and the generated `connect` helper would clash; callers bring their own channel anyway.
    let is_grpc = std::env::var_os("CARGO_FEATURE_GRPC").is_some();
    tonic_prost_build::configure()
        .build_client(is_grpc)
        .build_server(is_grpc)
        .build_transport(false)
        .bytes(".")
        .compile_fds(descriptors)?;
    Ok(())
}
