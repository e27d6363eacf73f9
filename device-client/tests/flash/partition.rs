//! An image in flash, over power that fails at any write.

use imlink_device_client::blob::{Blob, BlobKind, BlobSink, BlobSource, Kept, Partition, PartitionError, Refusal};

use crate::nor::{Nor, PAGE, SIZE};

const CAPACITY: u32 = (SIZE - PAGE) as u32;

fn partition(nor: &Nor) -> Partition<Nor> {
    Partition::new(nor.clone(), 0..SIZE as u32, "image").unwrap()
}

fn blob(kind: BlobKind, content: &[u8], hash: u8) -> Blob {
    let (name, size) = (heapless::String::try_from("app").unwrap(), content.len() as u32);
    Blob { kind, name, size, sha256: [hash; 32], signature: heapless::Vec::new() }
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7) as u8).collect()
}

/// Writes from `offset` on in steps of a buffer of 512 bytes.
async fn write(partition: &mut Partition<Nor>, content: &[u8], offset: u32) -> Result<(), ()> {
    let rest = &content[offset as usize..];
    for (number, bytes) in rest.chunks(512).enumerate() {
        let at = offset + 512 * number as u32;
        partition.write(at, bytes).await.map_err(|_| ())?;
    }
    Ok(())
}

#[tokio::test]
async fn an_image_is_kept_marked_and_found_again() {
    let nor = Nor::new(0x5a);
    let content = content(2501);
    let blob = blob(BlobKind::Firmware, &content, 1);
    let mut flash = partition(&nor);
    assert_eq!(flash.image().await, Ok(None));
    assert_eq!(flash.begin(&blob).await, Ok(0));
    write(&mut flash, &content, 0).await.unwrap();
    assert!(!flash.image().await.unwrap().unwrap().is_verified);
    assert_eq!(flash.finish(&blob).await, Ok(Kept::Marked));
    let mut flash = partition(&nor);
    let image = flash.image().await.unwrap().unwrap();
    assert_eq!((image.size, image.is_verified, image.is_marked), (2501, true, true));
    assert_eq!(flash.begin(&blob).await, Ok(2501), "nothing of it is written again");
    assert_eq!(flash.find("image").await, Some((BlobKind::File, 2501)));
    assert_eq!(flash.find("other").await, None);
    let mut read = vec![0; 2501];
    BlobSink::read(&mut flash, 0, &mut read).await.unwrap();
    assert_eq!(read, content);
}

#[tokio::test]
async fn after_a_power_loss_at_any_write_no_whole_page_is_written_again_and_all_of_it_is_there() {
    let content = content(3000);
    let blob = blob(BlobKind::File, &content, 2);
    for words in 0.. {
        let nor = Nor::new(0xff);
        nor.fail_after(words);
        let mut flash = partition(&nor);
        let is_whole = match flash.begin(&blob).await {
            Ok(offset) => write(&mut flash, &content, offset).await.is_ok(),
            Err(refusal) => {
                assert_eq!(refusal, Refusal::Storage);
                false
            }
        };
        nor.power_on();
        let mut flash = partition(&nor);
        let offset = flash.begin(&blob).await.unwrap();
        assert!(offset % PAGE as u32 == 0, "{offset}");
        write(&mut flash, &content, offset).await.unwrap();
        assert_eq!(flash.finish(&blob).await, Ok(Kept::Stored));
        let mut read = vec![0; content.len()];
        BlobSink::read(&mut flash, 0, &mut read).await.unwrap();
        assert_eq!(read, content, "power failed after {words} words");
        if is_whole {
            assert!(words > 700, "{words}");
            return;
        }
    }
}

#[tokio::test]
async fn another_image_starts_anew_and_a_larger_one_is_refused() {
    let nor = Nor::new(0xff);
    let content = content(2048);
    let mut flash = partition(&nor);
    flash.begin(&blob(BlobKind::File, &content, 1)).await.unwrap();
    write(&mut flash, &content, 0).await.unwrap();
    assert_eq!(flash.begin(&blob(BlobKind::File, &content, 1)).await, Ok(2048));
    assert_eq!(flash.begin(&blob(BlobKind::File, &content, 2)).await, Ok(0));
    let large = vec![0; CAPACITY as usize + 1];
    assert_eq!(flash.begin(&blob(BlobKind::File, &large, 3)).await, Err(Refusal::TooLarge { max: CAPACITY }));
    flash.abort(&blob(BlobKind::File, &content, 2)).await;
    assert_eq!(flash.image().await, Ok(None));
}

#[test]
fn a_range_that_is_not_made_of_pages_is_no_partition() {
    for range in [0..PAGE as u32, 1..SIZE as u32, 0..SIZE as u32 - 1, 0..0] {
        assert_eq!(Partition::new(Nor::new(0xff), range, "x").err(), Some(PartitionError));
    }
}
