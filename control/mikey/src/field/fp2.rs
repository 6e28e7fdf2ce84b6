//! F_p2 = F_p[i] with i^2 = -1, and its order-(p+1) group modulo F_p.
//!
//! The pairing's values are only used up to a factor in F_p, so they are kept as a pair and turned into the one
//! F_p number `imaginary / real` at the end. Source: RFC 6508 section 2.1 (PF_p[q]).

use zeroize::Zeroize;

use super::Fp;

/// `real + i * imaginary`.
#[derive(Clone, Copy)]
pub(crate) struct Fp2 {
    /// The part in F_p.
    pub(crate) real: Fp,
    /// The part multiplied by i.
    pub(crate) imaginary: Fp,
}

impl Fp2 {
    /// One.
    pub(crate) const ONE: Self = Self { real: Fp::ONE, imaginary: Fp::ZERO };

    /// The square: two products.
    #[inline]
    pub(crate) fn square(&self) -> Self {
        Self {
            real: (self.real + self.imaginary) * (self.real - self.imaginary),
            imaginary: (self.real * self.imaginary).double(),
        }
    }

    /// The product.
    #[inline]
    pub(crate) fn mul(&self, other: &Self) -> Self {
        Self {
            real: Fp::difference_of_products(&self.real, &other.real, &self.imaginary, &other.imaginary),
            imaginary: Fp::sum_of_products(&self.real, &other.imaginary, &self.imaginary, &other.real),
        }
    }

    /// The product with `1 + i * ratio`: two products.
    #[inline]
    pub(crate) fn mul_by_ratio(&self, ratio: &Fp) -> Self {
        Self { real: self.real - self.imaginary * *ratio, imaginary: self.imaginary + self.real * *ratio }
    }
}

impl Zeroize for Fp2 {
    fn zeroize(&mut self) {
        self.real.zeroize();
        self.imaginary.zeroize();
    }
}
