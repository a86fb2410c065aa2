import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import dev.sessionmesh.v1.Content;
import dev.sessionmesh.v1.Event;
import dev.sessionmesh.v1.EventServiceGrpc;
import dev.sessionmesh.v1.GetMessageRequest;
import dev.sessionmesh.v1.Message;
import dev.sessionmesh.v1.MessageOptions;
import dev.sessionmesh.v1.MessageRef;
import dev.sessionmesh.v1.MessageServiceGrpc;
import dev.sessionmesh.v1.MessageStatus;
import dev.sessionmesh.v1.MessageStatusEvent;
import dev.sessionmesh.v1.PairRequest;
import dev.sessionmesh.v1.PairResponse;
import dev.sessionmesh.v1.SendMessageRequest;
import dev.sessionmesh.v1.SessionServiceGrpc;
import dev.sessionmesh.v1.SubscribeRequest;
import dev.sessionmesh.v1.SubscribeResponse;
import dev.sessionmesh.v1.TextContent;
import dev.sessionmesh.v1.WatchSessionRequest;
import dev.sessionmesh.v1.WatchSessionResponse;
import io.grpc.CallOptions;
import io.grpc.Channel;
import io.grpc.ClientCall;
import io.grpc.ClientInterceptor;
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall;
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.MethodDescriptor;
import io.grpc.Status.Code;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.AbstractStub;
import io.grpc.stub.MetadataUtils;
import java.io.IOException;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.util.Iterator;
import java.util.UUID;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.TimeUnit;
import java.util.function.Supplier;

/**
 * Calls the mesh on behalf of one account until its standard input ends. Arguments are TARGET, KEY and ACCOUNT; it
 * prints what it gets, one line each: "scan QR", "paired ADDRESS", "sent ID RECIPIENT", "delivered CURSOR", "received
 * SENDER", "replied ID", "refused CODE REASON FIELD" twice, "future KIND", what it takes an event for whose kind it does
 * not know, "session STATE", and then for each message that it sends and looks up again "done PEER", the address that
 * answered the second call, or "failed ERROR".
 */
public final class MeshClient {
  private static final long CALL_SECONDS = 30;
  private static final long PAUSE_MILLISECONDS = 20;
  private static final String RECIPIENT = "phone:+4915112345678";

  /** An event with a kind that is not in this program's stubs: field 1000. */
  private static final byte[] FUTURE_EVENT = {(byte) 0xc2, 0x3e, 0};

  private final MessageServiceGrpc.MessageServiceBlockingStub messages;
  private final SessionServiceGrpc.SessionServiceBlockingStub sessions;
  private final EventServiceGrpc.EventServiceBlockingStub events;
  private final Answering answering = new Answering();
  private final String account;

  private MeshClient(Channel channel, String key, String account) {
    Metadata credentials = new Metadata();
    credentials.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    Metadata route = new Metadata();
    route.put(Metadata.Key.of("x-account-id", Metadata.ASCII_STRING_MARSHALLER), account);
    ClientInterceptor identity = MetadataUtils.newAttachHeadersInterceptor(credentials);
    ClientInterceptor toOwner = MetadataUtils.newAttachHeadersInterceptor(route);
    this.messages = MessageServiceGrpc.newBlockingStub(channel).withInterceptors(identity, toOwner, answering);
    this.sessions = SessionServiceGrpc.newBlockingStub(channel).withInterceptors(identity, toOwner);
    this.events = EventServiceGrpc.newBlockingStub(channel).withInterceptors(identity);
    this.account = account;
  }

  public static void main(String[] arguments) throws Exception {
    if (arguments.length != 3) {
      System.err.println("usage: MeshClient TARGET KEY ACCOUNT");
      System.exit(64);
    }
    ManagedChannel channel = Grpc.newChannelBuilder(arguments[0], InsecureChannelCredentials.create()).build();
    try {
      new MeshClient(channel, arguments[1], arguments[2]).run();
    } finally {
      channel.shutdownNow().awaitTermination(CALL_SECONDS, TimeUnit.SECONDS);
    }
  }

  private void run() throws InterruptedException, InvalidProtocolBufferException {
    System.out.println("paired " + pair());
    talk();
    System.out.println("refused " + refusal("msg_01ARZ3NDEKTSV4RRFFQ69G5FAV"));
    System.out.println("refused " + refusal("nonsense"));
    System.out.println("future " + kindOf(Event.parseFrom(FUTURE_EVENT)));
    System.out.println("session " + firstState());
    CountDownLatch ended = inputEnd();
    do {
      try {
        System.out.println("done " + sendAndLookUp());
      } catch (StatusRuntimeException error) {
        System.out.println("failed " + error.getMessage());
      }
    } while (!ended.await(PAUSE_MILLISECONDS, TimeUnit.MILLISECONDS));
  }

  /** Shows each code until somebody has scanned one; returns the account's own address. */
  private String pair() {
    PairRequest request =
        PairRequest.newBuilder().setAccountId(account).setRequestId(UUID.randomUUID().toString()).build();
    Iterator<PairResponse> steps = within(sessions).pair(request);
    while (steps.hasNext()) {
      PairResponse step = steps.next();
      switch (step.getStepCase()) {
        case QR -> System.out.println("scan " + step.getQr().getText());
        case PAIRED -> {
          return step.getPaired().getSession().getSelf().getAddress();
        }
        case TIMED_OUT, REFUSED -> throw new IllegalStateException("not paired: " + step);
        default -> {} // a step to wait at, or of a newer mesh
      }
    }
    throw new IllegalStateException("the stream ended");
  }

  /** Sends a message, waits until it is delivered and answered, and answers in turn. */
  private void talk() {
    Message sent = send(RECIPIENT, MessageOptions.getDefaultInstance());
    System.out.println("sent " + sent.getId() + " " + sent.getRecipient().getAddress());
    String delivered = null;
    Message received = null;
    SubscribeRequest request =
        SubscribeRequest.newBuilder()
            .setFromOldest(true)
            .addEventTypes("message.*")
            .addAccountIds(account)
            .build();
    Iterator<SubscribeResponse> frames = within(events).subscribe(request);
    while (delivered == null || received == null) {
      for (Event event : frames.next().getEvents().getEventsList()) {
        switch (kindOf(event)) {
          case "status" -> {
            MessageStatusEvent status = event.getMessageStatus();
            if (status.getMessageId().equals(sent.getId())
                && status.getStatus() == MessageStatus.MESSAGE_STATUS_DELIVERED) {
              delivered = event.getCursor();
            }
          }
          case "message" -> received = event.getMessage().getMessage();
          default -> {}
        }
      }
    }
    System.out.println("delivered " + delivered);
    System.out.println("received " + received.getSender().getAddress());
    MessageOptions reply =
        MessageOptions.newBuilder().setReplyTo(MessageRef.newBuilder().setMessageId(received.getId())).build();
    System.out.println("replied " + send(received.getChat(), reply).getId());
  }

  /** What an event is to this program. Later versions of the mesh have more kinds. */
  private static String kindOf(Event event) {
    return switch (event.getPayloadCase()) {
      case MESSAGE_STATUS -> "status";
      case MESSAGE -> "message";
      default -> "other";
    };
  }

  private Message send(String recipient, MessageOptions options) {
    SendMessageRequest request =
        SendMessageRequest.newBuilder()
            .setAccountId(account)
            .setRequestId(UUID.randomUUID().toString())
            .setRecipient(recipient)
            .setContent(Content.newBuilder().setText(TextContent.newBuilder().setBody("Hello from Java")))
            .setOptions(options)
            .build();
    return repeated(() -> within(messages).sendMessage(request)).getMessage();
  }

  private GetMessageRequest lookUp(String id) {
    MessageRef message = MessageRef.newBuilder().setMessageId(id).build();
    return GetMessageRequest.newBuilder().setAccountId(account).setMessage(message).build();
  }

  /** Asks for a message that there is not, for its code, the reason and the field in its details. */
  private String refusal(String id) throws InvalidProtocolBufferException {
    try {
      within(messages).getMessage(lookUp(id));
    } catch (StatusRuntimeException error) {
      Status refused = StatusProto.fromThrowable(error);
      StringBuilder words = new StringBuilder().append(refused.getCode());
      for (Any detail : refused.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          words.append(' ').append(detail.unpack(ErrorInfo.class).getReason());
        } else if (detail.is(BadRequest.class)) {
          words.append(' ').append(detail.unpack(BadRequest.class).getFieldViolations(0).getField());
        }
      }
      return words.toString();
    }
    return "nothing";
  }

  private String firstState() {
    WatchSessionRequest request = WatchSessionRequest.newBuilder().setAccountId(account).build();
    Iterator<WatchSessionResponse> states = within(sessions).watchSession(request);
    return states.next().getSession().getState().name();
  }

  private String sendAndLookUp() {
    GetMessageRequest request = lookUp(send(RECIPIENT, MessageOptions.getDefaultInstance()).getId());
    repeated(() -> within(messages).getMessage(request));
    return answering.last;
  }

  /**
   * The answer of a call that may be repeated. When a peer is killed, grpc-java now and then reports UNKNOWN
   * "channel closed", which no retry policy can name: the caller has to repeat the call, with the same request id.
   */
  private static <A> A repeated(Supplier<A> call) {
    try {
      return call.get();
    } catch (StatusRuntimeException error) {
      if (error.getStatus().getCode() == Code.UNKNOWN && "channel closed".equals(error.getStatus().getDescription())) {
        return call.get();
      }
      throw error;
    }
  }

  private static <S extends AbstractStub<S>> S within(S stub) {
    return stub.withDeadlineAfter(CALL_SECONDS, TimeUnit.SECONDS);
  }

  private static CountDownLatch inputEnd() {
    CountDownLatch ended = new CountDownLatch(1);
    Thread reader =
        new Thread(
            () -> {
              try {
                System.in.transferTo(OutputStream.nullOutputStream());
              } catch (IOException closed) {
                // The end, too.
              }
              ended.countDown();
            });
    reader.setDaemon(true);
    reader.start();
    return ended;
  }

  /** Remembers the address that the last call was answered by. */
  private static final class Answering implements ClientInterceptor {
    private volatile String last = "";

    @Override
    public <Q, A> ClientCall<Q, A> interceptCall(MethodDescriptor<Q, A> method, CallOptions options, Channel next) {
      return new SimpleForwardingClientCall<Q, A>(next.newCall(method, options)) {
        @Override
        public void start(Listener<A> listener, Metadata headers) {
          super.start(
              new SimpleForwardingClientCallListener<A>(listener) {
                @Override
                public void onMessage(A message) {
                  if (getAttributes().get(Grpc.TRANSPORT_ATTR_REMOTE_ADDR) instanceof InetSocketAddress address) {
                    last = address.getAddress().getHostAddress() + ":" + address.getPort();
                  }
                  super.onMessage(message);
                }
              },
              headers);
        }
      };
    }
  }
}
