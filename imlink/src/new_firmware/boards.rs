//! The boards of the example: their files, their processors, how they are flashed.

use crate::cli::Board;

/// Files of the example, by their path in it.
macro_rules! files {
    ($($path:literal),* $(,)?) => { &[$(($path, include_str!(concat!("../../../firmware-example/", $path)))),*] };
}

pub(super) type Files = &'static [(&'static str, &'static str)];

pub(super) const COMMON: Files = files![
    ".cargo/config.toml",
    "app/Cargo.toml",
    "app/src/device.rs",
    "app/src/events.rs",
    "app/src/identity.rs",
    "app/src/lib.rs",
    "app/src/network.rs",
    "app/src/noise.rs",
    "app/src/records.rs",
    "interface/Cargo.toml",
    "interface/src/lib.rs",
];

const QEMU: Files = files![
    "boards/qemu-mps2-an385/.cargo/config.toml",
    "boards/qemu-mps2-an385/Cargo.lock",
    "boards/qemu-mps2-an385/Cargo.toml",
    "boards/qemu-mps2-an385/build.rs",
    "boards/qemu-mps2-an385/memory.x",
    "boards/qemu-mps2-an385/src/arguments.rs",
    "boards/qemu-mps2-an385/src/clock.rs",
    "boards/qemu-mps2-an385/src/ethernet.rs",
    "boards/qemu-mps2-an385/src/executor.rs",
    "boards/qemu-mps2-an385/src/flash.rs",
    "boards/qemu-mps2-an385/src/fpga.rs",
    "boards/qemu-mps2-an385/src/host.rs",
    "boards/qemu-mps2-an385/src/i2c.rs",
    "boards/qemu-mps2-an385/src/interrupts.rs",
    "boards/qemu-mps2-an385/src/main.rs",
    "boards/qemu-mps2-an385/src/pace.rs",
    "boards/qemu-mps2-an385/src/stack.rs",
];

const W5500_EVB_PICO: Files = files![
    "boards/w5500-evb-pico-boot/.cargo/config.toml",
    "boards/w5500-evb-pico-boot/Cargo.lock",
    "boards/w5500-evb-pico-boot/Cargo.toml",
    "boards/w5500-evb-pico-boot/build.rs",
    "boards/w5500-evb-pico-boot/memory.x",
    "boards/w5500-evb-pico-boot/src/main.rs",
    "boards/w5500-evb-pico/.cargo/config.toml",
    "boards/w5500-evb-pico/Cargo.lock",
    "boards/w5500-evb-pico/Cargo.toml",
    "boards/w5500-evb-pico/build.rs",
    "boards/w5500-evb-pico/memory-plain.x",
    "boards/w5500-evb-pico/memory-update.x",
    "boards/w5500-evb-pico/src/main.rs",
    "boards/w5500-evb-pico/src/update.rs",
];

const NUCLEO_H743ZI: Files = files![
    "boards/nucleo-h743zi/.cargo/config.toml",
    "boards/nucleo-h743zi/Cargo.lock",
    "boards/nucleo-h743zi/Cargo.toml",
    "boards/nucleo-h743zi/build.rs",
    "boards/nucleo-h743zi/memory.x",
    "boards/nucleo-h743zi/src/main.rs",
];

const PICO_W: Files = files![
    "boards/pico-w/.cargo/config.toml",
    "boards/pico-w/Cargo.lock",
    "boards/pico-w/Cargo.toml",
    "boards/pico-w/build.rs",
    "boards/pico-w/memory.x",
    "boards/pico-w/nvram.txt",
    "boards/pico-w/src/main.rs",
    "boards/pico-w/src/wifi.rs",
];

const ESP32_C3: Files = files![
    "boards/esp32-c3/.cargo/config.toml",
    "boards/esp32-c3/Cargo.lock",
    "boards/esp32-c3/Cargo.toml",
    "boards/esp32-c3/build.rs",
    "boards/esp32-c3/partitions.csv",
    "boards/esp32-c3/src/flash.rs",
    "boards/esp32-c3/src/main.rs",
    "boards/esp32-c3/src/wifi.rs",
];

impl Board {
    pub(super) const fn files(self) -> Files {
        match self {
            Self::Qemu => QEMU,
            Self::W5500EvbPico => W5500_EVB_PICO,
            Self::NucleoH743zi => NUCLEO_H743ZI,
            Self::PicoW => PICO_W,
            Self::Esp32C3 => ESP32_C3,
        }
    }

    /// The compiler's name for its processor.
    pub(super) const fn target(self) -> &'static str {
        match self {
            Self::Qemu => "thumbv7m-none-eabi",
            Self::W5500EvbPico | Self::PicoW => "thumbv6m-none-eabi",
            Self::NucleoH743zi => "thumbv7em-none-eabihf",
            Self::Esp32C3 => "riscv32imc-unknown-none-elf",
        }
    }

    /// How its image is built, flashed and tried, run in the project's `board`; `IMAGE` stands for its path.
    pub(super) const fn flash(self) -> &'static str {
        match self {
            Self::Qemu => QEMU_RUN,
            Self::W5500EvbPico => W5500_EVB_PICO_FLASH,
            Self::NucleoH743zi => NUCLEO_FLASH,
            Self::PicoW => PICO_W_FLASH,
            Self::Esp32C3 => ESP32_C3_FLASH,
        }
    }
}

const QEMU_RUN: &str = "\
cargo build --release
imlink gateway                          # in another terminal; devices on 127.0.0.1:7000
imlink device add board-1               # prints private key and route key
qemu-system-arm -M mps2-an385 -display none -serial none -monitor none -nic user,model=lan9118 \\
    -device tmp105,address=0x48 \\
    -semihosting-config enable=on,target=native,arg=fw,arg=device=board-1,arg=route=10.0.2.2:7000,arg=private_key=HEX,arg=route_key=HEX \\
    -kernel IMAGE
imlink send board-1 led/set --hex 01 --wait acked
";

const W5500_EVB_PICO_FLASH: &str = "\
export IMLINK_DEVICE=board-1 IMLINK_ROUTE=192.168.1.10:7000
export IMLINK_ROUTE_KEY=HEX                              # the current one of `imlink keys show`
cargo build --release
cargo install elf2uf2-rs                                 # then hold BOOTSEL while plugging in
elf2uf2-rs -d IMAGE
probe-rs run --chip RP2040 IMAGE                         # or so, with a debug probe
cat /dev/ttyACM0                                         # it draws its key and logs the command that provisions it:
imlink device add board-1 --public-key HEX
imlink send board-1 led/set --hex 01 --wait acked
# With updates over imlink: flash `boot` once, then `cargo build --release --features update` (IMLINK_UPDATE_KEY=HEX).
";

const NUCLEO_FLASH: &str = "\
export IMLINK_DEVICE=board-1 IMLINK_ROUTE=192.168.1.10:7000
export IMLINK_ROUTE_KEY=HEX                              # the current one of `imlink keys show`
cargo build --release
probe-rs run --chip STM32H743ZITx IMAGE                  # it draws its key and logs the command that provisions it:
imlink device add board-1 --public-key HEX
imlink send board-1 led/set --hex 01 --wait acked
";

const PICO_W_FLASH: &str = "\
export IMLINK_WIFI=NAME IMLINK_WIFI_PASSWORD=PASSWORD
export IMLINK_DEVICE=board-1 IMLINK_ROUTE=192.168.1.10:7000
export IMLINK_ROUTE_KEY=HEX                              # the current one of `imlink keys show`
cargo build --release
cargo install elf2uf2-rs                                 # then hold BOOTSEL while plugging in
elf2uf2-rs -d IMAGE
probe-rs run --chip RP2040 IMAGE                         # or so, with a debug probe
cat /dev/ttyACM0                                         # it draws its key and logs the command that provisions it:
imlink device add board-1 --public-key HEX
imlink send board-1 led/set --hex 01 --wait acked
";

const ESP32_C3_FLASH: &str = "\
export IMLINK_WIFI=NAME IMLINK_WIFI_PASSWORD=PASSWORD
export IMLINK_DEVICE=board-1 IMLINK_ROUTE=192.168.1.10:7000
export IMLINK_ROUTE_KEY=HEX                              # the current one of `imlink keys show`
cargo build --release
cargo install espflash
espflash flash --monitor --chip esp32c3 --partition-table partitions.csv IMAGE
imlink device add board-1 --public-key HEX               # as it logs: it draws its key
imlink send board-1 led/set --hex 01 --wait acked
";
