"""What a driver may be able to do, as the contract asks for it: who lacks it skips the cases that need it."""

from __future__ import annotations

from enum import Enum


class Can(Enum):
    """What not every network has."""

    PASSKEYS = "pairing that asks for a passkey"
    RATCHET = "a ratchet whose positions are reserved ahead"
    ROWS = "state in rows, stored before what is made from them leaves"
    LOG_OUT = "ending the pairing"
    REPLACES = "a second login that ends the first"
    RECEIPTS = "receipts of messages in a chat of two"
    GROUP_RECEIPTS = "receipts of each member of a group"
    NUMBERED_RECEIPTS = "receipts that come again until they are acknowledged"
    KNOWS_RECIPIENT = "who a recipient is, told with the acknowledgement"
    REFUSALS = "refusals with the network's number"
    OWN_DEVICES = "what the account writes on its other devices"
    QUOTES = "answers that say what they answer"
    OFFERS_AGAIN = "messages that come again until they are stored"
    TELLS_TYPING = "what people do in their chats with the account, told"
    TELLS_CALLS = "calls to the account, told"
    OFFERS_NOTICES_AGAIN = "what is told beside messages comes again until it is stored"
    FILES = "files, both ways"
    TELLS_CONTACTS = "what the account's phone does with its address book"
    TELLS_PEOPLE = "what people show that they did not before"
    TELLS_GROUPS = "what others do in groups and communities, told"
    TELLS_CHATS = "what the account's phone does with chats and labels"
    TELLS_TIMERS = "that messages of a chat disappear after another time"


EVERYTHING = frozenset(Can)
