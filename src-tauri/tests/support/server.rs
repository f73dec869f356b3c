//! A server on loopback that has one file and misbehaves.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::sleep;
use url::Url;

/// How a server answers.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// As it should.
    Honest,
    /// As it should, some kB at a time with a pause between.
    Slow(Duration),
    /// It knows no ranges, and sends all.
    NoRange,
    /// It knows no ranges and does not say how long the file is.
    NoLength,
    /// It closes the connection after so many bytes, every time.
    Cut(usize),
    /// It knows no ranges and closes the connection after so many bytes, the first so many times.
    CutWithoutRange(usize, usize),
    /// It says that the file has so many bytes more, or fewer, than it has.
    OtherLength(i64),
    /// It sends more than the file, without saying how long it is.
    Endless,
    /// It sends bytes of its own.
    WrongBytes,
    /// It sends bytes of its own to whoever asks for the beginning, cuts, and is honest with the rest.
    WrongBeginning(usize),
    /// It cuts once, has another file then, and says so by its tag.
    NewVersion(usize),
    /// It cuts once, and then answers with another range than it was asked for, so many times.
    OtherRange(usize, usize),
    /// It cuts once, and then says that there is no such range, so many times.
    Unsatisfiable(usize, usize),
    /// It takes connections and says nothing.
    Silent,
    /// It falls silent after so many bytes, the first time.
    Stall(usize),
    /// It is busy the first so many times.
    Busy(usize),
    /// It answers with this status.
    Status(u16),
    /// It sends people elsewhere.
    Redirect(String),
    /// It sends people to itself, so many times.
    RedirectToSelf(usize),
    /// A page where a person should log in, instead of the file.
    Portal,
    /// No HTTP at all.
    Garbage,
    /// It claims that what it sends is packed.
    Packed,
}

/// A server, until it is dropped.
pub struct Server {
    address: SocketAddr,
    log: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

/// What was asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Request {
    /// Of which file.
    pub path: String,
    /// From which byte on.
    pub from: Option<usize>,
    /// If it is still this version.
    pub if_range: Option<String>,
}

struct Connection {
    stream: TcpStream,
    file: Arc<Vec<u8>>,
    /// How many requests came before this one.
    n_before: usize,
    request: Request,
}

const TAG: &str = "\"v1\"";

impl Server {
    /// Serves `file` under any name.
    pub async fn start(file: Vec<u8>, behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("loopback is there");
        let address = listener.local_addr().expect("it is bound");
        let log = Arc::new(Mutex::new(Vec::new()));
        let file = Arc::new(file);

        let requests = Arc::clone(&log);
        let task = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let (file, requests, behaviour) =
                    (Arc::clone(&file), Arc::clone(&requests), behaviour.clone());
                tokio::spawn(async move {
                    let Some(request) = read_request(&mut stream).await else {
                        return;
                    };
                    let n_before = {
                        let mut requests = requests.lock().expect("nobody panics with it");
                        requests.push(request.clone());
                        requests.len() - 1
                    };
                    let connection = Connection {
                        stream,
                        file,
                        n_before,
                        request,
                    };
                    // A client that has heard enough hangs up.
                    let _ = connection.answer(&behaviour).await;
                });
            }
        });

        Self { address, log, task }
    }

    /// Returns its address.
    pub fn url(&self) -> Url {
        Url::parse(&format!("http://{}/", self.address)).expect("an address is one")
    }

    /// Returns what it was asked so far.
    pub fn requests(&self) -> Vec<Request> {
        self.log.lock().expect("nobody panics with it").clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let mut request = Request {
        path: head.split(' ').nth(1)?.to_owned(),
        ..Request::default()
    };
    for line in head.lines() {
        match line.split_once(": ") {
            Some((name, value)) if name.eq_ignore_ascii_case("range") => {
                let from = value.strip_prefix("bytes=")?.strip_suffix('-')?;
                request.from = Some(from.parse().ok()?);
            }
            Some((name, value)) if name.eq_ignore_ascii_case("if-range") => {
                request.if_range = Some(value.to_owned());
            }
            _ => {}
        }
    }

    Some(request)
}

impl Connection {
    async fn answer(mut self, behaviour: &Behaviour) -> std::io::Result<()> {
        let file = Arc::clone(&self.file);
        let n_before = self.n_before;

        match *behaviour {
            Behaviour::Honest => self.rest(&file, TAG, usize::MAX).await,
            Behaviour::Slow(pause) => self.slowly(&file, pause).await,
            Behaviour::NoRange => self.all(&file, file.len() as i64, usize::MAX).await,
            Behaviour::NoLength => self.unmeasured(&[&file]).await,
            Behaviour::Cut(bytes) => self.rest(&file, TAG, bytes).await,
            Behaviour::CutWithoutRange(bytes, times) => {
                let bytes = if n_before < times { bytes } else { usize::MAX };
                self.all(&file, file.len() as i64, bytes).await
            }
            Behaviour::OtherLength(more) => {
                self.all(&file, file.len() as i64 + more, usize::MAX).await
            }
            Behaviour::Endless => self.unmeasured(&[&file, &file]).await,
            Behaviour::WrongBytes => self.rest(&wrong(&file), TAG, usize::MAX).await,
            Behaviour::WrongBeginning(bytes) if n_before == 0 => {
                self.rest(&wrong(&file), TAG, bytes).await
            }
            Behaviour::WrongBeginning(_) => self.rest(&file, TAG, usize::MAX).await,
            Behaviour::NewVersion(bytes) if n_before == 0 => {
                self.rest(&wrong(&file), "\"v0\"", bytes).await
            }
            Behaviour::NewVersion(_) => self.rest(&file, TAG, usize::MAX).await,
            Behaviour::OtherRange(bytes, _) | Behaviour::Unsatisfiable(bytes, _)
                if n_before == 0 =>
            {
                self.rest(&file, TAG, bytes).await
            }
            Behaviour::OtherRange(_, times) if n_before <= times && self.request.from.is_some() => {
                self.request.from = Some(7);
                self.rest(&file, TAG, usize::MAX).await
            }
            Behaviour::Unsatisfiable(_, times)
                if n_before <= times && self.request.from.is_some() =>
            {
                self.head("416 Range Not Satisfiable", "Content-Length: 0\r\n")
                    .await
            }
            Behaviour::OtherRange(..) | Behaviour::Unsatisfiable(..) => {
                self.rest(&file, TAG, usize::MAX).await
            }
            Behaviour::Silent => self.nothing().await,
            Behaviour::Stall(bytes) if n_before == 0 => {
                self.head("200 OK", &format!("Content-Length: {}\r\n", file.len()))
                    .await?;
                self.stream.write_all(&file[..bytes]).await?;
                self.nothing().await
            }
            Behaviour::Stall(_) => self.rest(&file, TAG, usize::MAX).await,
            Behaviour::Busy(times) if n_before < times => {
                self.head(
                    "503 Service Unavailable",
                    "Retry-After: 0\r\nContent-Length: 0\r\n",
                )
                .await
            }
            Behaviour::Busy(_) => self.rest(&file, TAG, usize::MAX).await,
            Behaviour::Status(status) => {
                self.head(&format!("{status} No"), "Content-Length: 0\r\n")
                    .await
            }
            Behaviour::Redirect(ref to) => self.elsewhere(to).await,
            Behaviour::RedirectToSelf(times) if n_before < times => self.elsewhere("/again").await,
            Behaviour::RedirectToSelf(_) => self.rest(&file, TAG, usize::MAX).await,
            Behaviour::Portal => {
                let page = "<html>Please log in</html>";
                let fields = format!(
                    "Content-Type: text/html\r\nContent-Length: {}\r\n",
                    page.len()
                );
                self.head("200 OK", &fields).await?;
                self.stream.write_all(page.as_bytes()).await
            }
            Behaviour::Garbage => self.stream.write_all(b"SSH-2.0-OpenSSH_9.2\r\n").await,
            Behaviour::Packed => {
                let fields = format!(
                    "Content-Encoding: gzip\r\nContent-Length: {}\r\n",
                    file.len()
                );
                self.head("200 OK", &fields).await?;
                self.stream.write_all(&wrong(&file)).await
            }
        }
    }

    async fn head(&mut self, status: &str, fields: &str) -> std::io::Result<()> {
        let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\n{fields}\r\n");

        self.stream.write_all(head.as_bytes()).await
    }

    async fn elsewhere(&mut self, to: &str) -> std::io::Result<()> {
        self.head(
            "302 Found",
            &format!("Location: {to}\r\nContent-Length: 0\r\n"),
        )
        .await
    }

    /// Answers as RFC 9110 says, but closes after `bytes`.
    async fn rest(&mut self, file: &[u8], tag: &str, bytes: usize) -> std::io::Result<()> {
        let is_asked = self
            .request
            .if_range
            .as_deref()
            .is_none_or(|asked| asked == tag);
        let from = self.request.from.filter(|_| is_asked);
        if from.is_some_and(|from| from >= file.len()) {
            let fields = format!(
                "Content-Range: bytes */{}\r\nContent-Length: 0\r\n",
                file.len()
            );
            return self.head("416 Range Not Satisfiable", &fields).await;
        }
        self.begin(file, tag, from).await?;

        let rest = &file[from.unwrap_or(0)..];
        self.stream
            .write_all(&rest[..bytes.min(rest.len())])
            .await?;
        self.stream.shutdown().await
    }

    async fn begin(&mut self, file: &[u8], tag: &str, from: Option<usize>) -> std::io::Result<()> {
        let whole = file.len();
        let Some(from) = from else {
            let fields = format!("ETag: {tag}\r\nContent-Length: {whole}\r\n");
            return self.head("200 OK", &fields).await;
        };
        let (last, left) = (whole - 1, whole - from);
        let fields = format!(
            "ETag: {tag}\r\nContent-Range: bytes {from}-{last}/{whole}\r\nContent-Length: {left}\r\n"
        );

        self.head("206 Partial Content", &fields).await
    }

    async fn slowly(&mut self, file: &[u8], pause: Duration) -> std::io::Result<()> {
        let from = self.request.from.unwrap_or(0);
        self.begin(file, TAG, self.request.from).await?;

        for piece in file[from..].chunks(1 << 16) {
            self.stream.write_all(piece).await?;
            sleep(pause).await;
        }
        self.stream.shutdown().await
    }

    /// Answers with all of it, and a length that may be another.
    async fn all(&mut self, file: &[u8], length: i64, bytes: usize) -> std::io::Result<()> {
        self.head("200 OK", &format!("Content-Length: {length}\r\n"))
            .await?;
        self.stream
            .write_all(&file[..bytes.min(file.len())])
            .await?;
        self.stream.shutdown().await
    }

    /// Answers in chunks, without a length.
    async fn unmeasured(&mut self, pieces: &[&[u8]]) -> std::io::Result<()> {
        self.head("200 OK", "Transfer-Encoding: chunked\r\n")
            .await?;
        for piece in pieces.iter().flat_map(|piece| piece.chunks(100_000)) {
            self.stream
                .write_all(format!("{:x}\r\n", piece.len()).as_bytes())
                .await?;
            self.stream.write_all(piece).await?;
            self.stream.write_all(b"\r\n").await?;
        }
        self.stream.write_all(b"0\r\n\r\n").await?;
        self.stream.shutdown().await
    }

    async fn nothing(&mut self) -> std::io::Result<()> {
        sleep(Duration::from_secs(600)).await;

        Ok(())
    }
}

/// Returns as many other bytes.
fn wrong(file: &[u8]) -> Vec<u8> {
    file.iter().map(|byte| !byte).collect()
}
