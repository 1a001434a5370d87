//! `--emit`: objects, headers and texts instead of, or beside, a model file.

use super::args::{CompileArgs, Emission, EmitKind};
use super::{Failure, human_bytes};
use crate::data::write_atomically;
use catc_ir::Graph;
use catc_jit::{ObjectFile, ObjectOptions, is_c_identifier, object};
use catc_kernels::{Architecture, Tier};
use catc_onnx::WholeType;
use catc_program::Program;
use serde_json::{Value, json};
use std::path::Path;

/// What to emit, checked before anything long begins.
pub struct EmitPlan<'a> {
    emissions: &'a [Emission],
    tier: Tier,
    name: String,
}

impl<'a> EmitPlan<'a> {
    /// The plan that the arguments ask for.
    pub fn of(args: &'a CompileArgs, model: &Path) -> Result<EmitPlan<'a>, Failure> {
        let name = match &args.name {
            Some(name) if is_c_identifier(name) => name.clone(),
            Some(name) => {
                return Err(Failure::Usage(format!(
                    "--name {name:?}: the names of C functions begin with it; use letters, digits and underscores"
                )));
            }
            None => identifier(&model.file_stem().unwrap_or_default().to_string_lossy()),
        };
        Ok(EmitPlan { emissions: &args.emit, tier: tier(args.target, args.cpu.as_deref())?, name })
    }

    /// Whether a graph is asked for, which a compiled model does not hold.
    pub fn wants_graph(&self) -> bool {
        self.wants(EmitKind::Ir) || self.wants(EmitKind::QdqOnnx)
    }

    /// Whether this is asked for.
    pub fn wants(&self, kind: EmitKind) -> bool {
        self.emissions.iter().any(|e| e.kind == kind)
    }

    /// Makes and writes everything; gives a report for people and one for programs. `graph` is the integer graph, `quantized` the
    /// one before it, with the types of the inputs in the model's file.
    pub fn write(
        &self,
        program: &Program,
        graph: Option<&Graph>,
        quantized: Option<(&Graph, &[Option<WholeType>])>,
    ) -> Result<(String, Value), Failure> {
        if self.emissions.is_empty() {
            return Ok((String::new(), Value::Null));
        }
        let listing = self.wants(EmitKind::Assembly) || self.wants(EmitKind::Clif);
        // Code is generated only if something of it is written.
        let code = self.emissions.iter().any(|e| !matches!(e.kind, EmitKind::Ir | EmitKind::QdqOnnx));
        let options = ObjectOptions { tier: self.tier, name: &self.name, listing };
        let made = if code { Some(object(program, &options)?) } else { None };
        let mut text = String::new();
        let mut files = Vec::new();
        for Emission { kind, path } in self.emissions {
            let (ir, onnx);
            let bytes = match (kind, &made) {
                (EmitKind::Ir, _) => {
                    ir = graph.map(Graph::to_string).unwrap_or_default();
                    ir.as_bytes()
                }
                (EmitKind::QdqOnnx, _) => {
                    onnx = quantized
                        .map(|(graph, whole)| catc_onnx::export(graph, whole))
                        .transpose()?
                        .unwrap_or_default();
                    onnx.as_slice()
                }
                (EmitKind::Object, Some(made)) => made.bytes.as_slice(),
                (EmitKind::Header, Some(made)) => made.header.as_bytes(),
                (EmitKind::Assembly, Some(made)) => made.assembly.as_bytes(),
                (EmitKind::Clif, Some(made)) => made.clif.as_bytes(),
                (_, None) => continue,
            };
            write_atomically(path, |file| std::io::Write::write_all(file, bytes))?;
            text += &match (kind, &made) {
                (EmitKind::Object, Some(made)) => self.object_line(path, made),
                _ => format!("{}: {}\n", path.display(), human_bytes(bytes.len() as u64)),
            };
            files.push(json!({"kind": kind.name(), "path": path, "bytes": bytes.len()}));
        }
        let report = json!({
            "files": files,
            "target": self.tier.architecture().triple(),
            "cpu": self.tier.name(),
            "name": self.name,
            "code_bytes": made.as_ref().map(|m| m.code_bytes),
            "constant_bytes": made.as_ref().map(|m| m.constant_bytes),
            "workspace_bytes": made.as_ref().map(|m| m.workspace_bytes),
        });
        Ok((text, report))
    }

    fn object_line(&self, path: &Path, made: &ObjectFile) -> String {
        format!(
            "{}: {} for {} (code {}, constants {}); {}_run needs a workspace of {}\n",
            path.display(),
            human_bytes(made.bytes.len() as u64),
            self.tier,
            human_bytes(made.code_bytes as u64),
            human_bytes(made.constant_bytes as u64),
            self.name,
            human_bytes(made.workspace_bytes as u64),
        )
    }
}

/// The tier of a target: the one named, or the weakest, which every CPU of the target runs.
fn tier(target: Option<Architecture>, cpu: Option<&str>) -> Result<Tier, Failure> {
    let here = Tier::detect();
    let Some(architecture) = target.or(here.map(Tier::architecture)) else {
        return Err(Failure::Usage("no code is made for this machine; name a --target".into()));
    };
    let names = || Tier::of(architecture).map(Tier::name).collect::<Vec<_>>().join(", ");
    let found = match cpu {
        None => Tier::of(architecture).next(),
        Some("native") => here.filter(|tier| tier.architecture() == architecture),
        Some(name) => Tier::from_name(name).filter(|tier| tier.architecture() == architecture),
    };
    found.ok_or_else(|| {
        let (cpu, triple) = (cpu.unwrap_or_default(), architecture.triple());
        Failure::Usage(format!("--cpu {cpu}: for {triple} there are {}, and on such a machine native", names()))
    })
}

/// A C identifier made of a file's name.
fn identifier(stem: &str) -> String {
    let letters: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if is_c_identifier(&letters) { letters } else { format!("model_{letters}") }
}

#[cfg(test)]
mod tests {
    use super::{identifier, tier};
    use catc_kernels::{Architecture, Tier};

    #[test]
    fn names_of_files_become_identifiers() {
        assert_eq!(identifier("digits_resnet"), "digits_resnet");
        assert_eq!(identifier("mobilenet-v2.1"), "mobilenet_v2_1");
        assert_eq!(identifier("8bit"), "model_8bit");
        assert_eq!(identifier(""), "model_");
    }

    #[test]
    fn the_weakest_tier_is_the_default() {
        let named = |cpu| tier(Some(Architecture::Aarch64), cpu).ok();
        assert_eq!(named(None), Some(Tier::Aarch64Neon));
        assert_eq!(named(Some("aarch64-i8mm")), Some(Tier::Aarch64I8mm));
        assert_eq!(named(Some("x86-64-v3")), None);
        assert_eq!(tier(Some(Architecture::X86_64), None).ok(), Some(Tier::X86V2));
    }
}
