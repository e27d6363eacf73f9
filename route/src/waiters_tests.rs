use super::*;
use crate::asker::tests::local;
use crate::devices::NameTag;

fn waiter(device: &str, sequence: u64, seat: Option<Seat>, now: Instant) -> (Waiter, crate::asker::tests::Answer) {
    let (asker, answer) = local();
    let device = DeviceKey::single(device).unwrap();
    let id = MessageId::new(1, sequence);
    (Waiter::new(device, id, seat, asker, now, now + Duration::from_secs(10)), answer)
}

const SEAT: Seat = Seat { server: NameTag(1), incarnation: 7, epoch: 3 };

fn due(waiters: &Waiters, at: Instant) -> usize {
    let mut due = Vec::new();
    waiters.due(at, false, 100, &mut due, |waiter| waiter.asker.dismiss());
    due.len()
}

#[tokio::test]
async fn an_ack_is_believed_only_from_the_server_and_epoch_that_the_session_names() {
    let waiters = Waiters::new();
    let now = Instant::now();
    let (one, _answer) = waiter("lamp", 1, Some(SEAT), now);
    let id = one.id;
    waiters.insert(one);
    let mut answered = 0;
    let mut ack = |seat| {
        waiters.acked("-/lamp", id, seat, |waiter| {
            waiter.asker.dismiss();
            answered += 1;
        })
    };
    ack(Seat { incarnation: 8, ..SEAT });
    ack(Seat { epoch: 2, ..SEAT });
    ack(Seat { server: NameTag(2), ..SEAT });
    assert_eq!(waiters.len(), 1);
    assert_eq!(due(&waiters, now), 1, "a wrong ack makes the store be asked at once");
    ack(SEAT);
    ack(SEAT);
    assert_eq!((answered, waiters.len()), (1, 0));
}

#[tokio::test]
async fn the_state_is_looked_up_after_a_second_and_then_ever_more_rarely() {
    let waiters = Waiters::new();
    let now = Instant::now();
    let (one, _answer) = waiter("lamp", 1, None, now);
    let id = one.id;
    waiters.insert(one);
    let at = |ms| now + Duration::from_millis(ms);
    assert_eq!(due(&waiters, at(999)), 0);
    for (from, next) in [(1000, 1500), (1500, 2500), (2500, 4500), (4500, 6500)] {
        assert_eq!(due(&waiters, at(from)), 1, "{from}");
        assert_eq!(due(&waiters, at(from)), 0, "one look-up at a time");
        waiters.wait_on("-/lamp", id, at(from), |_| panic!("its deadline is far"));
        assert_eq!(due(&waiters, at(next - 1)), 0, "{next}");
    }
}

#[tokio::test]
async fn at_its_deadline_a_waiter_is_answered_with_the_state_as_it_is() {
    let waiters = Waiters::new();
    let now = Instant::now();
    let (one, _answer) = waiter("lamp", 1, None, now);
    let id = one.id;
    waiters.insert(one);
    let deadline = now + Duration::from_secs(10);
    let mut found = Vec::new();
    waiters.due(deadline, false, 0, &mut found, |_| panic!("not lost yet"));
    assert_eq!(found.len(), 1, "room or not");
    let mut answered = 0;
    waiters.wait_on("-/lamp", id, deadline, |waiter| {
        waiter.asker.dismiss();
        answered += 1;
    });
    assert_eq!((answered, waiters.len()), (1, 0));
}

#[tokio::test]
async fn a_look_up_that_never_ends_does_not_hold_its_waiter() {
    let waiters = Waiters::new();
    let now = Instant::now();
    let (one, _answer) = waiter("lamp", 1, None, now);
    waiters.insert(one);
    let deadline = now + Duration::from_secs(10);
    assert_eq!(due(&waiters, deadline), 1);
    assert_eq!(due(&waiters, deadline + Duration::from_millis(200)), 0);
    let mut lost = 0;
    waiters.due(deadline + Duration::from_millis(251), false, 0, &mut Vec::new(), |waiter| {
        waiter.asker.dismiss();
        lost += 1;
    });
    assert_eq!((lost, waiters.len()), (1, 0));
}

#[tokio::test]
async fn who_is_gone_is_forgotten_at_the_next_visit() {
    let waiters = Waiters::new();
    let now = Instant::now();
    let (one, answer) = waiter("lamp", 1, None, now);
    waiters.insert(one);
    drop(answer);
    let mut found = Vec::new();
    waiters.due(now, true, 100, &mut found, |_| panic!("nobody to tell"));
    assert_eq!((found.len(), waiters.len()), (0, 0));
}

#[tokio::test]
async fn everybody_who_waits_for_a_message_hears_of_its_end() {
    let waiters = Waiters::new();
    let now = Instant::now();
    let mut answers = Vec::new();
    for _ in 0..3 {
        let (one, answer) = waiter("lamp", 5, None, now);
        answers.push(answer);
        waiters.insert(one);
    }
    let (other, _answer) = waiter("lamp", 6, None, now);
    waiters.insert(other);
    let mut answered = 0;
    waiters.finish("-/lamp", MessageId::new(1, 5), |waiter| {
        waiter.asker.dismiss();
        answered += 1;
    });
    assert_eq!((answered, waiters.len()), (3, 1));
}
