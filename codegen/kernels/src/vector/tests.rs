//! Compares every method of the vectors that this CPU can run with arrays.

#[cfg(target_arch = "x86_64")]
use super::Portable;
use super::Vector;

/// Sixteen lanes, with NaN, infinities, halves and numbers that do not fit an i32 among them.
const REALS: [f32; 16] = [
    0.0,
    -0.0,
    0.5,
    1.5,
    -2.5,
    3.25,
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    3e9,
    -3e9,
    1e-40,
    -7.0,
    255.5,
    1e6,
    -0.3,
];
const INTS: [i32; 16] =
    [0, 1, -1, 255, 256, -256, 70000, -70000, i32::MAX, i32::MIN, 0x1234_5678, 3, 127, 128, -129, 9];

/// The bytes of a vector's lanes.
fn bytes<T>(x: T) -> Vec<u8> {
    // SAFETY: vectors and arrays of numbers have no padding.
    unsafe { std::slice::from_raw_parts((&raw const x).cast::<u8>(), size_of::<T>()) }.to_vec()
}

/// The bits of reals, with all NaN made equal.
fn bits<T>(x: T) -> Vec<u32> {
    let words = bytes(x);
    let real = |word: &[u8; 4]| f32::from_le_bytes(*word);
    words.as_chunks().0.iter().map(|w| if real(w).is_nan() { u32::MAX } else { real(w).to_bits() }).collect()
}

/// The results of every method for the numbers above: reals, then integers and bytes. They include the memory around stores.
fn every_method<V: Vector>(mut v: V) -> (Vec<Vec<u32>>, Vec<Vec<u8>>) {
    let (mut reals, mut others) = (Vec::new(), Vec::new());
    let small: Vec<u8> = INTS.iter().flat_map(|n| n.to_le_bytes()).collect();
    // SAFETY: no vector has more than sixteen lanes.
    let (x, n, codes, packed) = unsafe {
        let load = (v.load_reals(REALS.as_ptr()), v.load_ints(INTS.as_ptr()));
        (load.0, load.1, v.load_bytes(small.as_ptr()), v.load_packed_bytes(small.as_ptr(), 4 * V::LANES as i64))
    };
    let y = v.real(1.25);
    reals.push(bits(x));
    reals.extend([v.add(x, y), v.sub(x, y), v.mul(x, y), v.div(y, x), v.max(x, y), v.min(y, x)].map(bits));
    reals.extend([v.neg(x), v.abs(x), v.sqrt(x), v.floor(x), v.ceil(x), v.round_half_even(x)].map(bits));
    for mask in [v.less(x, y), v.at_least(x, y), v.equal(x, x)] {
        reals.push(bits(v.select(mask, x, y)));
    }
    let whole = v.round_half_even(y);
    others.push(bytes(v.convert_to_int(whole)));
    reals.extend([v.convert_to_real(n), v.bits_to_real(n), v.zero_where_nan(x), v.fused_mul_add(x, y, y)].map(bits));
    let lanes = v.lane_numbers();
    reals.extend([v.look_up(x, lanes), v.look_up(x, codes)].map(bits));
    let one = v.int(1);
    others.extend([n, codes, packed, lanes, v.round_to_int(x), v.bits_to_int(y)].map(bytes));
    others.extend([v.add_int(n, one), v.sub_int(one, n), v.and(n, codes), v.or(n, codes)].map(bytes));
    others.extend([v.shift_left(n, 5), v.shift_right(n, 16), v.sub_halves(n, codes)].map(bytes));
    others.push(bytes(v.shift_halves_left_8(n)));
    let four = [n, codes, one, v.round_to_int(x)];
    let (in_vectors, in_lanes) = (v.pack_vectors(four, 200), v.pack_lanes(four, 15));
    others.extend([bytes(in_vectors), bytes(in_lanes)]);
    for count in 0..=V::LANES as i64 + 1 {
        let mut memory = [7.0f32; 17];
        // SAFETY: as above; the memory has 17 numbers, and below 68 bytes for all runs.
        unsafe { v.store_reals(memory.as_mut_ptr(), y, count.min(V::LANES as i64)) };
        reals.push(memory.map(f32::to_bits).to_vec());
        // SAFETY: as above.
        let some = unsafe { v.load_some_reals(REALS.as_ptr(), count.min(V::LANES as i64)) };
        reals.push(bits(some)[..count.min(V::LANES as i64) as usize].to_vec());
    }
    for count in 0..=4 * V::LANES as i64 {
        let mut runs = [[9u8; 68]; 3];
        let [two, four, one] = runs.each_mut().map(|memory| memory.as_mut_ptr());
        // SAFETY: as above.
        unsafe {
            v.store_runs::<2>(two, 33, in_vectors, count / 2);
            v.store_runs::<4>(four, 17, in_vectors, count / 4);
            v.store_runs::<1>(one, 0, in_lanes, count);
        }
        others.extend(runs.map(|memory| memory.to_vec()));
    }
    v.prefetch(std::ptr::null());
    (reals, others)
}

#[cfg(target_arch = "x86_64")]
#[test]
fn vectors_of_256_bits_equal_arrays() {
    #[target_feature(enable = "avx2,fma")]
    fn run() -> (Vec<Vec<u32>>, Vec<Vec<u8>>) {
        // SAFETY: the CPU has the instructions, which the caller checks.
        every_method(unsafe { super::Avx2::new() })
    }
    if !std::is_x86_feature_detected!("avx2") || !std::is_x86_feature_detected!("fma") {
        println!("no AVX2 and FMA here: vectors of 256 bits were not run");
        return;
    }
    // SAFETY: the CPU has the instructions.
    assert_eq!(unsafe { run() }, every_method(Portable::<8>));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn vectors_of_512_bits_equal_arrays() {
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn run() -> (Vec<Vec<u32>>, Vec<Vec<u8>>) {
        // SAFETY: the CPU has the instructions, which the caller checks.
        every_method(unsafe { super::Avx512::new() })
    }
    if !crate::Tier::Avx512Vnni.is_available() {
        println!("no AVX-512 here: vectors of 512 bits were not run");
        return;
    }
    // SAFETY: the CPU has the instructions.
    assert_eq!(unsafe { run() }, every_method(Portable::<16>));
}
