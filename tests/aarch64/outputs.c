/* Runs a network of one input and one output on every image that standard input holds, and writes the outputs to standard output, all
 * as raw floats. Exits with 3 on a CPU that the network was not compiled for. */
#include "net.h"

#include <stdalign.h>
#include <stdio.h>

static alignas(NET_WORKSPACE_ALIGNMENT) unsigned char workspace[NET_WORKSPACE_BYTES];
static float input[NET_INPUT_ELEMENTS];
static float output[NET_OUTPUT_ELEMENTS];

int main(void) {
    if (!net_supported()) return 3;
    while (fread(input, sizeof input, 1, stdin) == 1)
        if (net_run(input, output, workspace) != 0 || fwrite(output, sizeof output, 1, stdout) != 1) return 1;
    return 0;
}
