//! Generates the messages and the service of `proto/sync.proto`.

fn main() -> std::io::Result<()> {
    // `bytes` fields become `Bytes`, so that a received packet is decoded without copying it.
    tonic_prost_build::configure()
        .bytes(".")
        .compile_protos(&["proto/sync.proto"], &["proto"])
}
