/* Runs a network of one input and one output on zeros as often as the argument says: for counting instructions. */
#include "net.h"

#include <stdalign.h>
#include <stdlib.h>

static alignas(NET_WORKSPACE_ALIGNMENT) unsigned char workspace[NET_WORKSPACE_BYTES];
static float input[NET_INPUT_ELEMENTS];
static float output[NET_OUTPUT_ELEMENTS];

int main(int argc, char **argv) {
    if (argc != 2 || !net_supported()) return 2;
    for (int turn = atoi(argv[1]); turn > 0; turn--)
        if (net_run(input, output, workspace) != 0) return 1;
    return 0;
}
