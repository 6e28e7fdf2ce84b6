//! Product of polynomials over GF(2), in constant time on any processor that multiplies integers in constant time.
//!
//! Every fourth bit of each factor, multiplied as integers: up to 16 ones meet in a place and carry into the three places
//! above, which are cleared.

/// Bits 0 to 63 of the product.
#[inline]
pub(super) fn low(a: u64, b: u64) -> u64 {
    const EVERY_FOURTH: u64 = 0x1111_1111_1111_1111;
    let part = |v: u64, i: u32| v & EVERY_FOURTH << i;
    let mut product = 0;
    for i in 0..4 {
        // Places that are i modulo 4.
        let sum = (0..4).fold(0, |sum, j| sum ^ part(a, j).wrapping_mul(part(b, (4 + i - j) % 4)));
        product |= part(sum, i);
    }
    product
}

/// Bits 64 to 126 of the product.
#[inline]
pub(super) fn high(a: u64, b: u64) -> u64 {
    low(a.reverse_bits(), b.reverse_bits()).reverse_bits() >> 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn by_bits(a: u64, b: u64) -> u128 {
        (0..64).filter(|i| b >> i & 1 == 1).fold(0, |product, i| product ^ u128::from(a) << i)
    }

    proptest! {
        #[test]
        fn equals_the_product_by_bits(a: u64, b: u64) {
            prop_assert_eq!(u128::from(high(a, b)) << 64 | u128::from(low(a, b)), by_bits(a, b));
        }
    }

    #[test]
    fn ones_do_not_carry_over() {
        let (a, b) = (!0, !0);
        assert_eq!(u128::from(high(a, b)) << 64 | u128::from(low(a, b)), by_bits(a, b));
    }
}
