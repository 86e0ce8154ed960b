//! From a listening address to requests: who gets a connection, how long they may take, whom they come from.
//!
//! Routes and what they do are not known here. The bounds on a request once it is whole are in `layers`.

mod seats;
mod tls;
mod watched;

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::http::{HeaderMap, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service as _;

use self::seats::{Phase, Seat, Seats};
use self::watched::{Line, Watched};
use crate::domain::network::{self, Network};

pub use self::tls::{Tls, TlsError};

/// Request line and headers together, give or take one read; more is answered with 431. As much is read of a body at
/// once.
const LONGEST_HEAD: usize = 32 * 1024;
/// So many headers, else 431.
const MOST_HEADERS: usize = 100;
/// How often it is looked for those who take too long,
const SWEPT_EVERY: Duration = Duration::from_millis(500);
/// and for a new certificate.
const RENEWED_EVERY: Duration = Duration::from_secs(30);
/// After a connection could not be accepted: the process has no file left, most likely.
const PAUSE: Duration = Duration::from_millis(50);
/// Connections at once where nothing is known of the process's limits.
const MOST: usize = 512;

/// How an address is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Whose word counts about whom a request comes from.
    pub proxies: Arc<[Network]>,
    /// With which certificate; none: in clear.
    pub tls: Option<Tls>,
    /// Connections at once.
    pub most: usize,
}

impl Default for Serving {
    fn default() -> Self {
        Self { proxies: Arc::from([]), tls: None, most: MOST }
    }
}

/// Whom a request comes from, as far as one can see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Client(pub(super) IpAddr);

/// Serves until told to stop, and returns when every answer is out.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    serving: Serving,
    stop: CancellationToken,
) -> Result<(), TlsError> {
    let acceptor = serving.tls.as_ref().map(Tls::acceptor).transpose()?;
    let (seats, connections) = (Seats::new(serving.most), TaskTracker::new());
    let desk = Arc::new(Desk { router, acceptor, proxies: serving.proxies, stop: stop.clone() });
    let renewals = async {
        match serving.tls {
            Some(tls) => keep_renewed(&tls).await,
            None => std::future::pending().await,
        }
    };
    let accepted = async {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    if let Some(seat) = seats.take(peer.ip(), Instant::now()) {
                        connections.spawn(Arc::clone(&desk).attend(stream, peer.ip(), seat));
                    }
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accepted => {}
        () = renewals => {}
        () = sweep(&seats, false) => {}
        () = stop.cancelled() => {}
    }
    drop(listener);
    connections.close();
    tokio::select! {
        () = connections.wait() => {}
        () = sweep(&seats, true) => {}
    }
    Ok(())
}

async fn sweep(seats: &Seats, ending: bool) {
    loop {
        seats.sweep(Instant::now(), ending);
        tokio::time::sleep(SWEPT_EVERY).await;
    }
}

async fn keep_renewed(tls: &Tls) {
    loop {
        tokio::time::sleep(RENEWED_EVERY).await;
        match tls.renew() {
            Ok(true) => tracing::info!("the new certificate is in force"),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, "the certificate's files can't be used; the old one stays in force")
            }
        }
    }
}

/// Whether it is this connection's fault: the next may be well.
fn is_of_the_connection(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What every connection is served with.
struct Desk {
    router: Router,
    acceptor: Option<TlsAcceptor>,
    proxies: Arc<[Network]>,
    stop: CancellationToken,
}

impl Desk {
    async fn attend(self: Arc<Self>, stream: TcpStream, peer: IpAddr, seat: Seat) {
        let leave = seat.leave();
        let _ = stream.set_nodelay(true);
        let talk = async {
            match &self.acceptor {
                None => self.talk(stream, peer, seat).await,
                Some(acceptor) => match acceptor.accept(stream).await {
                    Ok(stream) => self.talk(stream, peer, seat).await,
                    Err(error) => tracing::debug!(%error, %peer, "no TLS"),
                },
            }
        };
        tokio::select! {
            () = leave.cancelled() => {}
            () = talk => {}
        }
    }

    async fn talk<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, peer: IpAddr, seat: Seat) {
        let seat = Arc::new(seat);
        let line = TokioIo::new(Line { stream, seat: Arc::clone(&seat) });
        let service = hyper::service::service_fn(|request| self.answer(request, peer, Arc::clone(&seat)));
        let mut http = http1::Builder::new();
        http.max_buf_size(LONGEST_HEAD).max_headers(MOST_HEADERS);
        let mut connection = std::pin::pin!(http.serve_connection(line, service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = self.stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %peer, "a connection broke off");
        }
    }

    async fn answer(
        &self,
        request: Request<Incoming>,
        peer: IpAddr,
        seat: Arc<Seat>,
    ) -> Result<axum::response::Response, Infallible> {
        let phase = if request.body().is_end_stream() { Phase::Working } else { Phase::Body };
        seat.enter(phase, Instant::now());
        let client = network::caller(peer, forwarded(request.headers()), &self.proxies);
        let mut request = request.map(|body| Body::new(Watched::asked(body, Arc::clone(&seat))));
        request.extensions_mut().insert(Client(client));
        // A router is always ready.
        let response = self.router.clone().call(request).await?;
        seat.enter(Phase::Answering, Instant::now());
        Ok(response.map(|body| Body::new(Watched::answered(body, seat))))
    }
}

/// The entries of every `X-Forwarded-For`. One that is not text counts as one that can't be read.
fn forwarded(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = &str> {
    let values = headers.get_all("x-forwarded-for").iter();
    values.flat_map(|value| value.to_str().unwrap_or_default().split(','))
}
