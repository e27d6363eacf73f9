//! Files and firmware images to devices and back, over cuts and restarts, beside other traffic.

use std::process::Output;
use std::time::Duration;

use imlink_protocol::blob::{Ack, Chunk, Done, Outcome};
use imlink_protocol::message::{FromDevice, Hello, ToDevice};
use imlink_tests::blob::{blob, content, json, text, write};
use imlink_tests::cluster::Cluster;
use imlink_tests::keeper::{BUFFER, KEPT_MAX, Keeper};
use imlink_tests::node::Node;
use imlink_tests::proxy::{Fault, Proxy};
use imlink_tests::redis::{Keep, Redis};
use imlink_tests::wire::{Wire, hello};
use tempfile::TempDir;

/// A gateway, a device behind a proxy, its folder, and a folder of the backend's.
struct World {
    node: Node,
    proxy: Proxy,
    keeper: Keeper,
    kept: TempDir,
    mine: TempDir,
}

impl World {
    async fn new(settings: &[&str], key: Option<[u8; 32]>) -> Self {
        let node = Node::gateway(settings).await;
        node.api().provision("lamp").await;
        let proxy = Proxy::start(node.devices()).await;
        let [kept, mine] = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder"));
        let keeper = Keeper::start("lamp", proxy.address(), kept.path(), key);
        Self { node, proxy, keeper, kept, mine }
    }

    fn write(&self, name: &str, bytes: &[u8]) -> String {
        write(self.mine.path(), name, bytes)
    }

    async fn blob(&self, arguments: &[&str]) -> Output {
        blob(self.node.http(), arguments).await
    }
}

#[tokio::test]
async fn a_file_goes_to_a_device_and_comes_back_the_same() {
    let world = World::new(&[], None).await;
    for len in [0, 1, BUFFER as u32, 300_001] {
        let bytes = content(len);
        let file = world.write("tune", &bytes);
        let sent = json(&world.blob(&["send", "lamp", &file, "--json"]).await);
        assert_eq!((sent["state"].as_str(), sent["size"].as_u64()), (Some("stored"), Some(len.into())));
        assert_eq!(world.keeper.file("tune"), Some(bytes.clone()));
        let back = world.mine.path().join("back");
        let fetched = world.blob(&["fetch", "lamp", "tune", "-o", back.to_str().unwrap(), "--json"]).await;
        assert_eq!(json(&fetched)["sha256"], sent["sha256"]);
        assert_eq!(std::fs::read(&back).unwrap(), bytes);
    }
    let left: Vec<_> = std::fs::read_dir(world.kept.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["tune"], "nothing half stays behind");
}

#[tokio::test]
async fn a_cut_in_the_middle_sends_no_byte_again_that_the_device_has() {
    let world = World::new(&[], None).await;
    let bytes = content(400_000);
    let file = world.write("app", &bytes);
    world.keeper.hold_behind(200_704);
    let cut = async {
        world.keeper.has_written(200_704).await;
        world.proxy.cut();
        world.keeper.hold_behind(u32::MAX);
    };
    let (sent, ()) = tokio::join!(async { world.blob(&["send", "lamp", &file, "--json"]).await }, cut);
    assert!(json(&sent)["interrupted"].as_u64() > Some(0), "{}", text(&sent));
    assert_eq!(world.keeper.file("app"), Some(bytes));
    let passed = world.proxy.passed();
    assert!(passed < 460_000, "{passed} bytes passed for 400,000");
}

#[tokio::test]
async fn a_gateway_that_is_killed_in_the_middle_goes_on_where_the_device_is() {
    let redis = Redis::start(Keep::Everything).await;
    let settings = redis.settings();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let mut world = World::new(&settings, None).await;
    let bytes = content(400_000);
    let file = world.write("app", &bytes);
    world.keeper.hold_behind(200_704);
    let http = world.node.http();
    let kill = async {
        world.keeper.has_written(200_704).await;
        world.node.restart().await;
        world.keeper.hold_behind(u32::MAX);
    };
    let (sent, ()) = tokio::join!(async { blob(http, &["send", "lamp", &file, "--json"]).await }, kill);
    assert_eq!(json(&sent)["state"], "stored");
    assert_eq!(world.keeper.file("app"), Some(bytes));
    let passed = world.proxy.passed();
    assert!(passed < 480_000, "{passed} bytes passed for 400,000");
}

#[tokio::test]
async fn a_device_that_lost_power_goes_on_with_what_it_had_written() {
    let mut world = World::new(&[], None).await;
    let bytes = content(400_000);
    let file = world.write("app", &bytes);
    world.keeper.hold_behind(200_704);
    let http = world.node.http();
    let again = async {
        world.keeper.has_written(200_704).await;
        world.keeper.power_off();
        world.keeper = Keeper::start("lamp", world.proxy.address(), world.kept.path(), None);
    };
    let (sent, ()) = tokio::join!(async { blob(http, &["send", "lamp", &file, "--json"]).await }, again);
    assert_eq!(json(&sent)["state"], "stored");
    assert_eq!(world.keeper.file("app"), Some(bytes));
    let passed = world.proxy.passed();
    assert!(passed < 480_000, "{passed} bytes passed for 400,000");
}

#[tokio::test]
async fn a_fetch_that_is_cut_goes_on_with_what_came() {
    let world = World::new(&[], None).await;
    let bytes = content(400_000);
    write(world.kept.path(), "log", &bytes);
    let back = world.mine.path().join("log");
    let cut = async {
        // Slow enough to be cut.
        world.proxy.set(Fault::Delay(Duration::from_millis(20)));
        let passed = || world.proxy.passed();
        imlink_tests::wait::eventually("half of it", Duration::from_secs(30), async || {
            (passed() > 100_000).then_some(())
        })
        .await;
        world.proxy.cut();
        world.proxy.set(Fault::None);
    };
    let (fetched, ()) = tokio::join!(
        async { world.blob(&["fetch", "lamp", "log", "-o", back.to_str().unwrap(), "--json"]).await },
        cut
    );
    json(&fetched);
    assert_eq!(std::fs::read(&back).unwrap(), bytes);
    let passed = world.proxy.passed();
    assert!(passed < 560_000, "{passed} bytes passed for 400,000, with a window of 32,768 twice");
}

#[tokio::test]
async fn only_an_image_that_is_signed_by_the_pinned_key_is_taken() {
    let mine = tempfile::tempdir().unwrap();
    let [good, other] = ["good.key", "other.key"].map(|name| mine.path().join(name).to_str().unwrap().to_owned());
    let public = imlink_tests::node::run(&["blob", "key", &good]);
    imlink_tests::node::run(&["blob", "key", &other]);
    let world = World::new(&[], Some(key(public.trim()))).await;
    let file = world.write("app", &content(50_000));
    let send = async |key: &str| world.blob(&["send", "lamp", &file, "--as", "firmware", "--sign-key", key]).await;
    let refused = send(&other).await;
    assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
    assert!(text(&refused).contains("blob-signature"), "{}", text(&refused));
    assert!(world.proxy.passed() < 5_000, "not one byte of it was sent");
    let taken = send(&good).await;
    assert!(text(&taken).starts_with("stored app on lamp"), "{}", text(&taken));
}

fn key(hex: &str) -> [u8; 32] {
    let bytes: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    bytes.try_into().unwrap()
}

#[tokio::test]
async fn what_is_too_large_is_refused_at_the_start_naming_what_is_taken() {
    let world = World::new(&["route.blob_len_max=2000000"], None).await;
    for (len, max) in [(KEPT_MAX + 1, "1000000 bytes"), (2_000_001, "at most 2000000")] {
        let refused = world.blob(&["send", "lamp", &world.write("app", &content(len))]).await;
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        assert!(text(&refused).contains("too-large") && text(&refused).contains(max), "{}", text(&refused));
    }
    assert!(world.proxy.passed() < 5_000, "{} bytes passed", world.proxy.passed());
}

#[tokio::test]
async fn bytes_with_another_hash_are_dropped_and_said_to_be_so() {
    let world = World::new(&[], None).await;
    let wrong = "00".repeat(32);
    let path = format!("/v1/devices/lamp/blobs/app?size=5000&sha256={wrong}");
    let api = world.node.api();
    let refused = imlink_tests::wait::eventually("an answer", Duration::from_secs(20), async || {
        let answer = api.ask(api.request(reqwest::Method::PUT, &path).body(content(5000))).await;
        (answer.status != 404).then_some(answer)
    })
    .await;
    assert_eq!((refused.status, refused.problem()), (422, "blob-hash".to_owned()), "{refused:?}");
    assert_eq!(std::fs::read_dir(world.kept.path()).unwrap().count(), 0);
    let unknown = world.blob(&["fetch", "lamp", "nothing"]).await;
    assert!(text(&unknown).contains("not-found"), "{}", text(&unknown));
}

#[tokio::test]
async fn two_transfers_run_at_once_and_a_second_one_of_a_device_is_busy() {
    let world = World::new(&[], None).await;
    world.node.api().provision("other").await;
    let folder = tempfile::tempdir().unwrap();
    let other = Keeper::start("other", world.node.devices(), folder.path(), None);
    let [one, two] = [("one", 200_000), ("two", 150_000)].map(|(name, len)| world.write(name, &content(len)));
    world.keeper.hold_behind(40_960);
    let meanwhile = async {
        world.keeper.has_written(40_960).await;
        json(&world.blob(&["send", "other", &two, "--json"]).await);
        let busy = world.blob(&["send", "lamp", &two, "--wait", "0"]).await;
        assert!(text(&busy).contains("busy"), "{}", text(&busy));
        world.keeper.hold_behind(u32::MAX);
    };
    let (first, ()) = tokio::join!(async { world.blob(&["send", "lamp", &one, "--json"]).await }, meanwhile);
    json(&first);
    assert_eq!(world.keeper.file("one"), Some(content(200_000)));
    assert_eq!(other.file("two"), Some(content(150_000)));
}

#[tokio::test]
async fn a_message_is_handled_while_a_transfer_waits_for_flash() {
    let world = World::new(&[], None).await;
    let file = world.write("app", &content(200_000));
    world.keeper.hold_behind(40_960);
    let meanwhile = async {
        world.keeper.has_written(40_960).await;
        for count in 1..=20 {
            let acked = world.node.api().send("lamp", "led/set", "?wait=acked", *b"on").await;
            assert_eq!((acked.text("state").as_str(), world.keeper.messages()), ("acked", count));
        }
        world.keeper.hold_behind(u32::MAX);
    };
    let (sent, ()) = tokio::join!(async { world.blob(&["send", "lamp", &file, "--json"]).await }, meanwhile);
    json(&sent);
}

/// What a message waits behind is what the device offered, and nothing more, however much the route has.
#[tokio::test]
async fn a_message_passes_all_chunks_that_the_device_did_not_ask_for() {
    let node = Node::gateway(&[]).await;
    let api = node.api();
    api.provision_plain("lamp").await;
    let (mut wire, _) = Wire::attach(node.plain(), Hello { receive_limit: 300, ..hello("lamp") }).await;
    wire.send(&FromDevice::BlobAck(Ack { transfer: 0, offset: 0, limit: 1000 })).await;
    let put = {
        let api = api.clone();
        tokio::spawn(async move {
            let path = format!("/v1/devices/lamp/blobs/app?size=60000&sha256={}", "ab".repeat(32));
            loop {
                let answer = api.ask(api.request(reqwest::Method::PUT, &path).body(content(60_000))).await;
                // What the device said may come later than what the backend asks.
                if answer.status != 429 {
                    return answer;
                }
            }
        })
    };
    let opened = wire.next().await.unwrap();
    let ToDevice::BlobOpen(open) = opened.read() else { panic!("{opened:?}") };
    let transfer = open.transfer;
    let mut next = 0;
    for window in 1..=3 {
        wire.send(&FromDevice::BlobAck(Ack { transfer, offset: next, limit: window * 1000 })).await;
        while next < window * 1000 {
            let body = wire.next().await.unwrap();
            let ToDevice::BlobChunk(Chunk { offset, bytes, .. }) = body.read() else { panic!("{body:?}") };
            assert_eq!(offset, next);
            assert!(bytes.len() <= 300 - 33, "{} bytes", bytes.len());
            next += bytes.len() as u32;
        }
        api.send("lamp", "led/set", "", [window as u8]).await;
        let body = wire.next().await.unwrap();
        let ToDevice::Message { sequence, .. } = body.read() else { panic!("{body:?} before the message") };
        wire.send(&FromDevice::Ack { sequence }).await;
    }
    wire.send(&FromDevice::BlobDone(Done { transfer, outcome: Outcome::Storage, detail: 0 })).await;
    assert_eq!(put.await.unwrap().status, 502);
}

#[tokio::test]
async fn any_route_reaches_a_device_on_any_server() {
    let cluster = Cluster::start(2, 2, &[]).await;
    let api = cluster.routes[0].api();
    api.provision("lamp").await;
    let folder = tempfile::tempdir().unwrap();
    let keeper = Keeper::start("lamp", cluster.logins()[0], folder.path(), None);
    let file = write(folder.path(), "from-here", &content(100_000));
    for (route, name) in cluster.routes.iter().zip(["one", "two"]) {
        json(&blob(route.http(), &["send", "lamp", &file, "--name", name, "--json"]).await);
        assert_eq!(keeper.file(name), Some(content(100_000)));
    }
}
