//! Firmware images to the board, and back.

use std::time::Duration;

use imlink_firmware_tests::board::{Board, Setup};
use imlink_tests::blob::{blob, content, json, text, write};
use imlink_tests::node::{self, Node};
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::wait::eventually;
use tempfile::TempDir;

use crate::DEVICE;

/// A link on which a transfer takes long enough to be cut.
const SLOW: Fault = Fault::Delay(Duration::from_millis(20));

/// A gateway, a board behind a proxy that pins an update key, and the backend's folder with that key.
struct World {
    node: Node,
    proxy: Proxy,
    board: Board,
    mine: TempDir,
    key: String,
}

impl World {
    async fn new() -> Self {
        let mine = tempfile::tempdir().expect("a temporary folder");
        let key = mine.path().join("update.key").display().to_string();
        let public = node::run(&["blob", "key", &key]);
        let node = Node::gateway(&[]).await;
        node.api().provision(DEVICE).await;
        let proxy = Proxy::start(node.devices()).await;
        let setup = Setup::new(DEVICE, &[proxy.address()]).with(&format!("update_key={}", public.trim()));
        let board = Board::start(setup);
        board.attached(1).await;
        Self { node, proxy, board, mine, key }
    }

    async fn send(&self, image: &str, key: &str) -> std::process::Output {
        let arguments = ["send", DEVICE, image, "--as", "firmware", "--sign-key", key, "--json"];
        blob(self.node.http(), &arguments).await
    }

    /// What the board has as its image.
    async fn image(&self) -> Vec<u8> {
        let back = self.mine.path().join("back").display().to_string();
        json(&blob(self.node.http(), &["fetch", DEVICE, "image", "-o", &back, "--json"]).await);
        std::fs::read(back).expect("the file that was fetched")
    }
}

#[tokio::test]
async fn an_image_is_verified_stored_marked_and_reported_and_there_after_a_power_cycle() {
    let mut world = World::new().await;
    let content = content(50_001);
    let image = write(world.mine.path(), "app-1.2.0", &content);
    let sent = json(&world.send(&image, &world.key).await);
    assert_eq!(sent["state"], "marked", "{sent}");
    assert_eq!(world.image().await, content);
    world.board.power_cycle();
    world.board.attached(2).await;
    assert_eq!(world.image().await, content, "and it is still known to be whole");
}

#[tokio::test]
async fn an_image_with_the_signature_of_another_key_is_refused_before_its_first_byte() {
    let world = World::new().await;
    let other = world.mine.path().join("other.key").display().to_string();
    node::run(&["blob", "key", &other]);
    let image = write(world.mine.path(), "app-1.2.0", &content(50_000));
    let before = world.proxy.passed();
    let refused = world.send(&image, &other).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("blob-signature"), "{}", text(&refused));
    assert!(world.proxy.passed() - before < 2_000, "{} bytes passed", world.proxy.passed() - before);
}

#[tokio::test]
async fn an_image_that_is_too_large_for_its_partition_is_refused_at_the_start() {
    let world = World::new().await;
    let image = write(world.mine.path(), "app-1.2.0", &content(32 * 4096 + 1));
    let refused = world.send(&image, &world.key).await;
    assert!(text(&refused).contains("at most 131072 bytes"), "{}", text(&refused));
}

#[tokio::test]
async fn a_transfer_that_is_cut_in_the_middle_is_not_started_again() {
    let world = World::new().await;
    let content = content(120_000);
    let image = write(world.mine.path(), "app-1.2.0", &content);
    let before = world.proxy.passed();
    world.proxy.set(SLOW);
    let cut = async {
        eventually("half of the image is sent", Duration::from_secs(50), async || {
            (world.proxy.passed() - before > 60_000).then_some(())
        })
        .await;
        world.proxy.cut();
        world.proxy.set(Fault::None);
    };
    let (sent, ()) = tokio::join!(world.send(&image, &world.key), cut);
    let sent = json(&sent);
    assert!(sent["state"] == "marked" && sent["interrupted"].as_u64() > Some(0), "{sent}");
    let passed = world.proxy.passed() - before;
    assert!(passed < 150_000, "{passed} bytes passed for 120,000");
    assert_eq!(world.image().await, content);
}

#[tokio::test]
async fn a_power_cycle_in_the_middle_costs_no_page_that_was_written() {
    let mut world = World::new().await;
    let content = content(120_000);
    let image = write(world.mine.path(), "app-1.2.0", &content);
    let before = world.proxy.passed();
    world.proxy.set(SLOW);
    let (http, key) = (world.node.http(), world.key.clone());
    let arguments = ["send", DEVICE, &image, "--as", "firmware", "--sign-key", &key, "--json"];
    let (proxy, board) = (&world.proxy, &mut world.board);
    let cycle = async {
        eventually("half of the image is sent", Duration::from_secs(50), async || {
            (proxy.passed() - before > 60_000).then_some(())
        })
        .await;
        board.power_cycle();
        proxy.set(Fault::None);
    };
    let (sent, ()) = tokio::join!(blob(http, &arguments), cycle);
    assert_eq!(json(&sent)["state"], "marked");
    let passed = world.proxy.passed() - before;
    assert!(passed < 150_000, "{passed} bytes passed for 120,000");
    assert_eq!(world.image().await, content);
}
