//! What a device keeps in flash, over power that fails at any write.

mod events;
mod gateway;
mod keys;
mod lives;
mod nor;
mod partition;
#[path = "../common/wire.rs"]
mod wire;

use embassy_sync::mutex::Mutex;
use imlink_device_client::flash::{FlashError, FlashStore, KEY_FIRST, RECORD_MAX};
use imlink_device_client::{CursorStore, MessageId, NoopRawMutex, Resume};

use nor::{Nor, PAGE, SIZE};

const RANGE: core::ops::Range<u32> = 0..SIZE as u32;

async fn open(nor: &Nor) -> FlashStore<Nor> {
    FlashStore::open(nor.clone(), RANGE).await.unwrap()
}

fn id(sequence: u64) -> MessageId {
    MessageId::new(1_764_000_000_000, sequence)
}

#[tokio::test]
async fn cursor_and_records_are_there_after_a_power_loss() {
    let nor = Nor::new(0xff);
    let mut store = open(&nor).await;
    assert_eq!(store.resume().await, Ok(Resume::default()));
    assert_eq!(store.get::<u32>(KEY_FIRST).await, Ok(None));
    store.put(KEY_FIRST, &7u32).await.unwrap();
    let shared = Mutex::<NoopRawMutex, _>::new(store);
    let mut cursor = &shared;
    // Often enough that pages are erased.
    for sequence in 1..=2000 {
        cursor.started(id(sequence)).await;
        if sequence < 2000 {
            cursor.done(id(sequence)).await;
        }
    }
    assert!(nor.erased() > 10, "{} pages were erased", nor.erased());
    let mut store = open(&nor).await;
    assert_eq!(store.resume().await, Ok(Resume { done: id(1999), started: id(2000) }));
    assert_eq!(store.get::<u32>(KEY_FIRST).await, Ok(Some(7)));
}

#[tokio::test]
async fn power_that_fails_at_any_write_leaves_the_old_or_the_new_record() {
    for writes in 0..400 {
        let nor = Nor::new(0xff);
        let mut store = open(&nor).await;
        nor.fail_after(writes);
        let mut written = 0u64;
        while store.put(KEY_FIRST, &[written; 8]).await.is_ok() && written < 400 {
            written += 1;
        }
        nor.power_on();
        let found = open(&nor).await.get::<[u64; 8]>(KEY_FIRST).await.unwrap();
        // The last that was kept, or the one in whose middle the power failed.
        let allowed = [written.checked_sub(1).map(|last| [last; 8]), Some([written; 8])];
        assert!(allowed.contains(&found), "after {writes} writes: {found:?}, {written} were kept");
    }
}

#[tokio::test]
async fn flash_that_holds_something_else_is_taken_over() {
    for byte in [0x00, 0x5a] {
        let nor = Nor::new(byte);
        let mut store = open(&nor).await;
        assert_eq!(store.resume().await, Ok(Resume::default()));
        store.put(KEY_FIRST, &1u8).await.unwrap();
        assert_eq!(open(&nor).await.get::<u8>(KEY_FIRST).await, Ok(Some(1)), "{byte:#x}");
    }
}

#[tokio::test]
async fn what_cannot_be_kept_is_refused_by_name() {
    let nor = Nor::new(0xff);
    let half = FlashStore::open(nor.clone(), 0..PAGE as u32).await;
    assert_eq!(half.err(), Some(FlashError::Range), "one page is not enough");
    assert_eq!(FlashStore::open(nor.clone(), 1..SIZE as u32).await.err(), Some(FlashError::Range));
    let mut store = open(&nor).await;
    assert_eq!(store.put(0, &1u8).await, Err(FlashError::Key), "the cursor's own");
    assert_eq!(store.put(KEY_FIRST, &[[0u8; 32]; 4]).await, Err(FlashError::TooLong));
    assert_eq!(store.put(KEY_FIRST, &[[1u8; 32]; RECORD_MAX / 32]).await, Ok(()));
    nor.fail_after(0);
    assert_eq!(store.put(KEY_FIRST, &1u8).await, Err(FlashError::Flash));
    let shared = Mutex::<NoopRawMutex, _>::new(store);
    (&mut &shared).started(id(1)).await;
    assert_eq!(shared.lock().await.failures(), 1);
}
