import com.google.gson.Gson;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintWriter;
import java.io.StringWriter;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import kotlin.Unit;
import kotlin.jvm.functions.Function0;
import okhttp3.OkHttpClient;
import org.phoenixframework.Channel;
import org.phoenixframework.Defaults;
import org.phoenixframework.Message;
import org.phoenixframework.Push;
import org.phoenixframework.Socket;

/** Plays the scenarios of ../clients.json with JavaPhoenixClient: see `Run.drive` in ../../js/lib/stage.mjs. */
public final class Driver {
    private static final long HANG_SECONDS = 60;
    private static final long TIMEOUT_MILLIS = 10_000;
    private static final String PAYLOAD = "0123456789abcdef".repeat(256 * 64);
    private static final Gson GSON = new Gson();
    private static final BufferedReader IN = new BufferedReader(new InputStreamReader(System.in));
    private static final OkHttpClient HTTP = new OkHttpClient();

    private static Map<String, Object> told;
    private static final List<Socket> SOCKETS = new ArrayList<>();

    private interface Scenario {
        void play() throws Exception;
    }

    private static void say(Map<String, ?> message) {
        System.out.println(GSON.newBuilder().serializeNulls().create().toJson(message));
    }

    /** Has the stage do something, and returns its answer. */
    private static Map<?, ?> ask(String what) throws Exception {
        say(Map.of("ask", what));
        return GSON.fromJson(IN.readLine(), Map.class);
    }

    private static String url(String name) {
        return (String) ((Map<?, ?>) told.get("urls")).get(name);
    }

    private static String topic(String name) {
        return "room:" + told.get("run") + "-" + name;
    }

    private static void equal(Object got, Object wanted) {
        String gotText = GSON.toJson(got);
        String wantedText = GSON.toJson(wanted);
        if (!gotText.equals(wantedText)) {
            throw new AssertionError("got " + cut(gotText) + " instead of " + cut(wantedText));
        }
    }

    private static String cut(String text) {
        return text.substring(0, Math.min(200, text.length()));
    }

    private static <T> T take(BlockingQueue<T> queue, String what) throws InterruptedException {
        T item = queue.poll(HANG_SECONDS, TimeUnit.SECONDS);
        if (item == null) {
            throw new AssertionError("waited in vain for " + what);
        }
        return item;
    }

    /** A connection, and what its callbacks say. */
    private static final class Client {
        final Socket socket;
        final BlockingQueue<String> opened = new LinkedBlockingQueue<>();
        final BlockingQueue<String> ended = new LinkedBlockingQueue<>();

        Client(String url, Function0<Map<String, Object>> params, long heartbeatMillis) throws Exception {
            Defaults defaults = Defaults.INSTANCE;
            socket = new Socket(url, params, Defaults.VSN, defaults.getEncode(), defaults.getDecode(), HTTP);
            socket.setHeartbeatIntervalMs(heartbeatMillis);
            socket.onOpen(() -> {
                opened.add("open");
                return Unit.INSTANCE;
            });
            socket.onClose(() -> {
                ended.add("close");
                return Unit.INSTANCE;
            });
            socket.onError((error, response) -> {
                ended.add("error");
                return Unit.INSTANCE;
            });
            SOCKETS.add(socket);
            socket.connect();
            take(opened, "the connection");
        }

        Client(String url) throws Exception {
            this(url, () -> Map.of(), Defaults.HEARTBEAT);
        }
    }

    /** A client in one room. */
    private static final class Member {
        final Channel channel;
        final BlockingQueue<Message> heard = new LinkedBlockingQueue<>();
        final BlockingQueue<Message> joins = new LinkedBlockingQueue<>();
        final BlockingQueue<Message> closed = new LinkedBlockingQueue<>();

        Member(Client client, String topic) throws Exception {
            channel = client.socket.channel(topic, Map.of());
            channel.on("n", message -> {
                heard.add(message);
                return Unit.INSTANCE;
            });
            channel.onClose(message -> {
                closed.add(message);
                return Unit.INSTANCE;
            });
            // The replies to all joins, also to those that the client makes by itself. A hook of the join itself may be added
            // when the reply is there already, and the client would not call it then.
            client.socket.onMessage(message -> {
                boolean isReply = message.getTopic().equals(topic) && message.getEvent().equals("phx_reply");
                if (isReply && message.getRef().equals(channel.getJoinRef())) {
                    joins.add(message);
                }
                return Unit.INSTANCE;
            });
            channel.join(TIMEOUT_MILLIS);
        }

        static Member of(Client client, String topic) throws Exception {
            Member member = new Member(client, topic);
            equal(take(member.joins, "the join of " + topic).getStatus(), "ok");
            return member;
        }

        void cast(String event, Map<String, ?> payload) {
            channel.push(event, payload, TIMEOUT_MILLIS);
        }

        Message push(String event, Map<String, ?> payload) throws Exception {
            Push push = new Push(channel, event, payload, TIMEOUT_MILLIS);
            BlockingQueue<Message> answers = new LinkedBlockingQueue<>();
            for (String status : List.of("ok", "error", "timeout")) {
                push.receive(status, message -> {
                    answers.add(message);
                    return Unit.INSTANCE;
                });
            }
            push.send();
            return take(answers, "the reply to " + event);
        }

        Map<String, Object> hear() throws Exception {
            return take(heard, "a message").getPayload();
        }
    }

    private static void replied(Message message, String status, Map<String, ?> payload) {
        equal(message.getStatus(), status);
        equal(message.getPayload(), payload);
    }

    private static Map<String, Object> numbered(double n) {
        return Map.of("n", n);
    }

    private static void joinGranted() throws Exception {
        Member.of(new Client(url("node")), topic("granted"));
    }

    private static void joinRefused() throws Exception {
        Client client = new Client(url("node"));
        Map<String, String> reasons = Map.of("room:denied", "unauthorized", "nowhere:1", "unmatched topic");
        for (Map.Entry<String, String> entry : reasons.entrySet()) {
            Member member = new Member(client, entry.getKey());
            replied(take(member.joins, "the refusal"), "error", Map.of("reason", entry.getValue()));
            member.channel.leave(TIMEOUT_MILLIS);
        }
    }

    private static void pushWithReply() throws Exception {
        Member member = Member.of(new Client(url("node")), topic("reply"));
        Map<String, Object> payload = new LinkedHashMap<>();
        payload.put("text", "Grüße, 世界 🎉");
        payload.put("list", List.of(1.5, Map.of("deep", true)));
        replied(member.push("echo", payload), "ok", payload);
        replied(member.push("echo_error", Map.of("why", "x")), "error", Map.of("why", "x"));
    }

    private static void broadcast() throws Exception {
        Client one = new Client(url("node"));
        Client other = new Client(url("node"));
        List<Member> members = List.of(Member.of(one, topic("broadcast")), Member.of(other, topic("broadcast")));
        Member stray = Member.of(other, topic("elsewhere"));
        for (int n = 0; n < 20; n++) {
            members.get(0).cast("n", numbered(n));
        }
        for (Member member : members) {
            for (int n = 0; n < 20; n++) {
                equal(member.hear(), numbered(n));
            }
            equal(member.heard.size(), 0);
        }
        equal(stray.heard.size(), 0);
    }

    private static void fortyTopics() throws Exception {
        Client client = new Client(url("node"));
        List<Member> members = new ArrayList<>();
        for (int n = 0; n < 40; n++) {
            members.add(Member.of(client, topic("forty-" + n)));
        }
        for (int n = 0; n < 40; n++) {
            members.get(n).cast("n", numbered(n));
        }
        for (int n = 0; n < 40; n++) {
            replied(members.get(n).push("echo", numbered(n)), "ok", numbered(n));
        }
        for (int n = 0; n < 40; n++) {
            equal(members.get(n).hear(), numbered(n));
            equal(members.get(n).heard.size(), 0);
        }
    }

    private static void duplicateJoin() throws Exception {
        Client client = new Client(url("node"));
        Member first = Member.of(client, topic("twice"));
        Member second = Member.of(client, topic("twice"));
        take(first.closed, "the end of the first channel");
        second.cast("n", numbered(1));
        replied(second.push("echo", numbered(2)), "ok", numbered(2));
        equal(second.hear(), numbered(1));
        equal(second.heard.size() + first.heard.size(), 0);
    }

    private static void leave() throws Exception {
        Client client = new Client(url("node"));
        Member leaver = Member.of(client, topic("leave"));
        Member stayer = Member.of(new Client(url("node")), topic("leave"));
        leaver.channel.leave(TIMEOUT_MILLIS);
        take(leaver.closed, "the end of the channel");
        stayer.cast("n", numbered(1));
        equal(stayer.hear(), numbered(1));
        Member again = Member.of(client, topic("leave"));
        stayer.cast("n", numbered(2));
        equal(again.hear(), numbered(2));
        equal(leaver.heard.size(), 0);
    }

    private static void thirtyReconnects() throws Exception {
        Member member = Member.of(new Client(url("relay")), topic("thirty"));
        for (int n = 0; n < 30; n++) {
            ask("cut");
            take(member.joins, "the join after the connection broke");
            replied(member.push("echo", numbered(n)), "ok", numbered(n));
        }
    }

    private static void networkDrop() throws Exception {
        Client client = new Client(url("relay"));
        Member member = Member.of(client, topic("drop"));
        Member other = Member.of(new Client(url("node")), topic("drop"));
        ask("down");
        take(client.ended, "the end of the connection");
        other.cast("n", Map.of("n", "lost"));
        other.hear();
        ask("up");
        take(member.joins, "the join after the network was down");
        other.cast("n", Map.of("n", "heard"));
        equal(member.hear(), Map.of("n", "heard"));
    }

    private static void silentNetwork() throws Exception {
        Member member = Member.of(new Client(url("relay"), () -> Map.of(), 200), topic("silence"));
        ask("silence");
        take(member.joins, "the join after the silence");
        replied(member.push("echo", Map.of()), "ok", Map.of());
    }

    private static void tokenRefresh() throws Exception {
        Map<?, ?> tokens = ask("tokens");
        Client client = new Client(url("tokens"), () -> Map.of("token", tokens.get("short")), Defaults.HEARTBEAT);
        Member member = Member.of(client, topic("token"));
        member.cast("access_token", Map.of("access_token", tokens.get("long")));
        ask("expired");
        equal(member.push("send", Map.of()).getStatus(), "ok");
        equal(client.ended.size(), 0);
    }

    private static void tokenAtAReconnect() throws Exception {
        Map<?, ?> tokens = ask("tokens");
        String[] current = {(String) tokens.get("short")};
        Client client = new Client(url("tokens"), () -> Map.of("token", current[0]), Defaults.HEARTBEAT);
        Member member = Member.of(client, topic("renewed"));
        current[0] = (String) tokens.get("long");
        take(member.joins, "the join with another token");
        equal(member.push("send", Map.of()).getStatus(), "ok");
    }

    private static void payloadOf256Kb() throws Exception {
        Member from = Member.of(new Client(url("tokens")), topic("large"));
        Member to = Member.of(new Client(url("tokens")), topic("large"));
        replied(from.push("echo", Map.of("text", PAYLOAD)), "ok", Map.of("text", PAYLOAD));
        from.cast("n", Map.of("text", PAYLOAD));
        equal(to.hear(), Map.of("text", PAYLOAD));
    }

    private static final Map<String, Scenario> SCENARIOS = new LinkedHashMap<>();

    static {
        SCENARIOS.put("join granted", Driver::joinGranted);
        SCENARIOS.put("join refused", Driver::joinRefused);
        SCENARIOS.put("push with reply", Driver::pushWithReply);
        SCENARIOS.put("broadcast", Driver::broadcast);
        SCENARIOS.put("forty topics", Driver::fortyTopics);
        SCENARIOS.put("duplicate join", Driver::duplicateJoin);
        SCENARIOS.put("leave", Driver::leave);
        SCENARIOS.put("thirty reconnects", Driver::thirtyReconnects);
        SCENARIOS.put("network drop", Driver::networkDrop);
        SCENARIOS.put("silent network", Driver::silentNetwork);
        SCENARIOS.put("token refresh", Driver::tokenRefresh);
        SCENARIOS.put("token at a reconnect", Driver::tokenAtAReconnect);
        SCENARIOS.put("256 KB payload", Driver::payloadOf256Kb);
    }

    @SuppressWarnings("unchecked")
    public static void main(String[] args) {
        told = GSON.fromJson(System.getenv("STAGE"), Map.class);
        for (String scenario : (List<String>) told.get("scenarios")) {
            Map<String, Object> result = new LinkedHashMap<>();
            result.put("scenario", scenario);
            result.put("why", null);
            try {
                SCENARIOS.get(scenario).play();
            } catch (Throwable failure) {
                StringWriter trace = new StringWriter();
                failure.printStackTrace(new PrintWriter(trace));
                result.put("why", trace.toString());
            }
            SOCKETS.forEach(socket -> socket.disconnect(1000, null, null));
            SOCKETS.clear();
            say(result);
        }
        // Threads of the client would keep the process.
        System.exit(0);
    }
}
