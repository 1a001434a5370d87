/* Classifies images with a network that was compiled ahead of time: how a C program uses an object file of catc.
 *
 *     catc digits.bin --emit obj=net.o,header=net.h --name net
 *     cc -std=c11 -O2 -I. classify.c net.o -o classify
 *     ./classify IMAGES.npy [OUTPUTS]
 *
 * IMAGES.npy holds uint8 images as examples/digits/ has them, [N,8,8,1] with values from 0 to 16; PIXEL_SCALE, PIXEL_MEAN and
 * PIXEL_STD say what examples/digits/digits.toml says. A line is printed for each image: its index and the class whose output is
 * largest. OUTPUTS gets the outputs themselves, as float32.
 */
#include "net.h"

#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PIXEL_SCALE 0.0625
#define PIXEL_MEAN 0.3063
#define PIXEL_STD 0.3755

/* All memory is here: the code of the network allocates none. */
static alignas(NET_WORKSPACE_ALIGNMENT) unsigned char workspace[NET_WORKSPACE_BYTES];
static unsigned char image[NET_INPUT_ELEMENTS];
static float input[NET_INPUT_ELEMENTS];
static float output[NET_OUTPUT_ELEMENTS];

/* Reads the header of an .npy file of bytes; the number of images, or -1. */
static long images_of(FILE *file) {
    unsigned char start[10];
    char text[4096];
    if (fread(start, 1, sizeof start, file) != sizeof start || memcmp(start, "\x93NUMPY\x01", 7) != 0) return -1;
    size_t length = start[8] + 256u * start[9];
    if (length >= sizeof text || fread(text, 1, length, file) != length) return -1;
    text[length] = 0;
    const char *shape = strstr(text, "'shape': (");
    if (!strstr(text, "'|u1'") || !strstr(text, "'fortran_order': False") || !shape) return -1;
    char *at;
    long count = strtol(shape + strlen("'shape': ("), &at, 10);
    size_t elements = 1;
    while (*at == ',') {
        char *next;
        long size = strtol(at + 1, &next, 10);
        if (next == at + 1) break;
        elements *= (size_t)size;
        at = next;
    }
    return elements == NET_INPUT_ELEMENTS ? count : -1;
}

int main(int argc, char **argv) {
    if (argc != 2 && argc != 3) {
        fprintf(stderr, "usage: %s IMAGES.npy [OUTPUTS]\n", argv[0]);
        return 2;
    }
    if (!net_supported()) {
        fprintf(stderr, "error: this CPU lacks instructions of " NET_CPU ", which the network was compiled for\n");
        return 1;
    }
    FILE *file = fopen(argv[1], "rb");
    long count = file ? images_of(file) : -1;
    if (count < 0) {
        fprintf(stderr, "error: %s is no .npy file of uint8 images of the network's size\n", argv[1]);
        return 1;
    }
    FILE *outputs = argc == 3 ? fopen(argv[2], "wb") : NULL;
    if (argc == 3 && !outputs) {
        fprintf(stderr, "error: cannot write %s\n", argv[2]);
        return 1;
    }

    /* A pixel has 256 values: each becomes a float once, in double precision, rounded at the end. */
    float pixel[256];
    for (int value = 0; value < 256; value++) {
        volatile double scaled = value * PIXEL_SCALE; /* volatile: no fused multiply and subtract */
        pixel[value] = (float)((scaled - PIXEL_MEAN) / PIXEL_STD);
    }
    for (long n = 0; n < count; n++) {
        if (fread(image, 1, sizeof image, file) != sizeof image) {
            fprintf(stderr, "error: %s ends before image %ld\n", argv[1], n);
            return 1;
        }
        /* One channel: the order of pixels is the same for the network and the file. */
        for (int i = 0; i < NET_INPUT_ELEMENTS; i++) input[i] = pixel[image[i]];
        if (net_run(input, output, workspace) != NET_OK) return 1;
        int best = 0;
        for (int c = 1; c < NET_OUTPUT_ELEMENTS; c++)
            if (output[c] >= output[best]) best = c;
        printf("%ld\t%d\n", n, best);
        if (outputs && fwrite(output, sizeof output, 1, outputs) != 1) return 1;
    }
    fclose(file);
    if (outputs && fclose(outputs) != 0) {
        fprintf(stderr, "error: cannot write %s\n", argv[2]);
        return 1;
    }
    return 0;
}
