//! Sockets before they are connections: listeners, and what is set on an accepted socket.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};

use crate::service::Peer;

/// Unanswered keepalive probes after which the peer is given up, as Redis does.
const KEEPALIVE_PROBES: u32 = 3;

/// Which core serves the connections a listener accepts.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Spread {
    /// The core that owns the listener.
    #[default]
    Here,
    /// All cores in turn.
    RoundRobin,
}

/// A bound, listening socket. Dropping it closes it, and removes the path of a unix socket.
#[derive(Debug)]
pub struct Listener {
    fd: OwnedFd,
    spread: Spread,
    place: Place,
}

#[derive(Debug)]
enum Place {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listener {
    /// Listens on an address; port 0 picks a free one (see [`Listener::local_addr`]). An IPv6 address takes IPv6 only.
    pub fn tcp(addr: SocketAddr, backlog: i32) -> io::Result<Listener> {
        let family = if addr.is_ipv4() {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = net::socket_with(family, SocketType::STREAM, flags, None)?;
        sockopt::set_socket_reuseaddr(&fd, true)?;
        // Inherited by every accepted socket on Linux, which saves a system call per connection.
        sockopt::set_tcp_nodelay(&fd, true)?;
        if addr.is_ipv6() {
            sockopt::set_ipv6_v6only(&fd, true)?;
        }
        net::bind(&fd, &addr)?;
        net::listen(&fd, backlog)?;
        let local = SocketAddr::try_from(net::getsockname(&fd)?)?;
        Ok(Listener {
            fd,
            spread: Spread::Here,
            place: Place::Tcp(local),
        })
    }

    /// Listens on a path, replacing a socket left there; `perm` is the file mode, 0 leaves the umask's.
    pub fn unix(path: &Path, perm: u32, backlog: i32) -> io::Result<Listener> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let fd = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        remove_socket(path)?;
        net::bind(&fd, &net::SocketAddrUnix::new(path)?)?;
        if perm != 0 {
            let mode = std::os::unix::fs::PermissionsExt::from_mode(perm);
            fs::set_permissions(path, mode)?;
        }
        net::listen(&fd, backlog)?;
        Ok(Listener {
            fd,
            spread: Spread::Here,
            place: Place::Unix(path.to_owned()),
        })
    }

    /// Who serves the accepted connections; [`Spread::Here`] unless told.
    #[must_use]
    pub fn spread(mut self, spread: Spread) -> Listener {
        self.spread = spread;
        self
    }

    /// The bound address, with the port that was picked; `None` for a unix socket.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        match &self.place {
            Place::Tcp(addr) => Some(*addr),
            Place::Unix(_) => None,
        }
    }

    pub(crate) fn spread_kind(&self) -> Spread {
        self.spread
    }

    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.place, Place::Tcp(_))
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl AsRawFd for Listener {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Place::Unix(path) = &self.place {
            // Nobody is left to tell; a socket left behind is replaced at the next start.
            let _gone = remove_socket(path);
        }
    }
}

/// Removes a socket file, and only a socket file: a mistyped path must not cost the user a document.
fn remove_socket(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt;
    match fs::symlink_metadata(path) {
        Ok(meta) if meta.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "the path is not a socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The two ends of an accepted socket. Fails when the peer has already gone.
pub(crate) fn peer_of(fd: BorrowedFd<'_>, is_tcp: bool) -> io::Result<Peer> {
    if !is_tcp {
        return Ok(Peer::Unix);
    }
    let peer = net::getpeername(fd)?.ok_or(io::ErrorKind::NotConnected)?;
    let local = net::getsockname(fd)?;
    Ok(Peer::Tcp {
        peer: SocketAddr::try_from(peer)?,
        local: SocketAddr::try_from(local)?,
    })
}

/// Turns keepalive on for an accepted TCP socket: first probe after `keepalive_s`, then every third of it.
pub(crate) fn keep_alive(fd: BorrowedFd<'_>, keepalive_s: u32) -> io::Result<()> {
    let idle_s = u64::from(keepalive_s);
    sockopt::set_socket_keepalive(fd, true)?;
    sockopt::set_tcp_keepidle(fd, Duration::from_secs(idle_s))?;
    sockopt::set_tcp_keepintvl(fd, Duration::from_secs((idle_s / 3).max(1)))?;
    sockopt::set_tcp_keepcnt(fd, KEEPALIVE_PROBES)?;
    Ok(())
}
