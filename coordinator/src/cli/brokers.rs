//! `coordinator brokers`

use proto::v1;
use serde_json::{Value, json};

use super::admin::Admin;
use super::args::{BrokersAction, BrokersArgs, Format};
use super::failure::Failure;
use super::{drain, output};

/// Carries out the subcommand.
pub(crate) async fn run(args: BrokersArgs) -> Result<(), Failure> {
    let mut admin = Admin::new(&args.target);
    match &args.action {
        Some(BrokersAction::Drain(action)) => {
            return drain::drain(&mut admin, args.target.format, action).await;
        }
        Some(BrokersAction::Undrain(action)) => {
            return drain::undrain(&mut admin, args.target.format, action).await;
        }
        Some(BrokersAction::List | BrokersAction::Describe) | None => {}
    }
    let cluster = describe_cluster(&mut admin).await?;
    match args.target.format {
        Format::Json => output::json(&cluster_json(&cluster)),
        Format::Text => {
            let mut text = String::new();
            if matches!(args.action, Some(BrokersAction::Describe)) {
                text = format!(
                    "ClusterId: {}\tController: {}\tControllerEpoch: {}\n",
                    cluster.cluster_id, cluster.controller, cluster.controller_epoch
                );
            }
            text.push_str(&table(&cluster));
            output::write(text.as_bytes())
        }
    }
}

/// Asks for the live brokers.
pub(crate) async fn describe_cluster(
    admin: &mut Admin,
) -> Result<v1::DescribeClusterResponse, Failure> {
    let request = v1::DescribeClusterRequest {};
    admin
        .call(request, |mut client, request| async move { client.describe_cluster(request).await })
        .await
}

/// What becomes of a broker that takes no new replicas.
fn state(cluster: &v1::DescribeClusterResponse, id: i32, partitions: i32) -> &'static str {
    match (cluster.cordoned.contains(&id), partitions) {
        (false, _) => "-",
        (true, 0) => "drained",
        (true, _) => "draining",
    }
}

fn table(cluster: &v1::DescribeClusterResponse) -> String {
    let rows: Vec<Vec<String>> = cluster
        .brokers
        .iter()
        .map(|broker| {
            let node = broker.node.clone().unwrap_or_default();
            let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
            vec![
                node.id.to_string(),
                format!("{}:{}", node.host, node.grpc_port),
                or_dash(node.rack),
                broker.partitions.to_string(),
                broker.leaders.to_string(),
                if broker.clean_start { "clean" } else { "unclean" }.to_owned(),
                state(cluster, node.id, broker.partitions).to_owned(),
            ]
        })
        .collect();
    let header = ["ID", "ADDRESS", "RACK", "PARTITIONS", "LEADERS", "START", "DRAIN"];
    let mut text = output::table(&header, &rows);
    let down: Vec<String> = cordoned_and_down(cluster).iter().map(ToString::to_string).collect();
    if !down.is_empty() {
        text.push_str(&format!("Drained and not live: {}\n", down.join(", ")));
    }
    text
}

/// Brokers that take no new replicas when they come back.
fn cordoned_and_down(cluster: &v1::DescribeClusterResponse) -> Vec<i32> {
    let live =
        |id: &i32| cluster.brokers.iter().any(|b| b.node.as_ref().is_some_and(|n| n.id == *id));
    cluster.cordoned.iter().copied().filter(|id| !live(id)).collect()
}

fn cluster_json(cluster: &v1::DescribeClusterResponse) -> Value {
    let brokers: Vec<Value> = cluster
        .brokers
        .iter()
        .map(|broker| {
            let node = broker.node.clone().unwrap_or_default();
            json!({
                "id": node.id,
                "host": node.host,
                "grpc_port": node.grpc_port,
                "http_port": broker.http_port,
                "kafka_port": broker.kafka_port,
                "rack": node.rack,
                "start_time_ms": broker.start_time_ms,
                "clean_start": broker.clean_start,
                "partitions": broker.partitions,
                "leaders": broker.leaders,
                "cordoned": cluster.cordoned.contains(&node.id),
            })
        })
        .collect();
    json!({
        "cluster_id": cluster.cluster_id,
        "controller": cluster.controller,
        "controller_epoch": cluster.controller_epoch,
        "brokers": brokers,
        "cordoned": cluster.cordoned,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_is_a_row() {
        let broker = v1::DescribedBroker {
            node: Some(v1::Node { id: 1, host: "h".into(), grpc_port: 9094, ..Default::default() }),
            partitions: 4,
            leaders: 4,
            clean_start: true,
            ..Default::default()
        };
        let brokers = vec![broker];
        let mut cluster = v1::DescribeClusterResponse { brokers, ..Default::default() };
        let row = |cluster: &v1::DescribeClusterResponse| -> Vec<String> {
            let printed = table(cluster);
            printed.lines().nth(1).unwrap().split_whitespace().map(str::to_owned).collect()
        };
        assert_eq!(row(&cluster), ["1", "h:9094", "-", "4", "4", "clean", "-"]);
        cluster.cordoned = vec![1, 7];
        assert_eq!(row(&cluster)[6], "draining");
        assert!(table(&cluster).ends_with("\nDrained and not live: 7\n"));
        cluster.brokers[0].partitions = 0;
        assert_eq!(row(&cluster)[6], "drained");
        assert_eq!(table(&v1::DescribeClusterResponse::default()), "");
    }
}
