//! How etcd is reached: its URLs, its certificates, and what its silences mean.

use std::path::PathBuf;

use topology::TopologyError;

use crate::args::EtcdArgs;
use crate::failure::Failure;

/// Refuses URLs that do not go with the certificates that were given, or not given.
pub fn check_urls(args: &EtcdArgs) -> Result<(), Failure> {
    let tls = args.etcd_ca.is_some();
    let wanted = if tls { "https://" } else { "http://" };
    let Some(url) = args
        .etcd_endpoints
        .iter()
        .find(|url| !url.starts_with(wanted))
    else {
        return Ok(());
    };
    let tried = format!("etcd at {url} was not asked");
    let plain = url.strip_prefix("http://");
    Err(match (tls, plain, url.starts_with("https://")) {
        (true, Some(rest), _) => Failure::usage(
            tried,
            "certificates were given, but with http:// they are not used",
        )
        .next(format!(
            "write https://{rest}, or leave the certificates out"
        )),
        (false, _, true) => Failure::usage(tried, "https:// needs certificates").next(
            "give all three: --etcd-ca FILE --etcd-cert FILE --etcd-key FILE (those of the Secret \
             that the Helm value etcd.tlsSecret names will do)",
        ),
        _ => Failure::usage(tried, "it is no URL").next(format!("write {wanted}{url}")),
    })
}

/// The failure for an error of a request to etcd.
pub fn failure(tried: &str, error: &TopologyError) -> Failure {
    let failure = Failure::failed(tried, error.to_string());
    match error {
        TopologyError::Options { option: "tls", .. } => {
            failure.next("check --etcd-ca, --etcd-cert and --etcd-key")
        }
        // URLs were checked before, so it is the certificates that the library cannot use.
        TopologyError::Options { cause, .. } if cause.contains("transport error") => failure.next(
            "check that --etcd-ca, --etcd-cert and --etcd-key are PEM files, and that the key is \
             the certificate's",
        ),
        TopologyError::Options { .. } => failure.next("check --etcd-endpoints"),
        TopologyError::Unknown { .. } => {
            let said = error.to_string();
            let failure = certificate_advice(&said)
                .into_iter()
                .fold(failure, Failure::next);
            failure.next("give the other members too: --etcd-endpoints URL,URL,URL")
        }
        TopologyError::Document { .. } => failure,
    }
}

/// What a connection that failed while certificates were shown may be for.
fn certificate_advice(said: &str) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if has(&["UnknownIssuer", "BadSignature"]) {
        Some("etcd's certificate is not signed by the CA in --etcd-ca: give the CA that signed it")
    } else if has(&["NotValidForName"]) {
        Some(
            "etcd's certificate does not name the host in --etcd-endpoints: use a name or address \
             that it does name",
        )
    } else if has(&["Expired"]) {
        Some("etcd's certificate has ended: renew it there")
    } else if has(&[
        "connection closed",
        "CertificateRequired",
        "UnknownCA",
        "BadCertificate",
        "received fatal alert",
    ]) {
        Some(
            "etcd ended the connection, which it does with client certificates it does not trust: \
             check that --etcd-cert is signed by the CA etcd was given, and has not ended",
        )
    } else if has(&[
        "broken pipe",
        "frame with invalid size",
        "InvalidContentType",
    ]) {
        Some(
            "etcd may want TLS, or none: with https:// give --etcd-ca, --etcd-cert and --etcd-key, \
             otherwise write http://",
        )
    } else {
        None
    }
}

/// The `topology` crate takes its certificates from one folder with fixed names; this one holds
/// links to the files that were given, and is removed when the connection has been prepared.
#[derive(Debug)]
pub struct CertificateFolder {
    path: PathBuf,
}

impl CertificateFolder {
    /// Of the files that were given, if any were.
    pub fn of(args: &EtcdArgs) -> Result<Option<Self>, Failure> {
        let (Some(ca), Some(cert), Some(key)) = (&args.etcd_ca, &args.etcd_cert, &args.etcd_key)
        else {
            return Ok(None);
        };
        let name = format!("mactl-etcd-{:016x}", super::etcd::random());
        let folder = Self {
            path: std::env::temp_dir().join(name),
        };
        let tried = |what: &str| format!("the etcd certificates were not used: {what}");
        std::fs::create_dir(&folder.path).map_err(|error| {
            Failure::failed(
                tried(&format!("folder {}", folder.path.display())),
                error.to_string(),
            )
        })?;
        for (file, link) in [(ca, "ca.crt"), (cert, "tls.crt"), (key, "tls.key")] {
            // Opened here so that a file that is not there is named as it was given.
            let linked = std::fs::File::open(file)
                .and_then(|_| std::path::absolute(file))
                .and_then(|file| std::os::unix::fs::symlink(file, folder.path.join(link)));
            linked.map_err(|error| {
                Failure::failed(tried(&file.display().to_string()), error.to_string())
                    .next("give the files with --etcd-ca, --etcd-cert and --etcd-key")
            })?;
        }
        Ok(Some(folder))
    }

    /// The folder.
    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }
}

impl Drop for CertificateFolder {
    fn drop(&mut self) {
        // Only links are in it. If it stays, the next process makes one of another name.
        let _removed = std::fs::remove_dir_all(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(url: &str, tls: bool) -> EtcdArgs {
        let file = |name: &str| tls.then(|| PathBuf::from(name));
        EtcdArgs {
            etcd_endpoints: vec![url.to_owned()],
            etcd_prefix: "/multiactive/".to_owned(),
            etcd_ca: file("ca"),
            etcd_cert: file("cert"),
            etcd_key: file("key"),
        }
    }

    #[test]
    fn a_url_and_certificates_that_do_not_go_together_are_told_with_what_to_write() {
        check_urls(&given("https://a:2379", true)).unwrap();
        check_urls(&given("http://a:2379", false)).unwrap();
        let told = |url, tls| {
            let failure = check_urls(&given(url, tls)).unwrap_err();
            assert_eq!(failure.exit.code(), 2, "{failure}");
            failure.to_string()
        };
        assert!(told("http://a:2379", true).contains("write https://a:2379, or leave"));
        assert!(told("https://a:2379", false).contains("--etcd-ca FILE"));
        assert!(told("a:2379", false).contains("write http://a:2379"));
        assert!(told("a:2379", true).contains("write https://a:2379"));
    }

    #[test]
    fn what_certificates_are_refused_for_is_told() {
        let advice = |said: &str| certificate_advice(said).unwrap_or_default();
        assert!(advice("invalid peer certificate: UnknownIssuer").contains("--etcd-ca"));
        assert!(advice("transport error: connection closed").contains("--etcd-cert"));
        assert!(advice("NotValidForName").contains("does not name the host"));
        assert_eq!(advice("Connection refused (os error 111)"), "");
    }
}
