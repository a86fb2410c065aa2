import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.security.SignatureException;
import java.time.Instant;
import java.util.Base64;
import java.util.HashMap;
import java.util.Map;

/**
 * Verifies what it reads: a webhook a line, its secret, id, time, signatures, body and the present, in base64 or "-" for
 * what is missing. Answers with a line for each, "valid" or "invalid".
 */
public final class CheckWebhooks {
  public static void main(String[] arguments) throws Exception {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String[] fields = line.split(" ");
      Map<String, String> headers = new HashMap<>();
      String[] names = {"webhook-id", "webhook-timestamp", "webhook-signature"};
      for (int at = 0; at < names.length; at++) {
        headers.put(names[at], fields[at + 1].equals("-") ? null : text(fields[at + 1]));
      }
      Instant now = Instant.ofEpochSecond(Long.parseLong(text(fields[5])));
      try {
        Webhooks.verify(text(fields[0]), headers::get, text(fields[4]).getBytes(UTF_8), now);
        System.out.println("valid");
      } catch (SignatureException refused) {
        System.out.println("invalid");
      }
    }
  }

  private static String text(String field) {
    return new String(Base64.getDecoder().decode(field), UTF_8);
  }
}
