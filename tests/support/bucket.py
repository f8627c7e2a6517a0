"""An S3 server over HTTP on a free port: moto's. It is a stand-in, not Amazon's.

It speaks the protocol on the wire, conditional writes with it (``If-None-Match: *`` and
``If-Match`` answer 412), and keeps everything in memory. It checks no credentials.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import boto3
from moto.server import ThreadedMotoServer

if TYPE_CHECKING:
    from typing_extensions import Self

BUCKET = "models"


class S3Server:
    """One server with one empty bucket."""

    def __init__(self) -> None:
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)

    def start(self) -> Self:
        """Start it."""
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        client = boto3.client("s3", **self.access, endpoint_url=self.url)
        client.create_bucket(Bucket=BUCKET)
        self.client = client
        return self

    @property
    def access(self) -> dict[str, str]:
        """Credentials; any will do."""
        return {
            "aws_access_key_id": "for-tests",
            "aws_secret_access_key": "for-tests",
            "region_name": "us-east-1",
        }

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which the AWS tools find it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": "for-tests",
            "AWS_SECRET_ACCESS_KEY": "for-tests",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        """End it."""
        self._server.stop()
