//! ONNX models in.
