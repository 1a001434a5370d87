#!/usr/bin/env bash
# Tests for AArch64 on an x86-64 machine, under qemu's user-mode emulation.
#
#   tests/aarch64/run.sh setup                     get a cross toolchain (Debian; the linker and qemu need root once)
#   tests/aarch64/run.sh test [CPU..] [-- ARGS]    cargo test ARGS for each CPU model (default: all models, tests of generated code)
#   tests/aarch64/run.sh whole [CPU..]             all tests of the workspace for each CPU model (hours)
#   tests/aarch64/run.sh equal MODEL.onnx CALIB PREPROCESS.toml BITS [IMAGES]
#                                                  outputs of evaluator, code in memory and objects, here and on every CPU model
#   tests/aarch64/run.sh count MODEL.bin..         instructions per image of objects, for every instruction set of AArch64
#   tests/aarch64/run.sh quick                     what continuous integration runs: setup, tests on two models
#
# The toolchain lies in $CATC_AARCH64 (default target/aarch64-toolchain). quick ends with a message and success where none can be had.
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/../.."
home=${CATC_AARCH64:-target/aarch64-toolchain}
target=aarch64-unknown-linux-gnu
# What each model has beyond base Advanced SIMD: everything; dotprod; dotprod; nothing.
models=(max neoverse-n1 cortex-a76 cortex-a53)
# Without doc tests: they need a rustdoc for AArch64 as well.
crates=(-p catc-jit -p catc-kernels -p catc-program --no-default-features --lib --tests)
workspace=(--workspace --lib --bins --tests)
# What runs generated code: api to wide of catc-jit, execution and networks of catc-codegen, forged to session of catc-runtime,
# bit_exact of catc.
generated=(--workspace)
for name in api conv depthwise functions planes steps wide execution networks forged memory session bit_exact; do
    generated+=(--test "$name")
done
# The emulated compiler back end need not be fast, and the machine that builds it should not wait for it.
fast_build=(--config 'profile.release.package.cranelift-codegen.opt-level=1' --config 'profile.release.package.regalloc2.opt-level=1')

have() { command -v "$1" >/dev/null; }

# Why no toolchain can be had, if so.
obstacle() {
    [ "$(uname -m)" = x86_64 ] || { echo "this machine is not x86-64"; return; }
    have apt-get && have dpkg || { echo "no apt-get: packages come from Debian"; return; }
    if ! have qemu-aarch64 || ! have aarch64-linux-gnu-gcc; then
        [ "$(id -u)" = 0 ] || echo "qemu-user and gcc-aarch64-linux-gnu are missing and installing them needs root"
    fi
}

# A Rust compiler whose AArch64 standard library is packaged. It is unpacked, not installed: apt works on state of its own, so that
# neither the machine's package lists nor its architectures change.
setup() {
    [ -e "$home/ready" ] && return
    local why; why=$(obstacle)
    [ -z "$why" ] || { echo "$why" >&2; return 1; }
    mkdir -p "$home/lists/partial" "$home/archives/partial" "$home/debs" "$home/root"
    local state; state=$(cd "$home" && pwd)
    local apt=(-qq -o APT::Architecture=amd64 -o APT::Architectures::=amd64 -o APT::Architectures::=arm64
        -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state" -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)")
    if ! have qemu-aarch64 || ! have aarch64-linux-gnu-gcc; then
        apt-get update -qq && apt-get install -qq -y --no-install-recommends \
            qemu-user gcc-aarch64-linux-gnu libc6-dev-arm64-cross >/dev/null || return 1
    fi
    apt-get "${apt[@]}" update || return 1
    # The compiler, its own libraries (named after versions), and the standard libraries of both architectures.
    local depends=(apt-cache "${apt[@]}" depends --no-recommends --no-suggests)
    local std; std=$("${depends[@]}" libstd-rust-web-dev | awk '/Depends: libstd-rust-web-[0-9]/ {print $2; exit}')
    [ -n "$std" ] || { echo "Debian's package libstd-rust-web-dev is not to be had here" >&2; return 1; }
    local llvm; llvm=$("${depends[@]}" "$std" rustc-web | awk '/Depends: libllvm[0-9]/ {print $2; exit}')
    (cd "$home/debs" && apt-get "${apt[@]}" download rustc-web "$std" "$llvm" libstd-rust-web-dev libstd-rust-web-dev:arm64) || return 1
    local deb
    for deb in "$home"/debs/*.deb; do dpkg -x "$deb" "$home/root"; done
    rm -r "$home/debs"
    touch "$home/ready"
}

# Sets the environment in which cargo compiles for AArch64.
enter() {
    local root; root=$(cd "$home/root" && pwd)
    export RUSTC=$root/usr/bin/rustc
    LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$(dirname "$(find "$root" -name 'libLLVM*.so*' | head -n 1)")
    export LD_LIBRARY_PATH
    export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    # Two compilers cannot share a folder of artifacts.
    export CARGO_TARGET_DIR=${CATC_AARCH64_TARGET:-target/aarch64}
}

emulator() { echo "qemu-aarch64 -cpu $1 -L /usr/aarch64-linux-gnu"; }

# cargo_on CPU ARGS..
cargo_on() {
    local cpu=$1; shift
    CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER=$(emulator "$cpu") cargo "$@" --release --target $target "${fast_build[@]}"
}

run_tests() {
    local cpus=() arguments=()
    while [ $# -gt 0 ] && [ "$1" != -- ]; do cpus+=("$1"); shift; done
    [ $# -eq 0 ] || shift
    arguments=("$@")
    [ ${#cpus[@]} -gt 0 ] || cpus=("${models[@]}")
    [ ${#arguments[@]} -gt 0 ] || arguments=("${generated[@]}")
    (
        enter
        for cpu in "${cpus[@]}"; do
            log=$(mktemp)
            cargo_on "$cpu" test --no-fail-fast "${arguments[@]}" 2>&1 | tee "$log" | grep -E '^(error|warning: unused|test .* FAILED|---- )' || true
            passed=$(awk '/^test result:/ {passed += $4; failed += $6} END {print passed + 0, "passed,", failed + 0, "failed"}' "$log")
            echo "$cpu: $passed"
            if grep -qE '^test result: FAILED|^error' "$log" || ! grep -q '^test result: ok' "$log"; then
                echo "see $log" >&2
                exit 1
            fi
            rm "$log"
        done
    )
}

# same EXPECTED WHAT FILE: prints that they are equal, or fails.
same() {
    cmp "$1" "$3" || { echo "$2: the outputs differ" >&2; return 1; }
    echo "$2: $(sha256sum "$3" | cut -c 1-16)"
}

# link_object MODEL TARGET TIER COMPILER SOURCE DIR: an object and the program SOURCE around it, DIR/program.
link_object() {
    cargo run --release -q -- "$1" --emit "obj=$6/net.o,header=$6/net.h" --target "$2" --cpu "$3" --name net >/dev/null
    "$4" -std=c11 -O2 -static -I "$6" "$5" "$6/net.o" -o "$6/program"
}

# The outputs of the evaluator, of code in memory and of objects, on both architectures: every byte. Layers left in float are fused where
# the instruction set has the instruction, which the evaluator does not do: without bits, all sets but x86-64-v2 are compared with AVX2's.
equal() {
    local model=$1 calib=$2 preprocess=$3 bits=$4 images=$5 dir tier file cpu expected
    dir=$(mktemp -d)
    trap 'rm -r "$dir"' RETURN
    cargo build --release -q --bin catc --example evaluate
    cargo build --release -q -p catc-jit --example outputs
    target/release/examples/evaluate "$model" "$bits" "$calib" "$preprocess" "$images" "$dir"
    expected=$dir/outputs
    echo "$model, $bits bits, $images images; evaluator: $(sha256sum "$expected" | cut -c 1-16)"
    target/release/examples/outputs "$dir/net.bin" "$dir/inputs" "$dir/memory-" >/dev/null
    (
        enter
        cargo_on max build -q -p catc-jit --no-default-features --example outputs
        for cpu in "${models[@]}"; do
            $(emulator "$cpu") "$CARGO_TARGET_DIR/$target/release/examples/outputs" "$dir/net.bin" "$dir/inputs" "$dir/memory-$cpu-" >/dev/null
        done
    )
    for tier in x86-64-v2 x86-64-v3 x86-64-v3-vnni avx512-vnni avx512-vbmi; do
        link_object "$dir/net.bin" x86_64-unknown-linux-gnu $tier gcc tests/aarch64/outputs.c "$dir"
        "$dir/program" <"$dir/inputs" >"$dir/object-$tier" || { [ $? = 3 ] && rm "$dir/object-$tier"; }
    done
    # Each on a model that has no more than it asks for.
    while read -r tier cpu; do
        link_object "$dir/net.bin" $target "$tier" aarch64-linux-gnu-gcc tests/aarch64/outputs.c "$dir"
        qemu-aarch64 -cpu "$cpu" "$dir/program" <"$dir/inputs" >"$dir/object-$cpu-$tier"
    done <<<'aarch64-neon cortex-a53
aarch64-dotprod cortex-a76
aarch64-i8mm max'
    if [ "$bits" = 32 ]; then
        rm "$dir"/*x86-64-v2
        expected=$dir/memory-x86-64-v3
    fi
    for file in "$dir"/memory-* "$dir"/object-*; do
        same "$expected" "${file##*/}" "$file"
    done
}

counts() {
    local dir; dir=$(mktemp -d)
    trap 'rm -r "$dir"' RETURN
    gcc -shared -fPIC -O2 tests/aarch64/count_instructions.c -o "$dir/count.so"
    local model tier
    for model in "$@"; do
        for tier in aarch64-neon aarch64-dotprod aarch64-i8mm; do
            link_object "$model" $target $tier aarch64-linux-gnu-gcc tests/aarch64/repeat.c "$dir"
            local once twice
            once=$(qemu-aarch64 -cpu max -plugin "$dir/count.so" -d plugin "$dir/program" 1 2>&1 | awk '/^instructions/ {print $2}')
            twice=$(qemu-aarch64 -cpu max -plugin "$dir/count.so" -d plugin "$dir/program" 2 2>&1 | awk '/^instructions/ {print $2}')
            echo "$model $tier: $((twice - once)) instructions per image, object $(stat -c %s "$dir/net.o") bytes"
        done
    done
}

quick() {
    local why; why=$(obstacle)
    if [ -n "$why" ] || ! setup; then
        echo "AArch64 not tested: ${why:-packages cannot be had}"
        return 0
    fi
    run_tests max cortex-a53 -- "${crates[@]}"
}

case ${1:-} in
setup) setup ;;
test) shift; setup; run_tests "$@" ;;
whole) shift; setup; run_tests "$@" -- "${workspace[@]}" ;;
equal) shift; setup; equal "$1" "$2" "$3" "$4" "${5:-4}" ;;
count) shift; counts "$@" ;;
quick) quick ;;
*) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac
