//! What layers cost by the kernels of wide vectors, in cycles measured on an Intel Xeon (Emerald Rapids): enough to rank kernels.

use crate::choose::Request;
use crate::table::KernelId;
use crate::{dot, pairs, triples, winograd};

/// Bytes of weights that stay in the second-level cache until the next image.
const CACHED_WEIGHTS: f64 = 1e6;

fn pixels(request: &Request<'_>) -> f64 {
    request.window.output.iter().product::<usize>() as f64
}

/// Cycles of all multiplications one by one, and of the epilogue, by a dot kernel.
pub(crate) fn multiplied(request: &Request<'_>, kernel: KernelId) -> f64 {
    let shape = request.weights.shape();
    // Of a step and of the epilogue, for each vector of output channels.
    let (step, end) = match kernel {
        KernelId::DotVnni512 => (0.53, 2.5),
        KernelId::DotVnni256 => (0.58, 8.0),
        KernelId::DotMaddubs256 => (0.78, 9.0),
        _ => (32.0 / f64::from(kernel.info().rate), 9.0),
    };
    let vectors = shape.groups * shape.outputs.div_ceil(kernel.info().channels_per_vector);
    let steps = shape.kernel_height * shape.kernel_width * shape.inputs.div_ceil(dot::UNITS);
    pixels(request) * vectors as f64 * (step * steps as f64 + end)
}

/// Cycles of look-ups: of the vectors and their share of the widening; then the sums that a table leaves out, the epilogue, and the
/// packing.
pub(crate) fn looked_up(request: &Request<'_>, kernel: KernelId) -> f64 {
    let shape = request.weights.shape();
    let taps = shape.kernel_height * shape.kernel_width;
    let vectors = shape.outputs.div_ceil(kernel.info().channels_per_vector) as f64;
    // Input pixels that are packed for each output pixel.
    let packed: usize = if taps == 1 { 1 } else { request.window.strides.iter().product() };
    let (look_up, end, channels, pack) = if kernel == KernelId::Lookup512 {
        let channels = triples::triples(shape.inputs) as f64;
        (1.12, 20.0, channels, 16.0 + channels / 5.5)
    } else {
        let channels = pairs::pairs(shape.inputs) as f64;
        (0.74, 14.0, channels, 4.0 + channels / 16.0)
    };
    pixels(request) * (vectors * (taps as f64 * look_up * channels + end) + packed as f64 * pack)
}

/// Cycles of Winograd's algorithm: the products, unless the weights take longer to arrive; the transforms of the input and of the
/// sums.
pub(crate) fn winograd(request: &Request<'_>, tile: winograd::Tile, kernel: KernelId) -> f64 {
    let shape = request.weights.shape();
    let tiles: usize = tile.count(request.window.output).iter().product();
    let positions = (tiles * tile.positions()) as f64;
    // Of four products for each vector of output channels; of the transforms for each vector of the input, and of output channels.
    let (product, input, output) = match kernel {
        KernelId::WinogradVnni256 => (0.6, 3.5, 2.5),
        KernelId::WinogradMaddubs256 => (0.84, 4.0, 3.0),
        _ => (0.54, 3.8, 1.5),
    };
    let info = kernel.info();
    let quads = shape.inputs.div_ceil(dot::UNITS) as f64;
    let vectors = shape.outputs.div_ceil(info.channels_per_vector) as f64;
    let weights = (tile.positions() * info.vector_bytes) as f64 * quads * vectors;
    let products = positions * quads * vectors * product;
    let arrival = if weights > CACHED_WEIGHTS { weights / 9.0 } else { 0.0 };
    let inputs = (shape.inputs as f64 / info.vector_bytes as f64).ceil();
    products.max(arrival) + 0.2 * arrival + positions * (input * inputs + output * vectors)
}
