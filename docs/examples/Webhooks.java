import static java.nio.charset.StandardCharsets.UTF_8;

import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SignatureException;
import java.time.Duration;
import java.time.Instant;
import java.util.Base64;
import java.util.function.Function;
import java.util.regex.Pattern;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** Verifies the webhooks of a mesh; docs/webhooks.md has the rules. */
public final class Webhooks {
  private static final Duration TOLERANCE = Duration.ofMinutes(5);
  private static final Pattern TIMESTAMP = Pattern.compile("[0-9]{1,15}");

  private Webhooks() {}

  /**
   * Throws unless the mesh signed the body with the endpoint's secret, within five minutes of now. {@code header} gives a
   * header by its name, whatever its case, such as {@code request::getHeader}; null where there is none.
   */
  public static void verify(String secret, Function<String, String> header, byte[] body, Instant now)
      throws GeneralSecurityException {
    if (!secret.startsWith("whsec_")) {
      throw new IllegalArgumentException("an endpoint's secret is whsec_ and base64");
    }
    byte[] key = Base64.getDecoder().decode(secret.substring("whsec_".length()));
    String id = header.apply("webhook-id");
    String timestamp = header.apply("webhook-timestamp");
    String signatures = header.apply("webhook-signature");
    if (id == null || timestamp == null || signatures == null) {
      throw new SignatureException("webhook-id, webhook-timestamp or webhook-signature is missing");
    }
    if (!TIMESTAMP.matcher(timestamp).matches()
        || Duration.between(Instant.ofEpochSecond(Long.parseLong(timestamp)), now).abs().compareTo(TOLERANCE) > 0) {
      throw new SignatureException("webhook-timestamp is not of now");
    }
    Mac mac = Mac.getInstance("HmacSHA256");
    mac.init(new SecretKeySpec(key, mac.getAlgorithm()));
    mac.update((id + "." + timestamp + ".").getBytes(UTF_8));
    byte[] expected = ("v1," + Base64.getEncoder().encodeToString(mac.doFinal(body))).getBytes(UTF_8);
    // There are several while a secret is being changed.
    for (String signature : signatures.split(" ")) {
      if (MessageDigest.isEqual(signature.getBytes(UTF_8), expected)) {
        return;
      }
    }
    throw new SignatureException("webhook-signature has none that this secret makes");
  }
}
