//! A device on a line, and a clock that runs only while somebody waits for what is on the line.

use std::sync::{Arc, Mutex, mpsc};

use cbor_schemas::{Condition, report};
use commissioner::{registry::CertificateStatus, station::Station};
use end_to_end::one_process::OnBench;
use tokio::time::Instant;

use crate::serial::DeviceEnd;

/// The virtual clock, stopped. Left to itself it would jump ahead whenever the registry waits for its database.
#[derive(Clone, Default)]
pub(crate) struct Time(Arc<Mutex<Option<mpsc::Sender<()>>>>);

impl Time {
    /// Stops the clock: it stands still as long as a blocking task runs.
    pub(crate) fn stop(&self) {
        self.0.lock().unwrap().get_or_insert_with(|| {
            let (holder, held) = mpsc::channel::<()>();
            tokio::task::spawn_blocking(move || held.recv());
            holder
        });
    }

    /// Lets it jump to whatever is waited for, until the returned guard is dropped.
    pub(crate) fn run(&self) -> Running {
        *self.0.lock().unwrap() = None;
        Running { time: self.clone(), for_good: false }
    }
}

pub(crate) struct Running {
    time: Time,
    /// The guard does not stop the clock.
    pub(crate) for_good: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.for_good {
            self.time.stop();
        }
    }
}

/// A device, and what else it loses with a reset: its clock and its end of a serial line.
pub(crate) struct OnLine {
    device: OnBench,
    started: Instant,
    serial: DeviceEnd,
    visits: u64,
}

/// A device that lines and tests share.
pub(crate) type Shared = Arc<Mutex<OnLine>>;

impl OnLine {
    pub(crate) fn blank(name: &str) -> Shared {
        let (device, started, serial) = (OnBench::blank(name), Instant::now(), DeviceEnd::default());
        Arc::new(Mutex::new(OnLine { device, started, serial, visits: 0 }))
    }

    /// Resets the device: all but the flash is new. What it then says on a serial line.
    pub(crate) fn reset(&mut self) -> Vec<u8> {
        self.device.reset();
        self.started = Instant::now();
        self.serial = DeviceEnd::default();
        let mut line = String::new();
        report::write(&self.device.info(), &mut line).unwrap();
        self.serial.log(&line)
    }

    /// The number of the visit that begins.
    pub(crate) fn count_visit(&mut self) -> u64 {
        self.visits += 1;
        self.visits
    }

    pub(crate) fn handle(&mut self, datagram: &[u8]) -> Option<Vec<u8>> {
        self.device.answer(0, datagram, self.started.elapsed().as_millis() as u64)
    }

    pub(crate) fn serial(&mut self) -> &mut DeviceEnd {
        &mut self.serial
    }
}

/// What holds after every run, whatever the line did: the device has nothing, or exactly a certificate that the registry
/// knows as its own; and what the registry calls installed is in the device. Whether there is such a certificate.
pub(crate) async fn check(station: &Station, device: &Shared, run: &str) -> bool {
    let (id, key, slot) = {
        let device = &device.lock().unwrap().device;
        let info = device.info();
        assert_eq!(info.condition, Condition::Ok, "{run}");
        (info.device, info.credential.unwrap(), device.owner_slot())
    };
    let known = station.registry.device_by_id(&id).await.unwrap();
    let keys = known.iter().flat_map(|device| &device.keys);
    assert!(keys.clone().all(|known| known.x == key.x), "{run}: the registry knows a key that the device never had");
    let certificates: Vec<_> = keys.flat_map(|key| &key.certificates).collect();

    let stored = slot.map(|(anchor, certificate)| {
        assert_eq!(anchor, station.issuer.anchor().x, "{run}: another anchor");
        certificate.unwrap_or_else(|| panic!("{run}: an anchor without a certificate"))
    });
    let live = [CertificateStatus::Issued, CertificateStatus::Installed];
    let is_ours = |stored: &Vec<u8>| {
        certificates.iter().any(|it| it.object.as_ref() == Some(stored) && live.contains(&it.status))
    };
    assert!(stored.as_ref().is_none_or(is_ours), "{run}: the registry does not know the device's certificate");
    let mut installed = certificates.iter().filter(|it| it.status == CertificateStatus::Installed).peekable();
    let is_installed = installed.peek().is_some();
    assert!(installed.all(|it| it.object == stored), "{run}: recorded as installed, and the device has something else");
    is_installed
}
