"""Pair an account by QR, shown in the terminal: python pair.py acc_..."""

import asyncio
import os
import sys

from mesh_client import connect


async def main(account_id: str) -> None:
    async with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
        async for step in client.pair(account_id):
            match step.WhichOneof("step"):
                case "queued_behind":
                    print("waiting for", step.queued_behind, "others")
                case "qr":
                    print(step.qr.terminal)
                    print("Scan it, or its text:", step.qr.text, flush=True)
                case "passkey":
                    print("answer with sessions.AnswerPairing:", step.passkey.challenge_json)
                case "confirm":
                    print("confirm with sessions.AnswerPairing:", step.confirm.text, step.confirm.code)
                case "paired":
                    print("paired as", step.paired.session.self.address)
                case "timed_out":
                    print("nobody scanned it; try again at", step.timed_out.retry_time.ToJsonString())
                case "refused":
                    print("the network refused:", step.refused.detail)


asyncio.run(main(*sys.argv[1:]))
