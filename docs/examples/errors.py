"""What can go wrong with a message, and what to do about it: python errors.py acc_... +4915112345678"""

import asyncio
import os
import sys

from mesh_client import (
    FailedPrecondition,
    InvalidArgument,
    MeshCallError,
    NotFound,
    ResourceExhausted,
    Unavailable,
    connect,
)


async def main(account_id: str, to: str) -> None:
    async with connect(os.environ["MESH_ADDRESS"], os.environ["MESH_API_KEY"]) as client:
        try:
            # An order's number as request id: whoever runs this again sends nothing twice.
            message = await client.send_text(account_id, to, "Your order is ready", request_id="order-4711")
        except InvalidArgument as error:
            for violation in error.field_violations:
                print("wrong:", violation.field, violation.description)
        except NotFound as error:
            print("there is no", error.resource)
        except FailedPrecondition as error:
            print("not now:", error.reason)  # NOT_PAIRED: the account must be paired first
        except ResourceExhausted as error:
            print("too much:", error.quota or error.reason, "- again in", error.retry_after, "s")
        except Unavailable as error:
            print("the mesh is away, and was tried for as long as that made sense:", error)
        except MeshCallError as error:
            print(error.code.name, error.reason, error.message)
        else:
            print("accepted:", message.id)


asyncio.run(main(*sys.argv[1:]))
