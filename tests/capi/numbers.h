/* Numbers that the tests make as well: test_c_programs.py. */
#ifndef NUMBERS_H
#define NUMBERS_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Element `i` of array `seed`: multiples of 2^-9 in [-1, 1). */
static inline float number(uint32_t seed, size_t i) {
    const uint32_t mixed = (uint32_t)(i + 1) * 2654435761u + seed * 40503u;
    return (float)((mixed >> 8) & 1023u) / 512.0f - 1.0f;
}

/* Writes DIRECTORY/NAME; 0 if that worked. */
static inline int write_file(const char* directory, const char* name, const void* data,
                             size_t bytes) {
    char path[1024];
    FILE* file;
    size_t written;
    snprintf(path, sizeof path, "%s/%s", directory, name);
    file = fopen(path, "wb");
    if (!file) return 1;
    written = fwrite(data, 1, bytes, file);
    return fclose(file) != 0 || written != bytes;
}

#endif
