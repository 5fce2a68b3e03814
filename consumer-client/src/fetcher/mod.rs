//! Fetches ahead of the application: one stream a broker, every assigned partition that it leads.
//!
//! - `driver` looks up leaders and starts, and keeps a session for each broker that leads
//!   something.
//! - `session` runs the fetch stream of one broker; `rounds` is its protocol without the stream.
//! - `lookup` asks leaders for offsets.
//!
//! Where anything fails, the partition's leader is looked up at once and fetching goes on at the
//! same position. Nothing here decodes a batch.

mod driver;
pub(crate) mod lookup;
mod rounds;
mod session;

#[cfg(test)]
mod tests;

pub(crate) use driver::Fetcher;
