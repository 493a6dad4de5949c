import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Optional;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.AbortTransactionSpec;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AdminClientConfig;
import org.apache.kafka.clients.admin.NewPartitionReassignment;
import org.apache.kafka.clients.admin.ProducerState;
import org.apache.kafka.common.ElectionType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.TopicPartitionInfo;
import org.apache.kafka.common.acl.AccessControlEntry;
import org.apache.kafka.common.acl.AccessControlEntryFilter;
import org.apache.kafka.common.acl.AclBinding;
import org.apache.kafka.common.acl.AclBindingFilter;
import org.apache.kafka.common.acl.AclOperation;
import org.apache.kafka.common.acl.AclPermissionType;
import org.apache.kafka.common.resource.PatternType;
import org.apache.kafka.common.resource.ResourcePattern;
import org.apache.kafka.common.resource.ResourcePatternFilter;
import org.apache.kafka.common.resource.ResourceType;

/**
 * What an operator does to a cluster with Kafka's own tools and what librdkafka's admin client cannot.
 *
 * <p>Arguments: bootstrap servers, then one of
 * {@code move TOPIC...}: each partition's next copy becomes its leader, a line for each: topic, partition, old, new;
 * {@code revoke TYPE NAME}: nobody may write to a topic or use a transactional id ({@code TOPIC},
 * {@code TRANSACTIONAL_ID}) but a stranger; {@code restore TYPE NAME}: everybody may again;
 * {@code open TOPIC...}: a line for each transaction that is open in a topic: topic, partition, producer id, epoch,
 * coordinator epoch, first offset, and what the coordinator says of it (state, or {@code unknown});
 * {@code abort TOPIC...}: ends each of those, and prints the same lines.
 */
public final class Cluster {
    public static void main(String[] arguments) throws Exception {
        Map<String, Object> settings = Map.of(
                AdminClientConfig.BOOTSTRAP_SERVERS_CONFIG, arguments[0],
                AdminClientConfig.REQUEST_TIMEOUT_MS_CONFIG, 10_000,
                AdminClientConfig.DEFAULT_API_TIMEOUT_MS_CONFIG, 30_000);
        List<String> names = List.of(arguments).subList(2, arguments.length);
        try (var admin = Admin.create(settings);
                var out = new PrintStream(System.out, false, StandardCharsets.UTF_8)) {
            switch (arguments[1]) {
                case "move" -> move(admin, names, out);
                case "revoke" -> revoke(admin, pattern(names));
                case "restore" -> restore(admin, pattern(names));
                case "open" -> open(admin, names, out, false);
                case "abort" -> open(admin, names, out, true);
                default -> throw new IllegalArgumentException("unknown: " + arguments[1]);
            }
        }
    }

    /** The same copies in another order, and an election: no data moves. */
    private static void move(Admin admin, Collection<String> topics, PrintStream out) throws Exception {
        var orders = new HashMap<TopicPartition, Optional<NewPartitionReassignment>>();
        for (var topic : admin.describeTopics(topics).allTopicNames().get().values()) {
            for (TopicPartitionInfo partition : topic.partitions()) {
                var copies = partition.replicas().stream().map(node -> node.id()).collect(Collectors.toList());
                int old = partition.leader().id();
                while (copies.get(0) != old) {
                    copies.add(copies.remove(0));
                }
                copies.add(copies.remove(0));
                var name = new TopicPartition(topic.name(), partition.partition());
                orders.put(name, Optional.of(new NewPartitionReassignment(copies)));
                out.println(topic.name() + " " + partition.partition() + " " + old + " " + copies.get(0));
            }
        }
        admin.alterPartitionReassignments(orders).all().get();
        while (!admin.listPartitionReassignments(orders.keySet()).reassignments().get().isEmpty()) {
            Thread.sleep(50);
        }
        // A partition that has its preferred leader already says so as an error.
        admin.electLeaders(ElectionType.PREFERRED, orders.keySet()).partitions().get();
    }

    private static ResourcePattern pattern(List<String> names) {
        return new ResourcePattern(ResourceType.valueOf(names.get(0)), names.get(1), PatternType.LITERAL);
    }

    /** Where a resource has an entry, what no entry allows is refused. */
    private static void revoke(Admin admin, ResourcePattern resource) throws Exception {
        var bindings = new ArrayList<AclBinding>();
        bindings.add(allowed(resource, "User:stranger", AclOperation.ALL));
        bindings.add(allowed(resource, "User:*", AclOperation.DESCRIBE));
        if (resource.resourceType() == ResourceType.TOPIC) {
            bindings.add(allowed(resource, "User:*", AclOperation.READ));
            bindings.add(allowed(resource, "User:*", AclOperation.DESCRIBE_CONFIGS));
        }
        admin.createAcls(bindings).all().get();
    }

    private static AclBinding allowed(ResourcePattern resource, String who, AclOperation what) {
        return new AclBinding(resource, new AccessControlEntry(who, "*", what, AclPermissionType.ALLOW));
    }

    private static void restore(Admin admin, ResourcePattern resource) throws Exception {
        var filter = new AclBindingFilter(
                new ResourcePatternFilter(resource.resourceType(), resource.name(), PatternType.LITERAL),
                AccessControlEntryFilter.ANY);
        admin.deleteAcls(List.of(filter)).all().get();
    }

    private static void open(Admin admin, Collection<String> topics, PrintStream out, boolean abort) throws Exception {
        var partitions = new ArrayList<TopicPartition>();
        for (var topic : admin.describeTopics(topics).allTopicNames().get().values()) {
            topic.partitions().forEach(one -> partitions.add(new TopicPartition(topic.name(), one.partition())));
        }
        var known = new HashMap<Long, String>();
        for (var listing : admin.listTransactions().all().get()) {
            known.put(listing.producerId(), listing.transactionalId() + " " + listing.state());
        }
        for (var entry : admin.describeProducers(partitions).all().get().entrySet()) {
            for (ProducerState state : entry.getValue().activeProducers()) {
                if (state.currentTransactionStartOffset().isEmpty()) {
                    continue;
                }
                var partition = entry.getKey();
                out.println(partition.topic() + " " + partition.partition() + " " + state.producerId() + " "
                        + state.producerEpoch() + " " + state.coordinatorEpoch().orElse(-1) + " "
                        + state.currentTransactionStartOffset().getAsLong() + " "
                        + known.getOrDefault(state.producerId(), "unknown"));
                if (abort) {
                    admin.abortTransaction(new AbortTransactionSpec(
                            partition, state.producerId(), (short) state.producerEpoch(),
                            state.coordinatorEpoch().orElse(-1))).all().get();
                }
            }
        }
    }

    private Cluster() {}
}
