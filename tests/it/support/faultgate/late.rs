//! A body that comes later: all of it by the same time, so that it is no slower than it was.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, Sleep};

use super::body::{Boxed, Failure};

/// What comes from `inner` leaves this much later.
pub(crate) struct Late {
    inner: Boxed,
    by: Duration,
    /// What came, with when it leaves.
    waiting: VecDeque<(Instant, Result<Frame<Bytes>, Failure>)>,
    has_ended: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Late {
    pub(crate) fn new(inner: Boxed, by: Duration) -> Self {
        Self { inner, by, waiting: VecDeque::new(), has_ended: false, sleep: None }
    }
}

impl Body for Late {
    type Data = Bytes;
    type Error = Failure;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Failure>>> {
        while !self.has_ended
            && let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context)
        {
            self.has_ended = !matches!(frame, Some(Ok(_)));
            let due = Instant::now() + self.by;
            self.waiting.extend(frame.map(|frame| (due, frame)));
        }
        let Some((due, _)) = self.waiting.front() else {
            return if self.has_ended { Poll::Ready(None) } else { Poll::Pending };
        };
        let due = *due;
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        ready!(sleep.as_mut().poll(context));
        self.sleep = None;
        Poll::Ready(self.waiting.pop_front().map(|(_, frame)| frame))
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_empty() && (self.has_ended || self.inner.is_end_stream())
    }
}
