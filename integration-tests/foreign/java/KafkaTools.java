import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.TimeoutException;
import java.util.concurrent.locks.LockSupport;
import org.apache.kafka.common.utils.Exit;

/**
 * Runs Kafka's command-line tools one after the other in one JVM, which takes a second to start.
 *
 * <p>Each line of standard input is {@code {"tool": NAME, "args": [...], "input": TEXT}}, each line of
 * standard output its answer {@code {"exit": CODE, "out": TEXT, "err": TEXT}}. A tool is its main class's
 * {@code main}; where it would end the JVM its thread stands still for ever, and its shutdown hooks run.
 * Besides tools there are the scenarios of {@link KafkaClients}.
 */
public final class KafkaTools {
    private static final String TOOLS = "org.apache.kafka.tools.";
    private static final Map<String, String> CLASSES = Map.ofEntries(
        Map.entry("kafka-broker-api-versions", TOOLS + "BrokerApiVersionsCommand"),
        Map.entry("kafka-cluster", TOOLS + "ClusterTool"),
        Map.entry("kafka-configs", "kafka.admin.ConfigCommand"),
        Map.entry("kafka-console-consumer", TOOLS + "consumer.ConsoleConsumer"),
        Map.entry("kafka-console-producer", TOOLS + "ConsoleProducer"),
        Map.entry("kafka-consumer-groups", TOOLS + "consumer.group.ConsumerGroupCommand"),
        Map.entry("kafka-consumer-perf-test", TOOLS + "ConsumerPerformance"),
        Map.entry("kafka-delete-records", TOOLS + "DeleteRecordsCommand"),
        Map.entry("kafka-dump-log", "kafka.tools.DumpLogSegments"),
        Map.entry("kafka-e2e-latency", TOOLS + "EndToEndLatency"),
        Map.entry("kafka-get-offsets", TOOLS + "GetOffsetShell"),
        Map.entry("kafka-groups", TOOLS + "GroupsCommand"),
        Map.entry("kafka-leader-election", TOOLS + "LeaderElectionCommand"),
        Map.entry("kafka-log-dirs", TOOLS + "LogDirsCommand"),
        Map.entry("kafka-producer-perf-test", TOOLS + "ProducerPerformance"),
        Map.entry("kafka-reassign-partitions", TOOLS + "reassign.ReassignPartitionsCommand"),
        Map.entry("kafka-topics", TOOLS + "TopicCommand"),
        Map.entry("kafka-verifiable-consumer", TOOLS + "VerifiableConsumer"),
        Map.entry("kafka-verifiable-producer", TOOLS + "VerifiableProducer"));
    private static final long LIMIT_MS = 60_000;

    /** Standard output or error: one stream for all tools, since Scala remembers the first it sees. */
    private static final class Captured extends PrintStream {
        private final ByteArrayOutputStream bytes;

        Captured(ByteArrayOutputStream bytes) {
            super(bytes, true, StandardCharsets.UTF_8);
            this.bytes = bytes;
        }

        synchronized String take() {
            flush();
            String text = bytes.toString(StandardCharsets.UTF_8);
            bytes.reset();
            return text;
        }
    }

    /** A tool that runs: its exit code once it has one, and what it wants done at the end of the JVM. */
    private static final class Run {
        final CompletableFuture<Integer> exit = new CompletableFuture<>();
        final List<Runnable> hooks = Collections.synchronizedList(new ArrayList<>());

        void end(int code) {
            exit.complete(code);
            // Never returns, as the caller expects: what it holds is lost with the JVM.
            while (true) {
                LockSupport.park();
            }
        }
    }

    private static volatile Run current;
    private static final Captured OUT = new Captured(new ByteArrayOutputStream());
    private static final Captured ERR = new Captured(new ByteArrayOutputStream());

    public static void main(String[] none) throws Exception {
        ObjectMapper json = new ObjectMapper();
        PrintStream answers = System.out;
        BufferedReader requests =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        System.setOut(OUT);
        System.setErr(ERR);
        Exit.setExitProcedure((code, message) -> current.end(code));
        Exit.setHaltProcedure((code, message) -> current.end(code));
        Exit.setShutdownHookAdder((name, hook) -> current.hooks.add(hook));
        for (String line = requests.readLine(); line != null; line = requests.readLine()) {
            JsonNode request = json.readTree(line);
            List<String> arguments = new ArrayList<>();
            request.get("args").forEach(argument -> arguments.add(argument.asText()));
            int code = run(request.get("tool").asText(), arguments, request.path("input").asText());
            answers.println(
                json.writeValueAsString(Map.of("exit", code, "out", OUT.take(), "err", ERR.take())));
        }
        // Threads of tools may still run.
        Runtime.getRuntime().halt(0);
    }

    private static int run(String tool, List<String> arguments, String input) throws Exception {
        System.setIn(new ByteArrayInputStream(input.getBytes(StandardCharsets.UTF_8)));
        Set<Thread> hooksBefore = Set.copyOf(shutdownHooks());
        Run run = new Run();
        current = run;
        Thread thread = new Thread(() -> run.exit.complete(call(tool, arguments)), tool);
        thread.setDaemon(true);
        thread.start();
        int code;
        try {
            code = run.exit.get(LIMIT_MS, TimeUnit.MILLISECONDS);
        } catch (TimeoutException late) {
            System.err.println(tool + " does not end; it stands in:");
            for (StackTraceElement frame : thread.getStackTrace()) {
                System.err.println("  " + frame);
            }
            return 124;
        }
        // What it does at the end of a JVM: closing, summaries.
        run.hooks.forEach(Runnable::run);
        for (Thread hook : Set.copyOf(shutdownHooks())) {
            if (!hooksBefore.contains(hook)) {
                Runtime.getRuntime().removeShutdownHook(hook);
                hook.start();
                hook.join();
            }
        }
        return code;
    }

    /** The JVM's own hooks, which some tools use; needs {@code --add-opens java.base/java.lang=ALL-UNNAMED}. */
    @SuppressWarnings("unchecked")
    private static Set<Thread> shutdownHooks() throws ReflectiveOperationException {
        Field hooks = Class.forName("java.lang.ApplicationShutdownHooks").getDeclaredField("hooks");
        hooks.setAccessible(true);
        return ((Map<Thread, Thread>) hooks.get(null)).keySet();
    }

    private static int call(String tool, List<String> arguments) {
        try {
            if (!KafkaClients.run(tool, arguments)) {
                Object strings = arguments.toArray(String[]::new);
                Class.forName(CLASSES.get(tool)).getMethod("main", String[].class).invoke(null, strings);
            }
            return 0;
        } catch (InvocationTargetException thrown) {
            thrown.getCause().printStackTrace();
            return 1;
        } catch (Exception exception) {
            exception.printStackTrace();
            return 1;
        }
    }
}
