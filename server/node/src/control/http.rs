//! The admin port: plain HTTP/1.1.
//!
//! A client costs at most one of [`CONNECTIONS_MAX`] places and [`IDLE_S_MAX`] seconds of silence; how large a
//! request's head may be is hyper's limit, and a body is read by `/migrate` alone, which bounds it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep, sleep};

use crate::control::{metrics, migrate};
use crate::node::Node;

/// Connections at once, over all addresses; more wait in the kernel.
const CONNECTIONS_MAX: usize = 64;
/// Seconds without a byte, in either direction, after which a connection is closed.
const IDLE_S_MAX: u64 = 60;
/// How long accepting rests when the process has run out of descriptors.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// Serves on all these sockets for ever.
pub(super) async fn serve(node: &'static Node, listeners: Vec<std::net::TcpListener>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut last = None;
    for listener in listeners {
        // They are non-blocking sockets of this process; registering one fails only without memory.
        let Ok(inner) = TcpListener::from_std(listener) else {
            continue;
        };
        let door = Door {
            inner,
            places: Arc::clone(&places),
            idle: Duration::from_secs(IDLE_S_MAX),
        };
        let serving = axum::serve(door, routes(node));
        last = Some(tokio::spawn(async move { serving.await }));
    }
    if let Some(last) = last {
        // It does not end before the process does.
        let _ended = last.await;
    }
}

fn routes(node: &'static Node) -> Router {
    Router::new()
        .route("/metrics", get(metrics_page))
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
        .merge(migrate::http::routes())
        .with_state(node)
}

async fn metrics_page(State(node): State<&'static Node>) -> impl IntoResponse {
    (
        [(header::CONTENT_TYPE, metrics::CONTENT_TYPE)],
        metrics::page(node),
    )
}

async fn ready(State(node): State<&'static Node>) -> (StatusCode, &'static str) {
    if node.stopping.load(Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "stopping\n")
    } else if node.handle().is_none() {
        (StatusCode::SERVICE_UNAVAILABLE, "starting\n")
    } else if node.loading.is_on() {
        (StatusCode::SERVICE_UNAVAILABLE, "loading\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}

/// A listener that hands out a bounded number of connections.
struct Door {
    inner: TcpListener,
    places: Arc<Semaphore>,
    idle: Duration,
}

impl axum::serve::Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        // The semaphore is never closed; without a place this waits.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        loop {
            match self.inner.accept().await {
                Ok((stream, addr)) => return (Visit::new(stream, place, self.idle), addr),
                Err(_) => sleep(ACCEPT_REST).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that ends when nothing has moved for a while.
struct Visit {
    stream: TcpStream,
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Visit {
    fn new(stream: TcpStream, place: Option<OwnedSemaphorePermit>, idle: Duration) -> Visit {
        Visit {
            stream,
            idle,
            alarm: Box::pin(sleep(idle)),
            _place: place,
        }
    }

    /// Passes a result on and winds the alarm; a wait ends with the alarm.
    fn watch<T>(
        &mut self,
        cx: &mut Context<'_>,
        polled: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            let until = Instant::now() + self.idle;
            self.alarm.as_mut().reset(until);
            return polled;
        }
        self.alarm
            .as_mut()
            .poll(cx)
            .map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncRead for Visit {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        self.watch(cx, polled)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.watch(cx, polled)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::node::Parts;
    use std::io::{Read as _, Write as _};

    fn node() -> &'static Node {
        let node = Node::new(Parts {
            config: Config::default(),
            cores: 2,
            seed: 1,
            started_ms: 1_700_000_000_500,
            config_file: None,
            executable: String::new(),
            entrances: vec![],
        });
        Box::leak(Box::new(node.unwrap()))
    }

    fn get(addr: SocketAddr, request: &str) -> String {
        let mut stream = std::net::TcpStream::connect(addr).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn page(addr: SocketAddr, path: &str) -> String {
        get(
            addr,
            &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"),
        )
    }

    #[test]
    fn pages_are_served_and_strangers_are_told() {
        let node = node();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        crate::control::start(node, vec![listener]).unwrap();

        let healthy = page(addr, "/healthz");
        assert!(
            healthy.starts_with("HTTP/1.1 200") && healthy.ends_with("\r\n\r\nok\n"),
            "{healthy}"
        );
        let unready = page(addr, "/readyz");
        assert!(
            unready.starts_with("HTTP/1.1 503") && unready.ends_with("starting\n"),
            "{unready}"
        );
        node.stopping.store(true, Relaxed);
        assert!(page(addr, "/readyz").ends_with("stopping\n"));

        let metrics = page(addr, "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200"), "{metrics}");
        assert!(
            metrics.contains("content-type: text/plain; version=0.0.4"),
            "{metrics}"
        );
        assert!(metrics.contains("\nmeridian_cores 2\n"), "{metrics}");

        assert!(page(addr, "/other").starts_with("HTTP/1.1 404"));
        assert!(
            get(
                addr,
                "POST /metrics HTTP/1.1\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
            )
            .starts_with("HTTP/1.1 405")
        );
        assert!(get(addr, "nonsense\r\n\r\n").starts_with("HTTP/1.1 400"));
    }

    #[test]
    fn silence_ends_a_connection() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            use axum::serve::Listener as _;
            let inner = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let places = Arc::new(Semaphore::new(1));
            let idle = Duration::from_millis(5);
            let mut door = Door {
                inner,
                places: Arc::clone(&places),
                idle,
            };
            let _silent = std::net::TcpStream::connect(door.local_addr().unwrap()).unwrap();
            let (mut visit, _) = door.accept().await;
            assert_eq!(places.available_permits(), 0);
            let mut bytes = [0];
            let mut buf = ReadBuf::new(&mut bytes);
            let read =
                std::future::poll_fn(|cx| Pin::new(&mut visit).poll_read(cx, &mut buf)).await;
            assert_eq!(read.unwrap_err().kind(), io::ErrorKind::TimedOut);
            drop(visit);
            assert_eq!(places.available_permits(), 1);
        });
    }
}
