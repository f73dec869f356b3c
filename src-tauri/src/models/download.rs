//! Getting one model: from one source after the other, until its hash is right.
//!
//! ```text
//!            every byte is here          hash is right
//!  filling ──────────────────────► check ───────────────► whole
//!   │  ▲                             │ wrong: begin anew, once if a part was here before,
//!   │  └─────────────────────────────┘        then from the next source
//!   │
//!   ├─ cut, silence, 5xx ──► wait, ask for the rest; as often as Patience says, counted anew after each MiB
//!   ├─ 416, another range ─► ask for all of it
//!   └─ anything else ──────► next source
//! ```

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time;
use url::Url;

use super::catalogue::Offer;
use super::folder::Folder;
use super::part::{BLOCK_BYTES, Note, Part};
use super::progress::Progress;
use super::server::{Failure, Question, Remedy, Servers};
use super::source::Source;
use super::trouble::host;
use super::{Trouble, lock, on_disk};

/// Bytes that must come for a try to count as one that brought something.
const GAIN_BYTES: u64 = BLOCK_BYTES as u64;

/// A download, for as long as it runs.
pub struct Download {
    /// What is to be had.
    pub offer: Offer,
    /// Where it is to lie.
    pub folder: Folder,
    /// Where it comes from, the best first.
    pub sources: Vec<Source>,
    /// How to speak to servers.
    pub servers: Servers,
    /// Whoever watches.
    pub progress: Progress,
    /// Turns to `true` when it is to stop.
    pub stop: watch::Receiver<bool>,
}

/// How a download ended that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The model is here.
    Whole,
    /// It was stopped; what has come is kept.
    Stopped,
}

/// What is here, what is about to be, and what is remembered of it.
struct Filling {
    /// Locked while it is written, away from threads that must not wait.
    part: Arc<Mutex<Part>>,
    note: Note,
    /// Bytes that have come and are not written.
    block: Vec<u8>,
}

impl Download {
    /// Gets the model.
    ///
    /// # Errors
    ///
    /// What the last source failed with. What has come is kept, unless it was wrong.
    pub async fn run(mut self) -> Result<Ended, Trouble> {
        let (mut this, opened) = on_disk(move || {
            let opened = self.open();
            (self, opened)
        })
        .await?;
        let Some(mut filling) = opened? else {
            return Ok(Ended::Stopped);
        };

        let mut trouble = Trouble::NotHere;
        for source in this.sources.clone() {
            let was_begun = filling.done_bytes() > 0;
            let (ended, back);
            (this, back, ended) = this.fill_from(filling, &source, was_begun).await?;
            filling = back;
            match ended {
                Ok(Ended::Stopped) => return Ok(Ended::Stopped),
                Ok(Ended::Whole) => return this.install(filling).await,
                Err(short @ Trouble::StorageShort { .. }) => return Err(short),
                Err(other) => {
                    tracing::warn!(model = this.offer.card.name, %other, "A source of a model fails");
                    trouble = other;
                }
            }
        }

        if matches!(trouble, Trouble::WrongHash { .. }) {
            on_disk(move || this.folder.remove(&this.offer.id)).await??;
        }
        Err(trouble)
    }

    /// Opens what is here and hashes it.
    fn open(&mut self) -> Result<Option<Filling>, Trouble> {
        let (part, note) = (
            self.folder.part(&self.offer.id),
            self.folder.note(&self.offer.id),
        );
        let file_bytes = self.offer.card.file_bytes;
        let known = Note::load(&note).filter(|note| note.file_bytes == file_bytes);
        let known = Note {
            is_wanted: true,
            ..known.unwrap_or(Note::new(file_bytes))
        };
        known.save(&note)?;

        let (progress, stop) = (&mut self.progress, &self.stop);
        let part = Part::open(&part, file_bytes, |done_bytes| {
            progress.checking(done_bytes);
            !*stop.borrow()
        })?;

        Ok(part.map(|part| Filling {
            part: Arc::new(Mutex::new(part)),
            note: known,
            block: Vec::with_capacity(BLOCK_BYTES),
        }))
    }

    /// Fills up from one source until the hash is right; from the start if what `was_begun` may be why it is not.
    async fn fill_from(
        mut self,
        mut filling: Filling,
        source: &Source,
        mut was_begun: bool,
    ) -> Result<(Self, Filling, Result<Ended, Trouble>), Trouble> {
        loop {
            let ended;
            (self, filling, ended) = self.fill(filling, source).await?;
            if ended != Ok(Ended::Whole) || lock(&filling.part).sha256() == self.offer.id.0 {
                return Ok((self, filling, ended));
            }

            filling.restart()?;
            if !was_begun {
                let host = source.host();
                return Ok((self, filling, Err(Trouble::WrongHash { host })));
            }
            was_begun = false;
        }
    }

    async fn fill(
        mut self,
        mut filling: Filling,
        source: &Source,
    ) -> Result<(Self, Filling, Result<Ended, Trouble>), Trouble> {
        match source {
            Source::File(path) => {
                let path = path.clone();
                on_disk(move || {
                    let ended = self.copy(&mut filling, &path);
                    (self, filling, ended)
                })
                .await
            }
            Source::Server(url) => {
                let ended = self.fetch(&mut filling, url).await;
                Ok((self, filling, ended))
            }
        }
    }

    /// Copies what is missing from a file.
    fn copy(&mut self, filling: &mut Filling, path: &Path) -> Result<Ended, Trouble> {
        let mut file = File::open(path)?;
        file.seek(SeekFrom::Start(filling.done_bytes()))?;
        self.progress.begin(filling.done_bytes());
        let mut block = vec![0; BLOCK_BYTES];

        while filling.missing_bytes() > 0 {
            if *self.stop.borrow() {
                return Ok(Ended::Stopped);
            }
            let n = file.read(&mut block)?;
            if n == 0 {
                return Err(Trouble::WrongLength {
                    host: path.display().to_string(),
                    found: filling.done_bytes(),
                    expected: filling.note.file_bytes,
                });
            }
            let n = n.min(usize::try_from(filling.missing_bytes()).unwrap_or(n));
            let written = lock(&filling.part).append(&block[..n]);
            filling.told(written, &self.folder)?;
            self.progress.downloading(filling.done_bytes());
        }

        Ok(Ended::Whole)
    }

    /// Fetches what is missing from a server, however often it must be asked.
    async fn fetch(&mut self, filling: &mut Filling, url: &Url) -> Result<Ended, Trouble> {
        let (mut tries, mut most_bytes) = (0, filling.done_bytes());

        loop {
            let failure = match self.attempt(filling, url).await {
                Ok(ended) => return Ok(ended),
                Err(failure) => failure,
            };
            if filling.done_bytes() >= most_bytes.saturating_add(GAIN_BYTES) {
                (tries, most_bytes) = (0, filling.done_bytes());
            }
            tries += 1;
            tracing::debug!(tries, ?failure, "A server answers with less than all");

            if tries >= self.servers.patience().tries {
                return Err(failure.trouble);
            }
            let at_least = match failure.remedy {
                Remedy::None => return Err(failure.trouble),
                Remedy::Again(at_least) => at_least,
                Remedy::FromTheStart => {
                    filling.restart()?;
                    Duration::ZERO
                }
            };
            if self.wait(tries, at_least).await == Ended::Stopped {
                return Ok(Ended::Stopped);
            }
        }
    }

    /// Asks once, and takes what comes.
    async fn attempt(&mut self, filling: &mut Filling, url: &Url) -> Result<Ended, Failure> {
        if filling.missing_bytes() == 0 {
            return Ok(Ended::Whole);
        }
        let etag = filling.note.etag.clone();
        let question = Question {
            url,
            from: filling.done_bytes(),
            file_bytes: filling.note.file_bytes,
            etag: etag.as_deref(),
        };
        let mut stop = self.stop.clone();
        let mut answer = tokio::select! {
            biased;
            () = stopped(&mut stop) => return Ok(Ended::Stopped),
            answer = self.servers.ask(question) => answer?,
        };
        let starts_over = answer.from < question.from;
        filling.begin(
            answer.from,
            answer.etag.take(),
            &self.folder.note(&self.offer.id),
        )?;
        self.progress.begin(answer.from);

        let ended = loop {
            let bytes = tokio::select! {
                biased;
                () = stopped(&mut stop) => break Ok(Ended::Stopped),
                bytes = answer.next() => bytes,
            };
            match bytes {
                Err(failure) => break Err(failure),
                Ok(None) if filling.missing_bytes() == 0 => break Ok(Ended::Whole),
                Ok(None) => break Err(cut(url)),
                Ok(Some(bytes)) => self.take(filling, url, bytes.as_ref()).await?,
            }
        };
        self.flush(filling).await?;

        ended.map_err(|mut failure| {
            if let Trouble::BreaksOff { host } = &failure.trouble
                && starts_over
            {
                let host = host.clone();
                failure.trouble = Trouble::StartsOver { host };
            }
            failure
        })
    }

    /// Takes bytes that have come.
    async fn take(
        &mut self,
        filling: &mut Filling,
        url: &Url,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        if bytes.len() as u64 > filling.missing_bytes() {
            let trouble = Trouble::WrongLength {
                host: host(url),
                found: filling.here_bytes() + bytes.len() as u64,
                expected: filling.note.file_bytes,
            };
            filling.restart()?;
            return Err(trouble.into());
        }
        filling.block.extend_from_slice(bytes);
        self.progress.downloading(filling.here_bytes());

        if filling.block.len() >= BLOCK_BYTES {
            self.flush(filling).await?;
        }
        Ok(())
    }

    /// Writes what has come.
    async fn flush(&self, filling: &mut Filling) -> Result<(), Trouble> {
        let block = std::mem::take(&mut filling.block);
        let part = Arc::clone(&filling.part);
        let (block, written) = on_disk(move || {
            let written = lock(&part).append(&block);
            (block, written)
        })
        .await?;

        filling.block = block;
        filling.block.clear();
        filling.told(written, &self.folder)
    }

    /// Waits before the next try.
    async fn wait(&self, tries: u32, at_least: Duration) -> Ended {
        let patience = self.servers.patience();
        let pause = patience.first_retry * 2_u32.saturating_pow(tries.saturating_sub(1).min(16));
        let mut stop = self.stop.clone();

        tokio::select! {
            biased;
            () = stopped(&mut stop) => Ended::Stopped,
            () = time::sleep(pause.max(at_least)) => Ended::Whole,
        }
    }

    async fn install(self, filling: Filling) -> Result<Ended, Trouble> {
        on_disk(move || {
            let (folder, id) = (&self.folder, &self.offer.id);
            lock(&filling.part).install(&folder.whole(id))?;
            std::fs::remove_file(folder.note(id))?;

            Ok(Ended::Whole)
        })
        .await?
    }
}

impl Filling {
    fn done_bytes(&self) -> u64 {
        lock(&self.part).done_bytes()
    }

    fn here_bytes(&self) -> u64 {
        self.done_bytes() + self.block.len() as u64
    }

    fn missing_bytes(&self) -> u64 {
        self.note.file_bytes - self.here_bytes()
    }

    fn restart(&mut self) -> Result<(), Trouble> {
        self.block.clear();

        Ok(lock(&self.part).restart()?)
    }

    /// Makes ready for an answer that begins at a byte, of a version of the file.
    fn begin(&mut self, from: u64, etag: Option<String>, note: &Path) -> Result<(), Trouble> {
        if from != self.done_bytes() {
            self.restart()?;
        }
        if self.note.etag != etag {
            self.note.etag = etag;
            self.note.save(note)?;
        }

        Ok(())
    }

    /// Says what it means that something could not be written.
    fn told(&self, written: io::Result<()>, folder: &Folder) -> Result<(), Trouble> {
        written.map_err(|error| {
            let free_bytes = folder.free_bytes().unwrap_or(0);
            Trouble::disk(&error, self.missing_bytes().saturating_sub(free_bytes))
        })
    }
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        Self {
            trouble,
            remedy: Remedy::None,
        }
    }
}

fn cut(url: &Url) -> Failure {
    Failure {
        trouble: Trouble::BreaksOff { host: host(url) },
        remedy: Remedy::Again(Duration::ZERO),
    }
}

/// Waits until it is time to stop. If nobody is left who could say so, it is.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    let _ = stop.wait_for(|stop| *stop).await;
}
