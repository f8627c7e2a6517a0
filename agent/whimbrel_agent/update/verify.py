"""The process that verifies a signed assignment: ``python -m whimbrel_agent.update.verify``.

Apart from control because `cryptography` costs 5 MB that control would hold for ever, for
something that happens when an operator assigns a version.
"""

from __future__ import annotations

import msgspec

from whimbrel_agent.update import child
from whimbrel_agent.update.messages import Answer, VerifyRequest


def answer(data: bytes) -> Answer:
    """Return the assignment inside the request's envelope, or raise why it is not accepted."""
    from whimbrel_core.signing.keys import PublicKey
    from whimbrel_core.wire import assignment

    request = msgspec.json.decode(data, type=VerifyRequest)
    keys = [PublicKey.from_pem(pem) for pem in request.keys]
    return Answer(
        assignment=assignment.verify(
            request.envelope, keys, device=request.device, revision_floor=request.revision_floor
        )
    )


if __name__ == "__main__":
    child.serve(answer)
