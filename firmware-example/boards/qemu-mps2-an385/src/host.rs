//! The machine that runs QEMU, by semihosting: arguments, randomness, log, exit.

use core::fmt::Write as _;

use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS};
use cortex_m_semihosting::hio::{self, HostStream};
use cortex_m_semihosting::{debug, nr, syscall, syscall1};
use embassy_time::Instant;
use imlink_device_client::{Rng, RngError};
use log::{LevelFilter, Log, Metadata, Record};

/// The command line, as far as `buffer` holds it; empty when there is none.
pub(crate) fn command_line(buffer: &mut [u8]) -> &str {
    let mut block = [buffer.as_mut_ptr() as usize, buffer.len()];
    // SAFETY: the block names a buffer that is borrowed mutably, with its length; the call writes no further.
    let failed = unsafe { syscall1(nr::GET_CMDLINE, block.as_mut_ptr() as usize) };
    match failed {
        0 => buffer.get(..block[1]).and_then(|line| core::str::from_utf8(line).ok()).unwrap_or_default(),
        _ => "",
    }
}

/// The host's source of randomness: the board has none.
pub(crate) struct HostRng;

const SOURCE: &core::ffi::CStr = c"/dev/urandom";

impl Rng for HostRng {
    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), RngError> {
        // SAFETY: the name is NUL-terminated and its length is given without the NUL.
        let file = unsafe { syscall!(OPEN, SOURCE.as_ptr(), nr::open::R_BINARY, SOURCE.count_bytes()) };
        if file == usize::MAX {
            return Err(RngError);
        }
        // SAFETY: at most `bytes.len()` bytes are written to `bytes`.
        let missing = unsafe { syscall!(READ, file, bytes.as_mut_ptr(), bytes.len()) };
        // SAFETY: the file is open, and not used any more.
        unsafe { syscall!(CLOSE, file) };
        if missing == 0 { Ok(()) } else { Err(RngError) }
    }
}

/// Restarts the board.
pub(crate) fn reset() -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}

/// Ends QEMU: status 0 when `is_good`, else 1.
pub(crate) fn exit(is_good: bool) -> ! {
    loop {
        debug::exit(if is_good { EXIT_SUCCESS } else { EXIT_FAILURE });
    }
}

struct HostLog;

/// Sends what is logged to the host's standard output.
pub(crate) fn log_to_host() {
    // Set once, here; a second time would change nothing.
    let _ = log::set_logger(&HostLog);
    log::set_max_level(LevelFilter::Debug);
}

impl Log for HostLog {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record<'_>) {
        if self.enabled(record.metadata()) {
            print(format_args!("[{} ms] {}", Instant::now().as_millis(), record.args()));
        }
    }

    fn flush(&self) {}
}

/// Prints a line, in one call of the host where it fits.
fn print(text: core::fmt::Arguments<'_>) {
    let mut line = heapless::String::<240>::new();
    // A line that is longer is cut.
    let _ = line.write_fmt(text);
    if line.push('\n').is_err() {
        line.pop();
        let _ = line.push('\n');
    }
    if let Ok(mut out) = hio::hstdout() {
        let _: Result<(), ()> = HostStream::write_all(&mut out, line.as_bytes());
    }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    print(format_args!("{info}"));
    exit(false)
}

#[cortex_m_rt::exception]
unsafe fn HardFault(frame: &cortex_m_rt::ExceptionFrame) -> ! {
    print(format_args!("hard fault: {frame:?}"));
    exit(false)
}
