//! Wi-Fi as a station: joins the network whose name and password were put into the image, and joins it again.

use embassy_time::Timer;
use esp_hal::peripherals::WIFI;
use esp_radio::wifi::sta::StationConfig;
use esp_radio::wifi::{AuthenticationMethodConfig, Config, ControllerConfig, WifiController, WifiError};
use log::{error, info, warn};

const NAME: &str = env!("IMLINK_WIFI");
const PASSWORD: &str = env!("IMLINK_WIFI_PASSWORD");
/// Between two tries, in seconds.
const PAUSE_S: u64 = 5;

/// Turns the radio on. A network without password is an open one.
pub(crate) fn start(radio: WIFI<'static>) -> Result<WifiController<'static>, WifiError> {
    let authentication = match PASSWORD {
        "" => AuthenticationMethodConfig::Open,
        password => AuthenticationMethodConfig::Wpa2Personal(password.try_into()?),
    };
    let station = StationConfig::default().with_ssid(NAME.try_into()?).with_authentication(authentication);
    let config = ControllerConfig::default().with_initial_config(Config::Station(station));
    WifiController::new(radio, config)
}

/// Joins the network, for ever.
#[embassy_executor::task]
pub(crate) async fn stay(mut controller: WifiController<'static>) -> ! {
    if NAME.is_empty() {
        error!("IMLINK_WIFI was not set when this was built: there is no network to join");
        core::future::pending().await
    }
    loop {
        match controller.connect_async().await {
            Ok(_) => {
                info!("joined {NAME}");
                let _ = controller.wait_for_disconnect_async().await;
                warn!("left {NAME}");
            }
            Err(why) => warn!("{NAME} cannot be joined: {why:?}"),
        }
        Timer::after_secs(PAUSE_S).await;
    }
}
