//! The witness as a service: HTTP/1.1 around [`Witness`].

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Method, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{ALLOW, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use talkoot_ledger::{Refusal, VerifierKey, Witness, witness::MAX_REQUEST_BYTES};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;

use crate::rate::Rate;

/// How long a connection may take to send a request's head; between two requests, too.
const HEAD: Duration = Duration::from_secs(15);

/// How long a request's body may take.
const BODY: Duration = Duration::from_secs(15);

/// The most headers and bytes of them; a request needs two or three.
const MAX_HEADERS: usize = 32;
const MAX_BUFFER: usize = 16 * 1024;

/// How long open connections may take to end when the service stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// What one visitor, and all of them, may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at once.
    pub connections: usize,
    /// Requests a second from one address.
    pub per_second: u32,
    /// Requests from one address that may come at once.
    pub burst: u32,
}

impl Default for Limits {
    /// A run of rounds of a few seconds asks once a second or so; behind one address may be several logs.
    fn default() -> Self {
        Self { connections: 256, per_second: 20, burst: 100 }
    }
}

/// Why the service stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A checkpoint couldn't be persisted. Nothing was cosigned that isn't on the disk.
    #[error(
        "the witness cannot remember, so it does not cosign: {reason}; start it again when this is mended"
    )]
    CannotPersist {
        /// What went wrong.
        reason: String,
    },
}

struct Service {
    witness: Mutex<Witness>,
    vkey: VerifierKey,
    rate: Mutex<Rate>,
    failed: Mutex<Option<String>>,
    stop: CancellationToken,
}

/// Serves `POST /add-checkpoint`, and the witness's key under `GET /`, until `cancel` is triggered.
///
/// # Errors
///
/// [`ServeError`] when the witness cannot write its state.
pub async fn serve(
    listener: TcpListener,
    witness: Witness,
    limits: Limits,
    cancel: CancellationToken,
) -> Result<(), ServeError> {
    let service = Arc::new(Service {
        vkey: witness.vkey(),
        witness: Mutex::new(witness),
        rate: Mutex::new(Rate::new(limits.per_second, limits.burst)),
        failed: Mutex::new(None),
        stop: cancel.child_token(),
    });
    let places = Arc::new(Semaphore::new(limits.connections));
    loop {
        // a place first, so that a flood waits in the system's queue and not in our memory
        let place = tokio::select! {
            biased;
            () = service.stop.cancelled() => break,
            place = Arc::clone(&places).acquire_owned() => place,
        };
        let accepted = tokio::select! {
            biased;
            () = service.stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match (accepted, place) {
            (Ok((stream, peer)), Ok(place)) => {
                let service = Arc::clone(&service);
                tokio::spawn(async move {
                    converse(stream, peer, service).await;
                    drop(place);
                });
            }
            (Err(error), _) => {
                // too many open files, mostly: pause instead of spinning
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            (_, Err(_)) => break,
        }
    }
    let everybody = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let _ = tokio::time::timeout(FAREWELL, places.acquire_many(everybody)).await;
    match lock(&service.failed).take() {
        Some(reason) => Err(ServeError::CannotPersist { reason }),
        None => Ok(()),
    }
}

/// One connection, until it ends, is quiet for too long, or the service stops.
async fn converse(stream: tokio::net::TcpStream, peer: SocketAddr, service: Arc<Service>) {
    let stop = service.stop.clone();
    let answer = service_fn(move |request| {
        let service = Arc::clone(&service);
        async move { Ok::<_, Infallible>(respond(request, peer.ip(), &service).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(MAX_HEADERS)
        .max_buf_size(MAX_BUFFER)
        .serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, %error, "connection ended");
    }
}

async fn respond(request: Request<Incoming>, peer: IpAddr, service: &Arc<Service>) -> Response<Full<Bytes>> {
    match (request.method(), request.uri().path()) {
        (&Method::POST, "/add-checkpoint") => {}
        (_, "/add-checkpoint") => {
            return with(plain(StatusCode::METHOD_NOT_ALLOWED, "ask with POST"), ALLOW, "POST");
        }
        (&Method::GET, "/") => return plain(StatusCode::OK, &service.vkey.to_string()),
        _ => return plain(StatusCode::NOT_FOUND, "a witness answers POST /add-checkpoint"),
    }
    if !lock(&service.rate).allows(peer, Instant::now()) {
        return with(plain(StatusCode::TOO_MANY_REQUESTS, "ask less often"), RETRY_AFTER, "1");
    }
    let body = Limited::new(request.into_body(), MAX_REQUEST_BYTES).collect();
    let body = match tokio::time::timeout(BODY, body).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(error)) => return plain(StatusCode::BAD_REQUEST, &format!("the body: {error}")),
        Err(_) => return plain(StatusCode::REQUEST_TIMEOUT, "the body did not come in time"),
    };
    let asked = Arc::clone(service);
    let answer =
        tokio::task::spawn_blocking(move || lock(&asked.witness).add_checkpoint(&body, unix_seconds()));
    match answer.await {
        Ok(Ok(cosignature)) => plain(StatusCode::OK, &cosignature.to_string()),
        Ok(Err(refusal)) => refuse(&refusal, peer, service),
        Err(_) => {
            give_up(service, "a thread panicked; the log of this process says where".to_owned());
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the witness has to be started again")
        }
    }
}

fn refuse(refusal: &Refusal, peer: IpAddr, service: &Service) -> Response<Full<Bytes>> {
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match refusal {
        // no trouble: how a log learns where this witness stands
        Refusal::Conflict { size } => {
            return with(plain(status, &size.to_string()), CONTENT_TYPE, "text/x.tlog.size");
        }
        Refusal::Disk(_) | Refusal::Broken => give_up(service, refusal.to_string()),
        Refusal::Fork { .. } => tracing::error!(%peer, %refusal, "the log shows two histories"),
        _ => tracing::warn!(%peer, %refusal, "not cosigned"),
    }
    plain(status, &refusal.to_string())
}

/// A witness that cannot remember must not go on.
fn give_up(service: &Service, reason: String) {
    lock(&service.failed).get_or_insert(reason);
    service.stop.cancel();
}

fn plain(status: StatusCode, line: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{line}\n"))));
    *response.status_mut() = status;
    with(response, CONTENT_TYPE, "text/plain; charset=utf-8")
}

fn with(
    mut response: Response<Full<Bytes>>,
    name: hyper::header::HeaderName,
    value: &'static str,
) -> Response<Full<Bytes>> {
    response.headers_mut().insert(name, HeaderValue::from_static(value));
    response
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A panic elsewhere leaves nothing half done behind these locks that would matter: the witness's own state says
/// so itself when it is broken.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
