//! The server's clock, as it stands in the `Date` of every answer, whatever its status: a refusal tells the time, too.
//!
//! One reading of the header, two uses: [`DateObserver`] teaches a [`ServerClock`], [`AnswerDate`] keeps the date of one
//! request's answer. Ages of objects are compared with dates and no local clock, which may be wrong by hours.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::DateTime;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};
use aws_smithy_types::date_time::Format;
use jiff::Timestamp;

use crate::server_clock::ServerClock;

/// What the answer says. Nothing when it has an age: it was kept by a cache, and its date is the one of another exchange.
fn date(context: &BeforeDeserializationInterceptorContextRef<'_>) -> Option<Timestamp> {
    let headers = context.response().headers();
    let date = headers.get("date").filter(|_| headers.get("age").is_none())?;
    timestamp(&DateTime::from_str(date, Format::HttpDate).ok()?)
}

/// A time of the SDK as one of ours.
pub(crate) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::new(time.secs(), i32::try_from(time.subsec_nanos()).ok()?).ok()
}

/// Tells a [`ServerClock`] what answers say.
#[derive(Debug)]
pub(super) struct DateObserver(pub(super) Arc<ServerClock>);

/// When the attempt under way was sent, on the monotonic clock.
#[derive(Debug)]
struct Sent(Duration);

impl Storable for Sent {
    type Storer = StoreReplace<Self>;
}

#[dyn_dispatch_hint]
impl Intercept for DateObserver {
    fn name(&self) -> &'static str {
        "DateObserver"
    }

    fn read_before_transmit(
        &self,
        _context: &BeforeTransmitInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        config.interceptor_state().store_put(Sent(self.0.monotonic()));
        Ok(())
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let (Some(date), Some(Sent(sent))) = (date(context), config.load::<Sent>()) {
            self.0.observe(date, *sent);
        }
        Ok(())
    }
}

/// Keeps the date of one request's answer; of the last one where the request was sent again.
#[derive(Debug, Clone, Default)]
pub(crate) struct AnswerDate(Arc<Mutex<Option<Timestamp>>>);

impl AnswerDate {
    /// The date, once there was an answer that had one.
    pub(crate) fn get(&self) -> Option<Timestamp> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[dyn_dispatch_hint]
impl Intercept for AnswerDate {
    fn name(&self) -> &'static str {
        "AnswerDate"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _components: &RuntimeComponents,
        _config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date(context);
        Ok(())
    }
}
