//! Where other clusters reach a syncer: pure functions of what Kubernetes says.

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;

use super::plan::SERVE_PORT;

fn at(host: &str) -> String {
    if host.contains(':') {
        format!("[{host}]:{SERVE_PORT}")
    } else {
        format!("{host}:{SERVE_PORT}")
    }
}

/// What a load balancer in front of the Service was given: an address, or else a name.
pub fn balanced(service: &Service) -> Option<String> {
    let status = service.status.as_ref()?.load_balancer.as_ref()?;
    let first = status.ingress.as_ref()?.first()?;
    let host = first.ip.as_ref().or(first.hostname.as_ref())?;
    Some(at(host))
}

/// The address of the syncer's pod. The lowest, where an old one has not gone yet, so that it does
/// not change to and fro; one that is on its way out only if there is no other.
pub fn routed<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Option<String> {
    let endpoints = slices.flat_map(|slice| slice.endpoints.iter().flatten());
    let mut found: Vec<(bool, &String)> = endpoints
        .flat_map(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            let ends = conditions.is_some_and(|found| found.terminating == Some(true));
            endpoint
                .addresses
                .iter()
                .map(move |address| (ends, address))
        })
        .collect();
    found.sort();
    found.first().map(|(_, host)| at(host))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_load_balancers_address_goes_before_its_name() {
        let with = |ingress: serde_json::Value| {
            let service = json!({"status": {"loadBalancer": {"ingress": [ingress]}}});
            balanced(&serde_json::from_value(service).unwrap())
        };
        let both = with(json!({"ip": "192.0.2.1", "hostname": "lb.example"}));
        assert_eq!(both.unwrap(), "192.0.2.1:7443");
        let name = with(json!({"hostname": "lb.example"}));
        assert_eq!(name.unwrap(), "lb.example:7443");
        assert_eq!(
            with(json!({"ip": "2001:db8::1"})).unwrap(),
            "[2001:db8::1]:7443"
        );
        assert_eq!(with(json!({})), None);
        assert_eq!(balanced(&Service::default()), None);
    }

    #[test]
    fn a_pod_that_stays_goes_before_one_that_ends() {
        let slice: EndpointSlice = serde_json::from_value(json!({
            "addressType": "IPv4",
            "endpoints": [
                {"addresses": ["10.0.0.1"], "conditions": {"terminating": true}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": false}},
            ],
        }))
        .unwrap();
        assert_eq!(routed([&slice].into_iter()).unwrap(), "10.0.0.2:7443");
        assert_eq!(routed(std::iter::empty()), None);
    }
}
