//! The certificate of the links, which the operator makes and renews.

use anyhow::{Result, ensure};
use harness::product::Product;

use crate::refusals::reinstall;

const SYSTEM: &str = "--namespace=multiactive-system";
const SECRET: &str = "secret/multiactive-transport";

#[test]
fn the_links_certificate_is_made_and_made_again_by_the_same_ca() {
    let world = tests::cluster().unwrap();
    let product = Product::of(&world);
    if let Err(error) = made_again(&product) {
        panic!("{error:?}\n{}", product.describe());
    }
}

fn made_again(product: &Product<'_>) -> Result<()> {
    reinstall(product)?;
    let first = issued(product, "")?;
    product.kubectl(&["delete", SECRET, SYSTEM])?;
    let second = issued(product, &first.1)?;
    ensure!(first.0 == second.0, "another CA: {first:?}, {second:?}");

    // One that is not ours is left alone, and that is said.
    product.kubectl(&["label", SECRET, SYSTEM, "app.kubernetes.io/name-"])?;
    tests::eventually("the operator says whose Secret it is", || {
        let operator = "--selector=app.kubernetes.io/component=operator";
        let log = product.kubectl(&["logs", SYSTEM, operator, "--tail=200"])?;
        ensure!(log.contains("was not made by multiactive"), "{log}");
        Ok(())
    })?;
    ensure!(files(product)?.1 == second.1, "it was written to");
    product.kubectl(&[
        "label",
        SECRET,
        SYSTEM,
        "app.kubernetes.io/name=multiactive",
    ])?;
    Ok(())
}

/// `ca.crt` and `tls.crt` once there is a certificate, and another one than this.
fn issued(product: &Product<'_>, old: &str) -> Result<(String, String)> {
    tests::eventually("a certificate of the links", || {
        let files = files(product)?;
        ensure!(!files.1.is_empty() && files.1 != old, "there is none yet");
        Ok(files)
    })
}

fn files(product: &Product<'_>) -> Result<(String, String)> {
    let file = |key: &str| {
        let path = format!("--output=jsonpath={{.data.{key}}}");
        product.kubectl(&["get", SECRET, SYSTEM, &path])
    };
    Ok((file("ca\\.crt")?, file("tls\\.crt")?))
}
