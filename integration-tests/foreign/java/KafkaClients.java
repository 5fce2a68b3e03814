import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.TreeSet;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListOffsetsResult.ListOffsetsResultInfo;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.KafkaFuture;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;

/** What no command-line tool does: members of groups that stay, seeks, calls of the admin client. */
final class KafkaClients {
    private static final Map<String, Member> MEMBERS = new ConcurrentHashMap<>();

    private KafkaClients() {}

    /** Whether there is a scenario of this name; it prints what came of it. */
    static boolean run(String name, List<String> arguments) throws Exception {
        String[] given = arguments.toArray(String[]::new);
        switch (name) {
            case "member-start" -> MEMBERS.put(given[0], new Member(given));
            case "member-state" -> MEMBERS.get(given[0]).print();
            case "member-stop" -> MEMBERS.remove(given[0]).stop();
            case "produce" -> produce(given[0], given[1], Integer.parseInt(given[2]), settings(given, 3));
            case "seek" -> seek(given[0], given[1]);
            case "admin" -> admin(given[0], given[1], given[2]);
            default -> {
                return false;
            }
        }
        return true;
    }

    /** {@code KEY=VALUE} from the argument {@code first} on. */
    private static Properties settings(String[] given, int first) {
        Properties settings = new Properties();
        for (int at = first; at < given.length; at++) {
            String[] pair = given[at].split("=", 2);
            settings.put(pair[0], pair[1]);
        }
        return settings;
    }

    private static KafkaConsumer<String, String> consumer(String bootstrap, Properties settings) {
        settings.put("bootstrap.servers", bootstrap);
        settings.putIfAbsent("auto.offset.reset", "earliest");
        return new KafkaConsumer<>(settings, new StringDeserializer(), new StringDeserializer());
    }

    /** A consumer of a group on a thread of its own until stopped: NAME BOOTSTRAP GROUP TOPIC KEY=VALUE... */
    private static final class Member implements ConsumerRebalanceListener {
        private final KafkaConsumer<String, String> consumer;
        private final Thread thread;
        private final Set<Integer> owned = Collections.synchronizedSet(new TreeSet<>());
        private final List<String> records = Collections.synchronizedList(new ArrayList<>());
        private volatile int revoked;
        private volatile int lost;
        private volatile boolean stopped;
        private volatile String failed = "";

        Member(String[] given) {
            Properties settings = settings(given, 4);
            settings.put("group.id", given[2]);
            consumer = consumer(given[1], settings);
            consumer.subscribe(List.of(given[3]), this);
            thread = new Thread(this::poll, given[0]);
            thread.setDaemon(true);
            thread.start();
        }

        private void poll() {
            try {
                while (!stopped) {
                    for (ConsumerRecord<String, String> record : consumer.poll(Duration.ofMillis(100))) {
                        records.add(record.partition() + ":" + record.offset() + ":" + record.value());
                    }
                }
                consumer.close();
            } catch (RuntimeException exception) {
                failed = exception.toString();
            }
        }

        void stop() throws InterruptedException {
            stopped = true;
            thread.join();
            print();
        }

        /** Lines {@code owned}, {@code revoked}, {@code lost}, {@code failed}, then one a record. */
        void print() {
            System.out.println("owned " + owned);
            System.out.println("revoked " + revoked);
            System.out.println("lost " + lost);
            System.out.println("failed " + failed);
            synchronized (records) {
                records.forEach(System.out::println);
            }
        }

        @Override
        public void onPartitionsAssigned(Collection<TopicPartition> partitions) {
            partitions.forEach(partition -> owned.add(partition.partition()));
        }

        @Override
        public void onPartitionsRevoked(Collection<TopicPartition> partitions) {
            revoked += partitions.size();
            partitions.forEach(partition -> owned.remove(partition.partition()));
        }

        @Override
        public void onPartitionsLost(Collection<TopicPartition> partitions) {
            lost += partitions.size();
            partitions.forEach(partition -> owned.remove(partition.partition()));
        }
    }

    /** Sends numbered records by key; prints {@code partition:offset:value} of each as acknowledged. */
    private static void produce(String bootstrap, String topic, int count, Properties settings)
            throws Exception {
        settings.put("bootstrap.servers", bootstrap);
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int number = 0; number < count; number++) {
                String key = "key-" + number % 50;
                // Stamps a test can look for.
                var record = new ProducerRecord<>(topic, null, 1_000_000L + number, key, "value-" + number);
                sent.add(producer.send(record));
            }
        }
        for (int number = 0; number < count; number++) {
            RecordMetadata told = sent.get(number).get();
            System.out.println(told.partition() + ":" + told.offset() + ":value-" + number);
        }
    }

    /** Positions of a consumer without a group on partition 0, which holds what {@link #produce} wrote. */
    private static void seek(String bootstrap, String topic) {
        TopicPartition partition = new TopicPartition(topic, 0);
        List<TopicPartition> one = List.of(partition);
        Properties settings = new Properties();
        settings.put("max.poll.records", "3");
        try (var consumer = consumer(bootstrap, settings)) {
            consumer.assign(one);
            System.out.println("beginning " + consumer.beginningOffsets(one).get(partition));
            System.out.println("end " + consumer.endOffsets(one).get(partition));
            for (long stamp : new long[] {0, 1_000_005, 1_000_050, 9_000_000}) {
                var found = consumer.offsetsForTimes(Map.of(partition, stamp)).get(partition);
                System.out.println("at " + stamp + " " + found);
            }
            consumer.seek(partition, 7);
            System.out.println("from 7 " + values(consumer));
            System.out.println("position " + consumer.position(partition));
            consumer.seekToEnd(one);
            System.out.println("position " + consumer.position(partition));
            consumer.seekToBeginning(one);
            System.out.println("from 0 " + values(consumer));
            consumer.pause(one);
            System.out.println("paused " + consumer.poll(Duration.ofMillis(300)).count());
            consumer.resume(one);
            boolean lag = consumer.currentLag(partition).isPresent();
            System.out.println("lag " + lag + " from 3 " + values(consumer));
            // Out of range: goes where auto.offset.reset says.
            consumer.seek(partition, 1_000_000);
            System.out.println("reset " + values(consumer));
        }
    }

    private static List<String> values(KafkaConsumer<String, String> consumer) {
        List<String> values = new ArrayList<>();
        long deadline = System.nanoTime() + 20_000_000_000L;
        while (values.isEmpty() && System.nanoTime() < deadline) {
            consumer.poll(Duration.ofMillis(200)).forEach(record -> values.add(record.value()));
        }
        return values;
    }

    /** Calls that no tool makes in this form; GROUP has offsets of TOPIC and no members. */
    private static void admin(String bootstrap, String topic, String group) throws Exception {
        TopicPartition first = new TopicPartition(topic, 0);
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", bootstrap))) {
            var cluster = admin.describeCluster();
            System.out.println("nodes " + cluster.nodes().get().size()
                + " controller " + (cluster.controller().get() != null) + " id " + cluster.clusterId().get());
            TopicDescription described =
                admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            String byId = admin.describeTopics(
                    org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(described.topicId())))
                .allTopicIds().get().get(described.topicId()).name();
            System.out.println("by id " + byId + " partitions " + described.partitions().size());
            for (OffsetSpec spec : List.of(OffsetSpec.earliest(), OffsetSpec.latest(),
                    OffsetSpec.maxTimestamp(), OffsetSpec.forTimestamp(1_000_007))) {
                ListOffsetsResultInfo info = admin.listOffsets(Map.of(first, spec)).all().get().get(first);
                String kind = spec.getClass().getSimpleName();
                System.out.println(kind + " " + info.offset() + " " + info.timestamp());
            }
            var four = new OffsetAndMetadata(4, "by hand");
            admin.alterConsumerGroupOffsets(group, Map.of(first, four)).all().get();
            OffsetAndMetadata offset =
                admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(first);
            System.out.println("offset " + offset.offset() + " metadata " + offset.metadata());
            ConsumerGroupDescription members =
                admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            System.out.println("state " + members.groupState() + " members " + members.members().size());
            failure("remove", admin.removeMembersFromConsumerGroup(group,
                new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("nobody")))).all());
            failure("create", admin.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all());
            failure("grow", admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(1))).all());
            failure("features", admin.describeFeatures().featureMetadata());
            failure("transactions", admin.listTransactions().all());
            failure("acls", admin.describeAcls(org.apache.kafka.common.acl.AclBindingFilter.ANY).values());
            admin.deleteTopics(List.of(topic)).all().get();
            failure("deleted", admin.describeTopics(List.of(topic)).allTopicNames());
        }
    }

    private static void failure(String what, KafkaFuture<?> future) throws InterruptedException {
        try {
            future.get();
            System.out.println(what + " none");
        } catch (ExecutionException exception) {
            System.out.println(what + " " + exception.getCause().getClass().getSimpleName());
        }
    }
}
