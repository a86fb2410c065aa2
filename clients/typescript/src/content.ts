/** Builds requests for simple messages, and references to messages. */
import { create, isMessage } from "@bufbuild/protobuf";

import { InvalidArgument } from "./errors.js";
import {
  Direction,
  type Message,
  type MessageRef,
  MessageRefSchema,
  MessageSchema,
  type SendMessageRequest,
  SendMessageRequestSchema,
  type WaitFor,
} from "./gen/v1.js";

/** What names a message: its id (`msg_...`), the message itself, or a reference that came with an event. */
export type Referable = string | Message | MessageRef;

/** How a text is sent. */
export interface TextOptions {
  /** The message that it answers. */
  readonly replyTo?: Referable | undefined;
  /** Whoever sends again under the same one within a day sends nothing twice; a new one unless it is given. */
  readonly requestId?: string | undefined;
  /** When the call is answered: once the message is stored, unless said otherwise. */
  readonly waitFor?: WaitFor | undefined;
}

/** `text` to an address. Throws `InvalidArgument` for a text that cannot be encoded. */
export function textMessage(
  accountId: string,
  to: string,
  text: string,
  options: TextOptions = {},
): SendMessageRequest {
  const half = text.search(/\p{Surrogate}/u);
  if (half >= 0) {
    throw InvalidArgument.of("text", `has half of a surrogate pair at position ${half}, which is no character`);
  }
  return create(SendMessageRequestSchema, {
    accountId,
    requestId: options.requestId ?? "",
    recipient: to,
    content: { kind: { case: "text", value: { body: text } } },
    options: options.replyTo === undefined ? undefined : { replyTo: messageRef(options.replyTo) },
    waitFor: options.waitFor,
  });
}

/**
 * Names a message in calls that refer to one: reactions, answers, edits, read receipts. With a whole message, that one
 * can be referred to even where the mesh no longer has it.
 */
export function messageRef(message: Referable): MessageRef {
  if (typeof message === "string") {
    return create(MessageRefSchema, { messageId: message });
  }
  if (!isMessage(message, MessageSchema)) {
    return message;
  }
  const fromAccount = message.direction === Direction.OUTBOUND;
  return create(MessageRefSchema, {
    messageId: message.id,
    networkMessageId: message.networkMessageId,
    chat: message.chat,
    sender: fromAccount ? "" : (message.sender?.address ?? ""),
    fromAccount,
  });
}
