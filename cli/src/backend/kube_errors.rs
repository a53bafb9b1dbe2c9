//! What the Kubernetes API's refusals and silences mean to a person.

use std::error::Error;

use kube::Error as KubeError;

use crate::failure::Failure;
use crate::invocation::Invocation;

/// The failure for an error of a request to the API at `url`.
pub fn failure(tried: &str, error: &KubeError, url: &str, call: &Invocation) -> Failure {
    let KubeError::Api(status) = error else {
        return not_answered(tried, error, url, call);
    };
    let returned = format!(
        "the Kubernetes API at {url} answered: {}",
        status.message.trim()
    );
    match status.code {
        403 => Failure::failed(tried, returned)
            .next("ask whoever runs the cluster for that right, or choose another --context")
            .next(call.kubectl("auth can-i --list")),
        401 => Failure::failed(tried, returned)
            .next(
                "the certificate or token of the kubeconfig's user has ended, or is not of this \
                 cluster: log in again, or choose another --context",
            )
            .next(call.kubectl("config view --minify")),
        404 if is_missing_kind(&status.message) => Failure::failed(
            tried,
            format!("the Kubernetes API at {url} does not know the kinds of multiactive.dev"),
        )
        .next("install them: helm install multiactive-crds charts/multiactive-crds")
        .next(format!(
            "check that this is the cluster you mean: {}",
            call.kubectl("cluster-info")
        )),
        _ => Failure::failed(tried, returned),
    }
}

/// A kind whose CRD is not installed is answered with this text, an object that is not there with
/// its name.
fn is_missing_kind(message: &str) -> bool {
    message.contains("page not found") || message.contains("could not find the requested resource")
}

/// The failure for an API that does not answer, with the way round it.
fn not_answered(tried: &str, error: &KubeError, url: &str, call: &Invocation) -> Failure {
    match error {
        KubeError::SerdeError(_) => Failure::failed(
            tried,
            format!(
                "the Kubernetes API at {url} answered something else than was expected: {error}"
            ),
        )
        .next("compare the versions of mactl and of the installed CRDs"),
        KubeError::Auth(_) => Failure::failed(
            tried,
            format!(
                "no credentials for the Kubernetes API at {url}: {}",
                causes(error)
            ),
        )
        .next("check the user of the kubeconfig's context"),
        _ => down(tried, &causes(error), url, call),
    }
}

/// The failure for an API that does not answer.
pub fn down(tried: &str, cause: &str, url: &str, call: &Invocation) -> Failure {
    let failure = Failure::failed(
        tried,
        format!("the Kubernetes API at {url} does not answer: {cause}"),
    );
    if call.knows_etcd() {
        failure
            .next(
                "if it is down, go round it: the same command with --etcd-endpoints URL,URL,URL, \
                 and --etcd-ca, --etcd-cert, --etcd-key where etcd has TLS",
            )
            .next("otherwise check --kubeconfig and --context")
    } else {
        failure
            .next("check --kubeconfig and --context")
            .next(format!("if it is down: {}", call.own_by_etcd("status")))
    }
}

/// The error and what is below it, each once.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(cause) = next {
        let line = cause.to_string();
        next = cause.source();
        // Upper layers repeat the lower ones after a colon; the innermost words say it best.
        if next.is_none() || !line.contains(": ") {
            if !text.is_empty() && !text.contains(&line) {
                text.push_str(": ");
            }
            if !text.contains(&line) {
                text.push_str(&line);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;
    use crate::fixtures::call;

    fn api(code: u16, message: &str) -> Failure {
        let status = Status::failure(message, "").with_code(code).boxed();
        failure(
            "Units were not read",
            &KubeError::Api(status),
            "https://k:6443/",
            &call(),
        )
    }

    #[test]
    fn a_refusal_by_rbac_says_who_may_not_do_what() {
        let text = api(
            403,
            "units.multiactive.dev is forbidden: User \"bob\" cannot list",
        )
        .to_string();
        assert!(text.contains("User \"bob\" cannot list") && text.contains("auth can-i"));
    }

    #[test]
    fn a_cluster_without_our_kinds_is_told_apart_from_a_missing_object() {
        let missing = api(404, "404 page not found").to_string();
        assert!(missing.contains("multiactive-crds"), "{missing}");
        let object = api(404, "units.multiactive.dev \"orders\" not found").to_string();
        assert!(!object.contains("multiactive-crds"), "{object}");
    }

    #[test]
    fn a_silent_api_names_the_way_round_it() {
        let text = |call: &Invocation| {
            down("Units were not read", "refused", "https://k:6443/", call).to_string()
        };
        let etcd = crate::args::EtcdArgs::default();
        let knows = Invocation::new("mactl", &crate::args::KubeArgs::default(), Some(&etcd));
        assert!(text(&knows).contains("the same command with --etcd-endpoints"));
        assert!(text(&call()).contains("mactl status --etcd-endpoints"));
    }
}
