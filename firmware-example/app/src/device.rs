//! What the device does.

use core::cell::{Cell, RefCell};
use core::convert::Infallible;

use embassy_futures::select::{Either, select};
use embassy_sync::signal::Signal;
use embassy_time::{Duration, Instant, Timer};
use embedded_hal::digital::OutputPin;
use embedded_storage_async::nor_flash::NorFlash;
use imlink_device_client::{Client, Code, Message, Messages, NoopRawMutex, Storage, answer, handle};
use log::{info, warn};

use crate::events::Events;
use crate::interface::{
    Add, BOARD, BOOTED, Booted, COUNTER_ADD, COUNTER_GET, Counter, LED_GET, LED_SET, LED_SWITCHED, REBOOT, Reading,
    SENSOR_READING, SETTINGS_GET, SETTINGS_SET, STATUS_GET, Settings, Status, TEXT_SHOW,
};
use crate::records::{Cursor, Records};
use crate::{StackUse, Thermometer};

/// The device: what it controls, what it knows, what it keeps.
pub(crate) struct Device<'a, S, L, F: NorFlash> {
    pub(crate) client: Client<'a, S>,
    pub(crate) events: &'a Events<'a, S, F>,
    pub(crate) led: RefCell<L>,
    pub(crate) is_on: Cell<bool>,
    pub(crate) counter: Cell<Counter>,
    pub(crate) settings: Cell<Settings>,
    /// The settings changed.
    pub(crate) is_changed: Signal<NoopRawMutex, ()>,
    pub(crate) restart: Signal<NoopRawMutex, ()>,
    pub(crate) records: &'a Records<F>,
    pub(crate) stack_use: fn() -> StackUse,
}

impl<'a, S: Storage, L: OutputPin, F: NorFlash> Device<'a, S, L, F> {
    /// What happens after power-on.
    pub(crate) async fn boot(&self) {
        self.switch(self.settings.get().led_at_boot);
        let boots = self.records.count_boot().await;
        self.events.publish(BOOTED, &Booted { boots, version: (0, 1, 0) }).await;
    }

    /// Handles messages, one after the other, for ever. What this returns for a message acknowledges it.
    pub(crate) async fn handle_messages(&self, messages: Messages<'a, S>) -> Infallible {
        let mut messages = messages.kept_in(self.records.cursor());
        messages.for_each(async |message| self.handle(message).await).await
    }

    async fn handle(&self, message: &Message<'_, S, Cursor<'_, F>>) -> Result<(), Code> {
        info!("message {}{}", message.id(), if message.is_redelivered() { ", perhaps again" } else { "" });
        handle!(BOARD: message, {
            LED_SET(on: bool) => {
                self.switch(on);
                self.events.publish(LED_SWITCHED, &on).await;
                Ok(())
            }
            COUNTER_ADD(add: Add) => {
                Timer::after(Duration::from_millis(add.work_ms.into())).await;
                let mut counter = self.counter.get();
                counter.add(message.id(), message.is_redelivered(), add.number);
                self.counter.set(counter);
                self.records.keep_counter(&counter).await;
                Ok(())
            }
            SETTINGS_SET(settings: Settings) => {
                self.settings.set(settings);
                self.records.keep_settings(&settings).await;
                self.is_changed.signal(());
                Ok(())
            }
            // One that comes again has restarted the board already.
            REBOOT(_reason: u8) => {
                if !message.is_redelivered() {
                    self.restart.signal(());
                }
                Ok(())
            }
            TEXT_SHOW() => {
                message.payload(|text| info!("text of {} bytes: {}", text.len(), core::str::from_utf8(text).unwrap_or("?")));
                Ok(())
            }
        })
    }

    /// Answers calls for ever.
    pub(crate) async fn answer_calls(&self) -> Infallible {
        let calls = self.client.calls();
        loop {
            let call = calls.next().await;
            let replied = answer!(BOARD: call, {
                LED_GET() => { Ok(self.is_on.get()) }
                COUNTER_GET() => { Ok(self.counter.get()) }
                SETTINGS_GET() => { Ok(self.settings.get()) }
                STATUS_GET() => { Ok(self.status().await) }
            });
            if let Err(error) = replied {
                warn!("a call was not answered: {error}");
            }
        }
    }

    /// Reads the thermometer as often as the settings say, for ever.
    pub(crate) async fn report(&self, mut thermometer: impl Thermometer) -> Infallible {
        loop {
            let wait = async {
                match self.settings.get().report_s {
                    0 => core::future::pending().await,
                    seconds => Timer::after(Duration::from_secs(seconds.into())).await,
                }
            };
            if let Either::Second(()) = select(wait, self.is_changed.wait()).await {
                continue;
            }
            match thermometer.millicelsius().await {
                Some(millicelsius) => {
                    self.events
                        .publish(
                            SENSOR_READING,
                            &Reading { millicelsius, time_ms: self.client.time_ms().unwrap_or_default() },
                        )
                        .await
                }
                None => warn!("the thermometer does not answer"),
            }
        }
    }

    fn switch(&self, on: bool) {
        self.is_on.set(on);
        if self.led.borrow_mut().set_state(on.into()).is_err() {
            warn!("the LED cannot be switched");
        }
    }

    async fn status(&self) -> Status {
        let (link, events, stack) = (self.client.link(), self.client.event_counts(), (self.stack_use)());
        Status {
            uptime_s: uptime_s(),
            stack_used: stack.used,
            stack_size: stack.size,
            sessions: link.sessions,
            failures: link.failures,
            events: (events.published, events.stored, events.dropped),
            flash_failures: self.records.failures().await.saturating_add(self.events.failures().await),
        }
    }
}

fn uptime_s() -> u32 {
    u32::try_from(Instant::now().as_secs()).unwrap_or(u32::MAX)
}
