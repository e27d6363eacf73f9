use std::collections::VecDeque;
use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::*;
use crate::limits::RECEIVE_LIMIT_MIN;

const HASH: [u8; 32] = [7; 32];

fn open(transfer: u32, size: u32) -> Open<'static> {
    let (action, kind) = (Action::Give, Kind::File);
    Open { transfer, action, kind, name: "app", size, sha256: HASH, signature: &[] }
}

fn want(transfer: u32, sha256: [u8; 32]) -> Open<'static> {
    Open { action: Action::Want, size: 0, sha256, ..open(transfer, 0) }
}

/// A device with its flash: works whenever it may.
struct Device {
    transfers: Transfers,
    buffer: Vec<u8>,
    flash: Vec<u8>,
    file: Vec<u8>,
    writes: usize,
}

impl Device {
    fn new(capacity: usize) -> Self {
        let mut transfers = Transfers::new(capacity);
        transfers.handle_attached();
        Self { transfers, buffer: vec![0; capacity], flash: Vec::new(), file: Vec::new(), writes: 0 }
    }

    fn handle(&mut self, frame: BlobFrame<'_>) {
        if let (Some(at), BlobFrame::Chunk(chunk)) = (self.transfers.handle_frame(&frame), frame) {
            self.buffer[at..at + chunk.bytes.len()].copy_from_slice(chunk.bytes);
        }
    }

    fn work(&mut self) {
        while let Some((job, work)) = self.transfers.poll_work() {
            match work {
                Work::Begin(_) => self.transfers.handle_begun(job, Ok(self.flash.len() as u32)),
                Work::Write { offset, len } => {
                    assert_eq!(offset as usize, self.flash.len());
                    self.flash.extend(&self.buffer[..len]);
                    self.writes += 1;
                    self.transfers.handle_written(job, len, Ok(()));
                }
                Work::Verify(_) => self.transfers.handle_finished(job, Ok(Outcome::Stored)),
                Work::Find(_) => {
                    self.transfers.handle_found(job, Ok((Kind::File, self.file.len() as u32, HASH)));
                }
                Work::Read { offset, len } => {
                    let at = offset as usize;
                    self.buffer[..len].copy_from_slice(&self.file[at..at + len]);
                    self.transfers.handle_read(job, offset, len, Ok(()));
                }
            }
        }
    }

    /// What it sends, chunks of at most `most` bytes; `None` for nothing.
    fn transmit(&mut self, most: usize) -> Option<Said> {
        match self.transfers.poll_transmit()? {
            Transmit::Frame(BlobFrame::Ack(ack)) => Some(Said::Ack(ack)),
            Transmit::Frame(BlobFrame::Done(done)) => Some(Said::Done(done)),
            Transmit::Frame(BlobFrame::Open(open)) => Some(Said::Open(open.transfer, open.size)),
            Transmit::Frame(BlobFrame::Chunk(_)) => unreachable!(),
            Transmit::Chunk { transfer, offset, at, len } => {
                let len = len.min(most);
                let bytes = self.buffer[at..at + len].to_vec();
                self.transfers.handle_chunk_sent(len);
                Some(Said::Chunk(transfer, offset, bytes))
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Said {
    Open(u32, u32),
    Ack(Ack),
    Chunk(u32, u32, Vec<u8>),
    Done(Done),
}

fn ack(transfer: u32, offset: u32, limit: u32) -> Option<Said> {
    Some(Said::Ack(Ack { transfer, offset, limit }))
}

fn done(transfer: u32, outcome: Outcome) -> Option<Said> {
    Some(Said::Done(Done { transfer, outcome, detail: 0 }))
}

fn chunk(transfer: u32, offset: u32, bytes: &[u8]) -> BlobFrame<'_> {
    BlobFrame::Chunk(Chunk { transfer, offset, bytes })
}

#[test]
fn the_longest_open_fits_the_smallest_receive_limit() {
    let name = "n".repeat(NAME_LEN_MAX);
    let long = Open { transfer: u32::MAX, name: &name, size: u32::MAX, signature: &[1; 64], ..open(0, 0) };
    let mut out = [0; RECEIVE_LIMIT_MIN];
    assert!(crate::frame::encode_body(&BlobFrame::Open(long), &mut out).unwrap() + 19 <= OPEN_LEN_MAX);
}

#[test]
fn what_is_signed_is_kind_size_and_hash() {
    let text = signed(Kind::Firmware, 0x0102_0304, &HASH);
    assert_eq!(&text[..17], b"imlink blob\0\x01\x04\x03\x02\x01");
    assert_eq!(&text[17..], HASH);
}

#[test]
fn a_blob_is_written_in_whole_buffers_and_told_once_it_is_checked() {
    let mut device = Device::new(8);
    assert_eq!(device.transmit(99), ack(0, 0, 8), "it takes part");
    device.handle(BlobFrame::Open(open(1, 20)));
    assert_eq!(device.transmit(99), None, "nothing before the flash is ready");
    device.work();
    assert_eq!(device.transmit(99), ack(1, 0, 8));
    device.handle(chunk(1, 0, b"abcde"));
    device.work();
    assert_eq!((device.transmit(99), device.writes), (None, 0), "the buffer is not full");
    device.handle(chunk(1, 5, b"fgh"));
    device.work();
    assert_eq!(device.transmit(99), ack(1, 8, 16));
    device.handle(chunk(1, 8, b"ijklmnop"));
    device.work();
    assert_eq!(device.transmit(99), ack(1, 16, 20));
    device.handle(chunk(1, 16, b"qrst"));
    device.work();
    assert_eq!(device.transmit(99), done(1, Outcome::Stored));
    assert_eq!((device.flash, device.writes), (b"abcdefghijklmnopqrst".to_vec(), 3));
}

#[test]
fn after_a_cut_the_same_blob_goes_on_behind_what_came() {
    let mut device = Device::new(8);
    device.handle(BlobFrame::Open(open(1, 20)));
    device.work();
    device.transmit(99);
    device.transmit(99);
    device.handle(chunk(1, 0, b"abc"));
    device.transfers.handle_attached();
    device.handle(chunk(1, 3, b"late"));
    assert_eq!(device.transmit(99), ack(0, 0, 8));
    device.handle(BlobFrame::Open(open(1, 20)));
    assert_eq!(device.transmit(99), ack(1, 3, 8), "three bytes are not sent again");
}

#[test]
fn another_blob_takes_the_place_of_one_that_was_cut() {
    let mut device = Device::new(8);
    device.handle(BlobFrame::Open(open(1, 20)));
    device.work();
    device.handle(BlobFrame::Done(Done { transfer: 1, outcome: Outcome::Cancelled, detail: 0 }));
    device.handle(BlobFrame::Open(Open { sha256: [8; 32], ..open(2, 4) }));
    device.work();
    device.transmit(99);
    assert_eq!(device.transmit(99), ack(2, 0, 4));
}

#[test]
fn a_second_transfer_is_busy_and_the_first_one_goes_on() {
    let mut device = Device::new(8);
    device.handle(BlobFrame::Open(open(1, 4)));
    device.work();
    device.handle(BlobFrame::Open(open(2, 4)));
    device.transmit(99);
    assert_eq!(device.transmit(99), done(2, Outcome::Busy));
    assert_eq!(device.transmit(99), ack(1, 0, 4));
}

#[test]
fn what_was_told_once_is_told_again_when_the_same_blob_is_opened_again() {
    let mut device = Device::new(8);
    device.handle(BlobFrame::Open(open(1, 0)));
    device.work();
    device.transmit(99);
    assert_eq!(device.transmit(99), done(1, Outcome::Stored));
    device.handle(BlobFrame::Open(open(2, 0)));
    assert_eq!(device.transmit(99), done(2, Outcome::Stored), "without any work");
}

#[test]
fn a_refusal_at_the_start_names_what_would_be_taken_and_a_new_try_starts_anew() {
    let mut device = Device::new(8);
    device.handle(BlobFrame::Open(open(1, 4000)));
    let (job, _) = device.transfers.poll_work().unwrap();
    device.transfers.handle_begun(job, Err((Outcome::TooLarge, 1000)));
    device.transmit(99);
    let refused = Done { transfer: 1, outcome: Outcome::TooLarge, detail: 1000 };
    assert_eq!(device.transmit(99), Some(Said::Done(refused)));
    device.handle(BlobFrame::Open(open(2, 4000)));
    assert!(matches!(device.transfers.poll_work(), Some((_, Work::Begin(_)))));
}

#[test]
fn chunks_beyond_the_room_or_out_of_order_end_the_transfer_alone() {
    for (offset, bytes) in [(0, &b"123456789"[..]), (1, b"1"), (0, b""), (u32::MAX, b"12")] {
        let mut device = Device::new(8);
        device.handle(BlobFrame::Open(open(1, 20)));
        device.work();
        device.transmit(99);
        device.transmit(99);
        device.handle(chunk(1, offset, bytes));
        assert_eq!(device.transmit(99), done(1, Outcome::Order), "{offset}");
    }
}

#[test]
fn work_that_ends_late_changes_nothing() {
    let mut device = Device::new(8);
    device.file = b"0123456789".to_vec();
    device.handle(BlobFrame::Open(want(1, [0; 32])));
    let (late, _) = device.transfers.poll_work().unwrap();
    device.transfers.handle_attached();
    device.handle(BlobFrame::Open(open(1, 20)));
    assert_eq!(device.transfers.poll_work(), None, "one thing at a time");
    device.transfers.handle_found(late, Ok((Kind::File, 10, HASH)));
    assert!(matches!(device.transfers.poll_work(), Some((_, Work::Begin(_)))));
}

#[test]
fn work_that_was_dropped_is_given_once_more() {
    let mut device = Device::new(8);
    device.handle(BlobFrame::Open(open(1, 20)));
    let given = device.transfers.poll_work();
    assert_eq!(device.transfers.poll_work(), None);
    device.transfers.handle_restarted();
    assert_eq!(device.transfers.poll_work(), given);
}

#[test]
fn a_file_is_sent_from_where_the_receiver_says_within_its_room() {
    let mut device = Device::new(4);
    device.file = b"0123456789".to_vec();
    device.handle(BlobFrame::Open(want(1, HASH)));
    device.work();
    device.transmit(99);
    assert_eq!(device.transmit(99), Some(Said::Open(1, 10)));
    device.work();
    assert_eq!(device.transmit(99), None, "nothing before the first acknowledgement");
    device.handle(BlobFrame::Ack(Ack { transfer: 1, offset: 3, limit: 9 }));
    device.work();
    assert_eq!(device.transmit(3), Some(Said::Chunk(1, 3, b"345".to_vec())));
    assert_eq!(device.transmit(3), Some(Said::Chunk(1, 6, b"6".to_vec())));
    device.work();
    assert_eq!(device.transmit(99), Some(Said::Chunk(1, 7, b"78".to_vec())));
    assert_eq!(device.transmit(99), None);
    device.handle(BlobFrame::Ack(Ack { transfer: 1, offset: 9, limit: 10 }));
    assert_eq!(device.transmit(99), Some(Said::Chunk(1, 9, b"9".to_vec())));
}

#[test]
fn a_file_that_changed_is_not_continued() {
    let mut device = Device::new(4);
    device.handle(BlobFrame::Open(want(1, [9; 32])));
    device.work();
    device.transmit(99);
    assert_eq!(device.transmit(99), done(1, Outcome::Changed));
}

#[test]
fn a_relay_asks_only_devices_that_take_part_and_one_at_a_time() {
    let mut relay = Relay::default();
    assert_eq!(relay.handle_open(&open(0, 4)), Err(Outcome::Unsupported));
    relay.handle_device(BlobFrame::Ack(Ack { transfer: 0, offset: 0, limit: 64 })).unwrap();
    assert_eq!(relay.handle_open(&open(0, 4)).unwrap().transfer, 1);
    assert_eq!(relay.handle_open(&open(0, 4)), Err(Outcome::Busy));
    assert_eq!(relay.cancel(Outcome::Cancelled).unwrap().transfer, 1);
    assert_eq!(relay.handle_open(&open(0, 4)).unwrap().transfer, 2);
}

#[test]
fn a_relay_passes_no_byte_for_which_there_is_no_room() {
    let mut relay = Relay::default();
    relay.handle_device(BlobFrame::Ack(Ack { transfer: 0, offset: 0, limit: 64 })).unwrap();
    relay.handle_open(&open(0, 100)).unwrap();
    assert!(relay.handle_route(chunk(0, 0, b"early")).is_err());
    relay.handle_device(BlobFrame::Ack(Ack { transfer: 1, offset: 10, limit: 15 })).unwrap();
    assert_eq!(relay.handle_route(chunk(0, 10, b"abc")), Ok(chunk(1, 10, b"abc")));
    assert!(relay.handle_route(chunk(0, 13, b"def")).is_err());
    assert!(relay.handle_route(chunk(0, 12, b"d")).is_err());
    assert!(relay.handle_route(chunk(0, 13, b"de")).is_ok());
}

#[test]
fn a_relay_closes_on_a_device_that_breaks_the_rules_and_ignores_what_was_under_way() {
    let taking_part = BlobFrame::Ack(Ack { transfer: 0, offset: 0, limit: 64 });
    let mut relay = Relay::default();
    relay.handle_device(taking_part).unwrap();
    assert_eq!(relay.handle_device(chunk(1, 0, b"x")), Err(BlobFault::Order), "never opened");
    relay.handle_open(&want(0, [0; 32])).unwrap();
    relay.handle_route(BlobFrame::Ack(Ack { transfer: 0, offset: 0, limit: 4 })).unwrap();
    assert!(relay.handle_device(chunk(1, 0, b"12345")).is_err(), "beyond the room");
    assert!(relay.handle_device(BlobFrame::Ack(Ack { transfer: 1, offset: 0, limit: 4 })).is_err(), "it sends");
    relay.cancel(Outcome::Cancelled);
    assert_eq!(relay.handle_device(chunk(1, 0, b"1234")), Ok(None));
    let too_far = BlobFrame::Ack(Ack { transfer: 1, offset: 0, limit: WINDOW_MAX + 1 });
    relay.handle_open(&open(0, u32::MAX)).unwrap();
    assert!(relay.handle_device(too_far.of(2)).is_err());
}

proptest! {
    /// A link that is cut at any moment and chunks of any size: every byte arrives once and in order.
    #[test]
    fn every_byte_is_written_once_however_often_the_link_is_cut(
        size in 0u32..300, capacity in 1usize..40, steps in prop::collection::vec((0usize..50, any::<bool>()), 1..60),
    ) {
        let blob: Vec<u8> = (0..size).map(|at| at as u8).collect();
        let mut device = Device::new(capacity);
        let mut transfer = 0;
        let mut sender: Option<Sender> = None;
        let mut sent = 0usize;
        let mut is_over = false;
        let mut steps: VecDeque<_> = steps.into();
        while !is_over {
            let (most, is_cut) = steps.pop_front().unwrap_or((16, false));
            if is_cut || sender.is_none() {
                device.transfers.handle_attached();
                transfer += 1;
                device.handle(BlobFrame::Open(open(transfer, size)));
                sender = Some(Sender::new(size));
            }
            device.work();
            let from = sender.as_mut().unwrap();
            while let Some(said) = device.transmit(99) {
                match said {
                    Said::Ack(Ack { transfer: 0, .. }) => {}
                    Said::Ack(ack) => from.handle_ack(ack.offset, ack.limit).unwrap(),
                    Said::Done(done) => {
                        prop_assert_eq!(done.outcome, Outcome::Stored);
                        is_over = true;
                    }
                    other => panic!("{other:?}"),
                }
            }
            if let Some((offset, len)) = from.sendable() {
                let len = len.min(most.max(1));
                from.handle_sent(len);
                sent += len;
                device.handle(chunk(transfer, offset, &blob[offset as usize..offset as usize + len]));
            }
        }
        prop_assert_eq!(&device.flash, &blob);
        prop_assert_eq!(sent, blob.len(), "no byte went over the wire twice");
    }
}
