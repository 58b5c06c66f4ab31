import com.amazonaws.xray.AWSXRay;
import com.amazonaws.xray.AWSXRayRecorder;
import com.amazonaws.xray.AWSXRayRecorderBuilder;
import com.amazonaws.xray.entities.Segment;
import com.amazonaws.xray.strategy.sampling.CentralizedSamplingStrategy;
import com.amazonaws.xray.strategy.sampling.SamplingRequest;
import com.amazonaws.xray.strategy.sampling.SamplingResponse;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * An HTTP server instrumented with the X-Ray SDK for Java; the sampling rules come from the agent. Prints its port,
 * ends with its standard input. The JDK's server knows no servlet filters, so the SDK is asked here as its filter asks.
 */
public final class Server {
  private static final String NAME = "java.example.com";

  private static void handle(HttpExchange exchange) throws IOException {
    AWSXRayRecorder recorder = AWSXRay.getGlobalRecorder();
    String path = exchange.getRequestURI().getPath();
    SamplingResponse decision =
        recorder
            .getSamplingStrategy()
            .shouldTrace(
                new SamplingRequest(
                    NAME,
                    exchange.getRequestHeaders().getFirst("Host"),
                    path,
                    exchange.getRequestMethod(),
                    recorder.getOrigin()));
    Segment segment;
    if (decision.isSampled()) {
      segment = recorder.beginSegment(NAME);
      decision.getRuleName().ifPresent(segment::setRuleName);
    } else {
      segment = recorder.beginNoOpSegment();
    }
    segment.putHttp("request", Map.of("method", exchange.getRequestMethod(), "url", "http://" + NAME + path));
    recorder.beginSubsegment("work");
    recorder.endSubsegment();
    segment.putHttp("response", Map.of("status", 200));
    recorder.endSegment();
    byte[] body = "done\n".getBytes(StandardCharsets.UTF_8);
    exchange.sendResponseHeaders(200, body.length);
    exchange.getResponseBody().write(body);
    exchange.close();
  }

  public static void main(String[] args) throws IOException {
    AWSXRay.setGlobalRecorder(
        AWSXRayRecorderBuilder.standard().withSamplingStrategy(new CentralizedSamplingStrategy()).build());
    HttpServer server = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
    server.createContext("/", Server::handle);
    server.start();
    System.out.println(server.getAddress().getPort());
    while (System.in.read() >= 0) {}
    System.exit(0);
  }
}
