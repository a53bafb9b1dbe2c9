//! Certificates and tokens of the local cluster, made anew for each world.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::network::Network;
use crate::shell;

/// The users of the API server, their groups, and so what they may do.
const USERS: [(&str, &str, &str); 6] = [
    ("admin", "admin", "system:masters"),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
    ("kubelet", "system:node:local", "system:nodes"),
    ("kube-proxy", "system:kube-proxy", ""),
    ("coredns", "multiactive:coredns", "multiactive:dns"),
];

/// The files of one cluster's keys, certificates and kubeconfigs.
pub(super) struct Pki {
    directory: PathBuf,
    server: String,
}

impl Pki {
    /// Makes everything in `directory`, for an API server at this port of the node.
    pub(super) fn make(directory: &Path, network: Network, port: u16) -> Result<Self> {
        fs::create_dir_all(directory)?;
        let pki = Self {
            directory: directory.to_path_buf(),
            server: format!("https://{}:{port}", network.node()),
        };
        pki.authority()?;
        let names = format!(
            "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,\
             DNS:kubernetes.default.svc.cluster.local,DNS:localhost,IP:127.0.0.1,IP:{},IP:{}",
            network.node(),
            network.service(1)
        );
        pki.certificate(
            "apiserver",
            "/CN=kube-apiserver",
            &format!("subjectAltName={names}"),
        )?;
        pki.certificate(
            "apiserver-to-kubelet",
            "/O=system:masters/CN=kube-apiserver",
            "extendedKeyUsage=clientAuth",
        )?;
        pki.key("service-accounts.key")?;
        let (private, public) = ("service-accounts.key", "service-accounts.pub");
        pki.openssl(&["pkey", "-in", private, "-pubout", "-out", public])?;
        pki.tokens()?;
        Ok(pki)
    }

    pub(super) fn path(&self, file: &str) -> String {
        self.directory.join(file).display().to_string()
    }

    /// The kubeconfig of one of the users.
    pub(super) fn kubeconfig(&self, user: &str) -> String {
        self.path(&format!("{user}.kubeconfig"))
    }

    fn openssl(&self, words: &[&str]) -> Result<()> {
        shell::run(shell::command("openssl", words).current_dir(&self.directory))
    }

    fn key(&self, file: &str) -> Result<()> {
        let curve = "ec_paramgen_curve:P-256";
        self.openssl(&[
            "genpkey",
            "-algorithm",
            "EC",
            "-pkeyopt",
            curve,
            "-out",
            file,
        ])
    }

    fn authority(&self) -> Result<()> {
        self.key("ca.key")?;
        self.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "ca.key",
            "-subj",
            "/CN=multiactive local cluster",
            "-days",
            "3650",
            "-out",
            "ca.crt",
        ])
    }

    fn certificate(&self, name: &str, subject: &str, extension: &str) -> Result<()> {
        let (key, request) = (format!("{name}.key"), format!("{name}.csr"));
        let (extensions, certificate) = (format!("{name}.ext"), format!("{name}.crt"));
        self.key(&key)?;
        fs::write(self.directory.join(&extensions), extension)?;
        self.openssl(&[
            "req", "-new", "-key", &key, "-subj", subject, "-out", &request,
        ])?;
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.crt",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            "3650",
            "-extfile",
            &extensions,
            "-out",
            &certificate,
        ])
    }

    /// Tokens rather than certificates for the users: a kubeconfig then is one readable file.
    fn tokens(&self) -> Result<()> {
        let authority = shell::text(
            shell::command("openssl", ["base64", "-A", "-in", "ca.crt"])
                .current_dir(&self.directory),
        )?;
        let mut tokens = String::new();
        for (name, user, group) in USERS {
            let token = shell::text(&mut shell::command("openssl", ["rand", "-hex", "16"]))?;
            tokens.push_str(&format!("{token},{user},{user},\"{group}\"\n"));
            let path = self.kubeconfig(name);
            fs::write(&path, self.kubeconfig_text(&authority, user, &token))
                .with_context(|| format!("cannot write {path}"))?;
        }
        fs::write(self.path("tokens.csv"), tokens)?;
        Ok(())
    }

    fn kubeconfig_text(&self, authority: &str, user: &str, token: &str) -> String {
        let server = &self.server;
        format!(
            "apiVersion: v1\n\
             kind: Config\n\
             clusters:\n\
             - name: multiactive\n\
             \x20 cluster:\n\
             \x20   server: {server}\n\
             \x20   certificate-authority-data: {authority}\n\
             users:\n\
             - name: {user}\n\
             \x20 user:\n\
             \x20   token: {token}\n\
             contexts:\n\
             - name: multiactive\n\
             \x20 context: {{cluster: multiactive, user: \"{user}\"}}\n\
             current-context: multiactive\n"
        )
    }
}
