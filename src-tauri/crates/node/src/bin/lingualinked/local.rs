//! Talking to a running phone of the same user, on the socket in its data folder.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use crate::folder;
use crate::lines::{Line, Order};

/// A connection to a phone. When it is dropped, the phone stops what was asked.
pub struct Local {
    lines: Lines<BufReader<OwnedReadHalf>>,
    orders: OwnedWriteHalf,
}

impl Local {
    /// Connects to the phone at an address such as `/unix/home/anna/phone/phone.sock`, or to that in the default
    /// folder.
    ///
    /// # Errors
    ///
    /// If the address is of another kind, or nobody listens there.
    pub async fn connect(said: Option<&str>) -> Result<Self> {
        let address = folder::local_address(said)?;
        let path = address.strip_prefix("/unix").map(PathBuf::from);
        let Some(path) = path.filter(|path| path.is_absolute()) else {
            bail!(
                "{address} is not the local address of a phone: copy the whole address, /unix/…, that it prints; \
                 over the network only members of its group can ask it"
            );
        };
        let stream = UnixStream::connect(&path).await;
        let stream = stream.with_context(|| match said {
            Some(_) => "cannot reach the phone".into(),
            None => format!(
                "no phone runs in {}: start one with `lingualinked node`, or say which with --to",
                path.display()
            ),
        });
        let (read, orders) = stream?.into_split();

        Ok(Self {
            lines: BufReader::new(read).lines(),
            orders,
        })
    }

    /// Gives an order.
    ///
    /// # Errors
    ///
    /// If the phone has stopped.
    pub async fn order(&mut self, order: &Order) -> Result<()> {
        let written = self.orders.write_all(&order.to_json()).await;

        written.context("the phone has stopped")
    }

    /// Waits for the next line.
    ///
    /// # Errors
    ///
    /// If the phone has stopped.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost if the future is dropped.
    pub async fn line(&mut self) -> Result<Line> {
        let text = self.lines.next_line().await;
        let text = text.context("the phone has stopped")?;

        serde_json::from_str(&text.context("the phone has stopped")?)
            .context("the phone is of another version")
    }
}
