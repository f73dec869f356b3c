//! Whether anything came back from where a phone was dialled.
//!
//! A machine that refuses a connection is there, and the network leads to it. One that is gone, or that the network keeps
//! apart from this one, says nothing: the dial times out, or the system finds nobody with that address.

use std::error::Error;
use std::io;

use libp2p::TransportError;
use libp2p::swarm::DialError;

/// What libp2p's own timeout says. Its type is generic over what it waits for, which has no name, and so it cannot be asked
/// for otherwise.
const TIMEOUT: &str = "Timeout has been reached";

/// Returns whether nothing came back from any address that was dialled.
pub fn is_silent(error: &DialError) -> bool {
    let DialError::Transport(tried) = error else {
        return false;
    };
    let is_silence = |error: &TransportError<io::Error>| match error {
        TransportError::Other(error) => says_nothing(error),
        TransportError::MultiaddrNotSupported(_) => false,
    };

    !tried.is_empty() && tried.iter().all(|(_, error)| is_silence(error))
}

/// Looks at what is at the bottom of an error.
fn says_nothing(error: &(dyn Error + 'static)) -> bool {
    let of_system = error.downcast_ref::<io::Error>();
    // Its source would be that of what it wraps.
    if let Some(wrapped) = of_system.and_then(io::Error::get_ref) {
        return says_nothing(wrapped);
    }

    match (of_system, error.source()) {
        (Some(error), _) => is_of_silence(error.kind()),
        (None, Some(source)) => says_nothing(source),
        (None, None) => {
            let text = error.to_string();
            text == TIMEOUT
                || code_in(&text)
                    .is_some_and(|code| is_of_silence(io::Error::from_raw_os_error(code).kind()))
        }
    }
}

fn is_of_silence(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable
    )
}

/// Returns the system's code in the words for one of its errors, which end in `(os error 113)`: an `Either`, in which libp2p
/// wraps the errors of its transports, passes on what it holds to whoever reads it, but not to whoever asks for its source.
fn code_in(text: &str) -> Option<i32> {
    let (_, code) = text.strip_suffix(')')?.rsplit_once("(os error ")?;

    code.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::fmt;

    use libp2p::core::transport::timeout::TransportTimeoutError;

    use super::*;

    type Timeout = TransportTimeoutError<io::Error>;

    #[test]
    fn nobody_is_silent_who_refuses() {
        let timeout = || io::Error::other(Timeout::Timeout);
        let system = |kind: io::ErrorKind| {
            io::Error::other(Timeout::Other(io::Error::other(io::Error::from(kind))))
        };
        let gone = || system(io::ErrorKind::HostUnreachable);
        let refused = || system(io::ErrorKind::ConnectionRefused);

        assert!(is_silent(&dialled([timeout()])));
        assert!(is_silent(&dialled([timeout(), gone()])));
        assert!(!is_silent(&dialled([refused()])));
        assert!(!is_silent(&dialled([timeout(), refused()])));
        let down = system(io::ErrorKind::NetworkUnreachable);
        assert!(!is_silent(&dialled([down])));
        let wrapped = |code: i32| {
            let error = Either(io::Error::from_raw_os_error(code));
            io::Error::other(Timeout::Other(io::Error::other(error)))
        };
        let (no_route, reset) = (113, 104); // on Linux
        assert!(is_silent(&dialled([wrapped(no_route), timeout()])));
        assert!(!is_silent(&dialled([wrapped(reset)])));
        assert!(!is_silent(&dialled([])));
        assert!(!is_silent(&DialError::Aborted));
    }

    /// As libp2p wraps the errors of its transports.
    #[derive(Debug)]
    struct Either(io::Error);

    impl fmt::Display for Either {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.fmt(f)
        }
    }

    impl Error for Either {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            self.0.source()
        }
    }

    fn dialled<const N: usize>(errors: [io::Error; N]) -> DialError {
        let address = || "/ip4/192.168.1.2/tcp/1".parse().expect("an address");
        let tried = errors.map(|error| (address(), TransportError::Other(error)));

        DialError::Transport(tried.into())
    }
}
