//! Compiles `proto/etcd.proto` for the etcd backend. protox is a compiler in Rust: no `protoc` needed.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    #[cfg(feature = "etcd")]
    compile_etcd();
}

#[cfg(feature = "etcd")]
fn compile_etcd() {
    println!("cargo::rerun-if-changed=proto/etcd.proto");
    let files = match protox::compile(["proto/etcd.proto"], ["proto"]) {
        Ok(files) => files,
        Err(error) => panic!("proto/etcd.proto does not compile: {error}"),
    };
    let built = tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .compile_fds(files);
    if let Err(error) = built {
        panic!("cannot write the code of proto/etcd.proto: {error}");
    }
}
