//! How much of an upload has left: request bodies that count their bytes, and the reports made from the counts.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Progress;

/// Bytes that are handed to the connection at once: small enough for a smooth report and for noticing a stall.
const FRAME: usize = 64 * 1024;

/// How often progress is reported.
const INTERVAL: Duration = Duration::from_millis(100);

/// The bytes of one upload that have left so far, over all its requests.
#[derive(Debug, Default)]
pub(super) struct Sent(AtomicU64);

impl Sent {
    /// A request body of `bytes` that counts into this. The SDK can sign and repeat it like plain bytes; a repeated
    /// request takes back what the failed one had counted.
    pub(super) fn body(self: &Arc<Self>, bytes: Bytes) -> ByteStream {
        let sent = self.clone();
        let counted = Arc::new(AtomicU64::new(0));
        ByteStream::new(SdkBody::from(bytes).map_preserve_contents(move |body| {
            let counter = Counter { sent: sent.clone(), counted: counted.clone(), started: false };
            SdkBody::from_body_1_x(Counting { body, counter, left: Bytes::new() })
        }))
    }

    /// Runs `work` and reports meanwhile what has left. Never reports more than `total` bytes, nor any byte twice.
    pub(super) async fn report<T>(
        &self,
        total: u64,
        progress: Progress<'_>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        let mut reported = 0;
        let mut report = |reached: u64| {
            let reached = reached.min(total);
            if reached > reported {
                progress(reached - reported);
                reported = reached;
            }
        };
        let mut ticks = tokio::time::interval(INTERVAL);
        let outcome = loop {
            tokio::select! {
                outcome = &mut work => break outcome,
                _ = ticks.tick() => report(self.0.load(Ordering::Relaxed)),
            }
        };
        report(self.0.load(Ordering::Relaxed));
        outcome
    }
}

/// What one request has added to the sum.
struct Counter {
    sent: Arc<Sent>,
    /// Shared by all attempts of the request.
    counted: Arc<AtomicU64>,
    started: bool,
}

impl Counter {
    fn add(&mut self, bytes: u64) {
        if !self.started {
            // An earlier attempt got this far and failed.
            self.sent.0.fetch_sub(self.counted.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            self.started = true;
        }
        self.counted.fetch_add(bytes, Ordering::Relaxed);
        self.sent.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct Counting {
    body: SdkBody,
    counter: Counter,
    /// What the inner body gave and has not left yet.
    left: Bytes,
}

impl Body for Counting {
    type Data = Bytes;
    type Error = <SdkBody as Body>::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.left.is_empty() {
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.left = data,
                    Err(other) => return Poll::Ready(Some(Ok(other))),
                },
                other => return other,
            }
        }
        let length = self.left.len().min(FRAME);
        let piece = self.left.split_to(length);
        self.counter.add(length as u64);
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let inner = self.body.size_hint();
        let left = self.left.len() as u64;
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + left);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + left);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn repeated_bodies_are_counted_once() {
        let sent = Arc::new(Sent::default());
        let bytes = Bytes::from(vec![7; 3 * FRAME + 5]);
        let first = sent.body(bytes.clone()).into_inner();
        assert_eq!((first.content_length(), first.bytes().map(<[u8]>::len)), (Some(196_613), Some(196_613)));
        let again = first.try_clone().expect("it can be repeated");
        let mut first = ByteStream::new(first);
        first.next().await.expect("a frame").expect("bytes");
        assert_eq!(sent.0.load(Ordering::Relaxed), FRAME as u64);
        let whole = ByteStream::new(again).collect().await.expect("bytes").into_bytes();
        assert_eq!((whole, sent.0.load(Ordering::Relaxed)), (bytes, 196_613));
    }

    #[tokio::test]
    async fn reports_add_up_and_never_exceed_the_total() {
        let sent = Arc::new(Sent::default());
        let sum = AtomicU64::new(0);
        let progress = |bytes| {
            sum.fetch_add(bytes, Ordering::Relaxed);
        };
        let work = async {
            sent.0.store(70, Ordering::Relaxed);
            tokio::task::yield_now().await;
            sent.0.store(120, Ordering::Relaxed);
        };
        sent.report(100, &progress, work).await;
        assert_eq!(sum.load(Ordering::Relaxed), 100);
    }
}
