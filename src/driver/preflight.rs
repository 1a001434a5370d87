//! The checks before calibration. All problems that they find are reported together.

use super::calibration::Calibration;
use super::compile::{CompileError, CompileOptions};
use catc_codegen::CodegenError;
use catc_onnx::Imported;
use catc_passes::{Method, PassContext, PassManager, RecipeOptions, recipe};

/// Opens the calibration data of a network, and refuses what cannot be compiled, bits for layers that it does not have, and data that does
/// not fit it.
pub fn check(options: &CompileOptions, imported: &Imported) -> Result<Calibration, CompileError> {
    let correct = options.recipe.cat && options.recipe.real_inputs;
    let layers = catc_passes::check_layer_bits(&options.recipe.layers, &imported.graph).map_err(CompileError::from);
    let nodes = check_nodes(imported);
    let calibration = Calibration::open(&options.calibration, &imported.graph, &imported.whole, correct, options.seed);
    let (calibration, data) = match calibration {
        Ok(calibration) => (Some(calibration), None),
        Err(error) => (None, Some(CompileError::from(error))),
    };
    let mut problems: Vec<CompileError> = [layers.err(), nodes.err(), data].into_iter().flatten().collect();
    match (problems.len(), calibration) {
        (0, Some(calibration)) => Ok(calibration),
        (1, _) => Err(problems.remove(0)),
        _ => Err(CompileError::Several(problems)),
    }
}

/// Lowers the float network without quantizing it, which finds the nodes that programs cannot express.
fn check_nodes(imported: &Imported) -> Result<(), CompileError> {
    let float = RecipeOptions {
        method: Method::MinMax,
        wbits: 32,
        abits: 32,
        first_last_bits: 32,
        cat: false,
        real_inputs: false,
        ..RecipeOptions::default()
    };
    let mut graph = imported.graph.clone();
    PassManager::new().run(&recipe(&float)?, &mut graph, &mut PassContext::empty())?;
    catc_codegen::check(&graph).map_err(|e| named(e, imported).into())
}

/// The error with the names of the operators in the model's file.
pub fn named(error: CodegenError, imported: &Imported) -> CodegenError {
    error.with_operators(&|name| imported.operators.get(name).cloned())
}

/// One problem as it is; several as a list.
pub fn listed(problems: &[String]) -> String {
    match problems {
        [one] => one.clone(),
        several => {
            let lines: String = several.iter().map(|p| format!("\n  - {}", p.replace('\n', "\n  "))).collect();
            format!("{} things must be changed first:{lines}", several.len())
        }
    }
}
