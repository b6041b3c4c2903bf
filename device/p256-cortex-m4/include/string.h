/* What P256-Cortex-M4 takes from a C library; Rust's compiler_builtins has it. */

#pragma once

#include <stddef.h>

void *memcpy(void *restrict to, const void *restrict from, size_t len);
void *memset(void *to, int byte, size_t len);
