//! A device that makes its own key.

use imlink_device_client::flash::{FlashError, KeyError, Origin};
use imlink_device_client::{Rng, RngError};
use imlink_protocol::key_pair::PrivateKey;

use crate::nor::Nor;
use crate::open;

/// Gives this byte, again and again; or fails.
struct Draws(Result<u8, RngError>);

impl Rng for Draws {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        self.0.map(|byte| bytes.fill(byte))
    }
}

#[tokio::test]
async fn a_key_is_drawn_once_and_is_the_same_after_every_power_loss() {
    let nor = Nor::new(0xff);
    let drawn = open(&nor).await.private_key(&mut Draws(Ok(7))).await;
    assert_eq!(drawn, Ok((PrivateKey::new([7; 32]), Origin::Drawn)));
    for other in 8..10 {
        let kept = open(&nor).await.private_key(&mut Draws(Ok(other))).await;
        assert_eq!(kept, Ok((PrivateKey::new([7; 32]), Origin::Kept)));
    }
}

#[tokio::test]
async fn a_source_that_fails_or_gives_zeros_makes_no_key() {
    let nor = Nor::new(0xff);
    for broken in [Err(RngError), Ok(0)] {
        assert_eq!(open(&nor).await.private_key(&mut Draws(broken)).await, Err(KeyError::Rng));
    }
    let later = open(&nor).await.private_key(&mut Draws(Ok(3))).await;
    assert_eq!(later, Ok((PrivateKey::new([3; 32]), Origin::Drawn)));
}

#[tokio::test]
async fn a_key_that_is_told_is_there_after_power_that_fails_at_any_write() {
    for writes in 0..40 {
        let nor = Nor::new(0xff);
        let mut store = open(&nor).await;
        nor.fail_after(writes);
        let told = store.private_key(&mut Draws(Ok(7))).await;
        nor.power_on();
        let later = open(&nor).await.private_key(&mut Draws(Ok(8))).await.unwrap();
        match told {
            Ok((key, _)) => assert_eq!(later, (key, Origin::Kept), "after {writes} writes"),
            Err(error) => assert_eq!(error, KeyError::Flash(FlashError::Flash)),
        }
    }
}
