/*
 * Loops over a burst around intel-ipsec-mb and OpenSSL. Each takes frames of an arena as `struct frame` has them, works in
 * place, and on opening returns how many MAC fields were wrong. One burst has at most IMB_MAX_BURST_SIZE frames.
 */
#include <intel-ipsec-mb.h>
#include <openssl/evp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum kind { GCM128, GCM256, EEA1, EEA2, EEA3, EIA1, EIA2, EIA3, EEA1_EIA1, EEA2_EIA2, EEA3_EIA3 };

/* As ffi.rs has it. The 13 octets before the data are COUNT..0 (8) for a CMAC, then the PDCP header (5). */
struct frame {
        uint32_t start, len, key, unused;
        uint8_t iv[16];
        uint8_t hash_iv[16];
        uint8_t aad[16];
};

struct cmac_key {
        DECLARE_ALIGNED(uint32_t expanded[4 * 11], 16);
        DECLARE_ALIGNED(uint32_t sub1[4], 16);
        DECLARE_ALIGNED(uint32_t sub2[4], 16);
};

struct aes_key {
        DECLARE_ALIGNED(uint32_t enc[4 * 11], 16);
};

struct imb {
        IMB_MGR *mgr;
        enum kind kind;
        struct gcm_key_data *gcm;
        struct aes_key *aes;
        struct cmac_key *cmac;
        snow3g_key_schedule_t *snow_cipher, *snow_hash;
        uint8_t (*zuc_cipher)[16], (*zuc_hash)[16];
};

static void *zeroed(size_t n)
{
        void *p = aligned_alloc(64, (n + 63) / 64 * 64);
        if (p == NULL)
                abort();
        return memset(p, 0, (n + 63) / 64 * 64);
}

/* keys: n times 32 octets of ciphering key, then n times 16 of integrity key. */
struct imb *pc5_imb_new(int kind, const uint8_t *keys, uint32_t n)
{
        struct imb *s = zeroed(sizeof *s);
        IMB_ARCH arch;
        s->mgr = alloc_mb_mgr(0);
        if (s->mgr == NULL)
                return NULL;
        init_mb_mgr_auto(s->mgr, &arch);
        s->kind = kind;
        s->gcm = zeroed(sizeof *s->gcm * n);
        s->aes = zeroed(sizeof *s->aes * n);
        s->cmac = zeroed(sizeof *s->cmac * n);
        s->snow_cipher = zeroed(sizeof *s->snow_cipher * n);
        s->snow_hash = zeroed(sizeof *s->snow_hash * n);
        s->zuc_cipher = zeroed(16 * n);
        s->zuc_hash = zeroed(16 * n);
        for (uint32_t i = 0; i < n; i++) {
                const uint8_t *pek = keys + 32 * i, *pik = keys + 32 * n + 16 * i;
                DECLARE_ALIGNED(uint32_t unused[4 * 11], 16);
                switch (s->kind) {
                case GCM128: IMB_AES128_GCM_PRE(s->mgr, pek, &s->gcm[i]); break;
                case GCM256: IMB_AES256_GCM_PRE(s->mgr, pek, &s->gcm[i]); break;
                default: break;
                }
                IMB_AES_KEYEXP_128(s->mgr, pek, s->aes[i].enc, unused);
                IMB_AES_KEYEXP_128(s->mgr, pik, s->cmac[i].expanded, unused);
                IMB_AES_CMAC_SUBKEY_GEN_128(s->mgr, s->cmac[i].expanded, s->cmac[i].sub1, s->cmac[i].sub2);
                IMB_SNOW3G_INIT_KEY_SCHED(s->mgr, pek, &s->snow_cipher[i]);
                IMB_SNOW3G_INIT_KEY_SCHED(s->mgr, pik, &s->snow_hash[i]);
                memcpy(s->zuc_cipher[i], pek, 16);
                memcpy(s->zuc_hash[i], pik, 16);
        }
        return s;
}

void pc5_imb_free(struct imb *s)
{
        free_mb_mgr(s->mgr);
        free(s->gcm);
        free(s->aes);
        free(s->cmac);
        free(s->snow_cipher);
        free(s->snow_hash);
        free(s->zuc_cipher);
        free(s->zuc_hash);
        free(s);
}

const char *pc5_imb_version(void) { return imb_get_version_str(); }

static uint32_t differ(const uint8_t *a, const uint8_t *b, unsigned n)
{
        uint8_t d = 0;
        for (unsigned i = 0; i < n; i++)
                d |= a[i] ^ b[i];
        return d != 0;
}

/* Calls that take one frame, or many, of one algorithm. */
uint32_t pc5_imb_direct(struct imb *s, uint8_t *arena, const struct frame *f, uint32_t n, int open)
{
        struct gcm_context_data ctx;
        uint32_t wrong = 0;
        const void *keys[IMB_MAX_BURST_SIZE], *ivs[IMB_MAX_BURST_SIZE], *src[IMB_MAX_BURST_SIZE];
        void *dst[IMB_MAX_BURST_SIZE];
        uint32_t len[IMB_MAX_BURST_SIZE], tags[IMB_MAX_BURST_SIZE], *tag[IMB_MAX_BURST_SIZE];
        DECLARE_ALIGNED(uint8_t t[16], 16);

        if (n == 0 || n > IMB_MAX_BURST_SIZE)
                return UINT32_MAX;
        switch (s->kind) {
        case GCM128:
                for (uint32_t i = 0; i < n; i++) {
                        uint8_t *p = arena + f[i].start;
                        if (!open) {
                                IMB_AES128_GCM_ENC(s->mgr, &s->gcm[f[i].key], &ctx, p, p, f[i].len, f[i].iv, f[i].aad, 13,
                                                   p + f[i].len, 16);
                        } else {
                                IMB_AES128_GCM_DEC(s->mgr, &s->gcm[f[i].key], &ctx, p, p, f[i].len, f[i].iv, f[i].aad, 13, t, 16);
                                wrong += differ(t, p + f[i].len, 16);
                        }
                }
                return wrong;
        case GCM256:
                for (uint32_t i = 0; i < n; i++) {
                        uint8_t *p = arena + f[i].start;
                        if (!open) {
                                IMB_AES256_GCM_ENC(s->mgr, &s->gcm[f[i].key], &ctx, p, p, f[i].len, f[i].iv, f[i].aad, 13,
                                                   p + f[i].len, 16);
                        } else {
                                IMB_AES256_GCM_DEC(s->mgr, &s->gcm[f[i].key], &ctx, p, p, f[i].len, f[i].iv, f[i].aad, 13, t, 16);
                                wrong += differ(t, p + f[i].len, 16);
                        }
                }
                return wrong;
        case EEA1:
                for (uint32_t i = 0; i < n; i++) {
                        keys[i] = &s->snow_cipher[f[i].key];
                        ivs[i] = f[i].iv;
                        src[i] = dst[i] = arena + f[i].start;
                        len[i] = f[i].len;
                }
                for (uint32_t i = 0; i < n; i += 16) /* it takes no more at a time */
                        IMB_SNOW3G_F8_N_BUFFER_MULTIKEY(s->mgr, (const snow3g_key_schedule_t *const *) keys + i, ivs + i, src + i,
                                                        dst + i, len + i, n - i < 16 ? n - i : 16);
                return 0;
        case EIA1:
                for (uint32_t i = 0; i < n; i++) {
                        uint8_t *p = arena + f[i].start;
                        IMB_SNOW3G_F9_1_BUFFER(s->mgr, &s->snow_hash[f[i].key], f[i].hash_iv, p - 5, (f[i].len + 5) * 8, t);
                        if (open)
                                wrong += differ(t, p + f[i].len, 4);
                        else
                                memcpy(p + f[i].len, t, 4);
                }
                return wrong;
        case EEA3:
                for (uint32_t i = 0; i < n; i++) {
                        keys[i] = s->zuc_cipher[f[i].key];
                        ivs[i] = f[i].iv;
                        src[i] = dst[i] = arena + f[i].start;
                        len[i] = f[i].len;
                }
                IMB_ZUC_EEA3_N_BUFFER(s->mgr, keys, ivs, src, dst, len, n);
                return 0;
        case EIA3:
                for (uint32_t i = 0; i < n; i++) {
                        keys[i] = s->zuc_hash[f[i].key];
                        ivs[i] = f[i].hash_iv;
                        src[i] = arena + f[i].start - 5;
                        len[i] = (f[i].len + 5) * 8;
                        tag[i] = &tags[i];
                }
                IMB_ZUC_EIA3_N_BUFFER(s->mgr, keys, ivs, src, len, tag, n);
                for (uint32_t i = 0; i < n; i++) {
                        uint8_t *p = arena + f[i].start + f[i].len;
                        if (open)
                                wrong += differ((uint8_t *) &tags[i], p, 4);
                        else
                                memcpy(p, &tags[i], 4);
                }
                return wrong;
        default: return UINT32_MAX; /* there is no such call */
        }
}

/* One job for any kind: ciphering, integrity, or both chained as TS 36.323 has them. */
static void fill(const struct imb *s, IMB_JOB *j, uint8_t *arena, const struct frame *f, uint8_t *tag, int open)
{
        uint8_t *p = arena + f->start;
        const enum kind k = s->kind;
        j->src = p - 13;
        j->dst = p;
        j->iv = f->iv;
        j->iv_len_in_bytes = 16;
        j->cipher_direction = open ? IMB_DIR_DECRYPT : IMB_DIR_ENCRYPT;
        j->chain_order = open ? IMB_ORDER_CIPHER_HASH : IMB_ORDER_HASH_CIPHER;
        j->key_len_in_bytes = 16;
        j->auth_tag_output = tag;
        j->auth_tag_output_len_in_bytes = 4;
        j->cipher_mode = IMB_CIPHER_NULL;
        j->hash_alg = IMB_AUTH_NULL;
        if (k == GCM128 || k == GCM256) {
                j->src = p;
                j->cipher_start_src_offset_in_bytes = 0;
                j->msg_len_to_cipher_in_bytes = f->len;
                j->hash_start_src_offset_in_bytes = 0;
                j->msg_len_to_hash_in_bytes = f->len;
                j->iv_len_in_bytes = 12;
                j->enc_keys = j->dec_keys = &s->gcm[f->key];
                j->key_len_in_bytes = k == GCM128 ? 16 : 32;
                j->cipher_mode = IMB_CIPHER_GCM;
                j->hash_alg = IMB_AUTH_AES_GMAC;
                j->u.GCM.aad = f->aad;
                j->u.GCM.aad_len_in_bytes = 13;
                j->auth_tag_output_len_in_bytes = 16;
                j->chain_order = open ? IMB_ORDER_HASH_CIPHER : IMB_ORDER_CIPHER_HASH;
                return;
        }
        if (k == EEA1 || k == EEA1_EIA1) {
                j->cipher_mode = IMB_CIPHER_SNOW3G_UEA2_BITLEN;
                j->dst = p - 13; /* in bits, the offset counts on both sides */
                j->enc_keys = j->dec_keys = &s->snow_cipher[f->key];
                j->cipher_start_src_offset_in_bits = 13 * 8;
                j->msg_len_to_cipher_in_bits = f->len * 8;
        } else if (k == EEA2 || k == EEA2_EIA2) {
                j->cipher_mode = IMB_CIPHER_CNTR;
                j->enc_keys = j->dec_keys = s->aes[f->key].enc;
                j->cipher_start_src_offset_in_bytes = 13;
                j->msg_len_to_cipher_in_bytes = f->len;
        } else if (k == EEA3 || k == EEA3_EIA3) {
                j->cipher_mode = IMB_CIPHER_ZUC_EEA3;
                j->enc_keys = j->dec_keys = s->zuc_cipher[f->key];
                j->cipher_start_src_offset_in_bytes = 13;
                j->msg_len_to_cipher_in_bytes = f->len;
        }
        if (k == EIA1 || k == EEA1_EIA1) {
                j->hash_alg = IMB_AUTH_SNOW3G_UIA2_BITLEN;
                j->u.SNOW3G_UIA2._key = &s->snow_hash[f->key];
                j->u.SNOW3G_UIA2._iv = f->hash_iv;
                j->hash_start_src_offset_in_bytes = 8;
                j->msg_len_to_hash_in_bits = (f->len + 5) * 8;
        } else if (k == EIA2 || k == EEA2_EIA2) {
                j->hash_alg = IMB_AUTH_AES_CMAC;
                j->u.CMAC._key_expanded = s->cmac[f->key].expanded;
                j->u.CMAC._skey1 = s->cmac[f->key].sub1;
                j->u.CMAC._skey2 = s->cmac[f->key].sub2;
                j->hash_start_src_offset_in_bytes = 0;
                j->msg_len_to_hash_in_bytes = f->len + 13;
        } else if (k == EIA3 || k == EEA3_EIA3) {
                j->hash_alg = IMB_AUTH_ZUC_EIA3_BITLEN;
                j->u.ZUC_EIA3._key = s->zuc_hash[f->key];
                j->u.ZUC_EIA3._iv = f->hash_iv;
                j->hash_start_src_offset_in_bytes = 8;
                j->msg_len_to_hash_in_bits = (f->len + 5) * 8;
        }
}

static unsigned tag_len(enum kind k)
{
        return k <= GCM256 ? 16 : k <= EEA3 ? 0 : 4;
}

static uint32_t verify(const struct imb *s, uint8_t *arena, const struct frame *f, uint32_t n, const uint8_t (*tags)[16], int open)
{
        uint32_t wrong = 0;
        const unsigned len = tag_len(s->kind);
        if (open && len != 0)
                for (uint32_t i = 0; i < n; i++)
                        wrong += differ(tags[i], arena + f[i].start + f[i].len, len);
        return wrong;
}

uint32_t pc5_imb_job(struct imb *s, uint8_t *arena, const struct frame *f, uint32_t n, int open)
{
        DECLARE_ALIGNED(uint8_t tags[IMB_MAX_BURST_SIZE][16], 16);
        for (uint32_t i = 0; i < n; i++) {
                fill(s, IMB_GET_NEXT_JOB(s->mgr), arena, &f[i], open || tag_len(s->kind) == 0 ? tags[i] : arena + f[i].start + f[i].len, open);
                (void) IMB_SUBMIT_JOB_NOCHECK(s->mgr);
        }
        while (IMB_FLUSH_JOB(s->mgr) != NULL)
                ;
        return verify(s, arena, f, n, (const uint8_t (*)[16]) tags, open);
}

uint32_t pc5_imb_burst(struct imb *s, uint8_t *arena, const struct frame *f, uint32_t n, int open)
{
        DECLARE_ALIGNED(uint8_t tags[IMB_MAX_BURST_SIZE][16], 16);
        IMB_JOB *jobs[IMB_MAX_BURST_SIZE];
        if (IMB_GET_NEXT_BURST(s->mgr, n, jobs) != n)
                return UINT32_MAX;
        for (uint32_t i = 0; i < n; i++)
                fill(s, jobs[i], arena, &f[i], open || tag_len(s->kind) == 0 ? tags[i] : arena + f[i].start + f[i].len, open);
        uint32_t done = IMB_SUBMIT_BURST_NOCHECK(s->mgr, n, jobs);
        while (done < n) {
                const uint32_t more = IMB_FLUSH_BURST(s->mgr, n - done, jobs);
                if (more == 0)
                        return UINT32_MAX;
                done += more;
        }
        return verify(s, arena, f, n, (const uint8_t (*)[16]) tags, open);
}

/* The synchronous burst of one ciphering algorithm; 1.3 has it for AES counter mode. */
uint32_t pc5_imb_cipher_burst(struct imb *s, uint8_t *arena, const struct frame *f, uint32_t n, int open)
{
        static IMB_JOB jobs[IMB_MAX_BURST_SIZE];
        uint8_t tag[16];
        for (uint32_t i = 0; i < n; i++)
                fill(s, &jobs[i], arena, &f[i], tag, open);
        if (s->kind != EEA2 || IMB_SUBMIT_CIPHER_BURST_NOCHECK(s->mgr, jobs, n, IMB_CIPHER_CNTR, IMB_DIR_ENCRYPT, 16) != n)
                return UINT32_MAX;
        return 0;
}

struct evp {
        uint32_t n;
        int counter;
        EVP_CIPHER_CTX **enc, **dec;
};

/* keys: n times 32 octets. kind: GCM128, GCM256 or EEA2. */
struct evp *pc5_evp_new(int kind, const uint8_t *keys, uint32_t n)
{
        struct evp *s = zeroed(sizeof *s);
        const EVP_CIPHER *c = kind == GCM128 ? EVP_aes_128_gcm() : kind == GCM256 ? EVP_aes_256_gcm() : EVP_aes_128_ctr();
        s->n = n;
        s->counter = kind == EEA2;
        s->enc = zeroed(sizeof *s->enc * n);
        s->dec = zeroed(sizeof *s->dec * n);
        for (uint32_t i = 0; i < n; i++) {
                s->enc[i] = EVP_CIPHER_CTX_new();
                s->dec[i] = EVP_CIPHER_CTX_new();
                EVP_EncryptInit_ex(s->enc[i], c, NULL, keys + 32 * i, NULL);
                EVP_DecryptInit_ex(s->dec[i], c, NULL, keys + 32 * i, NULL);
        }
        return s;
}

void pc5_evp_free(struct evp *s)
{
        for (uint32_t i = 0; i < s->n; i++) {
                EVP_CIPHER_CTX_free(s->enc[i]);
                EVP_CIPHER_CTX_free(s->dec[i]);
        }
        free(s->enc);
        free(s->dec);
        free(s);
}

uint32_t pc5_evp(struct evp *s, uint8_t *arena, const struct frame *f, uint32_t n, int open)
{
        uint32_t wrong = 0;
        for (uint32_t i = 0; i < n; i++) {
                uint8_t *p = arena + f[i].start;
                EVP_CIPHER_CTX *c = (open ? s->dec : s->enc)[f[i].key];
                int out;
                if (s->counter) {
                        EVP_EncryptInit_ex(c, NULL, NULL, NULL, f[i].iv);
                        EVP_EncryptUpdate(c, p, &out, p, f[i].len);
                } else if (!open) {
                        EVP_EncryptInit_ex(c, NULL, NULL, NULL, f[i].iv);
                        EVP_EncryptUpdate(c, NULL, &out, f[i].aad, 13);
                        EVP_EncryptUpdate(c, p, &out, p, f[i].len);
                        EVP_EncryptFinal_ex(c, p + f[i].len, &out);
                        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, p + f[i].len);
                } else {
                        EVP_DecryptInit_ex(c, NULL, NULL, NULL, f[i].iv);
                        EVP_DecryptUpdate(c, NULL, &out, f[i].aad, 13);
                        EVP_DecryptUpdate(c, p, &out, p, f[i].len);
                        EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_SET_TAG, 16, p + f[i].len);
                        wrong += EVP_DecryptFinal_ex(c, p, &out) != 1;
                }
        }
        return wrong;
}
