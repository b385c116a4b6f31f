//! Learns a server's clock from the `Date` of every answer, whatever its status: a refusal tells the time, too.

use std::sync::Arc;
use std::time::Duration;

use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::interceptors::context::{
    BeforeDeserializationInterceptorContextRef, BeforeTransmitInterceptorContextRef,
};
use aws_smithy_runtime_api::client::interceptors::{Intercept, dyn_dispatch_hint};
use aws_smithy_runtime_api::client::runtime_components::RuntimeComponents;
use aws_smithy_types::config_bag::{ConfigBag, Storable, StoreReplace};

use crate::server_clock::ServerClock;

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
        let headers = context.response().headers();
        // An answer with an age was kept by a cache: its date is the one of another exchange.
        let sent = config.load::<Sent>();
        if let (Some(date), Some(Sent(sent)), None) = (headers.get("date"), sent, headers.get("age")) {
            self.0.observe(date, *sent);
        }
        Ok(())
    }
}
