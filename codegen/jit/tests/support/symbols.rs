//! The code of functions in object files.

use catc_jit::ObjectFile;
use object::{Object, ObjectSection, ObjectSymbol};

/// The instructions of a function, and what lies behind them in its symbol (constants) too.
pub fn code_of(made: &ObjectFile, symbol: &str) -> Vec<u8> {
    let file = object::File::parse(made.bytes.as_slice()).unwrap();
    let symbol = file.symbols().find(|s| s.name() == Ok(symbol)).unwrap();
    let section = file.section_by_index(symbol.section_index().unwrap()).unwrap();
    let start = (symbol.address() - section.address()) as usize;
    section.data().unwrap()[start..start + symbol.size() as usize].to_vec()
}

/// The code of the two convolutions of a program, which run a kernel.
pub fn two_convolutions(made: &ObjectFile, kernel: &str) -> Vec<Vec<u8>> {
    let steps: Vec<_> = made.steps.iter().filter(|s| s.kernel.is_some_and(|k| k.name() == kernel)).collect();
    assert_eq!(steps.len(), 2, "two convolutions run {kernel}");
    steps.iter().map(|s| code_of(made, &s.symbol)).collect()
}
