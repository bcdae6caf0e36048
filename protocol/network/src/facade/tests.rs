//! Both planes together, on loopback.

use super::*;

async fn member(
    seed: u8,
    dir: &std::path::Path,
    bootstrap: Vec<String>,
) -> (Network, mpsc::Receiver<NetworkEvent>, BlobStore) {
    let store = BlobStore::open(&dir.join(seed.to_string())).unwrap();
    let config = NetworkConfig { bootstrap, ..NetworkConfig::default() };
    let (network, events) = start(config, &Keypair::from_seed([seed; 32]), store.clone()).await.unwrap();
    (network, events, store)
}

#[tokio::test]
async fn a_blob_goes_from_one_node_to_another_that_it_met_through_a_third() {
    let dir = tempfile::tempdir().unwrap();
    let (hub, _hub_events, _) = member(1, dir.path(), Vec::new()).await;
    let (giver, _giver_events, given) = member(2, dir.path(), hub.control_addresses()).await;
    let (taker, _taker_events, taken) = member(3, dir.path(), hub.control_addresses()).await;
    let content: Vec<u8> = (0..300_000u32).map(|index| (index.wrapping_mul(index) >> 7) as u8).collect();
    let blob = given.put(&content).unwrap();
    taker.fetch(blob).await.unwrap();
    assert!(taker.who_has(&blob.digest).await.contains(&giver.id()));
    assert_eq!(taken.read(&blob.digest, blob.bytes).unwrap(), content);
    let traffic = taker.bytes();
    assert!(traffic.bulk_received >= blob.bytes, "{traffic:?}");
    assert!(traffic.control_sent > 0 && traffic.control_received > 0, "{traffic:?}");
}

#[tokio::test]
async fn after_the_shutdown_the_control_port_is_free_and_the_handle_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (one, mut events, _) = member(1, dir.path(), Vec::new()).await;
    let control = one.control_addresses().remove(0);
    one.shutdown().await;
    let port = control.split('/').nth(4).unwrap();
    std::net::UdpSocket::bind(format!("127.0.0.1:{port}")).unwrap();
    assert!(events.recv().await.is_none());
    assert_eq!(one.request(one.id(), Vec::new()).await, Err(RequestError::ShutDown));
    one.publish("news".to_owned(), Vec::new()).await;
    one.shutdown().await;
}
