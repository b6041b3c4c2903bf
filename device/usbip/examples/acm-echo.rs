//! A serial port that echoes what it gets: `acm-echo` serves it at 127.0.0.1:3240, `acm-echo ADDRESS:PORT` elsewhere,
//! and `acm-echo vhci` plugs it into this machine's kernel.

use critical_section as _;
use embassy_futures::join::join;
use embassy_usb::{
    Builder, Config,
    class::cdc_acm::{CdcAcmClass, State},
};
use embassy_usb_usbip::{DEFAULT_PORT, Port, Speed, serve_tcp, vhci};
use tokio::net::TcpListener;

const PACKET: usize = 64;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (driver, port) = embassy_usb_usbip::new(Speed::Full);
    let (mut configuration, mut bos, mut control) = ([0; 256], [0; 64], [0; 64]);
    let mut state = State::new();
    let mut config = Config::new(0x1209, 0x0001);
    config.product = Some("echo");
    config.serial_number = Some("1");
    let mut builder = Builder::new(driver, config, &mut configuration, &mut bos, &mut [], &mut control);
    let mut echo = CdcAcmClass::new(&mut builder, &mut state, PACKET as u16);
    let mut device = builder.build();

    let echo = async {
        let mut packet = [0; PACKET];
        loop {
            echo.wait_connection().await;
            while let Ok(length) = echo.read_packet(&mut packet).await {
                let echoed = echo.write_packet(packet.get(..length).unwrap_or_default()).await;
                // What fills its packet goes on, for the host, until an empty one follows.
                if echoed.is_err() || length == PACKET && echo.write_packet(&[]).await.is_err() {
                    break;
                }
            }
        }
    };
    tokio::select! {
        _ = join(device.run(), echo) => Ok(()),
        served = serve(&port) => served,
        stopped = tokio::signal::ctrl_c() => Ok(stopped?),
    }
}

#[expect(clippy::print_stdout, reason = "it is a program")]
async fn serve(port: &Port) -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args().nth(1).unwrap_or_else(|| format!("127.0.0.1:{DEFAULT_PORT}"));
    if place == "vhci" {
        return Ok(vhci::serve(port).await?);
    }
    let listener = TcpListener::bind(&place).await?;
    println!("at {}; plug it in: usbip attach -r HOST -b 1-1", listener.local_addr()?);
    serve_tcp(port, &listener, |host, ended| match ended {
        Ok(()) => println!("{host} let go"),
        Err(error) => println!("{host}: {error}"),
    })
    .await?;
    Ok(())
}
