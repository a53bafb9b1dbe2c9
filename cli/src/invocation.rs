//! The commands we tell people to type: with the flags that they gave to this one, and quoted.

use crate::args::{EtcdArgs, KubeArgs};

/// How this program was called, as far as a command we suggest has to repeat it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Invocation {
    program: String,
    kubectl_flags: Vec<String>,
    own_flags: Vec<String>,
    knows_etcd: bool,
}

impl Invocation {
    /// Takes the name users call this program by, and the flags that say where to look.
    pub fn new(program: &str, kube: &KubeArgs, etcd: Option<&EtcdArgs>) -> Self {
        let mut kubectl_flags = Vec::new();
        if let Some(file) = &kube.kubeconfig {
            flag(
                &mut kubectl_flags,
                "--kubeconfig",
                &file.display().to_string(),
            );
        }
        if let Some(context) = &kube.context {
            flag(&mut kubectl_flags, "--context", context);
        }
        if let Some(user) = &kube.impersonate {
            flag(&mut kubectl_flags, "--as", user);
        }
        let own_flags = match etcd {
            Some(etcd) if !etcd.etcd_endpoints.is_empty() => etcd_flags(etcd),
            _ => kubectl_flags.clone(),
        };
        Self {
            program: program.to_owned(),
            kubectl_flags,
            own_flags,
            knows_etcd: etcd.is_some(),
        }
    }

    /// The name users call this program by.
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Whether the command that was called can go round the Kubernetes API.
    pub fn knows_etcd(&self) -> bool {
        self.knows_etcd
    }

    /// A command of ours.
    pub fn own(&self, words: &str) -> String {
        joined(&self.program, words, &self.own_flags)
    }

    /// A command of ours that works against etcd whatever this one did.
    pub fn own_by_etcd(&self, words: &str) -> String {
        format!(
            "{} {words} --etcd-endpoints https://ETCD:2379 --etcd-ca FILE --etcd-cert FILE --etcd-key \
             FILE",
            self.program
        )
    }

    /// A command of kubectl's.
    pub fn kubectl(&self, words: &str) -> String {
        joined("kubectl", words, &self.kubectl_flags)
    }
}

fn etcd_flags(etcd: &EtcdArgs) -> Vec<String> {
    let mut flags = Vec::new();
    flag(
        &mut flags,
        "--etcd-endpoints",
        &etcd.etcd_endpoints.join(","),
    );
    if etcd.etcd_prefix != "/multiactive/" {
        flag(&mut flags, "--etcd-prefix", &etcd.etcd_prefix);
    }
    let files = [
        ("--etcd-ca", &etcd.etcd_ca),
        ("--etcd-cert", &etcd.etcd_cert),
        ("--etcd-key", &etcd.etcd_key),
    ];
    for (name, file) in files {
        if let Some(file) = file {
            flag(&mut flags, name, &file.display().to_string());
        }
    }
    flags
}

fn flag(flags: &mut Vec<String>, name: &str, value: &str) {
    flags.push(name.to_owned());
    flags.push(quoted(value));
}

fn joined(program: &str, words: &str, flags: &[String]) -> String {
    let mut text = format!("{program} {words}");
    for flag in flags {
        text.push(' ');
        text.push_str(flag);
    }
    text
}

/// The word as a shell reads it back.
pub fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suggested_commands_repeat_where_to_look() {
        let kube = KubeArgs {
            kubeconfig: Some("/tmp/my config".into()),
            context: Some("prod".into()),
            ..KubeArgs::default()
        };
        let by_kube = Invocation::new("kubectl ma", &kube, None);
        assert_eq!(
            by_kube.own("status shop/orders"),
            "kubectl ma status shop/orders --kubeconfig '/tmp/my config' --context prod"
        );
        let etcd = EtcdArgs {
            etcd_endpoints: vec!["https://a:2379".into(), "https://b:2379".into()],
            etcd_prefix: "/multiactive/".into(),
            etcd_ca: Some("ca.crt".into()),
            ..EtcdArgs::default()
        };
        let by_etcd = Invocation::new("mactl", &kube, Some(&etcd));
        assert_eq!(
            by_etcd.own("status"),
            "mactl status --etcd-endpoints https://a:2379,https://b:2379 --etcd-ca ca.crt"
        );
        assert_eq!(
            by_etcd.kubectl("get unit"),
            "kubectl get unit --kubeconfig '/tmp/my config' --context prod"
        );
    }

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        assert_eq!(quoted(""), "''");
    }
}
