//! The table of APIs: which versions are advertised, and which handler a request goes to.
//!
//! What is not in the table is not advertised, and closes the connection where it comes all the same:
//! the protocol has no general error answer. A version of ApiVersions that is too new is answered
//! in version 0, so that the client asks again; any other closes the connection too.

use std::ops::RangeInclusive;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use proto::kafka::messages::ApiVersionsRequest;
use proto::kafka::{ApiKey, Decoded, Malformed, Request, RequestHead, decode, encode};

use super::Services;
use super::budget::Charge;
use super::context::{Context, Kept, Peer};
use super::frames::Frame;
use super::handlers::*;
use super::outgoing::Outgoing;

/// Largest request that carries no records: items enough for any client, and work for a moment.
const SMALL_REQUEST_MAX: usize = 4 << 20;

/// What becomes of a request.
pub(super) type Work = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What a request comes to.
pub(super) enum Answer {
    Send(Outgoing),
    /// Who wants no answer gets none.
    Nothing,
    /// Who wants no answer can be told of an error only by this.
    Close(String),
}

/// Why a request cannot be begun. The connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("version {version} of API {key} is not served here; see ApiVersions")]
    Unsupported { key: i16, version: i16 },
    #[error("a request (API {key}, version {version}) cannot be read: {source}")]
    Malformed { key: i16, version: i16, source: Malformed },
    #[error(
        "a request (API {key}) has {len} bytes; only Produce takes more than {SMALL_REQUEST_MAX}"
    )]
    TooLarge { key: i16, len: usize },
    #[error("a request cannot be read: {0}")]
    Head(#[from] Malformed),
}

macro_rules! apis {
    (
        own { $( $own:ident $own_advertised:expr, served from $own_from:literal; )* }
        plain { $( $api:ident $advertised:expr => $handler:path; )* }
    ) => {
        /// Every API that is advertised, with its versions.
        pub(super) const ADVERTISED: &[(ApiKey, RangeInclusive<i16>)] = &[
            $( (ApiKey::$own, $own_advertised), )*
            $( (ApiKey::$api, $advertised), )*
        ];

        /// Whether a version is answered; the lowest advertised ones of an API may not be.
        #[allow(unreachable_patterns, reason = "so long as every API that is defined is served")]
        pub(super) fn is_served(api: ApiKey, version: i16) -> bool {
            match api {
                $( ApiKey::$own => version >= $own_from && ($own_advertised).contains(&version), )*
                $( ApiKey::$api => ($advertised).contains(&version), )*
                _ => false,
            }
        }

        fn begin_plain(
            api: ApiKey,
            context: Context,
            correlation_id: i32,
            frame: Bytes,
        ) -> Result<Work, Malformed> {
            match api {
                $( ApiKey::$api => run(context, correlation_id, frame, $handler), )*
                // Begun elsewhere, or not served.
                _ => Ok(Box::pin(async { Answer::Close("the API is not served".to_owned()) })),
            }
        }
    };
}

// The ranges are those of Kafka 4.0, of what is served here. They are not free to choose one by one:
// kafka-python tells a broker's release by single versions (Fetch 13 is 3.1, Fetch 17 is 3.9, ListOffsets
// 10 is 4.0), and who sets `api_version` to that release or one before has it use the table of that
// release instead of these ranges. So what a release before the one it guesses has of an API that is
// served must be served too; a test has the table. Next would be 4.1 (Produce 13, with topic ids, and
// Fetch 18). What is not served at all (transactions, ACLs, quotas) fails there as it does elsewhere.
//
// Produce 12 differs from 11 in transactions only, for which clients look at the feature
// `transaction.version`; FindCoordinator 5 and 6 and InitProducerId 5 differ in errors and kinds of
// keys that do not come.
apis! {
    own {
        // From 0, although 0 to 2 are not served: librdkafka compresses only where 0 is in the range.
        Produce 0..=12, served from 3;
        Fetch 4..=17, served from 4;
    }
    plain {
        ListOffsets 1..=10 => list_offsets::list_offsets;
        Metadata 0..=13 => metadata::metadata;
        OffsetCommit 2..=9 => offset_commit::offset_commit;
        OffsetFetch 1..=9 => offset_fetch::offset_fetch;
        FindCoordinator 0..=6 => find_coordinator::find_coordinator;
        JoinGroup 0..=9 => join_group::join_group;
        Heartbeat 0..=4 => heartbeat::heartbeat;
        LeaveGroup 0..=5 => leave_group::leave_group;
        SyncGroup 0..=5 => sync_group::sync_group;
        DescribeGroups 0..=6 => describe_groups::describe_groups;
        ListGroups 0..=5 => list_groups::list_groups;
        ApiVersions 0..=4 => api_versions::api_versions;
        InitProducerId 0..=5 => init_producer_id::init_producer_id;
        OffsetForLeaderEpoch 2..=4 => offset_for_leader_epoch::offset_for_leader_epoch;
        DeleteGroups 0..=2 => delete_groups::delete_groups;
        OffsetDelete 0..=0 => offset_delete::offset_delete;
        CreateTopics 2..=7 => create_topics::create_topics;
        DeleteTopics 1..=6 => delete_topics::delete_topics;
        DeleteRecords 0..=2 => delete_records::delete_records;
        CreatePartitions 0..=3 => create_partitions::create_partitions;
        DescribeConfigs 1..=4 => describe_configs::describe_configs;
        AlterConfigs 0..=2 => alter_configs::alter_configs;
        IncrementalAlterConfigs 0..=1 => alter_configs::incremental;
        DescribeLogDirs 1..=4 => describe_log_dirs::describe_log_dirs;
        ElectLeaders 0..=2 => elect_leaders::elect_leaders;
        AlterPartitionReassignments 0..=0 => reassignments::alter;
        ListPartitionReassignments 0..=0 => reassignments::list;
        DescribeCluster 0..=2 => describe_cluster::describe_cluster;
    }
}

/// Begins a request. What it does at once is done when this returns: produce requests are queued at
/// their partitions in the order they came.
pub(super) fn begin(
    services: &Arc<Services>,
    peer: Peer,
    kept: &Arc<Kept>,
    head: RequestHead,
    (frame, place): Frame,
) -> Result<Work, Refused> {
    let RequestHead { key, version, correlation_id } = head;
    let unsupported = Refused::Unsupported { key, version };
    let Some(api) = ApiKey::from_code(key) else { return Err(unsupported) };
    if !is_served(api, version) {
        if api == ApiKey::ApiVersions {
            let answer = api_versions::too_new();
            let encoded = encode::<ApiVersionsRequest>(0, correlation_id, &answer);
            let outgoing = Outgoing::new(encoded, Vec::new());
            return Ok(Box::pin(std::future::ready(Answer::Send(outgoing))));
        }
        return Err(unsupported);
    }
    if api != ApiKey::Produce && frame.len() > SMALL_REQUEST_MAX {
        return Err(Refused::TooLarge { key, len: frame.len() });
    }
    let (services, kept) = (Arc::clone(services), Arc::clone(kept));
    let context = Context { services, peer, client_id: None, version, kept };
    let begun = match api {
        ApiKey::Produce => read(context, frame).map(|(context, request, charge)| {
            let work = produce::produce(&context, correlation_id, request, place);
            keep(charge, work)
        }),
        ApiKey::Fetch => read(context, frame).map(|(context, request, charge)| {
            // The frame was read: what is held while the client waits is its items.
            drop(place);
            let fetching = fetch::fetch(context, correlation_id, request);
            keep(charge, Box::pin(fetching))
        }),
        _ => begin_plain(api, context, correlation_id, frame),
    };
    begun.map_err(|source| Refused::Malformed { key, version, source })
}

/// Has memory that is charged count for as long as a request is worked on.
fn keep(charge: Option<Charge>, work: Work) -> Work {
    match charge {
        None => work,
        Some(charge) => Box::pin(async move {
            let answer = work.await;
            drop(charge);
            answer
        }),
    }
}

/// The request in a frame, and what it takes beside that.
fn read<R: Request>(
    mut context: Context,
    frame: Bytes,
) -> Result<(Context, R, Option<Charge>), Malformed> {
    let Decoded { client_id, request, held } = decode(context.version, frame)?;
    context.client_id = client_id;
    let charge = context.services.budget.charge(held);
    Ok((context, request, charge))
}

/// Has a handler answer a request.
fn run<R, F>(
    context: Context,
    correlation_id: i32,
    frame: Bytes,
    handler: impl FnOnce(Context, R) -> F,
) -> Result<Work, Malformed>
where
    R: Request,
    F: Future<Output = R::Response> + Send + 'static,
{
    let version = context.version;
    let (context, request, charge) = read(context, frame)?;
    let answering = handler(context, request);
    Ok(Box::pin(async move {
        let response = answering.await;
        drop(charge);
        let encoded = encode::<R>(version, correlation_id, &response);
        Answer::Send(Outgoing::new(encoded, Vec::new()))
    }))
}
