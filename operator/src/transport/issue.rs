//! Which certificates the links' mutual TLS needs now, and how they are made.
//!
//! A CA of our own signs one certificate, which both ends of every link show. The certificate lives
//! for weeks and is renewed in time. The CA lives for years; when it is replaced, the old one stays
//! in the bundle until it ends, so that ends which have the new files and ends which do not yet
//! trust each other's.

use std::time::SystemTime;

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::validity::{certificates, validity};

/// What the certificate names, and both ends of a link check.
const NAME: &str = "transport.multiactive";
/// A CA is made anew under the same name: by it, a certificate says who signed it.
const CA_NAME: &str = "multiactive transport CA";
/// Clocks differ: what was made now is valid since then.
const BACKDATED: SignedDuration = SignedDuration::from_mins(10);

/// How long certificates live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lifetimes {
    /// The certificate of the links. It is renewed when a third of that is left.
    pub certificate: crds::Duration,
    /// Their CA. It is replaced when less than two lives of a certificate are left.
    pub ca: crds::Duration,
}

/// A CA as its Secret holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ca {
    /// The CA's certificate, then those it has replaced; PEM.
    pub bundle: String,
    /// Its key, PEM.
    pub key: String,
}

/// A certificate as its Secret holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The CAs to trust, PEM.
    pub bundle: String,
    /// The certificate, PEM.
    pub certificate: String,
    /// Its key, PEM.
    pub key: String,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Nothing.
    Keep,
    /// A new certificate by the CA there is.
    Renew,
    /// A new CA, and a certificate by it.
    Replace,
}

/// Decides: a pure function.
pub fn decide(ca: Option<&Ca>, leaf: Option<&Leaf>, lives: Lifetimes, now: Timestamp) -> Step {
    let life = signed(lives.certificate);
    let left = |pem: &str| {
        let found = validity(pem.as_bytes())?;
        (found.begins <= now).then(|| found.ends.duration_since(now))
    };
    let Some(ca) = ca.filter(|ca| {
        KeyPair::from_pem(&ca.key).is_ok() && left(&ca.bundle).is_some_and(|left| left > life * 2)
    }) else {
        return Step::Replace;
    };
    let sound = leaf.is_some_and(|leaf| {
        leaf.bundle == ca.bundle
            && !leaf.key.is_empty()
            && left(&leaf.certificate).is_some_and(|left| left > life / 3 && left <= life)
    });
    if sound { Step::Keep } else { Step::Renew }
}

/// Makes a CA. What is trusted now stays trusted while it is valid.
pub fn new_ca(trusted: &str, lives: Lifetimes, now: Timestamp) -> Result<Ca, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = ca_params();
    valid(&mut params, now, signed(lives.ca));
    let mut bundle = params.self_signed(&key)?.pem();
    for old in certificates(trusted.as_bytes()) {
        if validity(old.as_bytes()).is_some_and(|old| old.ends > now) {
            bundle.push_str(&old);
        }
    }
    Ok(Ca {
        bundle,
        key: key.serialize_pem(),
    })
}

/// Makes a certificate.
pub fn new_leaf(ca: &Ca, lives: Lifetimes, now: Timestamp) -> Result<Leaf, rcgen::Error> {
    let issuer = Issuer::new(ca_params(), KeyPair::from_pem(&ca.key)?);
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new(vec![NAME.to_owned()])?;
    params.distinguished_name.push(DnType::CommonName, NAME);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    valid(&mut params, now, signed(lives.certificate));
    Ok(Leaf {
        bundle: ca.bundle.clone(),
        certificate: params.signed_by(&key, &issuer)?.pem(),
        key: key.serialize_pem(),
    })
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, CA_NAME);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn valid(params: &mut CertificateParams, now: Timestamp, life: SignedDuration) {
    params.not_before = SystemTime::from(now - BACKDATED).into();
    params.not_after = SystemTime::from(now + life).into();
}

fn signed(duration: crds::Duration) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(duration.as_millis()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVES: Lifetimes = Lifetimes {
        certificate: crds::Duration::from_secs(90 * 86_400),
        ca: crds::Duration::from_secs(3_650 * 86_400),
    };

    fn day(days: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + days * 86_400).unwrap()
    }

    fn step(ca: &Ca, leaf: &Leaf, days: i64) -> Step {
        decide(Some(ca), Some(leaf), LIVES, day(days))
    }

    #[test]
    fn a_certificate_is_renewed_in_time_by_the_same_ca() {
        let ca = new_ca("", LIVES, day(0)).unwrap();
        let leaf = new_leaf(&ca, LIVES, day(0)).unwrap();
        assert_eq!(decide(None, None, LIVES, day(0)), Step::Replace);
        assert_eq!(decide(Some(&ca), None, LIVES, day(0)), Step::Renew);
        assert_eq!(step(&ca, &leaf, 0), Step::Keep);
        assert_eq!(step(&ca, &leaf, 59), Step::Keep);
        assert_eq!(step(&ca, &leaf, 61), Step::Renew);
        let next = new_leaf(&ca, LIVES, day(61)).unwrap();
        assert_eq!(next.bundle, leaf.bundle);
        assert_eq!(step(&ca, &next, 61), Step::Keep);
        // Another lifetime is carried out too, in either direction.
        let shorter = Lifetimes {
            certificate: crds::Duration::from_secs(86_400),
            ..LIVES
        };
        assert_eq!(decide(Some(&ca), Some(&leaf), shorter, day(0)), Step::Renew);
    }

    #[test]
    fn a_replaced_ca_stays_trusted_until_it_ends() {
        let ca = new_ca("", LIVES, day(0)).unwrap();
        let leaf = new_leaf(&ca, LIVES, day(3_460)).unwrap();
        assert_eq!(step(&ca, &leaf, 3_460), Step::Keep);
        assert_eq!(step(&ca, &leaf, 3_471), Step::Replace);
        let next = new_ca(&ca.bundle, LIVES, day(3_471)).unwrap();
        assert_eq!(certificates(next.bundle.as_bytes()).len(), 2);
        assert!(next.bundle.ends_with(&ca.bundle));
        assert_eq!(step(&next, &leaf, 3_471), Step::Renew, "another bundle");
        let later = new_ca(&next.bundle, LIVES, day(3_651)).unwrap();
        assert_eq!(certificates(later.bundle.as_bytes()).len(), 2, "one ended");
    }

    #[test]
    fn what_cannot_be_used_is_made_anew() {
        let ca = new_ca("", LIVES, day(0)).unwrap();
        let leaf = new_leaf(&ca, LIVES, day(0)).unwrap();
        let keyless = Ca {
            key: "no key".to_owned(),
            ..ca.clone()
        };
        assert_eq!(step(&keyless, &leaf, 0), Step::Replace);
        let torn = Leaf {
            certificate: "no certificate".to_owned(),
            ..leaf.clone()
        };
        assert_eq!(step(&ca, &torn, 0), Step::Renew);
        assert_eq!(
            step(&ca, &leaf, -1),
            Step::Replace,
            "a clock that went back"
        );
    }
}
