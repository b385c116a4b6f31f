//! What requests cost: every request asks the service to tell the capacity it consumed, and it is noted at debug level.
//!
//! Nothing is decided by it. The costs of operations are pinned in tests (`tests/it/costs.rs`).

use aws_sdk_dynamodb::operation::batch_get_item::BatchGetItemOutput;
use aws_sdk_dynamodb::operation::get_item::GetItemOutput;
use aws_sdk_dynamodb::operation::put_item::PutItemOutput;
use aws_sdk_dynamodb::operation::query::QueryOutput;
use aws_sdk_dynamodb::operation::scan::ScanOutput;
use aws_sdk_dynamodb::operation::transact_write_items::TransactWriteItemsOutput;
use aws_sdk_dynamodb::types::{ConsumedCapacity, ReturnConsumedCapacity};

/// What every request asks for.
pub(super) const TOTAL: ReturnConsumedCapacity = ReturnConsumedCapacity::Total;

/// An answer that may say what it cost.
pub(super) trait Consumed {
    /// Per table, as the service says; nothing where it does not.
    fn consumed(&self) -> &[ConsumedCapacity];

    /// Notes it.
    fn note(&self, operation: &str, key: &str) {
        let told = self.consumed();
        if !told.is_empty() {
            let units: f64 = told.iter().filter_map(ConsumedCapacity::capacity_units).sum();
            tracing::debug!(operation, key, units, "consumed capacity");
        }
    }
}

macro_rules! one_table {
    ($($output:ty),*) => {$(
        impl Consumed for $output {
            fn consumed(&self) -> &[ConsumedCapacity] {
                self.consumed_capacity().map_or(&[], std::slice::from_ref)
            }
        }
    )*};
}

one_table!(GetItemOutput, PutItemOutput, QueryOutput, ScanOutput);

macro_rules! many_tables {
    ($($output:ty),*) => {$(
        impl Consumed for $output {
            fn consumed(&self) -> &[ConsumedCapacity] {
                self.consumed_capacity()
            }
        }
    )*};
}

many_tables!(BatchGetItemOutput, TransactWriteItemsOutput);
