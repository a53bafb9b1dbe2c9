//! From custom resources to the documents that arbiters and links read.

use model::{
    ApplicationCheck, FailoverMode, FailoverPolicy, HeartbeatCheck, IdcDoc, MemberDoc, TlsSettings,
    UnitDoc,
};

use crate::{
    Automation, Endpoint, Failover, Heartbeat, HttpCheck, IdcRole, IdcSpec, Member, TlsMode,
    UnitSpec,
};

impl UnitSpec {
    /// The document that is published for this spec, of the custom resource with this UID and
    /// generation.
    pub fn document(&self, uid: &str, generation: i64) -> UnitDoc {
        UnitDoc {
            uid: uid.to_owned(),
            generation,
            databases: self.databases.clone(),
            members: self.members.iter().map(Member::document).collect(),
            failover: self.failover.document(),
            heartbeat: self.health_checks.heartbeat.document(),
            application: self.health_checks.http.as_ref().map(HttpCheck::document),
            paused: self.paused,
        }
    }

    /// The member in an IDC, if the Unit has one there.
    pub fn member(&self, idc: &model::IdcName) -> Option<&Member> {
        self.members.iter().find(|member| member.idc == *idc)
    }
}

impl IdcSpec {
    /// The document that is published for this spec.
    pub fn document(&self) -> IdcDoc {
        IdcDoc {
            role: match self.role {
                IdcRole::Data => model::IdcRole::Data,
                IdcRole::Witness => model::IdcRole::Witness,
            },
        }
    }
}

impl Member {
    fn document(&self) -> MemberDoc {
        MemberDoc {
            idc: self.idc.clone(),
            endpoint: self.endpoint.document(),
            priority: self.priority,
        }
    }
}

impl Endpoint {
    /// The same without the names of Secrets, which mean nothing outside Kubernetes.
    pub fn document(&self) -> model::Endpoint {
        model::Endpoint {
            host: self.host.clone(),
            port: self.port,
            tls: TlsSettings {
                mode: match self.tls.mode {
                    TlsMode::Disabled => model::TlsMode::Disabled,
                    TlsMode::Required => model::TlsMode::Required,
                    TlsMode::VerifyCa => model::TlsMode::VerifyCa,
                    TlsMode::VerifyIdentity => model::TlsMode::VerifyIdentity,
                },
            },
        }
    }
}

impl Failover {
    fn document(&self) -> FailoverPolicy {
        FailoverPolicy {
            mode: self.mode.into(),
            max_lag_millis: self.max_lag.as_millis(),
            cooldown_millis: self.cooldown.as_millis(),
            failback: self.failback.into(),
            failsafe: self.failsafe,
        }
    }
}

impl Heartbeat {
    fn document(&self) -> HeartbeatCheck {
        HeartbeatCheck {
            interval_millis: self.interval.as_millis(),
            timeout_millis: self.timeout.as_millis(),
            failures: self.failures,
        }
    }
}

impl HttpCheck {
    fn document(&self) -> ApplicationCheck {
        ApplicationCheck {
            url: self.url.clone(),
            interval_millis: self.interval.as_millis(),
            timeout_millis: self.timeout.as_millis(),
            failures: self.failures,
        }
    }
}

impl From<Automation> for FailoverMode {
    fn from(automation: Automation) -> Self {
        match automation {
            Automation::Automatic => Self::Automatic,
            Automation::Manual => Self::Manual,
        }
    }
}
