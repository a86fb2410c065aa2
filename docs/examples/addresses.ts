/** An address as the mesh writes it; docs/addresses.md has the rules. */

const PHONE = /^(?:phone:)?(\+[1-9][0-9]{6,14})$/;
const BY_ID = /^(?:user|hidden|group|channel):[A-Za-z0-9._-]{1,160}$/;
const NAME = /^username:([a-z0-9._]{3,35})$/;
const LETTER = /[a-z]/;
/** Where a name has one of these, it is none. */
const NO_NAME = /^\.|^www\.|\.\.|\.(?:com|org|net|int|edu|gov|mil|arpa|html?|txt|xml)?$/;

/** The canonical form; throws a RangeError if the text is no address. */
export function parseAddress(text: string): string {
  const phone = PHONE.exec(text);
  if (phone) {
    return `phone:${phone[1]}`;
  }
  const name = NAME.exec(text)?.[1];
  if (BY_ID.test(text) || text === "status" || (name !== undefined && mayBeAName(name))) {
    return text;
  }
  throw new RangeError(`${JSON.stringify(text)} is no address`);
}

function mayBeAName(name: string): boolean {
  return LETTER.test(name) && !NO_NAME.test(name);
}
