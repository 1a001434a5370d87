//! The C header of an object file.

use super::entry::BAD_WORKSPACE;
use super::{ALIGNMENT, ObjectOptions, cpu_check, workspace};
use crate::place::{PlacedProgram, PortShape};
use catc_program::{Port, Program};
use std::fmt::Write;

/// The text of the header.
pub(super) fn text(program: &Program, options: &ObjectOptions<'_>, placed: &PlacedProgram) -> String {
    let (name, tier) = (options.name, options.tier);
    let upper = name.to_ascii_uppercase();
    let triple = tier.architecture().triple();
    let info = &program.info;
    let mut out = String::new();
    let _ = write!(
        out,
        "/* {name}: a network as machine code, W{}A{}, made by catc {}.\n *\n \
         * For {triple}, instruction set {tier}. Code for a CPU that lacks it ends in an illegal instruction:\n \
         * ask {name}_supported() first where that may be.\n */\n#ifndef CATC_{upper}_H\n#define CATC_{upper}_H\n\n\
         #include <stdint.h>\n\n/* The instruction set. */\n#define {upper}_CPU \"{tier}\"\n\n",
        info.weight_bits, info.activation_bits, info.catc_version
    );
    let inputs = ports(&mut out, program, &program.inputs, &placed.inputs, &upper, "INPUT", "input");
    let shapes: Vec<PortShape> = placed.outputs.iter().map(|(shape, _)| shape.clone()).collect();
    let outputs = ports(&mut out, program, &program.outputs, &shapes, &upper, "OUTPUT", "output");
    let bytes = workspace(placed).bytes;
    let _ = write!(
        out,
        "/* Memory of a run, the caller's: its content is arbitrary before and after. Threads that run at the same time need one each. */\n\
         #define {upper}_WORKSPACE_BYTES {bytes}\n#define {upper}_WORKSPACE_ALIGNMENT {ALIGNMENT}\n\n\
         #ifdef __cplusplus\nextern \"C\" {{\n#endif\n\n"
    );
    let declare = |(parameter, index): &(String, bool), constant: &str| {
        let element = if *index { "int32_t" } else { "float" };
        format!("{constant}{element} *{parameter}")
    };
    let parameters: Vec<String> = inputs
        .iter()
        .map(|p| declare(p, "const "))
        .chain(outputs.iter().map(|p| declare(p, "")))
        .chain(["void *workspace".into()])
        .collect();
    let _ = write!(
        out,
        "/* What {name}_run returns: done, or nothing done because the workspace is null or not aligned. */\n\
         #define {upper}_OK 0\n#define {upper}_BAD_WORKSPACE {BAD_WORKSPACE}\n\n\
         /* Runs one image. Arrays are row-major, of any alignment, and overlap neither one another nor the workspace. Calls nothing,\n \
         * allocates nothing, keeps nothing. */\n\
         int {name}_run({});\n\n#ifdef __cplusplus\n}}\n#endif\n\n",
        parameters.join(", ")
    );
    let _ = write!(
        out,
        "/* Whether this CPU (and its operating system) runs the code: 1 or 0. */\n{}\n#endif\n",
        cpu_check::function(name, tier)
    );
    out
}

/// Writes the macros of the inputs or of the outputs. Returns the name of each parameter, and whether it holds indices. A single port has no
/// number in its name.
fn ports(
    out: &mut String,
    program: &Program,
    ports: &[Port],
    shapes: &[PortShape],
    upper: &str,
    kind: &str,
    parameter: &str,
) -> Vec<(String, bool)> {
    let mut parameters = Vec::new();
    for (at, (port, shape)) in ports.iter().zip(shapes).enumerate() {
        let number = if ports.len() == 1 { String::new() } else { at.to_string() };
        let dims = &program.tensor(port.tensor).dims;
        let list = dims.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
        let prefix = format!("{upper}_{kind}{number}");
        let _ = write!(
            out,
            "/* {kind_text} \"{}\": [{list}] {}. */\n#define {prefix}_ELEMENTS {}\n#define {prefix}_RANK {}\n",
            comment(&port.name),
            if shape.index { "of indices" } else { "of floats" },
            shape.elements,
            dims.len(),
            kind_text = if kind == "INPUT" { "Input" } else { "Output" },
        );
        if !dims.is_empty() {
            let _ = writeln!(out, "#define {prefix}_DIMS {{ {list} }}");
        }
        out.push('\n');
        parameters.push((format!("{parameter}{number}"), shape.index));
    }
    parameters
}

/// A name for use in a C comment. Replaces characters that could end the comment or break a line.
fn comment(name: &str) -> String {
    name.chars().map(|c| if c.is_control() || c == '*' || c == '\\' { '_' } else { c }).collect()
}
