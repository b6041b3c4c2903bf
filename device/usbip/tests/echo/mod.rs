//! A device: a serial port that echoes, on the real embassy-usb.

use critical_section as _;
use embassy_futures::join::join;
use embassy_usb::{
    Builder, Config,
    class::cdc_acm::{CdcAcmClass, State},
};
use embassy_usb_usbip::{Port, Speed};
use tokio::time::timeout;

use crate::host::PATIENCE;

/// Runs a device beside what a host does with it.
pub(crate) async fn with_echo<T>(speed: Speed, host: impl AsyncFnOnce(Port) -> T) -> T {
    let (driver, port) = embassy_usb_usbip::new(speed);
    let packet_size = if speed == Speed::High { 512 } else { 64 };
    let (mut configuration, mut bos, mut control) = ([0; 256], [0; 64], [0; 64]);
    let mut state = State::new();
    let mut config = Config::new(0x1209, 0x0001);
    config.manufacturer = Some("tests");
    config.product = Some("echo");
    config.serial_number = Some("0024be");
    let mut builder = Builder::new(driver, config, &mut configuration, &mut bos, &mut [], &mut control);
    let mut echo = CdcAcmClass::new(&mut builder, &mut state, packet_size);
    let mut device = builder.build();
    let echo = async {
        let mut packet = [0; 512];
        loop {
            echo.wait_connection().await;
            while let Ok(length) = echo.read_packet(&mut packet).await {
                let fills = length == usize::from(packet_size);
                if echo.write_packet(&packet[..length]).await.is_err() || fills && echo.write_packet(&[]).await.is_err()
                {
                    break;
                }
            }
        }
    };
    tokio::select! {
        _ = join(device.run(), echo) => unreachable!("both go on for ever"),
        done = timeout(PATIENCE, host(port)) => done.expect("the host is done in time"),
    }
}
