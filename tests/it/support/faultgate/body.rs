//! A body on its way: counted, and spoiled as told.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use tokio::time::Sleep;

use super::log::Record;
use super::wire::Control;

pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;
pub(crate) type Boxed = UnsyncBoxBody<Bytes, Failure>;

/// A body of these bytes.
pub(crate) fn whole(bytes: Bytes) -> Boxed {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// What happens to a body. The default is nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Spoil {
    pub(crate) flip: Option<u64>,
    /// Where it ends early, and how.
    pub(crate) end: Option<(u64, Ending)>,
    /// The end of the body is the end of the connection.
    pub(crate) closes: bool,
    /// Bytes a second.
    pub(crate) rate: Option<u64>,
    pub(crate) hush: Hush,
}

/// Whether all replies that were under way at some moment have fallen silent since this was made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hush {
    silences: Arc<AtomicU64>,
    before: u64,
}

impl Hush {
    pub(crate) fn new(silences: Arc<AtomicU64>) -> Self {
        let before = silences.load(Ordering::Acquire);
        Self { silences, before }
    }

    fn is_on(&self) -> bool {
        self.silences.load(Ordering::Acquire) > self.before
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Close,
    Reset,
    Silence,
}

/// A body that passes through the gate.
pub(crate) struct Passing {
    inner: Boxed,
    spoil: Spoil,
    /// Of a reply.
    control: Option<Arc<Control>>,
    record: Arc<Record>,
    position: u64,
    /// What came and has not gone yet.
    rest: Bytes,
    sleep: Option<Pin<Box<Sleep>>>,
    /// It has come to its early end; after so many flushes.
    ending: Option<(Ending, u64)>,
}

impl Passing {
    /// The body of a request.
    pub(crate) fn request(inner: Boxed, spoil: Spoil, record: Arc<Record>) -> Self {
        Self::new(inner, spoil, None, record)
    }

    /// The body of a reply.
    pub(crate) fn reply(inner: Boxed, spoil: Spoil, control: Arc<Control>, record: Arc<Record>) -> Self {
        Self::new(inner, spoil, Some(control), record)
    }

    fn new(inner: Boxed, spoil: Spoil, control: Option<Arc<Control>>, record: Arc<Record>) -> Self {
        let (rest, position) = (Bytes::new(), 0);
        Self { inner, spoil, control, record, position, rest, sleep: None, ending: None }
    }

    /// A piece leaves: counted before anybody can have it.
    fn count(&self, length: u64) {
        let is_last = self.rest.is_empty() && self.inner.is_end_stream();
        if self.control.is_some() {
            self.record.note(|entry| entry.bytes_out += length);
            if is_last {
                self.record.end();
            }
        } else {
            self.record.note(|entry| entry.bytes_in += length);
        }
    }

    fn end(&mut self, ending: Ending) {
        let flushes = self.control.as_ref().map_or(0, |control| control.flushes());
        self.ending = Some((ending, flushes));
    }

    /// The early end: what came before it must have left first.
    fn poll_end(&self, ending: Ending, before: u64, context: &Context<'_>) -> Poll<Failure> {
        let Some(control) = &self.control else { return Poll::Ready("cut off".into()) };
        if ending == Ending::Silence {
            return Poll::Pending;
        }
        ready!(control.poll_flushed(before, context));
        if ending == Ending::Reset {
            control.reset();
        }
        Poll::Ready("cut off".into())
    }

    /// How much of what is there may go now.
    fn next_length(&self) -> usize {
        let mut length = self.rest.len();
        if let Some((end, _)) = self.spoil.end {
            length = length.min(usize::try_from(end - self.position).unwrap_or(usize::MAX));
        }
        if let Some(rate) = self.spoil.rate {
            // Twenty pieces a second, so that a slow connection is slow and not jerky.
            length = length.min(usize::try_from(rate.div_ceil(20)).unwrap_or(usize::MAX).max(1));
        }
        length
    }
}

impl Body for Passing {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        loop {
            if self.spoil.hush.is_on() && self.ending.is_none() {
                self.end(Ending::Silence);
            }
            if let Some((ending, before)) = self.ending {
                return self.poll_end(ending, before, context).map(|failure| Some(Err(failure)));
            }
            if let Some(sleep) = &mut self.sleep {
                ready!(sleep.as_mut().poll(context));
                self.sleep = None;
            }
            if let Some((end, ending)) = self.spoil.end
                && self.position == end
            {
                self.end(ending);
                continue;
            }
            if self.rest.is_empty() {
                let Some(frame) = ready!(Pin::new(&mut self.inner).poll_frame(context)) else {
                    if self.control.is_some() {
                        self.record.end();
                    }
                    if self.spoil.closes {
                        self.end(Ending::Close);
                        continue;
                    }
                    return Poll::Ready(None);
                };
                match frame?.into_data() {
                    Ok(data) => self.rest = data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                }
                if let Some(at) = self.spoil.flip.and_then(|flip| flip.checked_sub(self.position))
                    && let Ok(at) = usize::try_from(at)
                    && at < self.rest.len()
                {
                    let mut bytes = self.rest.to_vec();
                    bytes[at] ^= 1;
                    self.rest = Bytes::from(bytes);
                }
                continue;
            }
            let length = self.next_length();
            let piece = self.rest.split_to(length);
            self.position += length as u64;
            self.count(length as u64);
            if let Some(rate) = self.spoil.rate {
                #[expect(clippy::cast_precision_loss, reason = "pieces are small")]
                let pause = Duration::from_secs_f64(length as f64 / rate.max(1) as f64);
                self.sleep = Some(Box::pin(tokio::time::sleep(pause)));
            }
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
    }

    fn is_end_stream(&self) -> bool {
        let spoiled = self.spoil.end.is_some() || self.spoil.closes || self.ending.is_some();
        !spoiled && self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.spoil.end.is_some() || self.spoil.closes {
            return SizeHint::default();
        }
        let rest = self.rest.len() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}
