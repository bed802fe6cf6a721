//! Compiles `proto/csi.proto`. protox is a compiler in Rust: no `protoc` needed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=proto/csi.proto");
    let files = match protox::compile(["proto/csi.proto"], ["proto"]) {
        Ok(files) => files,
        Err(error) => panic!("proto/csi.proto does not compile: {error}"),
    };
    let client = std::env::var_os("CARGO_FEATURE_CLIENT").is_some();
    let built = tonic_prost_build::configure()
        .build_client(client)
        .compile_fds(files);
    if let Err(error) = built {
        panic!("cannot write the code of proto/csi.proto: {error}");
    }
}
