//! When a result is the expected one: within 1e-3 relative and 1e-7 absolute, as ONNX's own runner demands.

use catc_ir::{Tensor, TensorData};

const RELATIVE: f64 = 1e-3;
const ABSOLUTE: f64 = 1e-7;

fn near(found: f64, expected: f64) -> bool {
    found == expected
        || (found.is_nan() && expected.is_nan())
        || (found - expected).abs() <= ABSOLUTE + RELATIVE * expected.abs()
}

/// An error that says where two tensors differ.
pub fn same(found: &Tensor, expected: &Tensor) -> Result<(), String> {
    if found.shape() != expected.shape() {
        return Err(format!("shape {:?} instead of {:?}", found.shape(), expected.shape()));
    }
    let (a, b) = (numbers(found)?, numbers(expected)?);
    if std::mem::discriminant(found.data()) != std::mem::discriminant(expected.data()) {
        return Err("another element type".to_string());
    }
    match a.iter().zip(&b).position(|(&a, &b)| !near(a, b)) {
        Some(i) => Err(format!("element {i} is {} instead of {}", a[i], b[i])),
        None => Ok(()),
    }
}

fn numbers(tensor: &Tensor) -> Result<Vec<f64>, String> {
    Ok(match tensor.data() {
        TensorData::F32(v) => v.iter().map(|&x| f64::from(x)).collect(),
        TensorData::I64(v) => v.iter().map(|&x| x as f64).collect(),
        TensorData::Bool(v) => v.iter().map(|&x| f64::from(u8::from(x))).collect(),
        TensorData::Code(_) => return Err("codes".to_string()),
    })
}
