//! Generates the messages and the services of `proto/`.

fn main() -> std::io::Result<()> {
    // `bytes` fields become `Bytes`, so that a received packet is decoded without copying it.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&["proto/sync.proto", "proto/arbiter.proto"], &["proto"])
}
