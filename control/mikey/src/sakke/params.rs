//! Parameter set 1 of SAKKE. Source: RFC 6509 Appendix A.

use crate::field::limbs::Limbs;

/// x of the base point P.
pub(super) const PX: Limbs = [
    0x880d_c8ab_eae6_3895,
    0x80ec_46c4_967e_0979,
    0xee91_63a5_b63f_73ec,
    0xd5cf_b4cc_8072_8d87,
    0xa7c1_514d_ba66_910d,
    0xa702_c339_7a60_de74,
    0x337c_8654_8b72_f2e1,
    0x9760_af76_5dd5_bccb,
    0x718b_d9e7_406c_e890,
    0x43d5_f22c_db9d_fa55,
    0xab10_db90_30b0_9e10,
    0xb5ed_b6c0_f6ce_2308,
    0x98b2_f204_b6ff_7cbf,
    0x2b1a_2fd6_0aec_69c6,
    0x0a79_9005_3ed9_b52a,
    0x53fc_09ee_332c_29ad,
];

/// y of the base point P.
pub(super) const PY: Limbs = [
    0x7557_3fd7_1bef_16d7,
    0xadb9_b570_6a67_dcde,
    0x80bd_ad5a_d5bb_4636,
    0x1351_5ad7_e9cb_99a9,
    0x492d_979f_c5a4_d5f2,
    0xac6f_1e80_164a_a989,
    0xcad6_96b5_b765_2fe0,
    0x70da_e117_ad54_7c6c,
    0x416c_ff0c_a9e0_32b9,
    0x6b59_8ccf_9a14_0b2e,
    0xe7f7_f5e5_f0de_55f6,
    0xf5ea_69f4_654e_c2b9,
    0x3d77_8d82_1e14_1178,
    0xd3e8_2016_0299_0696,
    0xf9f1_f053_3634_a135,
    0x0a82_4906_3f60_09f1,
];

/// g = <P,P>, as the ratio b/a of a + ib.
pub(super) const G: Limbs = [
    0xcde0_fab3_6461_ea46,
    0x3c8c_ae87_b7a0_042a,
    0xe372_0f20_b9b7_b040,
    0xd682_c033_a794_2bcc,
    0xb4f1_a32b_cafa_1ffa,
    0x55df_0460_b4a9_fd74,
    0xb99d_fb01_38c7_8433,
    0xee0f_aed1_828e_ab90,
    0x7072_da8f_5417_21be,
    0xcbfd_a85d_5d00_ef57,
    0x449a_e956_3f8b_c446,
    0x371e_9474_4c96_feda,
    0x27fa_be65_8e01_5a87,
    0xc6a8_7bd1_fb94_c41e,
    0x148f_1586_7d62_3068,
    0x66fc_2a43_2b6e_a392,
];
