//! What is asked of an API server, and what is not.

use std::sync::{Arc, Mutex};

use hyper::{Request, Response};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use kube::client::Body;
use kube::runtime::reflector::store;
use kube::runtime::watcher;

use super::*;

/// An API server that answers every request with the same, and remembers what was asked.
fn server(answer: &Value, status: u16) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let (log, body) = (Arc::clone(&asked), answer.to_string());
    let service = tower::service_fn(move |request: Request<Body>| {
        let line = format!("{} {}", request.method(), request.uri().path());
        log.lock().unwrap().push(line);
        let body = Body::from(body.clone().into_bytes());
        let answer = Response::builder().status(status).body(body).unwrap();
        std::future::ready(Ok::<_, std::convert::Infallible>(answer))
    });
    (Client::new(service, "shop"), asked)
}

fn cluster(client: Client, leads: bool) -> Cluster {
    Cluster::new(client, Leadership::for_tests(leads), "test", Metrics::new())
}

fn map(owner: &str, data: &str) -> ConfigMap {
    ConfigMap {
        metadata: ObjectMeta {
            name: Some("a".to_owned()),
            namespace: Some("shop".to_owned()),
            owner_references: Some(vec![OwnerReference {
                uid: owner.to_owned(),
                name: owner.to_owned(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        data: Some([("key".to_owned(), data.to_owned())].into()),
        ..ConfigMap::default()
    }
}

/// The object as it is after it was applied, in a store.
fn applied(object: &ConfigMap) -> (Store<ConfigMap>, ConfigMap) {
    let hash = hash(&typed(object).unwrap());
    let mut live = object.clone();
    live.annotations_mut().insert(APPLIED.to_owned(), hash);
    let (reader, mut writer) = store();
    writer.apply_watcher_event(&watcher::Event::Apply(live.clone()));
    (reader, live)
}

#[tokio::test]
async fn what_is_there_already_is_not_written() {
    let (client, asked) = server(&json!({}), 200);
    let (store, _) = applied(&map("owner", "1"));
    cluster(client, true)
        .apply(&store, map("owner", "1"), "test")
        .await
        .unwrap();
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_differs_is_written_once() {
    let (store, live) = applied(&map("owner", "1"));
    let (client, asked) = server(&typed(&live).unwrap(), 200);
    cluster(client, true)
        .apply(&store, map("owner", "2"), "test")
        .await
        .unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        ["PATCH /api/v1/namespaces/shop/configmaps/a"]
    );
}

#[tokio::test]
async fn nothing_is_written_without_the_lease() {
    let (client, asked) = server(&json!({}), 200);
    let (store, _) = applied(&map("owner", "1"));
    let refused = cluster(client, false)
        .apply(&store, map("owner", "2"), "test")
        .await;
    assert!(
        matches!(refused, Err(ClusterError::NotLeader { .. })),
        "{refused:?}"
    );
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn what_belongs_to_somebody_else_is_left_alone() {
    let (store, live) = applied(&map("somebody", "1"));
    let (client, asked) = server(&typed(&live).unwrap(), 200);
    let cluster = cluster(client, true);
    let refused = cluster.apply(&store, map("owner", "2"), "test").await;
    assert!(
        matches!(refused, Err(ClusterError::Foreign { .. })),
        "{refused:?}"
    );
    cluster.delete(&store, "shop", "a", "owner").await.unwrap();
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
}
