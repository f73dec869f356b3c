//! What the app logs: never a word that anybody wrote.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt;

/// File in the data folder.
const FILE: &str = "log.txt";

/// The log of the time before, so that what led to a crash is there after the next start.
const FILE_BEFORE: &str = "log-before.txt";

/// What is logged if `RUST_LOG` says nothing else.
const FILTER: &str = "info,mdns_sd=warn,libp2p_mdns=warn";

/// Bytes of a log at most; then it goes silent. Some hundred thousand lines.
const BYTES_MAX: usize = 16 << 20;

/// Logs to a file in a phone's data folder and to standard error, from now on.
pub fn start(data: &Path) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(FILTER));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false);

    // Where there is no room for a log, there is none. One that was begun before stays.
    let _ = match open(data) {
        Ok(file) => builder
            .with_writer(Mutex::new(file).and(std::io::stderr))
            .try_init(),
        Err(_) => builder.with_writer(std::io::stderr).try_init(),
    };
}

fn open(data: &Path) -> std::io::Result<Limited> {
    fs::create_dir_all(data)?;
    let file = data.join(FILE);
    if file.exists() {
        fs::rename(&file, data.join(FILE_BEFORE))?;
    }

    Ok(Limited {
        file: fs::File::create(file)?,
        left_bytes: BYTES_MAX,
    })
}

/// A file that does not grow without end.
struct Limited {
    file: fs::File,
    left_bytes: usize,
}

impl Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if bytes.len() <= self.left_bytes {
            self.left_bytes -= bytes.len();
            self.file.write_all(bytes)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}
