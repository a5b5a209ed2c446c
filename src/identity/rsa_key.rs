//! RSA private keys: do the numbers of one belong together?

use crypto_bigint::{BoxedUint, ConcatenatingMul, NonZero};
use der::asn1::UintRef;
use pkcs1::RsaPrivateKey;
use zeroize::Zeroizing;

type Number = Zeroizing<BoxedUint>;

/// Whether n = pq, and the exponents and the coefficient are what n and e demand (RFC 8017, section
/// 3.2). A TLS stack that computes with anything else makes bad signatures or refuses the key.
pub(super) fn is_consistent(key: &RsaPrivateKey<UintRef<'_>>) -> bool {
    let [n, e, d] = [key.modulus, key.public_exponent, key.private_exponent].map(number);
    let [p, q] = [key.prime1, key.prime2].map(number);
    let [d_p, d_q, q_inverse] = [key.exponent1, key.exponent2, key.coefficient].map(number);
    let one = BoxedUint::one();
    let e_times_d = product(&e, &d);
    let fits = |prime: &BoxedUint, exponent: &BoxedUint| {
        let order = Zeroizing::new(prime.wrapping_sub(&one));
        is_remainder(&one, &e_times_d, &order) && is_remainder(exponent, &d, &order)
    };
    *product(&p, &q) == *n
        && fits(&p, &d_p)
        && fits(&q, &d_q)
        && is_remainder(&one, &product(&q, &q_inverse), &p)
}

fn number(field: UintRef<'_>) -> Number {
    Zeroizing::new(BoxedUint::from_be_slice_vartime(field.as_bytes()))
}

fn product(one: &BoxedUint, other: &BoxedUint) -> Number {
    Zeroizing::new(one.concatenating_mul(other))
}

/// Whether `remainder` = `number` mod `modulus`; never for a modulus of 0.
fn is_remainder(remainder: &BoxedUint, number: &BoxedUint, modulus: &BoxedUint) -> bool {
    let modulus = NonZero::new(modulus.clone()).into_option().map(Zeroizing::new);
    modulus.is_some_and(|modulus| *Zeroizing::new(number.rem(&*modulus)) == *remainder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use der::Decode;
    use rsa::pkcs1::EncodeRsaPrivateKey;

    fn key() -> Vec<u8> {
        let key = rsa::PrivateKey::new(&mut getrandom::SysRng, 2048).unwrap();
        key.to_pkcs1_der().unwrap().as_bytes().to_vec()
    }

    fn parse(der: &[u8]) -> RsaPrivateKey<UintRef<'_>> {
        RsaPrivateKey::from_der(der).unwrap()
    }

    #[test]
    fn a_key_is_consistent_until_one_of_its_numbers_is_another_keys() {
        let (own, other) = (key(), key());
        let (own, other) = (parse(&own), parse(&other));
        assert!(is_consistent(&own));
        for mixed in [
            RsaPrivateKey { modulus: other.modulus, ..own.clone() },
            RsaPrivateKey { private_exponent: other.private_exponent, ..own.clone() },
            RsaPrivateKey { prime1: other.prime1, ..own.clone() },
            RsaPrivateKey { prime2: other.prime2, ..own.clone() },
            RsaPrivateKey { exponent1: other.exponent1, ..own.clone() },
            RsaPrivateKey { exponent2: other.exponent2, ..own.clone() },
            RsaPrivateKey { coefficient: other.coefficient, ..own.clone() },
            RsaPrivateKey { prime1: own.prime2, prime2: own.prime1, ..own.clone() },
            RsaPrivateKey { modulus: own.modulus, public_exponent: own.public_exponent, ..other },
        ] {
            assert!(!is_consistent(&mixed));
        }
    }

    #[test]
    fn a_key_with_a_trivial_factor_is_not_consistent() {
        let own = key();
        let own = parse(&own);
        let [zero, one] = [&[0], &[1]].map(|bytes| UintRef::new(bytes).unwrap());
        for (prime1, prime2) in [(one, own.modulus), (own.modulus, one), (zero, zero)] {
            let trivial = RsaPrivateKey { prime1, prime2, ..own.clone() };
            assert!(!is_consistent(&trivial));
        }
        assert!(!is_consistent(&RsaPrivateKey { modulus: zero, prime1: zero, prime2: zero, ..own.clone() }));
    }
}
