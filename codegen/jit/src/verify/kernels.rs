//! What precompiled functions touch, from their blocks of arguments and their [`Contract`]: the one place that repeats what the
//! documentation of the blocks says. Shapes that a function has no code for are refused here too, so that none is ever called with one.

use super::affine::Affine;
use super::walk::{Base, Known, Walk};
use super::{EpilogueAccess, OperandBytes};
use catc_kernels::Contract;
use catc_kernels::depthwise::{BLOCK as DEPTHWISE_BLOCK, DepthwiseRow, MAX_TAPS, RowOperands};
use catc_kernels::dot::DotTile;
use catc_kernels::epilogue::function::{OperandKind, StepFunction};
use catc_kernels::epilogue::{EpilogueArguments, EpilogueProgram, EpilogueTile, MAX_OPERANDS, function, load, store};
use catc_kernels::function::LookupReach;
use catc_kernels::lookup_tile::{LookupResultsTile, LookupTile, PackTile};
use catc_kernels::planes::{MAX_PLANES, PlanesRow, Quantization};
use catc_kernels::winograd::{BLOCK, Form, InputTile, MAX_POSITIONS, MAX_TILES, OutputTile, ProductTile, sums_bytes};
use cranelift_codegen::ir::{Block, StackSlot};
use std::mem::{offset_of, size_of};

type Result<T> = std::result::Result<T, String>;

const TOO_LARGE: &str = "its numbers are too large";

/// A block of arguments at a call.
pub(super) struct Arguments {
    /// The block of code that calls.
    pub block: Block,
    pub slot: StackSlot,
}

/// The bytes that a kernel touches behind a pointer: the first and one past the last.
#[derive(Clone, Debug)]
pub(super) struct Reach {
    pub low: Affine,
    pub high: Affine,
}

impl Reach {
    /// The bytes from the pointer on.
    fn of(bytes: i128) -> Reach {
        Reach { low: Affine::number(0), high: Affine::number(bytes) }
    }

    /// The same at `count` places, `stride` bytes apart.
    fn along(self, count: &Affine, stride: &Affine) -> Result<Reach> {
        let steps = count.offset(-1).ok_or(TOO_LARGE)?;
        let (far, up) = match (steps.as_number(), stride.as_number()) {
            (_, Some(stride)) => (steps.times(stride), stride >= 0),
            // Strides that are not known now are those of sums, which are not negative.
            (Some(steps), None) => (stride.times(steps), true),
            (None, None) => return Err("neither a count nor its stride is known".into()),
        };
        let far = far.ok_or(TOO_LARGE)?;
        let Reach { low, high } = self;
        Ok(if up {
            Reach { low, high: high.plus(&far, 1).ok_or(TOO_LARGE)? }
        } else {
            Reach { low: low.plus(&far, 1).ok_or(TOO_LARGE)?, high }
        })
    }
}

/// A call whose arguments are being looked at.
struct Call<'c, 'a> {
    walk: &'c mut Walk<'a>,
    arguments: &'c Arguments,
}

impl Call<'_, '_> {
    fn number(&mut self, at: usize) -> Result<Affine> {
        let Known { base, offset } = self.walk.argument(self.arguments, at)?;
        if base.is_some() { Err(format!("argument {at} is no number")) } else { Ok(offset) }
    }

    /// A number that is known now.
    fn fixed(&mut self, at: usize) -> Result<i128> {
        self.number(at)?.as_number().ok_or_else(|| format!("argument {at} is not known"))
    }

    /// The same, within bounds.
    fn within(&mut self, at: usize, low: i128, high: i128) -> Result<i128> {
        let number = self.fixed(at)?;
        if (low..=high).contains(&number) {
            Ok(number)
        } else {
            Err(format!("argument {at} is {number}, not {low} to {high}"))
        }
    }

    /// A number within bounds that may not be known now.
    fn bounded(&mut self, at: usize, low: i128, high: &Affine) -> Result<Affine> {
        let number = self.number(at)?;
        let room = high.plus(&number, -1).and_then(|room| self.walk.symbols.least(&room));
        let least = self.walk.symbols.least(&number);
        if room.is_some_and(|room| room >= 0) && least.is_some_and(|least| least >= low) {
            Ok(number)
        } else {
            Err(format!("argument {at} is not proved to be {low} or more and within its limit"))
        }
    }

    fn read(&mut self, at: usize, reach: &Reach) -> Result<()> {
        let pointer = self.walk.argument(self.arguments, at)?;
        self.walk.reach(&pointer, reach, false)
    }

    fn write(&mut self, at: usize, reach: &Reach) -> Result<()> {
        let pointer = self.walk.argument(self.arguments, at)?;
        self.walk.reach(&pointer, reach, true)
    }

    /// Reads that are made unless the pointer is null.
    fn read_unless_null(&mut self, at: usize, reach: &Reach) -> Result<bool> {
        let pointer = self.walk.argument(self.arguments, at)?;
        if pointer.base.is_none() && pointer.offset.as_number() == Some(0) {
            return Ok(false);
        }
        self.walk.reach(&pointer, reach, false)?;
        Ok(true)
    }
}

/// Notes what the call of a function touches.
pub(super) fn touch(walk: &mut Walk<'_>, contract: &Contract, arguments: &Arguments) -> Result<()> {
    let mut call = Call { walk, arguments };
    match *contract {
        Contract::SumTile { vector_bytes, step_bytes, exists } => {
            sums(&mut call, vector_bytes as i128, step_bytes as i128, exists)
        }
        Contract::Epilogue { lanes } => epilogue_tile(&mut call, lanes as i128),
        Contract::Planes => planes(&mut call),
        Contract::DepthwiseRow(operands) => depthwise(&mut call, operands),
        Contract::WinogradInput { vector_bytes, forms } => winograd_input(&mut call, vector_bytes as i128, forms),
        Contract::WinogradProduct => winograd_product(&mut call),
        Contract::WinogradOutput { lanes, forms } => winograd_output(&mut call, lanes as i128, forms),
        Contract::LookupPack(reach) => pack(&mut call, reach),
        Contract::LookUp(reach) => look_up(&mut call, reach, false),
        Contract::LookUpResults(reach) => look_up(&mut call, reach, true),
    }
}

/// [`DotTile`], and the tile of floats, which has the same fields: `step` is how far an input moves in a step; four bytes are read.
fn sums(call: &mut Call<'_, '_>, vector: i128, step: i128, exists: fn(usize, usize) -> bool) -> Result<()> {
    let (pixels, vectors) = (call.fixed(offset_of!(DotTile, pixels))?, call.fixed(offset_of!(DotTile, vectors))?);
    let shape = usize::try_from(pixels).ok().zip(usize::try_from(vectors).ok());
    if !shape.is_some_and(|(pixels, vectors)| exists(pixels, vectors)) {
        return Err(format!("there is no tile of {pixels} pixels and {vectors} vectors"));
    }
    let mut count = |at: usize| call.within(at, 1, 1 << 40);
    let rows = count(offset_of!(DotTile, rows))?;
    let taps = count(offset_of!(DotTile, taps))?;
    let steps = count(offset_of!(DotTile, steps))?;
    let pixels = Affine::number(pixels);
    let input = Reach::of(4)
        .along(&pixels, &call.number(offset_of!(DotTile, input_pixel))?)?
        .along(&Affine::number(rows), &call.number(offset_of!(DotTile, row_bytes))?)?
        .along(&Affine::number(taps), &call.number(offset_of!(DotTile, tap_bytes))?)?
        .along(&Affine::number(steps), &Affine::number(step))?;
    call.read(offset_of!(DotTile, input), &input)?;
    let weights =
        rows.checked_mul(taps).and_then(|n| n.checked_mul(steps)).and_then(|n| n.checked_mul(vectors * vector));
    call.read(offset_of!(DotTile, weights), &Reach::of(weights.ok_or(TOO_LARGE)?))?;
    call.read(offset_of!(DotTile, start), &Reach::of(vectors * vector))?;
    let sums = Reach::of(vectors * vector).along(&pixels, &call.number(offset_of!(DotTile, sums_pixel))?)?;
    call.read(offset_of!(DotTile, sums), &sums)?;
    call.write(offset_of!(DotTile, sums), &sums)
}

/// `count` rounded up to whole vectors.
fn whole(count: i128, lanes: i128) -> i128 {
    (count + lanes - 1) / lanes * lanes
}

/// The bytes of what an epilogue's program stores and reads.
pub(super) fn form(program: &EpilogueProgram) -> Result<EpilogueAccess> {
    let output = match program.store {
        store::FLOATS => 4,
        store::SMALL_CODES | store::CODES | store::AFFINE => 1,
        _ => return Err("an epilogue stores in no known way".into()),
    };
    let mut operands = [None; MAX_OPERANDS];
    let input = match program.load {
        load::SUMS => 4,
        load::CODES => 1,
        _ => return Err("an epilogue loads in no known way".into()),
    };
    for step in program.steps.get(..program.count as usize).ok_or("an epilogue has too many steps")? {
        let bytes = match StepFunction::of(step).ok_or("an epilogue has an unknown step")? {
            StepFunction::Binary(_, OperandKind::Float | OperandKind::ScaledFloat) => OperandBytes::OfChannel(4),
            StepFunction::Binary(_, OperandKind::Code | OperandKind::SmallCode) => OperandBytes::OfChannel(1),
            StepFunction::Binary(_, OperandKind::OneFloat) => OperandBytes::OfPixel(4),
            StepFunction::Scale | StepFunction::Unary(_) => continue,
        };
        let operand = operands.get_mut(step.operand as usize).ok_or("an epilogue has no such operand")?;
        if operand.replace(bytes).is_some_and(|other| other != bytes) {
            return Err("two steps of an epilogue read an operand in different ways".into());
        }
    }
    Ok(EpilogueAccess { input, output, operands })
}

/// [`EpilogueArguments`] at a byte of the block, for that many rows and pixels: channels are read in whole vectors of `lanes`, codes of operands in
/// vectors of `code_lanes`, and there are `most` channels at most. Gives the program.
fn epilogue(
    call: &mut Call<'_, '_>,
    at: usize,
    (rows, pixels): (&Affine, &Affine),
    (lanes, code_lanes, most): (i128, i128, i128),
) -> Result<EpilogueProgram> {
    let program = call.walk.argument(call.arguments, at + offset_of!(EpilogueArguments, program))?;
    let (Some(Base::Slot(slot)), Some(0)) = (program.base, program.offset.as_number()) else {
        return Err("the program of its epilogue is in no slot".into());
    };
    call.read(at + offset_of!(EpilogueArguments, program), &Reach::of(size_of::<EpilogueProgram>() as i128))?;
    let program = call.walk.step.program(slot)?;
    let form = form(&program)?;
    call.walk.footprint.programs.insert(slot, form);
    let channels = call.within(at + offset_of!(EpilogueArguments, channels), 1, most)?;
    let floats = 4 * whole(channels, lanes);
    if call.read_unless_null(at + offset_of!(EpilogueArguments, multiplier), &Reach::of(floats))? {
        call.read(at + offset_of!(EpilogueArguments, bias), &Reach::of(floats))?;
    }
    let output = Reach::of(channels * form.output)
        .along(rows, &call.number(at + offset_of!(EpilogueArguments, output_row))?)?
        .along(pixels, &call.number(at + offset_of!(EpilogueArguments, output_pixel))?)?;
    call.write(at + offset_of!(EpilogueArguments, output), &output)?;
    for (number, bytes) in form.operands.into_iter().enumerate() {
        let Some(bytes) = bytes else { continue };
        let bytes = match bytes {
            OperandBytes::OfPixel(bytes) => bytes,
            OperandBytes::OfChannel(1) => whole(channels, code_lanes),
            OperandBytes::OfChannel(bytes) => bytes * whole(channels, lanes),
        };
        let operand = Reach::of(bytes)
            .along(rows, &call.number(at + offset_of!(EpilogueArguments, operand_row) + 8 * number)?)?
            .along(pixels, &call.number(at + offset_of!(EpilogueArguments, operand_pixel) + 8 * number)?)?;
        call.read(at + offset_of!(EpilogueArguments, operands) + 8 * number, &operand)?;
    }
    Ok(program)
}

fn epilogue_tile(call: &mut Call<'_, '_>, lanes: i128) -> Result<()> {
    let pixels = Affine::number(call.within(offset_of!(EpilogueTile, pixels), 1, 1 << 40)?);
    let at = offset_of!(EpilogueTile, epilogue);
    let program = epilogue(call, at, (&Affine::number(1), &pixels), (lanes, lanes, 1 << 40))?;
    let channels = call.fixed(at + offset_of!(EpilogueArguments, channels))?;
    let sums = Reach::of(form(&program)?.input * whole(channels, lanes))
        .along(&pixels, &call.number(offset_of!(EpilogueTile, sums_pixel))?)?;
    call.read(offset_of!(EpilogueTile, sums), &sums)
}

fn planes(call: &mut Call<'_, '_>) -> Result<()> {
    let planes = call.within(offset_of!(PlanesRow, planes), 1, MAX_PLANES as i128)?;
    let pixels = call.within(offset_of!(PlanesRow, pixels), 1, 1 << 40)?;
    call.read(offset_of!(PlanesRow, quantization), &Reach::of(size_of::<Quantization>() as i128))?;
    let input =
        Reach::of(4 * pixels).along(&Affine::number(planes), &call.number(offset_of!(PlanesRow, plane_bytes))?)?;
    call.read(offset_of!(PlanesRow, input), &input)?;
    call.write(offset_of!(PlanesRow, output), &Reach::of(planes * pixels))
}

fn depthwise(call: &mut Call<'_, '_>, operands: RowOperands) -> Result<()> {
    let pixels = Affine::number(call.within(offset_of!(DepthwiseRow, pixels), 1, 1 << 40)?);
    let rows = call.within(offset_of!(DepthwiseRow, rows), 1, MAX_TAPS as i128)?;
    let columns = call.within(offset_of!(DepthwiseRow, columns), 1, MAX_TAPS as i128)?;
    if rows * columns > MAX_TAPS as i128 {
        return Err(format!("{rows} times {columns} taps"));
    }
    let at = offset_of!(DepthwiseRow, epilogue);
    let lanes = operands.epilogue_lanes() as i128;
    epilogue(call, at, (&Affine::number(1), &pixels), (lanes, lanes, DEPTHWISE_BLOCK as i128))?;
    // At most a block, as was just checked.
    let channels = call.fixed(at + offset_of!(EpilogueArguments, channels))? as usize;
    let pixel = call.fixed(offset_of!(DepthwiseRow, pixel_bytes))?;
    let column = call.fixed(offset_of!(DepthwiseRow, column_bytes))?;
    let stride = call.within(offset_of!(DepthwiseRow, stride), 0, 1 << 40)?;
    if stride != 0 && stride * column != pixel {
        return Err("pixels do not share columns".into());
    }
    let input = Reach::of(operands.input_bytes(channels) as i128)
        .along(&pixels, &Affine::number(pixel))?
        .along(&Affine::number(rows), &call.number(offset_of!(DepthwiseRow, row_bytes))?)?
        .along(&Affine::number(columns), &Affine::number(column))?;
    call.read(offset_of!(DepthwiseRow, input), &input)?;
    let weights = operands.weight_bytes(channels, rows as usize, columns as usize);
    call.read(offset_of!(DepthwiseRow, weights), &Reach::of(weights as i128))?;
    call.read(offset_of!(DepthwiseRow, start), &Reach::of(operands.start_bytes(channels) as i128))
}

/// The outputs of a tile, which must be one of those.
fn winograd_tile(call: &mut Call<'_, '_>, height: usize, width: usize, forms: &[Form]) -> Result<[i128; 2]> {
    let outputs = [call.fixed(height)?, call.fixed(width)?];
    let known = forms.iter().any(|form| form.outputs().map(|n| n as i128) == outputs);
    if known { Ok(outputs) } else { Err(format!("there is no tile of {outputs:?} outputs")) }
}

fn winograd_input(call: &mut Call<'_, '_>, vector: i128, forms: &[Form]) -> Result<()> {
    let at = [offset_of!(InputTile, tile_height), offset_of!(InputTile, tile_width)];
    let [height, width] = winograd_tile(call, at[0], at[1], forms)?;
    let channels = call.within(offset_of!(InputTile, channels), 4, 1 << 40)?;
    let count = call.within(offset_of!(InputTile, tiles), 1, 1 << 40)?;
    let input = Reach::of(whole(channels, vector))
        .along(&Affine::number(height + 2), &call.number(offset_of!(InputTile, row_bytes))?)?
        .along(&Affine::number(count * width + 2), &call.number(offset_of!(InputTile, pixel_bytes))?)?;
    call.read(offset_of!(InputTile, input), &input)?;
    let positions = Affine::number((height + 2) * (width + 2));
    let transformed =
        Reach::of(count * channels).along(&positions, &call.number(offset_of!(InputTile, position_bytes))?)?;
    call.write(offset_of!(InputTile, transformed), &transformed)
}

fn winograd_product(call: &mut Call<'_, '_>) -> Result<()> {
    let tiles = call.bounded(offset_of!(ProductTile, tiles), 1, &Affine::number(MAX_TILES as i128))?;
    let channels = call.within(offset_of!(ProductTile, channels), 4, 1 << 40)?;
    let positions = call.within(offset_of!(ProductTile, positions), 1, MAX_POSITIONS as i128)?;
    if channels % 4 != 0 {
        return Err(format!("{channels} channels"));
    }
    let block = BLOCK as i128;
    let transformed = Reach::of(channels)
        .along(&tiles, &Affine::number(channels))?
        .along(&Affine::number(positions), &call.number(offset_of!(ProductTile, position_bytes))?)?;
    call.read(offset_of!(ProductTile, transformed), &transformed)?;
    call.read(offset_of!(ProductTile, weights), &Reach::of(positions * channels * block))?;
    call.read(offset_of!(ProductTile, start), &Reach::of(positions * block * 4))?;
    let (none, each) = (sums_bytes(0) as i128, (sums_bytes(1) - sums_bytes(0)) as i128);
    let position = tiles.times(each).and_then(|bytes| bytes.offset(none)).ok_or(TOO_LARGE)?;
    let sums =
        Reach::of(4 * block).along(&tiles, &Affine::number(4 * block))?.along(&Affine::number(positions), &position)?;
    call.read(offset_of!(ProductTile, sums), &sums)?;
    call.write(offset_of!(ProductTile, sums), &sums)
}

fn winograd_output(call: &mut Call<'_, '_>, lanes: i128, forms: &[Form]) -> Result<()> {
    let at = [offset_of!(OutputTile, tile_height), offset_of!(OutputTile, tile_width)];
    let [height, width] = winograd_tile(call, at[0], at[1], forms)?;
    let count = call.within(offset_of!(OutputTile, tiles), 1, MAX_TILES as i128)?;
    let pixels = call.bounded(offset_of!(OutputTile, pixels), 1, &Affine::number(width * count))?;
    let rows = call.bounded(offset_of!(OutputTile, rows), i128::MIN, &Affine::number(height))?;
    epilogue(call, offset_of!(OutputTile, epilogue), (&rows, &pixels), (lanes, lanes, BLOCK as i128))?;
    let positions = Affine::number((height + 2) * (width + 2));
    let sums = Reach::of(4 * BLOCK as i128 * count)
        .along(&positions, &call.number(offset_of!(OutputTile, position_bytes))?)?;
    call.read(offset_of!(OutputTile, sums), &sums)
}

fn pack(call: &mut Call<'_, '_>, kind: LookupReach) -> Result<()> {
    let pixels = call.bounded(offset_of!(PackTile, pixels), 1, &Affine::number(1 << 40))?;
    let units = call.within(offset_of!(PackTile, units), 1, 1 << 40)?;
    let channels = call.within(offset_of!(PackTile, channels), 1, 1 << 40)?;
    let whole = whole(units, kind.packed_together as i128);
    let input = Reach::of(if kind.pixel_sums { channels } else { units + whole })
        .along(&pixels, &call.number(offset_of!(PackTile, pixel_bytes))?)?;
    call.read(offset_of!(PackTile, input), &input)?;
    let offsets = Reach::of(whole * kind.offset_bytes as i128)
        .along(&pixels, &Affine::number(units * kind.offset_bytes as i128))?;
    call.write(offset_of!(PackTile, offsets), &offsets)?;
    if kind.pixel_sums {
        call.read(offset_of!(PackTile, shares), &Reach::of(64))?;
        let sums = Reach::of(8).along(&pixels, &Affine::number(8))?;
        call.write(offset_of!(PackTile, sums), &sums)?;
    }
    Ok(())
}

/// [`LookupTile`], which is the first part of [`LookupResultsTile`] too.
fn look_up(call: &mut Call<'_, '_>, kind: LookupReach, results: bool) -> Result<()> {
    let (pixels, vectors) = (call.fixed(offset_of!(LookupTile, pixels))?, call.fixed(offset_of!(LookupTile, vectors))?);
    let shape = usize::try_from(pixels).ok().zip(usize::try_from(vectors).ok());
    if !shape.is_some_and(|(pixels, vectors)| (kind.exists)(pixels, vectors)) {
        return Err(format!("there is no tile of {pixels} pixels and {vectors} vectors"));
    }
    let mut count = |at: usize| call.within(at, 1, 1 << 40);
    let rows = count(offset_of!(LookupTile, rows))?;
    let taps = count(offset_of!(LookupTile, taps))?;
    let steps = count(offset_of!(LookupTile, steps))?;
    let columns = count(offset_of!(LookupTile, columns))?;
    count(offset_of!(LookupTile, parts))?;
    let (many, rows_of) = (Affine::number(pixels), Affine::number(rows));
    let offsets = Reach::of(kind.offset_bytes as i128)
        .along(&many, &call.number(offset_of!(LookupTile, pixel_bytes))?)?
        .along(&rows_of, &call.number(offset_of!(LookupTile, row_bytes))?)?
        .along(&Affine::number(taps), &call.number(offset_of!(LookupTile, tap_bytes))?)?
        .along(&Affine::number(steps), &Affine::number(kind.offset_bytes as i128))?;
    call.read(offset_of!(LookupTile, offsets), &offsets)?;
    let channels = vectors * kind.lanes as i128;
    let weights = rows.checked_mul(taps).and_then(|n| n.checked_mul(steps)).and_then(|n| n.checked_mul(channels));
    call.read(offset_of!(LookupTile, weights), &Reach::of(weights.ok_or(TOO_LARGE)?))?;
    call.read(offset_of!(LookupTile, table), &Reach::of(kind.table_bytes as i128))?;
    if kind.pixel_sums {
        let sums = Reach::of(8)
            .along(&many, &call.number(offset_of!(LookupTile, sums_pixel))?)?
            .along(&rows_of, &call.number(offset_of!(LookupTile, sums_row))?)?
            .along(&Affine::number(columns), &call.number(offset_of!(LookupTile, sums_tap))?)?;
        call.read(offset_of!(LookupTile, sums), &sums)?;
    }
    if results {
        call.read(offset_of!(LookupResultsTile, start), &Reach::of(2 * channels))?;
        if kind.pixel_sums {
            call.read(offset_of!(LookupResultsTile, zero_points), &Reach::of(2 * channels))?;
        }
        let at = offset_of!(LookupResultsTile, epilogue);
        let program =
            epilogue(call, at, (&Affine::number(1), &many), (kind.lanes as i128 / 4, kind.lanes as i128, channels))?;
        let multipliers = Reach::of(4 * channels);
        call.read(at + offset_of!(EpilogueArguments, multiplier), &multipliers)?;
        call.read(at + offset_of!(EpilogueArguments, bias), &multipliers)?;
        let operand = program.steps[0].function;
        let known = match (program.store, program.count) {
            (store::AFFINE, 0) | (store::FLOATS, 0) => true,
            (store::AFFINE, 1) => operand == function::ADD_SMALL_CODE,
            (store::SMALL_CODES, 1) => operand == function::ADD_FLOAT,
            _ => false,
        };
        return if known { Ok(()) } else { Err("its epilogue is not one that the kernel knows".into()) };
    }
    call.read(offset_of!(LookupTile, constants), &Reach::of(4 * channels))?;
    let zero_points = Reach::of(4 * channels);
    match kind.pixel_sums {
        true => call.read_unless_null(offset_of!(LookupTile, zero_points), &zero_points).map(|_| ())?,
        false => call.read(offset_of!(LookupTile, zero_points), &zero_points)?,
    }
    call.write(offset_of!(LookupTile, results), &Reach::of(4 * channels * pixels))
}
