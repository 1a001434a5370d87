//! Generates the ONNX message types from the vendored schema, without protoc.

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=proto/onnx-ml.proto");
    println!("cargo::rerun-if-changed=build.rs");
    let descriptors = protox::compile(["onnx-ml.proto"], ["proto"])?;
    prost_build::Config::new()
        // Weights stay views of the mapped file.
        .bytes([".onnx.TensorProto.raw_data"])
        // An attribute holds one of these at most; boxed, the others cost a pointer.
        .boxed(".onnx.AttributeProto.t")
        .boxed(".onnx.AttributeProto.g")
        .boxed(".onnx.AttributeProto.sparse_tensor")
        .boxed(".onnx.AttributeProto.tp")
        .disable_comments(["."])
        .compile_fds(descriptors)?;
    Ok(())
}
