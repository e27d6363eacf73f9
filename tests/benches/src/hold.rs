//! Devices that only attach and answer, for a server whose pushes come from elsewhere.

use std::io::Read as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::fleet::{Fleet, Size, Target};
use crate::wire::Wire;

/// Attaches `devices`, says `attached` on standard output, and serves them until standard input ends.
pub fn run<W: Wire>(target: Target, devices: usize) -> anyhow::Result<()> {
    let mut fleet = Fleet::<W>::attach(target, Size { backends: 0, devices })?;
    println!("attached");
    let is_over = Arc::new(AtomicBool::new(false));
    let over = Arc::clone(&is_over);
    std::thread::spawn(move || {
        // Whatever ends it, it ended.
        let _ = std::io::stdin().read(&mut [0]);
        over.store(true, Ordering::Relaxed);
    });
    while !is_over.load(Ordering::Relaxed) {
        fleet.turn(Some(Duration::from_millis(100)), |_, _, _, _| {})?;
    }
    Ok(())
}
