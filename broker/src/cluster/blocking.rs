//! Work that blocks on the disk, off the control thread.

use futures_util::future::join_all;

/// Threads that one piece of work is spread over: flushes of many small files overlap.
const AT_ONCE: usize = 6;

/// Does something on a thread that may block; `None` when it panicked.
pub(super) async fn run<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.inspect_err(|_| tracing::error!("work on partitions panicked")).ok()
}

/// Does something to each item, several at once; what came of it, in order. Items of a thread that
/// panicked are missing.
pub(super) async fn each<T, R>(
    items: Vec<T>,
    work: impl Fn(T) -> R + Clone + Send + 'static,
) -> Vec<R>
where
    T: Send + 'static,
    R: Send + 'static,
{
    if items.is_empty() {
        return Vec::new();
    }
    let share = items.len().div_ceil(AT_ONCE);
    let mut shares = Vec::new();
    let mut items = items.into_iter();
    loop {
        let part: Vec<T> = items.by_ref().take(share).collect();
        if part.is_empty() {
            break;
        }
        let work = work.clone();
        shares.push(run(move || part.into_iter().map(work).collect::<Vec<R>>()));
    }
    join_all(shares).await.into_iter().flatten().flatten().collect()
}
