//! Compiles `ottla/v1/*.proto` with a pure-Rust compiler: no protoc to install.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["client", "groups", "admin", "controller", "common"]
        .map(|name| format!("ottla/v1/{name}.proto"));
    println!("cargo:rerun-if-changed=ottla/v1");
    let descriptors = protox::compile(&files, ["."])?;
    tonic_prost_build::configure()
        // Byte fields are slices of what was received, never copies.
        .bytes(".")
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
