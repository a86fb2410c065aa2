import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** An address as the mesh writes it; docs/addresses.md has the rules. */
public final class Addresses {
  private static final Pattern PHONE = Pattern.compile("(?:phone:)?(\\+[1-9][0-9]{6,14})");
  private static final Pattern BY_ID =
      Pattern.compile("(?:user|hidden|group|channel):[A-Za-z0-9._-]{1,160}");
  private static final Pattern NAME = Pattern.compile("username:([a-z0-9._]{3,35})");
  private static final Pattern LETTER = Pattern.compile("[a-z]");

  /** Where a name has one of these, it is none. */
  private static final Pattern NO_NAME =
      Pattern.compile("\\A\\.|\\Awww\\.|\\.\\.|\\.(?:com|org|net|int|edu|gov|mil|arpa|html?|txt|xml)?\\z");

  private Addresses() {}

  /** Returns the canonical form; throws if the text is no address. */
  public static String parse(String text) {
    Matcher phone = PHONE.matcher(text);
    if (phone.matches()) {
      return "phone:" + phone.group(1);
    }
    Matcher name = NAME.matcher(text);
    if (BY_ID.matcher(text).matches()
        || text.equals("status")
        || name.matches() && mayBeAName(name.group(1))) {
      return text;
    }
    throw new IllegalArgumentException("no address: " + text);
  }

  private static boolean mayBeAName(String name) {
    return LETTER.matcher(name).find() && !NO_NAME.matcher(name).find();
  }
}
