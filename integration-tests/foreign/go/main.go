// Command foreign runs franz-go, a Kafka client in Go, for the tests: one scenario, whose results it prints.
//
//	foreign produce BOOTSTRAP TOPIC COUNT CODEC   numbered records by key; PARTITION OFFSET KEY VALUE of each
//	foreign consume BOOTSTRAP TOPIC COUNT         all from the beginning, the same lines in order of arrival
//	foreign group   BOOTSTRAP TOPIC GROUP COUNT   three cooperative members that come and go while COUNT are read
//	foreign admin   BOOTSTRAP TOPIC GROUP         what its admin client says of a topic and a group
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	ctx, cancel := context.WithTimeout(context.Background(), 60*time.Second)
	defer cancel()
	scenarios := map[string]func(context.Context, []string) error{
		"produce": produce, "consume": consume, "group": group, "admin": admin,
	}
	if len(os.Args) < 4 || scenarios[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: foreign produce|consume|group|admin BOOTSTRAP TOPIC ...")
		os.Exit(2)
	}
	if err := scenarios[os.Args[1]](ctx, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func show(r *kgo.Record) {
	fmt.Printf("%d\t%d\t%s\t%s", r.Partition, r.Offset, r.Key, r.Value)
	for _, header := range r.Headers {
		fmt.Printf("\t%s=%s", header.Key, header.Value)
	}
	fmt.Println()
}

var codecs = map[string]kgo.CompressionCodec{
	"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
	"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
}

// The client is idempotent and waits for all replicas unless told otherwise.
func produce(ctx context.Context, args []string) error {
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(args[0]),
		kgo.DefaultProduceTopic(args[1]),
		kgo.ProducerBatchCompression(codecs[args[3]]),
		kgo.ProducerLinger(5*time.Millisecond),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	records := make([]*kgo.Record, count)
	for n := range records {
		records[n] = &kgo.Record{
			Key:     []byte(fmt.Sprintf("key-%d", n%20)),
			Value:   []byte(fmt.Sprintf("value-%d", n)),
			Headers: []kgo.RecordHeader{{Key: "n", Value: []byte("1")}, {Key: "n", Value: []byte("2")}},
		}
	}
	results := client.ProduceSync(ctx, records...)
	for _, result := range results {
		if result.Err != nil {
			return result.Err
		}
		show(result.Record)
	}
	return nil
}

// Fetch sessions are on unless told otherwise; small answers make many requests in one.
func consume(ctx context.Context, args []string) error {
	count, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(args[0]),
		kgo.ConsumeTopics(args[1]),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxPartitionBytes(2000),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	for seen := 0; seen < count; {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return err
		}
		fetches.EachRecord(show)
		seen += fetches.NumRecords()
	}
	return nil
}
