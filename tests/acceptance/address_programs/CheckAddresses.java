import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.InputStreamReader;
import java.util.Base64;

/** Parses what it reads: a text a line, in base64. Answers with a line for each, its canonical form or "-". */
public final class CheckAddresses {
  public static void main(String[] arguments) throws IOException {
    BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, UTF_8));
    for (String line = lines.readLine(); line != null; line = lines.readLine()) {
      String text = new String(Base64.getDecoder().decode(line), UTF_8);
      try {
        System.out.println(Addresses.parse(text));
      } catch (IllegalArgumentException refused) {
        System.out.println("-");
      }
    }
  }
}
