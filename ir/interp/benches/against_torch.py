"""Gradients of the evaluator against PyTorch on the CPU, in alternating rounds.

Needs `torch`. Build the benchmark first, then give its binary (cargo names it when it has built it):

    cargo bench -p catc-interp --no-run
    python3 ir/interp/benches/against_torch.py target/release/deps/networks-... [--rounds 15] [--threads 1,2]

Each round times one forward and backward pass of every block, the evaluator and PyTorch in turn, in the wall-clock time of the fastest of a
few calls. Printed are the medians over the rounds and the median of the ratios within a round: above 1 the evaluator is faster.

On a machine with other work, `--cpu-time --threads 1` counts the processor time of all calls instead (Linux; the evaluator's set-up included).
"""

import argparse
import os
import statistics
import subprocess
import time

import torch
import torch.nn.functional as F

BLOCKS = [(64, 56, 8), (16, 32, 64), (16, 32, 32), (32, 16, 32), (64, 8, 32)]


def torch_block(channels, size, batch):
    """A step of two 3x3 convolutions with a skip connection; gradients of everything."""
    shape = (batch, channels, size, size)
    x = torch.randn(shape, requires_grad=True)
    weights = [torch.randn(channels, channels, 3, 3).mul_(0.1).requires_grad_() for _ in range(2)]
    biases = [torch.randn(channels).requires_grad_() for _ in range(2)]
    seed = torch.randn(shape)

    def step():
        hidden = F.relu(F.conv2d(x, weights[0], biases[0], padding=1))
        y = F.relu(F.conv2d(hidden, weights[1], biases[1], padding=1) + x)
        torch.autograd.grad(y, [x, *weights, *biases], seed)

    return step


def least(step, calls):
    best = float("inf")
    for _ in range(calls):
        start = time.perf_counter()
        step()
        best = min(best, time.perf_counter() - start)
    return best


def cpu_time(pid):
    """Seconds that a process has run."""
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mean_cpu_time(step, calls):
    start = time.process_time()
    for _ in range(calls):
        step()
    return (time.process_time() - start) / calls


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("binary")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--cpu-time", action="store_true")
    arguments = parser.parse_args()
    kind = "CPU time of" if arguments.cpu_time else "best of"
    print(f"PyTorch {torch.__version__}, {arguments.rounds} rounds, {kind} {arguments.calls} calls each", flush=True)
    print("| threads | block | evaluator, ms | PyTorch, ms | evaluator, GFLOP/s | PyTorch / evaluator |")
    print("|---|---|---|---|---|---|")
    for threads in map(int, arguments.threads.split(",")):
        torch.set_num_threads(threads)
        command = [arguments.binary, "--serve", str(threads)]
        own = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for block in BLOCKS:
            step = torch_block(*block)
            least(step, 2)
            ours, theirs = [], []
            for _ in range(arguments.rounds):
                start = cpu_time(own.pid) if arguments.cpu_time else 0
                own.stdin.write(" ".join(map(str, (*block, arguments.calls))) + "\n")
                own.stdin.flush()
                wall = float(own.stdout.readline())
                ours.append((cpu_time(own.pid) - start) / arguments.calls if arguments.cpu_time else wall)
                theirs.append((mean_cpu_time if arguments.cpu_time else least)(step, arguments.calls))
            channels, size, batch = block
            work = 3 * 2 * 2 * channels * channels * 9 * size * size * batch
            mine, ratio = statistics.median(ours), statistics.median(t / o for o, t in zip(ours, theirs))
            print(
                f"| {threads} | {channels}x{size}x{size}, batch {batch} | {mine * 1e3:.1f} | {statistics.median(theirs) * 1e3:.1f} "
                f"| {work / mine * 1e-9:.0f} | {ratio:.2f} |",
                flush=True,
            )
        own.stdin.close()
        own.wait()


if __name__ == "__main__":
    main()
