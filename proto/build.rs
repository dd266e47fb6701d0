//! Generates Rust from every `handover/PACKAGE/v1/*.proto`, without an installed `protoc`.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?);
    let out = PathBuf::from(env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=handover");

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_imports(true)
        .include_source_info(true)
        .open_files(proto_files(&root.join("handover"))?)?;
    fs::write(out.join("descriptors.bin"), compiler.encode_file_descriptor_set())?;

    let files = compiler.file_descriptor_set();
    tonic_prost_build::configure()
        .bytes(".")
        .codec_path("crate::codec::Codec")
        .extern_path(".handover.gcs.v1.AttachResponse", "crate::encoded::AttachResponse")
        .extern_path(".handover.gcs.v1.WatchResponse", "crate::encoded::WatchResponse")
        .include_file("packages.rs")
        .compile_fds(files)?;
    Ok(())
}

/// Every `.proto` below `dir`, in a fixed order.
fn proto_files(dir: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(proto_files(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}
