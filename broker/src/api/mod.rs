//! What a client may ask of a broker, in domain types: [`Api`]. Every listener calls this and only
//! this; nothing here knows a wire format or a socket.
//!
//! One file per request: [`produce`], [`fetch`], [`list_offsets`], [`delete_records`], [`metadata`],
//! [`init_producer_id`], [`end_of_epoch`], [`configs`], [`describe_logs`], [`groups`]. Why something
//! is not done is a [`Refusal`].

mod configs;
mod delete_records;
mod describe_logs;
mod end_of_epoch;
mod fetch;
pub mod groups;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod produce;
mod refusal;
mod replica_fetch;
mod resting;
mod service;

pub use configs::{ConfigEntry, ConfigSource, ConfigType};
pub use delete_records::{DeleteRecords, DeleteUpTo, RecordsDeleted};
pub use end_of_epoch::EpochEnd;
pub use fetch::{COPIED_BELOW, ColdRead, Fetched, FileRange, Opened, Read, ReadFrom, Reader, Told};
pub use list_offsets::{OffsetAt, OffsetFound};
pub use metadata::{MetadataView, Wanted};
pub use produce::{Produce, Produced, timed_out};
pub use refusal::Refusal;
pub use replica_fetch::Positions;
pub use resting::Resting;
pub use service::Api;
