import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.Status;
import dev.sessionmesh.v1.Content;
import dev.sessionmesh.v1.GetMessageRequest;
import dev.sessionmesh.v1.MessageServiceGrpc;
import dev.sessionmesh.v1.Recipient;
import dev.sessionmesh.v1.SendMessageRequest;
import dev.sessionmesh.v1.SessionServiceGrpc;
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
 * prints what it gets, one line each: "sent ID", "refused CODE REASON", "session STATE", and then for each message that
 * it sends and looks up again "done PEER", the address that answered the second call, or "failed ERROR".
 */
public final class MeshClient {
  private static final long CALL_SECONDS = 20;
  private static final long PAUSE_MILLISECONDS = 20;

  private final MessageServiceGrpc.MessageServiceBlockingStub messages;
  private final SessionServiceGrpc.SessionServiceBlockingStub sessions;
  private final Answering answering = new Answering();
  private final String account;

  private MeshClient(Channel channel, String key, String account) {
    Metadata headers = new Metadata();
    headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + key);
    headers.put(Metadata.Key.of("x-account-id", Metadata.ASCII_STRING_MARSHALLER), account);
    ClientInterceptor identity = MetadataUtils.newAttachHeadersInterceptor(headers);
    this.messages = MessageServiceGrpc.newBlockingStub(channel).withInterceptors(identity, answering);
    this.sessions = SessionServiceGrpc.newBlockingStub(channel).withInterceptors(identity);
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
    System.out.println("sent " + send());
    System.out.println("refused " + refusal());
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

  private String send() {
    SendMessageRequest request =
        SendMessageRequest.newBuilder()
            .setAccountId(account)
            .setRequestId(UUID.randomUUID().toString())
            .setRecipient(Recipient.newBuilder().setPhone("+4915112345678"))
            .setContent(Content.newBuilder().setText(TextContent.newBuilder().setBody("Hello from Java")))
            .build();
    return repeated(() -> within(messages).sendMessage(request)).getMessage().getId();
  }

  /** Asks for a message that cannot exist, for its code and the reason in its details. */
  private String refusal() throws InvalidProtocolBufferException {
    GetMessageRequest request =
        GetMessageRequest.newBuilder().setAccountId(account).setMessageId("msg_01ARZ3NDEKTSV4RRFFQ69G5FAV").build();
    try {
      within(messages).getMessage(request);
    } catch (StatusRuntimeException error) {
      Status refused = StatusProto.fromThrowable(error);
      for (Any detail : refused.getDetailsList()) {
        if (detail.is(ErrorInfo.class)) {
          return refused.getCode() + " " + detail.unpack(ErrorInfo.class).getReason();
        }
      }
      return refused.getCode() + " without details";
    }
    return "nothing";
  }

  private String firstState() {
    WatchSessionRequest request = WatchSessionRequest.newBuilder().setAccountId(account).build();
    Iterator<WatchSessionResponse> states = within(sessions).watchSession(request);
    return states.next().getSession().getState().name();
  }

  private String sendAndLookUp() {
    GetMessageRequest request =
        GetMessageRequest.newBuilder().setAccountId(account).setMessageId(send()).build();
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
