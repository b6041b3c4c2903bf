/* micro-ecc, and its ladder begun with a Z of the caller's choice, which micro-ecc itself takes from a global function for
 * shared secrets, and not at all for public keys. */

#include "uECC.c"

static void wipe(void *secret, unsigned len) {
    volatile uint8_t *byte = secret;
    while (len--) *byte++ = 0;
}

/* The point (x, then y) of `scalar`, between 1 and n - 1, times `point`, which is one of the curve; NULL is the base point.
 * `z` is not 0 and less than p. All are big-endian, of 32 bytes a number. 0 where the ladder fails: for 1, n - 1 and n - 2, and
 * for a point whose x is 0. */
int edhoc_p256_multiply(const uint8_t *scalar, const uint8_t *point, const uint8_t *z, uint8_t *product) {
    uECC_Curve curve = uECC_secp256r1();
    const wordcount_t words = curve->num_words;
    uECC_word_t of[uECC_MAX_WORDS * 2], sum[2][uECC_MAX_WORDS], k[uECC_MAX_WORDS], first_z[uECC_MAX_WORDS];
    uECC_word_t carry;
    int is_done;

    if (point) {
        uECC_vli_bytesToNative(of, point, 32);
        uECC_vli_bytesToNative(of + words, point + 32, 32);
    } else {
        /* One number after the other: the assembly of an AVR copies no more than one. */
        uECC_vli_set(of, curve->G, words);
        uECC_vli_set(of + words, curve->G + words, words);
    }
    uECC_vli_bytesToNative(k, scalar, 32);
    uECC_vli_bytesToNative(first_z, z, 32);
    /* One bit more than n has, whatever the scalar. */
    carry = regularize_k(k, sum[0], sum[1], curve);
    EccPoint_mult(of, of, sum[!carry], first_z, curve->num_n_bits + 1, curve);
    is_done = !EccPoint_isZero(of, curve);
    uECC_vli_nativeToBytes(product, 32, of);
    uECC_vli_nativeToBytes(product + 32, 32, of + words);
    wipe(of, sizeof of);
    wipe(sum, sizeof sum);
    wipe(k, sizeof k);
    wipe(first_z, sizeof first_z);
    return is_done;
}
