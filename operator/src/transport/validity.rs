//! From when until when a certificate is valid: the one thing of it that the operator has to know.
//!
//! Only as much of X.509 is read as leads there (RFC 5280, section 4.1): `Certificate` and
//! `TBSCertificate` are sequences, and the fifth element of the latter, or the fourth where it does
//! not begin with a version, is a sequence of two times.

use base64::Engine as _;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// From when until when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this.
    pub begins: Timestamp,
    /// Not after this.
    pub ends: Timestamp,
}

/// The certificates of a file, each as its own PEM.
pub fn certificates(pem: &[u8]) -> Vec<String> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let text = String::from_utf8_lossy(pem);
    text.split(BEGIN)
        .skip(1)
        .filter_map(|rest| rest.split_once(END))
        .map(|(body, _)| format!("{BEGIN}{body}{END}\n"))
        .collect()
}

/// The validity of the first certificate of a file; `None` if there is none that can be read.
pub fn validity(pem: &[u8]) -> Option<Validity> {
    let first = certificates(pem).into_iter().next()?;
    let body: String = first
        .lines()
        .filter(|line| !line.starts_with("-----"))
        .map(str::trim)
        .collect();
    let der = base64::engine::general_purpose::STANDARD
        .decode(body)
        .ok()?;
    let (certificate, _) = element(&der, SEQUENCE)?;
    let (body, _) = element(certificate, SEQUENCE)?;
    // Version, if it is told; serial number; signature algorithm; issuer.
    let body = element(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_, body) = element(body, INTEGER)?;
    let (_, body) = element(body, SEQUENCE)?;
    let (_, body) = element(body, SEQUENCE)?;
    let (times, _) = element(body, SEQUENCE)?;
    let (begins, rest) = time(times)?;
    let (ends, _) = time(rest)?;
    Some(Validity { begins, ends })
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// The content of the element that begins here, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    if *found != tag {
        return None;
    }
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        // The long form: so many bytes hold the length. No certificate is longer than four tell.
        0x81..=0x84 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(first & 0x0f))?;
            let length = bytes
                .iter()
                .fold(0, |length, byte| length << 8 | usize::from(*byte));
            (length, rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

/// A time and what follows it. Both forms are in UTC and end with `Z`; the shorter one tells two
/// digits of the year, of 1950 to 2049.
fn time(der: &[u8]) -> Option<(Timestamp, &[u8])> {
    let (text, rest, century) = if let Some((text, rest)) = element(der, UTC_TIME) {
        let text = std::str::from_utf8(text).ok()?;
        let year: u8 = text.get(..2)?.parse().ok()?;
        (text, rest, if year < 50 { "20" } else { "19" })
    } else {
        let (text, rest) = element(der, GENERALIZED_TIME)?;
        (std::str::from_utf8(text).ok()?, rest, "")
    };
    let full = format!("{century}{text}");
    let at = DateTime::strptime("%Y%m%d%H%M%SZ", &full).ok()?;
    let at = at.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some((at, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made with `openssl req -x509 -newkey ed25519 -days 36500`, which ends after 2049.
    const LONG: &str = "-----BEGIN CERTIFICATE-----
MIIBLjCB4aADAgECAhRRAtbML1FH2CrWDeWwnhGZaeaIKDAFBgMrZXAwDDEKMAgG
A1UEAwwBdDAgFw0yNjExMjEwODE4MjBaGA8yMTI2MTAyODA4MTgyMFowDDEKMAgG
A1UEAwwBdDAqMAUGAytlcAMhAEKMGdfWGzKMDkulCedM3Z+7qFNi9LyDCEHN/cpf
ScQwo1MwUTAdBgNVHQ4EFgQULmJuOhxJAdkzWvH/1Gg8s73gcp8wHwYDVR0jBBgw
FoAULmJuOhxJAdkzWvH/1Gg8s73gcp8wDwYDVR0TAQH/BAUwAwEB/zAFBgMrZXAD
QQDSm9nVdScfJuKkGErzOGk/CnUqew7KeIdOMl9ir/VR2GoT0RWol6N+wfsXBb7u
qAAq4PBFDAtpAJ65HCkPRRcD
-----END CERTIFICATE-----
";

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn both_forms_of_time_are_read() {
        let found = validity(LONG.as_bytes()).unwrap();
        assert_eq!(found.begins, at("2026-11-21T08:18:20Z"));
        assert_eq!(found.ends, at("2126-10-28T08:18:20Z"));
    }

    #[test]
    fn what_is_no_certificate_has_no_validity() {
        assert_eq!(validity(b""), None);
        assert_eq!(
            validity(b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"),
            None
        );
        // However it is cut off, nothing is concluded and nothing is read beyond the end.
        let body: String = LONG.lines().filter(|line| !line.starts_with('-')).collect();
        for length in (0..body.len()).step_by(4) {
            let cut = format!(
                "-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n",
                &body[..length]
            );
            let _none_or_whole = validity(cut.as_bytes());
        }
    }

    #[test]
    fn a_file_may_hold_several() {
        let two = format!("{LONG}text between\n{LONG}");
        assert_eq!(certificates(two.as_bytes()), [LONG, LONG]);
    }
}
