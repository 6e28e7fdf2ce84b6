/* wolfCrypt behind a pipe: one request in, one answer out, until the end of the input.
 *
 * Request:  u8 operation, u8 fields, then for each field u32 length (big-endian) and its octets.
 * Answer:   u8 status (0 done, 1 refused, 2 a call failed, then the field is its error), u8 fields, fields as above.
 *
 * The operations that end in _BENCH repeat the one they are named after `rounds` times (field 0, u32) and answer the
 * nanoseconds of processor time of one round, as a u64.
 */
#include <wolfssl/options.h>
#include <wolfssl/wolfcrypt/error-crypt.h>
#include <wolfssl/wolfcrypt/eccsi.h>
#include <wolfssl/wolfcrypt/sakke.h>
#include <wolfssl/wolfcrypt/random.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { ECCSI_MAKE = 1, ECCSI_VALIDATE, ECCSI_SIGN, ECCSI_VERIFY, SAKKE_MAKE, SAKKE_VALIDATE, SAKKE_ENCAPSULATE,
       SAKKE_DECAPSULATE, ECCSI_SIGN_BENCH = 20, ECCSI_VERIFY_BENCH, SAKKE_ENCAPSULATE_BENCH, SAKKE_DECAPSULATE_BENCH };
enum { MAX_FIELDS = 8, MAX_FIELD = 65536 };

static byte *field[MAX_FIELDS];
static word32 length[MAX_FIELDS];
static int fields;
static WC_RNG rng;

static int read_all(void *to, size_t size) { return fread(to, 1, size, stdin) == size; }

static int read_u32(word32 *value)
{
    byte b[4];
    if (!read_all(b, 4)) return 0;
    *value = (word32)b[0] << 24 | (word32)b[1] << 16 | (word32)b[2] << 8 | b[3];
    return 1;
}

static void start(int status, int count) { putchar(status); putchar(count); }

static void put(const void *data, word32 size)
{
    byte b[4] = { size >> 24, size >> 16, size >> 8, size };
    fwrite(b, 1, 4, stdout);
    fwrite(data, 1, size, stdout);
}

static void failed(int error)
{
    char text[32];
    snprintf(text, sizeof text, "error %d", error);
    start(2, 1);
    put(text, strlen(text));
}

static void put_u64(unsigned long long value)
{
    byte b[8];
    int i;
    for (i = 0; i < 8; i++) b[i] = value >> (56 - 8 * i);
    put(b, 8);
}

static unsigned long long now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

#define TRY(call) do { ret = (call); if (ret != 0) goto out; } while (0)

/* Fields: 0 identity -> KPAK, SSK, PVT of a fresh KMS. */
static int eccsi_make(void)
{
    EccsiKey key;
    mp_int ssk;
    ecc_point *pvt = wc_ecc_new_point();
    byte kpak[65], secret[32], token[65];
    word32 n = 65, m = 32, k = 65;
    int ret = wc_InitEccsiKey(&key, NULL, INVALID_DEVID);
    mp_init(&ssk);
    TRY(wc_MakeEccsiKey(&key, &rng));
    TRY(wc_MakeEccsiPair(&key, &rng, WC_HASH_TYPE_SHA256, field[0], length[0], &ssk, pvt));
    TRY(wc_ExportEccsiPublicKey(&key, kpak, &n, 0));
    TRY(wc_EncodeEccsiSsk(&key, &ssk, secret, &m));
    TRY(wc_EncodeEccsiPvt(&key, pvt, token, &k, 0));
    start(0, 3);
    put(kpak, n);
    put(secret, m);
    put(token, k);
out:
    mp_clear(&ssk);
    wc_ecc_del_point(pvt);
    wc_FreeEccsiKey(&key);
    return ret;
}

/* Fields from `at`: KPAK, identity, SSK, PVT. */
static int eccsi_signer(EccsiKey *key, mp_int *ssk, ecc_point *pvt, int at)
{
    byte hash[WC_MAX_DIGEST_SIZE], size = sizeof hash;
    int ret;
    TRY(wc_ImportEccsiPublicKey(key, field[at], length[at], 1));
    TRY(wc_DecodeEccsiSsk(key, field[at + 2], length[at + 2], ssk));
    TRY(wc_DecodeEccsiPvt(key, field[at + 3], length[at + 3], pvt));
    TRY(wc_HashEccsiId(key, WC_HASH_TYPE_SHA256, field[at + 1], length[at + 1], pvt, hash, &size));
    TRY(wc_SetEccsiHash(key, hash, size));
    TRY(wc_SetEccsiPair(key, ssk, pvt));
out:
    return ret;
}

/* Fields: KPAK, identity, SSK, PVT. */
static int eccsi_validate(void)
{
    EccsiKey key;
    mp_int ssk;
    ecc_point *pvt = wc_ecc_new_point();
    int valid = 0, ret = wc_InitEccsiKey(&key, NULL, INVALID_DEVID);
    mp_init(&ssk);
    TRY(wc_ImportEccsiPublicKey(&key, field[0], length[0], 0));
    TRY(wc_DecodeEccsiSsk(&key, field[2], length[2], &ssk));
    TRY(wc_DecodeEccsiPvt(&key, field[3], length[3], pvt));
    TRY(wc_ValidateEccsiPair(&key, WC_HASH_TYPE_SHA256, field[1], length[1], &ssk, pvt, &valid));
    start(valid ? 0 : 1, 0);
out:
    mp_clear(&ssk);
    wc_ecc_del_point(pvt);
    wc_FreeEccsiKey(&key);
    return ret;
}

/* Fields: [rounds,] KPAK, identity, SSK, PVT, message -> signature, or the time. */
static int eccsi_sign(word32 rounds, int at)
{
    EccsiKey key;
    mp_int ssk;
    ecc_point *pvt = wc_ecc_new_point();
    byte signature[129];
    word32 size = sizeof signature, i;
    unsigned long long begin;
    int ret = wc_InitEccsiKey(&key, NULL, INVALID_DEVID);
    mp_init(&ssk);
    TRY(eccsi_signer(&key, &ssk, pvt, at));
    begin = now_ns();
    for (i = 0; i < (rounds ? rounds : 1); i++) {
        size = sizeof signature;
        TRY(wc_SignEccsiHash(&key, &rng, WC_HASH_TYPE_SHA256, field[at + 4], length[at + 4], signature, &size));
    }
    start(0, 1);
    if (rounds) put_u64((now_ns() - begin) / rounds);
    else put(signature, size);
out:
    mp_clear(&ssk);
    wc_ecc_del_point(pvt);
    wc_FreeEccsiKey(&key);
    return ret;
}

/* Fields: [rounds,] KPAK, identity, message, signature. */
static int eccsi_verify(word32 rounds, int at)
{
    EccsiKey key;
    ecc_point *pvt = wc_ecc_new_point();
    byte hash[WC_MAX_DIGEST_SIZE], size = sizeof hash;
    word32 i;
    unsigned long long begin;
    int verified = 0, ret = wc_InitEccsiKey(&key, NULL, INVALID_DEVID);
    TRY(wc_ImportEccsiPublicKey(&key, field[at], length[at], 0));
    begin = now_ns();
    for (i = 0; i < (rounds ? rounds : 1); i++) {
        /* All of it for each message, as the PVT comes with the signature; the hash of the identity too. */
        ret = wc_DecodeEccsiPvtFromSig(&key, field[at + 3], length[at + 3], pvt);
        if (ret == 0)
            ret = wc_HashEccsiId(&key, WC_HASH_TYPE_SHA256, field[at + 1], length[at + 1], pvt, hash, &size);
        if (ret == 0) ret = wc_SetEccsiHash(&key, hash, size);
        if (ret == 0)
            ret = wc_VerifyEccsiHash(&key, WC_HASH_TYPE_SHA256, field[at + 2], length[at + 2], field[at + 3],
                                     length[at + 3], &verified);
        if (ret != 0) break;
    }
    if (rounds && ret == 0 && verified) {
        start(0, 1);
        put_u64((now_ns() - begin) / rounds);
    } else {
        start(ret == 0 && verified ? 0 : 1, 0);
        ret = 0;
    }
out:
    wc_ecc_del_point(pvt);
    wc_FreeEccsiKey(&key);
    return ret;
}

/* Fields: z (128 octets), identity -> Z, RSK. */
static int sakke_make(void)
{
    SakkeKey key;
    ecc_point *rsk = wc_ecc_new_point();
    byte pub[257], secret[257];
    word32 n = 257, m = 257;
    int ret = wc_InitSakkeKey_ex(&key, 128, ECC_SAKKE_1, NULL, INVALID_DEVID);
    TRY(ret);
    TRY(wc_ImportSakkePrivateKey(&key, field[0], length[0]));
    {
        ecc_point *z = wc_ecc_new_point();
        ret = wc_MakeSakkePublicKey(&key, z);
        if (ret == 0) ret = wc_EncodeSakkeRsk(&key, z, pub, &n, 0);
        wc_ecc_del_point(z);
        TRY(ret);
    }
    TRY(wc_MakeSakkeRsk(&key, field[1], length[1], rsk));
    TRY(wc_EncodeSakkeRsk(&key, rsk, secret, &m, 0));
    start(0, 2);
    put(pub, n);
    put(secret, m);
out:
    wc_ecc_del_point(rsk);
    wc_FreeSakkeKey(&key);
    return ret;
}

/* Fields: Z, identity, RSK. */
static int sakke_validate(void)
{
    SakkeKey key;
    ecc_point *rsk = wc_ecc_new_point();
    int valid = 0, ret = wc_InitSakkeKey_ex(&key, 128, ECC_SAKKE_1, NULL, INVALID_DEVID);
    TRY(ret);
    TRY(wc_ImportSakkePublicKey(&key, field[0], length[0], 0));
    TRY(wc_DecodeSakkeRsk(&key, field[2], length[2], rsk));
    TRY(wc_ValidateSakkeRsk(&key, field[1], length[1], rsk, &valid));
    start(valid ? 0 : 1, 0);
out:
    wc_ecc_del_point(rsk);
    wc_FreeSakkeKey(&key);
    return ret;
}

/* Fields: [rounds,] Z, identity, SSV -> encapsulated data, or the time. */
static int sakke_encapsulate(word32 rounds, int at)
{
    SakkeKey key;
    byte ssv[64], out[400];
    word16 size;
    word32 i;
    unsigned long long begin;
    int ret = wc_InitSakkeKey_ex(&key, 128, ECC_SAKKE_1, NULL, INVALID_DEVID);
    TRY(ret);
    TRY(wc_ImportSakkePublicKey(&key, field[at], length[at], 1));
    if (length[at + 2] > sizeof ssv) { ret = BUFFER_E; goto out; }
    begin = now_ns();
    for (i = 0; i < (rounds ? rounds : 1); i++) {
        /* A message goes to another receiver each time: the identity's point is part of the work. */
        TRY(wc_SetSakkeIdentity(&key, field[at + 1], length[at + 1]));
        TRY(wc_MakeSakkePointI(&key, field[at + 1], length[at + 1]));
        memcpy(ssv, field[at + 2], length[at + 2]);
        size = sizeof out;
        TRY(wc_MakeSakkeEncapsulatedSSV(&key, WC_HASH_TYPE_SHA256, ssv, length[at + 2], out, &size));
    }
    start(0, 1);
    if (rounds) {
        put_u64((now_ns() - begin) / rounds);
    } else {
        memcpy(out + size, ssv, length[at + 2]);
        put(out, size + length[at + 2]);
    }
out:
    wc_FreeSakkeKey(&key);
    return ret;
}

/* Fields: [rounds,] Z, identity, RSK, encapsulated data (SSV of 16 octets) -> SSV, or the time. */
static int sakke_decapsulate(word32 rounds, int at)
{
    SakkeKey key;
    ecc_point *rsk = wc_ecc_new_point();
    byte ssv[16];
    word32 i;
    unsigned long long begin;
    int ret = wc_InitSakkeKey_ex(&key, 128, ECC_SAKKE_1, NULL, INVALID_DEVID);
    TRY(ret);
    TRY(wc_ImportSakkePublicKey(&key, field[at], length[at], 1));
    TRY(wc_SetSakkeIdentity(&key, field[at + 1], length[at + 1]));
    TRY(wc_MakeSakkePointI(&key, field[at + 1], length[at + 1]));
    TRY(wc_DecodeSakkeRsk(&key, field[at + 2], length[at + 2], rsk));
    TRY(wc_SetSakkeRsk(&key, rsk, NULL, 0));
    if (length[at + 3] < sizeof ssv) { ret = BUFFER_E; goto out; }
    begin = now_ns();
    for (i = 0; i < (rounds ? rounds : 1); i++) {
        memcpy(ssv, field[at + 3] + length[at + 3] - sizeof ssv, sizeof ssv);
        ret = wc_DeriveSakkeSSV(&key, WC_HASH_TYPE_SHA256, ssv, sizeof ssv, field[at + 3],
                                length[at + 3] - sizeof ssv);
        if (ret != 0) break;
    }
    if (ret != 0) {
        start(1, 0);
        ret = 0;
    } else {
        start(0, 1);
        if (rounds) put_u64((now_ns() - begin) / rounds);
        else put(ssv, sizeof ssv);
    }
out:
    wc_ecc_del_point(rsk);
    wc_FreeSakkeKey(&key);
    return ret;
}

static int serve(int operation)
{
    word32 rounds = 0;
    if (operation >= ECCSI_SIGN_BENCH && fields > 0 && length[0] == 4)
        rounds = (word32)field[0][0] << 24 | (word32)field[0][1] << 16 | (word32)field[0][2] << 8 | field[0][3];
    switch (operation) {
    case ECCSI_MAKE: return eccsi_make();
    case ECCSI_VALIDATE: return eccsi_validate();
    case ECCSI_SIGN: return eccsi_sign(0, 0);
    case ECCSI_VERIFY: return eccsi_verify(0, 0);
    case SAKKE_MAKE: return sakke_make();
    case SAKKE_VALIDATE: return sakke_validate();
    case SAKKE_ENCAPSULATE: return sakke_encapsulate(0, 0);
    case SAKKE_DECAPSULATE: return sakke_decapsulate(0, 0);
    case ECCSI_SIGN_BENCH: return eccsi_sign(rounds, 1);
    case ECCSI_VERIFY_BENCH: return eccsi_verify(rounds, 1);
    case SAKKE_ENCAPSULATE_BENCH: return sakke_encapsulate(rounds, 1);
    case SAKKE_DECAPSULATE_BENCH: return sakke_decapsulate(rounds, 1);
    default: return BAD_FUNC_ARG;
    }
}

int main(void)
{
    int operation, i, ret;
    if (wc_InitRng(&rng) != 0) return 1;
    while ((operation = getchar()) != EOF) {
        fields = getchar();
        if (fields < 0 || fields > MAX_FIELDS) return 1;
        for (i = 0; i < MAX_FIELDS; i++) {
            length[i] = 0;
            field[i] = (byte *)"";
        }
        for (i = 0; i < fields; i++) {
            if (!read_u32(&length[i]) || length[i] > MAX_FIELD) return 1;
            field[i] = malloc(length[i] + 1);
            if (field[i] == NULL || !read_all(field[i], length[i])) return 1;
        }
        ret = serve(operation);
        if (ret != 0) failed(ret);
        fflush(stdout);
        for (i = 0; i < fields; i++) free(field[i]);
    }
    wc_FreeRng(&rng);
    return 0;
}
