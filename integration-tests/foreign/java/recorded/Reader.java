package recorded;

import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.stream.IntStream;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.RetriableException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

/** A member of a group, or a reader of everything. Listeners and callbacks run within its own calls. */
final class Reader implements ConsumerRebalanceListener {
    private final Options options;
    private final Lines lines;
    private final boolean isMember;
    private final KafkaConsumer<byte[], byte[]> client;
    /** The next offset of each partition that is owned and was delivered something. */
    private final Map<TopicPartition, Long> positions = new HashMap<>();
    /** What was last asked to be committed. */
    private final Map<TopicPartition, Long> asked = new HashMap<>();
    private boolean isCommitting;

    Reader(Options options, Lines lines, boolean isMember) {
        this.options = options;
        this.lines = lines;
        this.isMember = isMember;
        int session = options.number("session-ms");
        Properties configuration = options.configuration();
        configuration.put("enable.auto.commit", "false");
        // A reader without a group never finds its place gone.
        configuration.put("auto.offset.reset", isMember ? "earliest" : "none");
        configuration.put("fetch.max.wait.ms", "100");
        if (isMember) {
            configuration.put("group.id", options.text("group"));
            configuration.put("session.timeout.ms", String.valueOf(session));
            configuration.put("heartbeat.interval.ms", String.valueOf(Math.max(100, session / 6)));
            // How long a rebalance waits for a member that is gone.
            configuration.put("max.poll.interval.ms", String.valueOf(Math.max(4000, session)));
            configuration.put(
                "partition.assignment.strategy", "org.apache.kafka.clients.consumer.RangeAssignor");
        }
        client = new KafkaConsumer<>(configuration, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        String topic = options.text("topic");
        if (isMember) {
            client.subscribe(List.of(topic), this);
        } else {
            List<TopicPartition> everything = IntStream.range(0, options.number("partitions"))
                .mapToObj(partition -> new TopicPartition(topic, partition)).toList();
            client.assign(everything);
            client.seekToBeginning(everything);
        }
    }

    void run(AtomicBoolean stop) {
        long every = options.number("commit-every-ms") * 1_000_000L;
        long lastCommit = System.nanoTime();
        while (!stop.get()) {
            poll();
            lines.sayDelivered();
            if (isMember && System.nanoTime() - lastCommit >= every) {
                lastCommit = System.nanoTime();
                commit();
            }
        }
        // Leaves the group, by way of what is revoked, which commits.
        client.close();
        lines.sayDelivered();
    }

    private void poll() {
        try {
            for (ConsumerRecord<byte[], byte[]> record : client.poll(Duration.ofMillis(50))) {
                positions.put(new TopicPartition(record.topic(), record.partition()), record.offset() + 1);
                lines.delivered(record.partition(), record.offset(), record.value());
            }
        } catch (RetriableException error) {
            // Users ask again.
            lines.note("poll: " + error);
        }
    }

    @Override
    public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
        lines.sayDelivered();
        String member = client.groupMetadata().memberId();
        lines.say("assigned", "at", lines.now(), "member", member, "partitions", numbers(partitions));
    }

    @Override
    public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
        // What was handled is committed while the group waits for it.
        lines.sayDelivered();
        commitNow(partitions);
        giveUp("revoked", partitions);
    }

    @Override
    public void onPartitionsLost(Collection<TopicPartition> partitions) {
        lines.sayDelivered();
        giveUp("lost", partitions);
    }

    private void giveUp(String how, Collection<TopicPartition> partitions) {
        lines.say(how, "at", lines.now(), "partitions", numbers(partitions));
        partitions.forEach(positions::remove);
        partitions.forEach(asked::remove);
    }

    private static List<Integer> numbers(Collection<TopicPartition> partitions) {
        return partitions.stream().map(TopicPartition::partition).toList();
    }

    /** What moved since it was last asked to be committed; counts as asked then. */
    private Map<TopicPartition, OffsetAndMetadata> toCommit(Collection<TopicPartition> among) {
        Map<TopicPartition, OffsetAndMetadata> moved = new HashMap<>();
        for (TopicPartition partition : among) {
            Long position = positions.get(partition);
            if (position != null && !position.equals(asked.put(partition, position))) {
                moved.put(partition, new OffsetAndMetadata(position));
            }
        }
        return moved;
    }

    /** Asks for a commit of all that moved; one at a time. */
    private void commit() {
        if (isCommitting) {
            return;
        }
        var offsets = toCommit(List.copyOf(positions.keySet()));
        if (offsets.isEmpty()) {
            return;
        }
        long begun = lines.now();
        isCommitting = true;
        client.commitAsync(offsets, (committed, error) -> {
            isCommitting = false;
            sayCommitted(begun, offsets, error);
        });
    }

    private void commitNow(Collection<TopicPartition> among) {
        var offsets = toCommit(among);
        if (offsets.isEmpty()) {
            return;
        }
        long begun = lines.now();
        Exception error = null;
        try {
            client.commitSync(offsets, Duration.ofSeconds(5));
        } catch (KafkaException raised) {
            error = raised;
        }
        sayCommitted(begun, offsets, error);
    }

    private void sayCommitted(
            long begun, Map<TopicPartition, OffsetAndMetadata> offsets, Exception error) {
        List<List<Object>> outcomes = new ArrayList<>();
        String failure = error == null ? null : error.toString();
        offsets.forEach((partition, offset) ->
            outcomes.add(Arrays.asList(partition.partition(), offset.offset(), failure)));
        lines.say("committed", "begun", begun, "at", lines.now(), "offsets", outcomes);
    }
}
