//! Fetch: what there is at many positions, or what comes there within a time.
//!
//! A request names its partitions, or with a session only what has changed since the one before; see
//! [`super::fetching::session`]. Batches go out as they are stored: long ones from their file, the
//! rest from memory.

use std::collections::HashSet;
use std::time::Instant;

use proto::ErrorCode;
use proto::kafka::encode;
use proto::kafka::messages::{FetchRequest, FetchResponse, FetchTopic, ForgottenTopic};

use super::fetching::answer::{FetchAnswer, shown};
use super::fetching::round::{Limits, Round, State};
use super::fetching::session::{
    Asked, NO_SESSION, PartitionKey, Position, Session, Slot, TopicKey,
};
use super::fetching::{Begun, Lease};
use super::{Answer, Context, Outgoing};
use crate::api::FileRange;

/// From here on topics have ids instead of names.
const TOPIC_IDS_FROM: i16 = 13;

pub(in super::super) async fn fetch(
    context: Context,
    correlation_id: i32,
    request: FetchRequest,
) -> Answer {
    let sessions = &context.services.fetch_sessions;
    let by_id = context.version >= TOPIC_IDS_FROM;
    let asked = Asked { id: request.session_id, epoch: request.session_epoch, by_id };
    let (response, files) = match sessions.begin(asked, Instant::now()) {
        Begun::Full { opens } => full(&context, &request, by_id, opens).await,
        Begun::Incremental(lease) => incremental(&context, &request, by_id, lease).await,
        Begun::Refused(code) => refused(code),
    };
    context.services.metrics.fetch_rounds.one();
    let encoded = encode::<FetchRequest>(context.version, correlation_id, &response);
    Answer::Send(Outgoing::new(encoded, files))
}

type Answered = (FetchResponse, Vec<FileRange>);

fn refused(code: ErrorCode) -> Answered {
    tracing::debug!(?code, "a fetch session is refused");
    (FetchResponse { error_code: code as i16, ..FetchResponse::default() }, Vec::new())
}

/// Everything that is named, in its order; each partition once, as it is named last. Where it `opens` a
/// session and there is room for it, the client need name changes only from here on.
async fn full(context: &Context, request: &FetchRequest, by_id: bool, opens: bool) -> Answered {
    let mut session = Session::of(slots(&request.topics, by_id));
    let answer = round(context, request, &mut session, |_| true).await;
    let id = match opens {
        true => context.services.fetch_sessions.open(session, by_id, Instant::now()),
        false => NO_SESSION,
    };
    answer.finish(id)
}

/// What the session has and this request changes; the answer has only what is new.
async fn incremental(
    context: &Context,
    request: &FetchRequest,
    by_id: bool,
    mut lease: Lease,
) -> Answered {
    let session = lease.session();
    slots(&request.topics, by_id).for_each(|slot| session.put(slot));
    session.forget(&forgotten(&request.forgotten_topics_data, by_id));
    if session.is_empty() {
        lease.keeps(Instant::now());
        return FetchAnswer::new(context, false).finish(NO_SESSION);
    }
    if !lease.keeps(Instant::now()) {
        return refused(ErrorCode::FetchSessionIdNotFound);
    }
    let answer = round(context, request, lease.session(), |is_news| is_news).await;
    answer.finish(lease.id())
}

/// Reads a session's partitions; `wants` those in the answer, by whether the client is told news.
async fn round<'a>(
    context: &'a Context,
    request: &FetchRequest,
    session: &mut Session,
    wants: impl Fn(bool) -> bool,
) -> FetchAnswer<'a> {
    let round = Round::open(context, session.slots(), Limits::of(context, request));
    let states = round.fill(session.order()).await;
    let mut states: Vec<Option<State>> = states.into_iter().map(Some).collect();
    let mut answer = FetchAnswer::new(context, request.isolation_level == 1);
    let mut has_sent = vec![false; states.len()];
    for place in 0..states.len() {
        let at = session.order()[place];
        let Some(state) = states[at].take() else { continue };
        has_sent[at] = matches!(state, State::Read(..));
        let shown = shown(&state);
        let is_news = session.told(at).take(shown);
        let key = &session.slots()[at].key;
        let state = rested(context, key, state);
        if wants(is_news) {
            answer.push(key, shown, state);
        }
    }
    session.send_back(|at| has_sent[at]);
    answer
}

/// Remembers where the partition is read on.
fn rested(context: &Context, key: &PartitionKey, mut state: State) -> State {
    match &mut state {
        State::Empty(reader) => context.kept.positions.lock().put(key, reader),
        State::Read(reader, fetched) => {
            reader.advance(fetched);
            context.kept.positions.lock().put(key, reader);
        }
        State::Diverging(..) | State::Refused(_) => {}
    }
    state
}

fn slots(topics: &[FetchTopic], by_id: bool) -> impl Iterator<Item = Slot> {
    topics.iter().flat_map(move |topic| {
        let key = match by_id {
            true => TopicKey::Id(topic.topic_id),
            false => TopicKey::Name(topic.topic.clone()),
        };
        let partitions = topic.partitions.iter();
        partitions.map(move |asked| Slot::new((key.clone(), asked.partition), Position::of(asked)))
    })
}

fn forgotten(topics: &[ForgottenTopic], by_id: bool) -> HashSet<PartitionKey> {
    let keys = topics.iter().flat_map(|topic| {
        let key = match by_id {
            true => TopicKey::Id(topic.topic_id),
            false => TopicKey::Name(topic.topic.clone()),
        };
        topic.partitions.iter().map(move |&partition| (key.clone(), partition))
    });
    keys.collect()
}
