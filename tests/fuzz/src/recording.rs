//! What a real commissioner and a real device say to each other, recorded.
//!
//! The commissioner's keys are random, so every recording is another one. The device is always the same: it takes what was
//! recorded again, byte for byte, and answers as it did.

use std::{
    collections::VecDeque,
    future::pending,
    sync::{Arc, LazyLock, Mutex, PoisonError},
};

use cbor_schemas::{DeviceInfo, Limits};
use commissioner::{
    client::{Client, Timers},
    commission::{Terms, commission},
    link::{Datagram, Datagrams, Io},
    ownership::{rekey, reset},
    station::Station,
    visit::Account,
};
use commissioner_cli::cmd::exit::CommandError;
use end_to_end::one_process::{quiet, station};
use protocol::coap::Datagram as Message;

use crate::bench::{Bench, State, Talks};

/// A conversation.
#[derive(Debug)]
pub struct Recording {
    /// What for.
    pub name: &'static str,
    /// Datagrams to the device, and its answers.
    pub exchanges: Vec<(Vec<u8>, Option<Vec<u8>>)>,
}

impl Recording {
    pub(crate) fn requests(&self) -> impl Iterator<Item = &[u8]> {
        self.exchanges.iter().map(|(request, _)| &request[..])
    }

    pub(crate) fn answers(&self) -> impl Iterator<Item = &[u8]> {
        self.exchanges.iter().filter_map(|(_, answer)| answer.as_deref())
    }
}

/// What is done to a device, one command after the other.
#[derive(Clone, Copy)]
enum Command {
    Commission,
    /// A first visit to a device that takes little at once.
    CommissionInBlocks,
    Rekey,
    Reset,
}

/// First visits to a device that nobody owns, and what may follow.
///
/// # Panics
/// If a visit does not end well.
pub fn recordings() -> &'static [Recording] {
    use Command::{Commission, CommissionInBlocks, Rekey, Reset};

    static RECORDINGS: LazyLock<Vec<Recording>> = LazyLock::new(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        let all: [(_, &[Command]); 5] = [
            ("first visit", &[Commission]),
            ("later visit", &[Commission, Commission]),
            ("rekey", &[Commission, Rekey]),
            ("reset", &[Commission, Reset, Commission]),
            ("in blocks", &[CommissionInBlocks]),
        ];
        all.into_iter().map(|(name, commands)| runtime.block_on(record(name, commands))).collect()
    });
    &RECORDINGS
}

/// Says the same to a new device. Its answers, and what it says of itself after that.
pub fn replay(recording: &Recording) -> (Vec<Option<Vec<u8>>>, DeviceInfo<'static>) {
    let mut bench = Bench::start(State::Unowned);
    let answers = recording.requests().map(|request| bench.ask(0, request)).collect();
    (answers, bench.info())
}

/// The station tokens among what was recorded.
pub(crate) fn tokens() -> Vec<Vec<u8>> {
    let posts_token = |request: &&[u8]| request.windows(10).any(|bytes| *bytes == *b"authz-info");
    let payload = |request: &[u8]| {
        let length = Message::parse(request).expect("CoAP").payload_length();
        request[request.len() - length..].to_vec()
    };
    recordings().iter().flat_map(|recording| recording.requests().filter(posts_token).map(payload)).collect()
}

async fn record(name: &'static str, commands: &[Command]) -> Recording {
    let state = tempfile::tempdir().expect("a scratch directory");
    let station = station(&state.path().join("state")).await;
    let tape = Tape(Arc::new(Mutex::new((Bench::start(State::Unowned), Vec::new()))));
    for command in commands {
        let line = Tap { tape: tape.clone(), answers: VecDeque::new() };
        command.run(line, &station).await.expect("the visit ends well");
    }
    let exchanges = std::mem::take(&mut tape.0.lock().unwrap_or_else(PoisonError::into_inner).1);
    Recording { name, exchanges }
}

impl Command {
    async fn run(self, line: Tap, station: &Station) -> Result<(), CommandError> {
        let mut client = Client::new(Box::new(line), Timers::SERIAL);
        let account = Account::read(&mut client).await?;
        if let Self::CommissionInBlocks = self {
            let info = account.info();
            let limits = Limits { datagram: 260, ..info.limits };
            client.adapt(&DeviceInfo { limits, ..info });
        }
        match self {
            Self::Commission | Self::CommissionInBlocks => {
                commission(&mut client, &account, station, &Terms::OWNER, &quiet()).await?;
            }
            Self::Rekey => {
                rekey(&mut client, &account, station, &quiet()).await?;
            }
            Self::Reset => {
                reset(&mut client, &account, station, &quiet()).await?;
            }
        }
        Ok(())
    }
}

/// The device, and what was said to it and by it.
type Said = (Bench, Vec<(Vec<u8>, Option<Vec<u8>>)>);

#[derive(Clone)]
struct Tape(Arc<Mutex<Said>>);

/// A line to the device that is being recorded.
struct Tap {
    tape: Tape,
    answers: VecDeque<Vec<u8>>,
}

impl Datagrams for Tap {
    fn send<'a>(&'a mut self, datagram: &'a [u8]) -> Io<'a, usize> {
        let mut tape = self.tape.0.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = tape.0.ask(0, datagram);
        tape.1.push((datagram.to_vec(), answer.clone()));
        self.answers.extend(answer);
        Box::pin(async move { Ok(datagram.len()) })
    }

    fn receive(&mut self) -> Io<'_, Datagram> {
        Box::pin(async move {
            match self.answers.pop_front() {
                Some(bytes) => Ok(Datagram { line_bytes: bytes.len(), bytes }),
                None => pending().await,
            }
        })
    }
}
