package main

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// A member of a group, reading on a goroutine of its own until it leaves.
type member struct {
	client *kgo.Client
	done   sync.WaitGroup
	mutex  sync.Mutex
	owned  map[int32]bool
	seen   []*kgo.Record
	failed error
}

func join(ctx context.Context, bootstrap, topic, group string) (*member, error) {
	m := &member{owned: map[int32]bool{}}
	change := func(owned bool) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, changed map[string][]int32) {
			m.mutex.Lock()
			defer m.mutex.Unlock()
			for _, partition := range changed[topic] {
				if owned {
					m.owned[partition] = true
				} else {
					delete(m.owned, partition)
				}
			}
		}
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(bootstrap),
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.Balancers(kgo.CooperativeStickyBalancer()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.HeartbeatInterval(200*time.Millisecond),
		kgo.OnPartitionsAssigned(change(true)),
		kgo.OnPartitionsRevoked(change(false)),
		kgo.OnPartitionsLost(change(false)),
		kgo.AutoCommitMarks(),
		kgo.BlockRebalanceOnPoll(),
	)
	if err != nil {
		return nil, err
	}
	m.client = client
	m.done.Add(1)
	go m.read(ctx)
	return m, nil
}

func (m *member) read(ctx context.Context) {
	defer m.done.Done()
	for {
		fetches := m.client.PollFetches(ctx)
		if fetches.IsClientClosed() {
			return
		}
		m.mutex.Lock()
		if err := fetches.Err(); err != nil {
			m.failed = err
		}
		m.seen = append(m.seen, fetches.Records()...)
		m.mutex.Unlock()
		m.client.MarkCommitRecords(fetches.Records()...)
		m.client.AllowRebalance()
		if ctx.Err() != nil {
			return
		}
	}
}

func (m *member) leave(ctx context.Context) error {
	err := m.client.CommitMarkedOffsets(ctx)
	m.client.CloseAllowingRebalance()
	m.done.Wait()
	return err
}

// Waits until the members own this many partitions each.
func settle(ctx context.Context, members []*member, counts ...int) error {
	for {
		var owned []int
		all := map[int32]bool{}
		for _, m := range members {
			m.mutex.Lock()
			owned = append(owned, len(m.owned))
			for partition := range m.owned {
				all[partition] = true
			}
			m.mutex.Unlock()
		}
		total := 0
		for _, count := range counts {
			total += count
		}
		if fmt.Sprint(owned) == fmt.Sprint(counts) && len(all) == total {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("members own %v, not %v", owned, counts)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Three members of a topic of six partitions; one leaves; COUNT records are read by one of them each.
func group(ctx context.Context, args []string) error {
	bootstrap, topic, group := args[0], args[1], args[2]
	count, err := strconv.Atoi(args[3])
	if err != nil {
		return err
	}
	var members []*member
	for _, counts := range [][]int{{6}, {3, 3}, {2, 2, 2}} {
		m, err := join(ctx, bootstrap, topic, group)
		if err != nil {
			return err
		}
		members = append(members, m)
		if err := settle(ctx, members, counts...); err != nil {
			return err
		}
		fmt.Println("settled", len(members))
	}
	if err := produceQuietly(ctx, bootstrap, topic, count); err != nil {
		return err
	}
	records := func() (all []*kgo.Record) {
		for _, m := range members {
			m.mutex.Lock()
			all = append(all, m.seen...)
			m.mutex.Unlock()
		}
		return all
	}
	for len(records()) < count && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
	if err := members[0].leave(ctx); err != nil {
		return err
	}
	if err := settle(ctx, members[1:], 3, 3); err != nil {
		return err
	}
	fmt.Println("settled", len(members)-1)
	for _, m := range members[1:] {
		if err := m.leave(ctx); err != nil {
			return err
		}
	}
	for _, m := range members {
		fmt.Println("member", len(m.seen), m.failed)
	}
	for _, record := range records() {
		show(record)
	}
	return nil
}

func produceQuietly(ctx context.Context, bootstrap, topic string, count int) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.DefaultProduceTopic(topic))
	if err != nil {
		return err
	}
	defer client.Close()
	for n := range count {
		record := &kgo.Record{Key: fmt.Append(nil, "key-", n), Value: fmt.Append(nil, "value-", n)}
		client.Produce(ctx, record, nil)
	}
	return client.Flush(ctx)
}
