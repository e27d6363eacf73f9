//! What `imlink new-firmware` writes.

use std::path::{Path, PathBuf};
use std::process::Command;

use imlink_firmware_tests::backend::Backend;
use imlink_firmware_tests::board::{Board, Setup, firmware};
use imlink_tests::node::{Node, run};

use crate::DEVICE;

/// Builds the project's board as `firmware-example/build` does, in the same folder, so that what both use is there.
fn build(project: &Path, repository: &Path) -> PathBuf {
    // target/fw-boards/TARGET/release/IMAGE
    let release = firmware().parent().expect("an image lies in a folder").to_path_buf();
    let target = release.ancestors().nth(2).expect("cargo's folders");
    let script = format!(
        ". {}/firmware-example/toolchain.sh && cd {}/board && bare_cargo thumbv7m-none-eabi build --release",
        repository.display(),
        project.display()
    );
    let done = Command::new("bash").args(["-euc", &script]).env("CARGO_TARGET_DIR", target).output();
    let done = done.expect("bash runs");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    release.join("lamp")
}

#[tokio::test]
async fn a_new_project_builds_and_its_image_carries_out_a_command() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (project, repository) = (folder.path().join("lamp"), Path::new(env!("CARGO_MANIFEST_DIR")).join("../.."));
    let (path, source) = (project.to_string_lossy(), repository.to_string_lossy());
    let said = run(&["new-firmware", "lamp", "--board", "qemu-mps2-an385", "--path", &path, "--source", &source]);
    assert!(said.contains("cargo build --release"), "{said}");
    let image = build(&project, &repository);

    let node = Node::gateway(&[]).await;
    node.api().provision(DEVICE).await;
    let mut board = Board::start(Setup::new(DEVICE, &[node.devices()]).of(&image));
    board.attached(1).await;
    Backend::new(node.api(), DEVICE).do_now("led/set", &true).await;
    assert!(board.is_led_on());
}
