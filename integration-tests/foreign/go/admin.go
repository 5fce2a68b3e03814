package main

import (
	"context"
	"fmt"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// GROUP has offsets of TOPIC and no members.
func admin(ctx context.Context, args []string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(args[0]))
	if err != nil {
		return err
	}
	defer client.Close()
	topic, group := args[1], args[2]
	return steps(ctx, kadm.NewClient(client), topic, group)
}

func steps(ctx context.Context, client *kadm.Client, topic, group string) error {
	metadata, err := client.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	fmt.Println("brokers", len(metadata.Brokers), "controller", metadata.Controller, len(metadata.Cluster) > 0)
	retention := "77000"
	created, err := client.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &retention}, "made")
	fmt.Println("created", created.Topic, created.NumPartitions, err)
	_, err = client.CreateTopic(ctx, 2, 1, nil, "made")
	fmt.Println("again", err)
	grown, err := client.UpdatePartitions(ctx, 5, "made")
	fmt.Println("grown", grown["made"].Err, err)
	configs, err := client.DescribeTopicConfigs(ctx, "made")
	if err != nil {
		return err
	}
	for _, config := range configs[0].Configs {
		if config.Key == "retention.ms" {
			fmt.Println("retention", *config.Value, config.Source)
		}
	}
	change := []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "segment.ms", Value: &retention}}
	altered, err := client.AlterTopicConfigs(ctx, change, "made")
	fmt.Println("altered", altered[0].Err, err)
	deleted, err := client.DeleteTopic(ctx, "made")
	fmt.Println("deleted", deleted.Err, err)

	start, err := client.ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	end, err := client.ListEndOffsets(ctx, topic)
	if err != nil {
		return err
	}
	after, err := client.ListOffsetsAfterMilli(ctx, 0, topic)
	if err != nil {
		return err
	}
	for partition := int32(0); partition < 6; partition++ {
		first, _ := start.Lookup(topic, partition)
		last, _ := end.Lookup(topic, partition)
		since, _ := after.Lookup(topic, partition)
		fmt.Println("offsets", partition, first.Offset, last.Offset, since.Offset)
	}
	groups, err := client.ListGroups(ctx)
	fmt.Println("group", groups[group].State, groups[group].ProtocolType, err)
	lags, err := client.Lag(ctx, group)
	if err != nil {
		return err
	}
	fmt.Println("lag", lags[group].Lag.Total(), lags[group].State, len(lags[group].Members))
	var offsets kadm.Offsets
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 1, LeaderEpoch: -1, Metadata: "by hand"})
	fmt.Println("committed", client.CommitAllOffsets(ctx, group, offsets))
	fetched, err := client.FetchOffsets(ctx, group)
	one, _ := fetched.Lookup(topic, 0)
	fmt.Println("fetched", one.At, one.Metadata, err)
	removed, err := client.DeleteGroup(ctx, group)
	fmt.Println("removed", removed.Err, err)
	_, err = client.DeleteGroup(ctx, group)
	fmt.Println("removed again", err)

	dirs, err := client.DescribeAllLogDirs(ctx, nil)
	if err != nil {
		return err
	}
	dirs.Each(func(dir kadm.DescribedLogDir) { fmt.Println("dir", dir.Broker, dir.Err, len(dir.Topics[topic])) })
	elected, err := client.ElectLeaders(ctx, kadm.ElectPreferredReplica, kadm.TopicsSet{topic: {0: {}}})
	fmt.Println("elected", elected[topic][0].Err, err)
	moved, err := client.ListPartitionReassignments(ctx, nil)
	fmt.Println("moved", len(moved), err)
	var before kadm.Offsets
	before.Add(kadm.Offset{Topic: topic, Partition: 0, At: 2})
	records, err := client.DeleteRecords(ctx, before)
	fmt.Println("records", records[topic][0].LowWatermark, records[topic][0].Err, err)
	return nil
}
