//! Where the Kubernetes API is, as kubectl finds it.

use std::path::Path;
use std::time::Duration;

use kube::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::args::KubeArgs;
use crate::failure::Failure;
use crate::names;

/// A pod's own namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The namespace of Units that are given without one: the flag's, the context's, the pod's, or
/// `default`. Needs no cluster, and no kubeconfig unless one was named.
pub fn namespace(args: &KubeArgs) -> Result<String, Failure> {
    if let Some(namespace) = &args.namespace {
        return Ok(namespace.clone());
    }
    let from_context = match read(args)? {
        Some(kubeconfig) => context_namespace(&kubeconfig, args.context.as_deref()),
        None => std::fs::read_to_string(POD_NAMESPACE)
            .ok()
            .map(|text| text.trim().to_owned()),
    };
    Ok(from_context
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "default".to_owned()))
}

fn context_namespace(kubeconfig: &Kubeconfig, context: Option<&str>) -> Option<String> {
    let wanted = context.or(kubeconfig.current_context.as_deref())?;
    let found = kubeconfig
        .contexts
        .iter()
        .find(|context| context.name == wanted)?;
    found.context.as_ref()?.namespace.clone()
}

/// How the API is reached: by the kubeconfig, or as the pod that this runs in.
pub async fn load(args: &KubeArgs) -> Result<Config, Failure> {
    let mut config = match read(args)? {
        Some(kubeconfig) => {
            let options = KubeConfigOptions {
                context: args.context.clone(),
                ..KubeConfigOptions::default()
            };
            let contexts: Vec<String> = kubeconfig
                .contexts
                .iter()
                .map(|context| context.name.clone())
                .collect();
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| context_failure(args, &error, &contexts))?
        }
        None => Config::incluster().map_err(|_| nowhere(std::env::var_os("KUBECONFIG")))?,
    };
    let timeout = Duration::try_from(args.request_timeout).unwrap_or(Duration::from_secs(10));
    config.connect_timeout = Some(timeout);
    config.write_timeout = Some(timeout);
    config.auth_info.impersonate.clone_from(&args.impersonate);
    // A person waits: an API that is down is to be reported at once, not after retries.
    config.default_retry = false;
    Ok(config)
}

/// The failure for an API that nothing tells the address of.
fn nowhere(named: Option<std::ffi::OsString>) -> Failure {
    let looked = match named.filter(|named| !named.is_empty()) {
        Some(named) => format!(
            "$KUBECONFIG names {}, which does not exist",
            named.display()
        ),
        None => "$KUBECONFIG is not set, and there is no ~/.kube/config".to_owned(),
    };
    Failure::failed(
        "the Kubernetes API was not looked for",
        format!("{looked}; and this is no pod"),
    )
    .next("give one with --kubeconfig FILE")
    .next("or go round the Kubernetes API: --etcd-endpoints URL,URL,URL")
}

/// The kubeconfig, if there is one; one that was named must be there.
fn read(args: &KubeArgs) -> Result<Option<Kubeconfig>, Failure> {
    if let Some(file) = &args.kubeconfig {
        return Kubeconfig::read_from(file)
            .map(Some)
            .map_err(|error| read_failure(file, &error));
    }
    match Kubeconfig::read() {
        Ok(kubeconfig) => Ok(Some(kubeconfig)),
        Err(KubeconfigError::FindPath) => Ok(None),
        Err(KubeconfigError::ReadConfig(error, _))
            if error.kind() == std::io::ErrorKind::NotFound && args.context.is_none() =>
        {
            Ok(None)
        }
        Err(error) => Err(
            Failure::failed("the kubeconfig was not read", error.to_string())
                .next("give another one with --kubeconfig FILE"),
        ),
    }
}

fn read_failure(file: &Path, error: &KubeconfigError) -> Failure {
    let returned = match error {
        KubeconfigError::ReadConfig(error, _) => error.to_string(),
        other => other.to_string(),
    };
    Failure::failed(
        format!("kubeconfig {} was not read", file.display()),
        returned,
    )
    .next("give another one with --kubeconfig FILE")
}

fn context_failure(args: &KubeArgs, error: &KubeconfigError, contexts: &[String]) -> Failure {
    let failure = Failure::failed("the kubeconfig cannot be used", error.to_string());
    match (error, &args.context) {
        (KubeconfigError::LoadContext(_), Some(wanted)) => {
            let known = contexts.iter().map(String::as_str);
            let similar = names::similar_words(wanted, known);
            let names = if similar.is_empty() {
                contexts.join(", ")
            } else {
                similar.join(" or ")
            };
            Failure::failed(
                "the kubeconfig cannot be used",
                format!("it has no context {wanted:?}"),
            )
            .next(format!("its contexts: {names}"))
        }
        (KubeconfigError::CurrentContextNotSet, _) => failure.next(format!(
            "choose one with --context: {}",
            contexts.join(", ")
        )),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_CONTEXTS: &str = "apiVersion: v1
kind: Config
current-context: prod
contexts:
- {name: prod, context: {cluster: c, user: u, namespace: shop}}
- {name: test, context: {cluster: c, user: u}}
clusters:
- {name: c, cluster: {server: 'https://127.0.0.1:1'}}
users:
- {name: u, user: {}}
";

    fn args(context: Option<&str>) -> (KubeArgs, std::path::PathBuf) {
        let file = std::env::temp_dir().join(format!(
            "mactl-test-kubeconfig-{}-{}",
            std::process::id(),
            context.unwrap_or("none")
        ));
        std::fs::write(&file, TWO_CONTEXTS).unwrap();
        let args = KubeArgs {
            kubeconfig: Some(file.clone()),
            context: context.map(str::to_owned),
            ..KubeArgs::default()
        };
        (args, file)
    }

    #[test]
    fn the_namespace_is_that_of_the_flag_or_of_the_context() {
        let (mut given, file) = args(None);
        assert_eq!(namespace(&given).unwrap(), "shop");
        given.namespace = Some("bank".to_owned());
        assert_eq!(namespace(&given).unwrap(), "bank");
        let (other, other_file) = args(Some("test"));
        assert_eq!(namespace(&other).unwrap(), "default");
        std::fs::remove_file(file).unwrap();
        std::fs::remove_file(other_file).unwrap();
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_answered_with_those_that_are() {
        let (given, file) = args(Some("prd"));
        let failure = load(&given).await.unwrap_err();
        std::fs::remove_file(file).unwrap();
        assert_eq!(
            failure.to_string(),
            "the kubeconfig cannot be used: it has no context \"prd\"\n  next: its contexts: prod"
        );
    }

    #[test]
    fn a_kubeconfig_that_is_not_there_is_named() {
        let told = |named: Option<&str>| nowhere(named.map(Into::into)).to_string();
        assert!(told(Some("/no/file")).contains("$KUBECONFIG names /no/file, which does not"));
        assert!(told(None).contains("$KUBECONFIG is not set"));
        assert!(told(None).contains("--etcd-endpoints"));
    }

    #[test]
    fn a_kubeconfig_that_was_named_must_be_there() {
        let given = KubeArgs {
            kubeconfig: Some("/nowhere/at/all".into()),
            ..KubeArgs::default()
        };
        let failure = namespace(&given).unwrap_err();
        assert!(failure.to_string().contains("/nowhere/at/all"), "{failure}");
    }
}
