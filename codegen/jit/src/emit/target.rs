//! The operations that each instruction set expresses in its own way. All other emitted code is the same CLIF for every instruction set.
//!
//! All forms of an operation compute the same result, bit for bit. Cranelift selects the wanted instruction where it finds a certain
//! pattern of a few operations, in which the order of operands counts; `tests/disassembly*.rs` check that it does.

use super::emitter::Emitter;
use catc_kernels::{Architecture, Tier};
use cranelift_codegen::ir::types::{I8X16, I16X8};
use cranelift_codegen::ir::{InstBuilder, Value};

impl Emitter<'_> {
    pub fn is_arm(&self) -> bool {
        self.tier.architecture() == Architecture::Aarch64
    }

    /// `acc[l] + sum of four of unsigned[4l + i] * signed[4l + i]`: i32x4. One `vpdpbusd` (signed operand first) or `usdot` (unsigned
    /// operand first) where the tier has it.
    pub fn dot(&mut self, acc: Value, unsigned: Value, signed: Value) -> Value {
        let b = &mut self.b;
        let (sl, sh) = (b.ins().swiden_low(signed), b.ins().swiden_high(signed));
        let (ul, uh) = (b.ins().uwiden_low(unsigned), b.ins().uwiden_high(unsigned));
        let products = if self.is_arm() { [(ul, sl), (uh, sh)] } else { [(sl, ul), (sh, uh)] };
        self.sum_of_fours(acc, products)
    }

    /// The same of signed bytes alone: one `sdot` where the tier has it.
    pub fn dot_signed(&mut self, acc: Value, x: Value, y: Value) -> Value {
        let b = &mut self.b;
        let (xl, xh) = (b.ins().swiden_low(x), b.ins().swiden_high(x));
        let (yl, yh) = (b.ins().swiden_low(y), b.ins().swiden_high(y));
        self.sum_of_fours(acc, [(xl, yl), (xh, yh)])
    }

    /// [`Emitter::dot_signed`] where sums of two products fit 16 bits: one instruction less on tiers without `sdot`.
    pub fn dot_signed_pairs(&mut self, acc: Value, x: Value, y: Value) -> Value {
        if self.tier.includes(Tier::Aarch64Dotprod) {
            return self.dot_signed(acc, x, y);
        }
        let pairs = self.multiply_add_small(x, y);
        let sums = self.add_neighbours(pairs);
        self.b.ins().iadd(sums, acc)
    }

    /// `acc + x * y` of f32x4, rounded once on tiers that [fuse](Tier::fuses). On other tiers product and sum are each rounded.
    pub fn multiply_add(&mut self, acc: Value, x: Value, y: Value) -> Value {
        if self.tier.fuses() {
            return self.b.ins().fma(x, y, acc);
        }
        let product = self.b.ins().fmul(x, y);
        self.b.ins().fadd(acc, product)
    }

    fn sum_of_fours(&mut self, acc: Value, [low, high]: [(Value, Value); 2]) -> Value {
        let b = &mut self.b;
        let (lo, hi) = (b.ins().imul(low.0, low.1), b.ins().imul(high.0, high.1));
        let (ll, lh) = (b.ins().swiden_low(lo), b.ins().swiden_high(lo));
        let (hl, hh) = (b.ins().swiden_low(hi), b.ins().swiden_high(hi));
        let (p, q) = (b.ins().iadd_pairwise(ll, lh), b.ins().iadd_pairwise(hl, hh));
        let sum = b.ins().iadd_pairwise(p, q);
        b.ins().iadd(sum, acc)
    }

    /// `unsigned[2l] * signed[2l] + unsigned[2l+1] * signed[2l+1]` as i16x8, for sums that fit: `pmaddubsw`, or products of widened
    /// bytes and `addp`.
    pub fn multiply_add_bytes(&mut self, unsigned: Value, signed: Value) -> Value {
        if !self.is_arm() {
            return self.b.ins().x86_pmaddubsw(signed, unsigned);
        }
        let b = &mut self.b;
        let (ul, uh) = (b.ins().uwiden_low(unsigned), b.ins().uwiden_high(unsigned));
        let (sl, sh) = (b.ins().swiden_low(signed), b.ins().swiden_high(signed));
        let (low, high) = (b.ins().imul(ul, sl), b.ins().imul(uh, sh));
        b.ins().iadd_pairwise(low, high)
    }

    /// The same for unsigned bytes below 128, which are signed bytes too: `pmaddubsw`, or `smull` and `addp`.
    pub fn multiply_add_small(&mut self, unsigned: Value, signed: Value) -> Value {
        if !self.is_arm() {
            return self.multiply_add_bytes(unsigned, signed);
        }
        let b = &mut self.b;
        let (ul, uh) = (b.ins().swiden_low(unsigned), b.ins().swiden_high(unsigned));
        let (sl, sh) = (b.ins().swiden_low(signed), b.ins().swiden_high(signed));
        let (low, high) = (b.ins().imul(ul, sl), b.ins().imul(uh, sh));
        b.ins().iadd_pairwise(low, high)
    }

    /// `x[2l] * y[2l] + x[2l+1] * y[2l+1]` of i16x8, as i32x4: `pmaddwd`, or `smull` and `addp`.
    pub fn multiply_add_shorts(&mut self, x: Value, y: Value) -> Value {
        let b = &mut self.b;
        let (xl, xh) = (b.ins().swiden_low(x), b.ins().swiden_high(x));
        let (yl, yh) = (b.ins().swiden_low(y), b.ins().swiden_high(y));
        let (l, h) = (b.ins().imul(xl, yl), b.ins().imul(xh, yh));
        b.ins().iadd_pairwise(l, h)
    }

    /// Sums of neighbours of i16x8, as i32x4: `pmaddwd` with ones, or `saddlp`.
    pub fn add_neighbours(&mut self, x: Value) -> Value {
        if self.is_arm() {
            let (low, high) = (self.b.ins().swiden_low(x), self.b.ins().swiden_high(x));
            return self.b.ins().iadd_pairwise(low, high);
        }
        let ones = self.shorts(1);
        self.multiply_add_shorts(x, ones)
    }

    /// `table[index[l]]` for indices 0 to 15: `pshufb` or `tbl`.
    pub fn lookup(&mut self, table: Value, index: Value) -> Value {
        match self.tier.architecture() {
            Architecture::X86_64 => self.b.ins().x86_pshufb(table, index),
            Architecture::Aarch64 => self.b.ins().swizzle(table, index),
        }
    }

    /// Sixteen 2-bit codes, a byte each, to eight row offsets in the low eight bytes.
    pub fn row_offsets(&mut self, codes: Value) -> Value {
        let weights = self.constant(I8X16, std::array::from_fn(|i| if i % 2 == 0 { 16 } else { 64 }));
        let offsets = self.multiply_add_small(codes, weights);
        self.b.ins().unarrow(offsets, offsets)
    }

    /// Eight row offsets in the low eight bytes to sixteen 2-bit codes, a byte each.
    pub fn codes_of_row_offsets(&mut self, offsets: Value) -> Value {
        let wide = self.b.ins().uwiden_low(offsets);
        let even = self.b.ins().ushr_imm_u(wide, 4);
        let odd = self.b.ins().ishl_imm_u(wide, 2);
        let even_mask = self.shorts(0x0003);
        let odd_mask = self.shorts(0x0300);
        let even = self.b.ins().band(even, even_mask);
        let odd = self.b.ins().band(odd, odd_mask);
        let both = self.b.ins().bor(even, odd);
        self.cast(I8X16, both)
    }

    /// Bytes of `x` and `y` interleaved: `x0 y0 x1 y1 ..`, first the low halves, then the high halves.
    pub fn interleave_bytes(&mut self, x: Value, y: Value) -> (Value, Value) {
        let low: [u8; 16] = std::array::from_fn(|i| (i / 2 + 16 * (i % 2)) as u8);
        let high: [u8; 16] = std::array::from_fn(|i| (8 + i / 2 + 16 * (i % 2)) as u8);
        (self.shuffle(x, y, low), self.shuffle(x, y, high))
    }

    /// Four times the 32-bit word `lane` of 16 bytes: one `dup`, or none where a multiplication takes a single lane.
    pub fn broadcast_word(&mut self, bytes: Value, lane: usize) -> Value {
        let lanes: [u8; 16] = std::array::from_fn(|i| (4 * lane + i % 4) as u8);
        self.shuffle(bytes, bytes, lanes)
    }

    /// Byte `first` of a vector and the next, widened to 16 bits, in each 32-bit lane: i16x8, by one `pshufb` or `tbl`.
    pub fn widened_pair(&mut self, vector: Value, first: usize) -> Value {
        const ZERO: u8 = 0x80;
        let bytes = self.cast(I8X16, vector);
        let lanes = std::array::from_fn(|i| if i % 2 == 0 { (first + i / 2 % 2) as u8 } else { ZERO });
        let index = self.constant(I8X16, lanes);
        let pairs = self.lookup(bytes, index);
        self.cast(I16X8, pairs)
    }

    fn shuffle(&mut self, x: Value, y: Value, lanes: [u8; 16]) -> Value {
        let mask = self.b.func.dfg.immediates.push(cranelift_codegen::ir::ConstantData::from(&lanes[..]));
        self.b.ins().shuffle(x, y, mask)
    }

    /// Up to four i32x4 with values 0 to 255 to bytes; lanes beyond the last vector are arbitrary.
    pub fn narrow_to_bytes(&mut self, vectors: &[Value]) -> Value {
        let at = |i: usize| vectors[i.min(vectors.len() - 1)];
        let low = self.b.ins().snarrow(at(0), at(1));
        let high = if vectors.len() > 2 { self.b.ins().snarrow(at(2), at(3)) } else { low };
        self.b.ins().unarrow(low, high)
    }

    /// The low and high byte of each of eight 16-bit lanes, zero-extended to 16 bits.
    pub fn split_shorts(&mut self, x: Value) -> (Value, Value) {
        let x = self.cast(I16X8, x);
        let mask = self.shorts(0xff);
        (self.b.ins().band(x, mask), self.b.ins().ushr_imm_u(x, 8))
    }
}
