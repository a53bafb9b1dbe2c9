//! Whether a certificate of the installation ends soon, or has: a pure function.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Secret;

use super::validity::validity;

/// A certificate or CA that ends soon, or has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// One CamelCase word.
    pub reason: &'static str,
    /// It has ended.
    pub over: bool,
    /// Which, since when, and what to do.
    pub message: String,
}

/// The least that is left when a certificate is complained of: whoever renews it should have by
/// then, and people can still act.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// What a certificate is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Links, and promises between arbiters.
    Links {
        /// The operator itself renews it.
        issued: bool,
    },
    /// Reaching etcd.
    Etcd,
}

/// What is wrong with the Secret's certificates now, if anything, and when that has to be looked at
/// again.
pub fn expiry(
    secret: &Secret,
    name: &str,
    purpose: Purpose,
    now: Timestamp,
) -> (Option<Expiry>, Option<Timestamp>) {
    let data = secret.data.as_ref();
    let files = ["tls.crt", "ca.crt"].into_iter().filter_map(|file| {
        let found = validity(&data?.get(file)?.0)?;
        // One that lives for hours is renewed within them.
        let life = found.ends.duration_since(found.begins);
        Some((file, found.ends, SOON.min(life / 6)))
    });
    let (mut worst, mut next) = (None, None::<Timestamp>);
    for (file, ends, soon) in files {
        let left = ends.duration_since(now);
        let over = left <= SignedDuration::ZERO;
        let reason = if over || left <= soon {
            purpose.reason(over)
        } else {
            let at = ends - soon;
            next = Some(next.map_or(at, |next| next.min(at)));
            continue;
        };
        if !over {
            next = Some(next.map_or(ends, |next| next.min(ends)));
        }
        if worst.is_none() || over {
            worst = Some(Expiry {
                reason,
                over,
                message: describe(name, file, ends, over, purpose),
            });
        }
    }
    (worst, next)
}

impl Purpose {
    fn reason(self, over: bool) -> &'static str {
        match (self, over) {
            (Self::Links { .. }, true) => "CertificateExpired",
            (Self::Links { .. }, false) => "CertificateExpiring",
            (Self::Etcd, true) => "EtcdCertificateExpired",
            (Self::Etcd, false) => "EtcdCertificateExpiring",
        }
    }
}

fn describe(name: &str, file: &str, ends: Timestamp, over: bool, purpose: Purpose) -> String {
    let verb = if over { "ended at" } else { "ends at" };
    let (what, consequence, todo) = match purpose {
        Purpose::Links { issued } => (
            "the certificate of links and promises",
            "links that have to connect anew from then on cannot, nor can arbiters ask each other \
             for promises",
            if issued {
                "The operator renews it: its log tells why it has not, and deleting that Secret \
                 makes it issue another"
            } else {
                "Put a renewed one into that Secret (Helm value transport.tlsSecret; cert-manager \
                 does it by itself); running links take it up without a restart"
            },
        ),
        Purpose::Etcd => (
            "the certificate for etcd",
            "operator and arbiters that have to connect to etcd anew from then on cannot, and an \
             arbiter without etcd fences its primaries when its lease ends",
            "Put a renewed one into that Secret (Helm value etcd.tlsSecret; cert-manager does it by \
             itself); running processes take it up without a restart",
        ),
    };
    format!("{file} of Secret {name}, {what}, {verb} {ends:.0}: {consequence}. {todo}.")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::ByteString;

    use super::*;
    use crate::transport::issue::{Lifetimes, new_ca, new_leaf};

    #[test]
    fn an_end_is_told_before_it_comes_and_looked_for_by_itself() {
        let day = |days: i64| Timestamp::from_second(1_700_000_000 + days * 86_400).unwrap();
        let lives = Lifetimes {
            certificate: crds::Duration::from_secs(90 * 86_400),
            ca: crds::Duration::from_secs(3_650 * 86_400),
        };
        let ca = new_ca("", lives, day(0)).unwrap();
        let leaf = new_leaf(&ca, lives, day(0)).unwrap();
        let files = [("ca.crt", leaf.bundle), ("tls.crt", leaf.certificate)];
        let secret = Secret {
            data: Some(BTreeMap::from(files.map(|(file, text)| {
                (file.to_owned(), ByteString(text.into_bytes()))
            }))),
            ..Secret::default()
        };
        let told = |days: i64| expiry(&secret, "m/t", Purpose::Links { issued: false }, day(days));
        assert_eq!(told(0), (None, Some(day(83))));
        let (soon, next) = told(84);
        assert_eq!(soon.unwrap().reason, "CertificateExpiring");
        assert_eq!(next, Some(day(90)));
        let (over, next) = told(91);
        let over = over.unwrap();
        assert_eq!(over.reason, "CertificateExpired");
        assert!(
            over.message.starts_with(
                "tls.crt of Secret m/t, the certificate of links and promises, ended at 2024-02-12"
            ),
            "{}",
            over.message
        );
        assert_eq!(next, Some(day(3_643)));
        let (etcd, _) = expiry(&secret, "m/e", Purpose::Etcd, day(84));
        let etcd = etcd.unwrap();
        assert!(etcd.reason == "EtcdCertificateExpiring" && !etcd.over);
        assert!(etcd.message.contains("etcd.tlsSecret"), "{}", etcd.message);
    }
}
