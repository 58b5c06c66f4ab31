import com.amazonaws.xray.AWSXRay;
import com.amazonaws.xray.AWSXRayRecorderBuilder;
import com.amazonaws.xray.entities.Entity;
import com.amazonaws.xray.entities.Segment;
import com.amazonaws.xray.entities.Subsegment;
import com.amazonaws.xray.strategy.sampling.AllSamplingStrategy;
import java.util.ArrayDeque;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Deque;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** An ordinary program instrumented with the X-Ray SDK for Java. Prints the id of every entity it made. */
public final class App {
  private static final List<String> made = new ArrayList<>();

  private static <T extends Entity> T note(T entity) {
    made.add(entity.getId());
    return entity;
  }

  /** Four levels, with annotations, metadata and a user. */
  private static void nested() {
    Segment segment = note(AWSXRay.beginSegment("orders.example.com"));
    segment.setUser("zoë");
    for (int depth = 0; depth < 4; depth++) {
      Subsegment level = note(AWSXRay.beginSubsegment("level-" + depth));
      level.putAnnotation("depth", depth);
      level.putMetadata("app", "value", Map.of("text", "漢字 \u2028", "list", Arrays.asList(1, null, 2.5)));
    }
    for (int depth = 0; depth < 4; depth++) {
      AWSXRay.endSubsegment();
    }
    AWSXRay.endSegment();
  }

  /** Raised at the bottom, handled at the top. */
  private static void exception() {
    Segment segment = note(AWSXRay.beginSegment("orders.example.com"));
    Deque<Entity> open = new ArrayDeque<>();
    open.push(note(AWSXRay.beginSubsegment("outer")));
    open.push(note(AWSXRay.beginSubsegment("inner")));
    try {
      throw new IllegalArgumentException("no such order: 'x'");
    } catch (IllegalArgumentException error) {
      while (!open.isEmpty()) {
        open.pop().addException(error);
        AWSXRay.endSubsegment();
      }
      segment.addException(error);
    }
    AWSXRay.endSegment();
  }

  /** So many subsegments that the SDK sends them ahead of their segment. */
  private static void streamed() {
    note(AWSXRay.beginSegment("batch-worker"));
    for (int i = 0; i < 130; i++) {
      note(AWSXRay.beginSubsegment("row-" + i));
      note(AWSXRay.beginSubsegment("store"));
      AWSXRay.endSubsegment();
      AWSXRay.endSubsegment();
    }
    AWSXRay.endSegment();
  }

  public static void main(String[] args) {
    AWSXRay.setGlobalRecorder(
        AWSXRayRecorderBuilder.standard().withSamplingStrategy(new AllSamplingStrategy()).build());
    nested();
    exception();
    streamed();
    System.out.println(made.stream().map(id -> '"' + id + '"').collect(Collectors.joining(", ", "[", "]")));
  }
}
