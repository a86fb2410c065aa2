"""The guards of linked devices' ratchets and rows, in Go, each with the edit that takes it out."""

from __future__ import annotations

from tests.mutations.mutation import Mutation

_SIDECAR = "services/session-node/whatsapp_web_sidecar"
_ROWS = "services/session-node/whatsapp_web_sidecar/rows"
_DEVICE = "services/session-node/whatsapp_web_sidecar/device"
_TESTS = "tests/acceptance/test_whatsapp_web_sidecar.py -k"

LINKED_DEVICES = (
    Mutation(
        "a device's lock between encrypting and decrypting",
        f"{_ROWS}/store.go",
        "ratchet: make(chan struct{}, 1)",
        "ratchet: make(chan struct{}, 2)",
        f"{_TESTS} WaitsForEncrypting",
    ),
    Mutation(
        "a device's lock around what is encrypted outside a send",
        f"{_ROWS}/sessions.go",
        "if err := s.acquire(ctx); err != nil {\n\t\t\treturn nil, err\n\t\t}",
        "",
        f"{_TESTS} OutsideASendHoldsTheRatchet",
    ),
    Mutation(
        "a decryption's lock until its message is stored",
        f"{_ROWS}/receiving.go",
        "defer func() { <-s.ratchet }()",
        "<-s.ratchet",
        f"{_TESTS} StoredWithItsMessageAndNotBefore",
    ),
    Mutation(
        "what a decryption changed waits for its message",
        f"{_ROWS}/receiving.go",
        "if !current.readable {",
        "if true {",
        f"{_TESTS} StoredWithItsMessageAndNotBefore",
    ),
    Mutation(
        "a refused commit is a cancelled message",
        f"{_ROWS}/node.go",
        'cannot be stored: %w", context.Canceled)',
        'cannot be stored: %s", context.Canceled)',
        f"{_TESTS} WhatIsNotStoredIsCancelled",
    ),
    Mutation(
        "after a refused commit nothing is used any more",
        f"{_ROWS}/store.go",
        "s.cancel(ErrNotStored) // what is in memory",
        "// what is in memory",
        f"{_TESTS} WhatIsNotStoredIsCancelled",
    ),
    Mutation(
        "a session's commit before its message leaves",
        f"{_ROWS}/sessions.go",
        "return s.commit(changes...)",
        "return s.note(context.Background(), changes...)",
        f"{_TESTS} NothingLeavesThatIsNotStored",
    ),
    Mutation(
        "a sender key's commit before its message leaves",
        f"{_ROWS}/sessions.go",
        "sendingChain(change.Key, key); !own {",
        "sendingChain(change.Key, key); !own || true {",
        f"{_TESTS} NothingLeavesToAGroupThatIsNotStored",
    ),
    Mutation(
        "archived sessions stay as they were stored",
        f"{_ROWS}/sessions.go",
        "session = repair(stored, session)",
        "_ = repair(stored, session)",
        f"{_TESTS} ArchivedSessionsStayWhole",
    ),
    Mutation(
        "the next owner's skip of a session's positions",
        f"{_ROWS}/leases.go",
        "chain = chain.NextKey()",
        "_ = chain.NextKey()",
        f"{_TESTS} SkipsWhatTheLastOneMayHaveUsed",
    ),
    Mutation(
        "the next owner's skip of a sender key's positions",
        f"{_ROWS}/leases.go",
        "chain = chain.Next()",
        "_ = chain.Next()",
        f"{_TESTS} SkipsInGroups",
    ),
    Mutation(
        "a row says what is reserved of its chain",
        f"{_ROWS}/leases.go",
        "reserved = Block",
        "reserved = 0",
        f"{_TESTS} SkipsWhatTheLastOneMayHaveUsed",
    ),
    Mutation(
        "the end of what is reserved of a chain",
        f"{_ROWS}/leases.go",
        "position > held.upto {",
        "position > held.upto+Block*Block {",
        f"{_TESTS} SkipsWhatTheLastOneMayHaveUsed",
    ),
    Mutation(
        "a new device is stored before the network hears that it is linked",
        f"{_ROWS}/device.go",
        "if !complete(encoded(rows)) {",
        "if complete(encoded(rows)); false {",
        f"{_TESTS} NotStoredIsNotPaired",
    ),
    Mutation(
        "rows of another account are no device",
        f"{_ROWS}/device.go",
        "if row.AccountID != s.accountID {",
        "if false {",
        f"{_TESTS} RowsThatCannotBeUsed",
    ),
    Mutation(
        "the bound of what is kept of a device's rows",
        f"{_ROWS}/cache.go",
        "c.size > maxCached;",
        "c.size > maxCached<<10;",
        f"{_TESTS} MemoryIsBounded",
    ),
    Mutation(
        "the bound of one session that is stored",
        f"{_ROWS}/sessions.go",
        "fitSession(session)",
        "session",
        f"{_TESTS} StaysStorable",
    ),
    Mutation(
        "a message that is asked for again goes to its own chat alone",
        f"{_DEVICE}/resending.go",
        "if to != chat && to != other {",
        "if false {",
        f"{_TESTS} SomebodyElseIsNotHandedOver",
    ),
    Mutation(
        "a text that is none does not end the stream of all devices",
        f"{_SIDECAR}/server/texts.go",
        "mend(response.ProtoReflect())",
        "_ = mend",
        f"{_TESTS} DoesNotEndTheStreamOfAll",
    ),
    Mutation(
        "what cannot be a row does not hold up its message",
        f"{_ROWS}/fit.go",
        "nameable(change.Key) && len(change.Value) <= maxValue",
        "true",
        f"{_TESTS} DoesNotHoldUpTheMessage",
    ),
    Mutation(
        "nobody is asked for a row that cannot be",
        f"{_ROWS}/store.go",
        "if !nameable(key) {",
        "if false {",
        f"{_TESTS} ForARowThatCannotBe",
    ),
    Mutation(
        "the bound of people that are looked up for a message",
        f"{_SIDECAR}/content/incoming.go",
        "mentions[:min(len(mentions), maxMentions)]",
        "mentions",
        f"{_TESTS} NoMorePeopleAreLookedUp",
    ),
    Mutation(
        "the bound of a file by what its message says",
        f"{_SIDECAR}/device/files.go",
        "if b.at+int64(len(piece)) > b.most {",
        "if false {",
        f"{_TESTS} NoMoreIsKeptOfAFile",
    ),
    Mutation(
        "where a file is is stored before its message leaves",
        f"{_ROWS}/kept.go",
        "return s.note(sending, Change{filePrefix + id, encoded})",
        "return s.note(context.Background(), Change{filePrefix + id, encoded})",
        f"{_TESTS} WhereAFileIs",
    ),
    Mutation(
        "the bound of what is kept of messages that others send",
        f"{_ROWS}/kept.go",
        "state.Next-state.First > most",
        "state.Next-state.First > most<<4",
        f"{_TESTS} BoundedInNumber",
    ),
    Mutation(
        "the bound in age of what is kept of messages",
        f"{_ROWS}/kept.go",
        "state.Since < oldest && expired > 0",
        "false",
        f"{_TESTS} WhatIsTooOldGoesWithTheNextLogin",
    ),
    Mutation(
        "what is kept of a received message is let go some day",
        f"{_ROWS}/receiving.go",
        "changes = append(changes, more...)",
        "",
        f"{_TESTS} KeptOfAMessageIsStoredWithIt",
    ),
    Mutation(
        "an attempt that somebody accepted outlives its time",
        f"{_DEVICE}/pairing.go",
        "if !accepted {",
        "if true {",
        f"{_TESTS} OutlivesItsTime",
    ),
)
